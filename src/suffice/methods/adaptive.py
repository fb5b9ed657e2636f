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
MOST = 0.4  # a price


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
    """A price that rises only by what accuracy can surely spare, and falls where thoughts are shorter than asked.

    The floor is the base's accuracy on problems that are never trained on. Every further observation of such problems
    moves the price by the less of two: the lower end of what accuracy has gained, and by how much thoughts exceed their
    target, as a fraction of it.
    """

    base: float = 0.0
    base_rollouts: int = 0
    base_length: float = 0.0
    mean: float = 0.0
    length: float = 0.0
    seen: int = 0
    price: float = START

    def observe(self, accuracy: float, thought_tokens: float, rollouts: int, target: float) -> None:
        """Accuracy, 0…1, and mean thinking tokens of so many full rollouts; the first are the base's."""
        if not self.base_rollouts:
            self.base, self.base_rollouts, self.base_length = accuracy, rollouts, thought_tokens
            return
        self.seen += 1
        share = max(0.25, 1 / self.seen)
        self.mean += (accuracy - self.mean) * share
        self.length += (thought_tokens - self.length) * share
        spread = (
            self.mean * (1 - self.mean) / rollouts * share + self.base * (1 - self.base) / self.base_rollouts
        ) ** 0.5
        spare = self.mean - self.base - spread
        wanted = self.length / (target * max(1.0, self.base_length)) - 1
        self.price = min(MOST, max(0.0, self.price + min(spare, wanted)))
