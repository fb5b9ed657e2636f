"""What a pressure for short thoughts may follow: how much accuracy has gained since training began.

GRPO-λ's authors name an adaptive λ as future work. Ours is proportional control. What training gains is room for the
pressure, and where accuracy is back at its start there is little or none until it recovers. Raising λ in small steps
and cutting it fast (additive increase, multiplicative decrease) was tried first: it shortens more and swings, with dips
of ten points on `ballots` (docs/findings.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

START = 0.2  # a pressure until more is known; of λ the paper's
FIRST = 8  # observations that say so
SLACK = 0.01  # accuracy that the floor lies below the base's
SHARE = 0.25  # of the newest look in the running mean of accuracy
LENGTHS = 0.2  # of the newest step in the running mean of lengths
GAIN = 0.4  # more of a price for thoughts twice as long as asked
DRIFT = 0.01  # by which a step of such thoughts raises the price for good


@dataclass
class Gained:
    """How far accuracy is above where training began. One `observe` a step.

    Args:
        floor: mean accuracy of the first `FIRST` steps: what training may not cost.
        mean: running mean of accuracy.
    """

    seen: int = 0
    floor: float = 0.0
    mean: float = 0.0

    @property
    def known(self) -> bool:
        """Whether enough was seen to say."""
        return self.seen > FIRST

    @property
    def points(self) -> float:
        """The gain, in −1…1; 0 until it is known."""
        return self.mean - self.floor

    def share(self, memory: float) -> float:
        """What the newest observation counts in a running mean: all alike at first, then `memory`."""
        return max(memory, 1 / self.seen) if self.known else 1 / self.seen

    def observe(self, accuracy: float, memory: float) -> None:
        """The accuracy of a step's full rollouts, all that were sampled, in 0…1; `memory` is its share in the mean."""
        self.seen += 1
        self.mean += (accuracy - self.mean) * self.share(memory)
        if not self.known:
            self.floor = self.mean


@dataclass
class Floor:
    """How short thoughts are asked to be above a floor of accuracy, on problems held out that are never trained on.

    `asked` is the dual variable, the part of the base's thought: every look at those problems lowers it while accuracy
    is above the floor and raises it below, by so much as the look is sure. Thoughts are brought there by
    `price`, a proportional-integral control of their length.

    Args:
        base: accuracy of the base, known from `base_looked` problems; `base_length` its mean thought.
        mean: running mean of accuracy over the looks since, of which there were `seen`.
        length: running mean of thinking tokens over steps.
        raised: price that thoughts longer than asked have left, and shorter ones taken.
    """

    base: float = 0.0
    base_looked: int = 0
    base_length: float = 0.0
    mean: float = 0.0
    seen: int = 0
    length: float = 0.0
    raised: float = START
    asked: float = 1.0

    def look(self, accuracy: float, thought_tokens: float, looked: int, target: float, pace: float) -> None:
        """Accuracy, 0…1, on so many problems not trained on, and mean thinking tokens; at first the base's. No less
        than `target` of the base's thought is ever asked for, and what is asked changes by at most `pace` of it."""
        if not self.base_looked:
            self.base, self.base_looked = accuracy, looked
            self.base_length = self.length = thought_tokens
            return
        self.seen += 1
        share = max(SHARE, 1 / self.seen)
        self.mean += (accuracy - self.mean) * share
        variance = share * self.mean * (1 - self.mean) / looked + self.base * (1 - self.base) / self.base_looked
        above = (self.mean - self.base + SLACK) / max(variance**0.5, 1e-9)
        self.asked *= math.exp(-pace * min(1.0, max(-1.0, above)))
        self.asked = min(1.0, max(target, self.asked))

    def observe(self, thought_tokens: float) -> None:
        """Mean thinking tokens of a step; of the first, where nothing was looked at before, the base's."""
        self.base_length = self.base_length or thought_tokens
        self.length += (thought_tokens - self.length) * LENGTHS if self.length else thought_tokens
        self.raised = min(1.0, max(0.0, self.raised + DRIFT * self.excess))

    @property
    def excess(self) -> float:
        """By how much thoughts exceed what is asked, as a fraction of it."""
        return self.length / max(1.0, self.asked * self.base_length) - 1 if self.base_length else 0.0

    @property
    def price(self) -> float:
        """Accuracy that a thought as long as the base's may cost now; thinking is never paid for."""
        return min(1.0, max(0.0, self.raised + GAIN * self.excess))
