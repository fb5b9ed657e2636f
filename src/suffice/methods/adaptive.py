"""What a pressure for short thoughts may follow: how much accuracy has gained since training began.

GRPO-λ's authors name an adaptive λ as future work. Ours is proportional control. What training gains is room for the
pressure, and where accuracy is back at its start there is little or none until it recovers. Raising λ in small steps
and cutting it fast (additive increase, multiplicative decrease) was tried first: it shortens more and swings, with dips
of ten points on `ballots` (docs/findings.md).
"""

from __future__ import annotations

from dataclasses import dataclass

START = 0.2  # a pressure until it is known where accuracy began; of λ the paper's
FIRST = 8  # observations that say so
ALLOWED = 0.4  # a price, until held-out problems have said something
SHARE = 0.25  # of the newest look in a running mean


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
    """A price of thinking above a floor of accuracy: that of the base on problems held out, which are never trained on.

    `allowed` is its dual variable. Every look at the held-out problems moves it by what accuracy has surely gained or
    not, and the price is never more than that, nor more than thoughts exceed their target, as a fraction of it: near the
    target it fades instead of swinging.

    Args:
        base: accuracy of the base, known from `base_looked` problems; `base_length` its mean thought.
        mean: running mean of accuracy; `length` of thinking tokens.
        seen: looks since.
    """

    base: float = 0.0
    base_looked: int = 0
    base_length: float = 0.0
    mean: float = 0.0
    length: float = 0.0
    seen: int = 0
    allowed: float = ALLOWED

    def look(self, accuracy: float, thought_tokens: float, looked: int) -> None:
        """Accuracy, 0…1, and mean thinking tokens on so many held-out problems; at first the base's."""
        if not self.base_looked:
            self.base, self.base_looked = accuracy, looked
            self.base_length = self.length = thought_tokens
            return
        self.seen += 1
        share = max(SHARE, 1 / self.seen)
        self.mean += (accuracy - self.mean) * share
        self.length += (thought_tokens - self.length) * share
        variance = share * self.mean * (1 - self.mean) / looked + self.base * (1 - self.base) / self.base_looked
        self.allowed = min(1.0, max(0.0, self.allowed + self.mean - self.base - variance**0.5))

    def price(self, target: float) -> float:
        """Accuracy that a thought as long as the base's may cost now, where thoughts are to be this part of the base's."""
        return min(self.allowed, max(0.0, self.length / (target * max(1.0, self.base_length)) - 1))
