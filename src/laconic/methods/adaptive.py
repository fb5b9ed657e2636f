"""A λ that follows accuracy: raised while training costs none, lowered when it slips below where it began.

GRPO-λ's authors name an adaptive λ as future work. Ours is additive increase and multiplicative decrease, as congestion
control does it: the way to a shorter thought is felt for slowly, and left fast.
"""

from __future__ import annotations

from dataclasses import dataclass

START, RAISE, LOWER = 0.2, 0.02, 0.7
OFF = 0.03  # a λ below this penalises no group
FIRST = 8  # observations that say where accuracy began
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

    def observe(self, accuracy: float) -> None:
        """The accuracy of a step's full rollouts, all that were sampled, in 0…1."""
        self.seen += 1
        self.mean += (accuracy - self.mean) * max(MEMORY, 1 / self.seen)
        if self.seen <= FIRST:
            self.floor = self.mean
        elif self.mean >= self.floor:
            self.lam = min(1.0, (self.lam or OFF) + RAISE)
        else:
            self.lam = self.lam * LOWER if self.lam * LOWER >= OFF else 0.0
