"""A λ that follows accuracy: the more of it there is above where training began, the more groups are penalised.

GRPO-λ's authors name an adaptive λ as future work. Ours is proportional control. What GRPO gains is room for the length
penalty, and where accuracy is back at its start nothing is penalised until it recovers. Raising λ in small steps and
cutting it fast (additive increase, multiplicative decrease) was tried first: it shortens more and swings, with dips of
ten points on `ballots` (docs/findings.md).
"""

from __future__ import annotations

from dataclasses import dataclass

START = 0.2  # the paper's λ, until it is known where accuracy began
FIRST = 8  # observations that say so
GAIN = 10.0  # a tenth above the start penalises every group
MEMORY = 0.1  # share of the newest observation in the running mean


@dataclass
class Controller:
    """λ and what it has seen. One `observe` a step.

    Args:
        floor: mean accuracy of the first `FIRST` steps: what training may not cost.
        mean: running mean of accuracy.
    """

    lam: float = START
    seen: int = 0
    floor: float = 0.0
    mean: float = 0.0

    def observe(self, accuracy: float, gain: float = GAIN) -> None:
        """The accuracy of a step's full rollouts, all that were sampled, in 0…1."""
        self.seen += 1
        self.mean += (accuracy - self.mean) * max(MEMORY, 1 / self.seen)
        if self.seen <= FIRST:
            self.floor = self.mean
        else:
            self.lam = min(1.0, max(0.0, gain * (self.mean - self.floor)))
