"""GRPO-LEAD (Zhang and Zuo, arXiv 2504.09696): shorter is better, wrong is punished, hard problems weigh more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import masked_mean, standardise
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class GRPOLead(LengthReward):
    """Right members earn exp(−α·z), z their length standardised among the right ones; wrong ones −1.

    Advantages are then weighed by difficulty: positive ones by a weight that falls with the group's accuracy ρ,
    negative ones by the same weight at 1 − ρ. A group's advantages therefore do not sum to 0.
    """

    name = "grpo-lead"
    paper = "Zhang and Zuo 2025, GRPO-LEAD, arXiv 2504.09696"
    formula = (
        "r = exp(−α·(L − mean L) / (std L + 1e-6)) if right, −1 if wrong;  "
        "A = grpo's · w(ρ) where positive, · w(1 − ρ) where negative, w(x) = lo + (hi − lo) / (1 + exp(k·(x − mid)))"
    )
    pressure = "alpha"

    alpha: float = Field(0.05, ge=0, le=1, description="Strength α of the length reward.")
    low: float = Field(0.4, ge=0, le=10, description="Least weight lo, of the easiest problems.")
    high: float = Field(1.5, ge=0, le=10, description="Greatest weight hi, of the hardest problems.")
    middle: float = Field(0.75, ge=0, le=1, description="Accuracy at which the weight is half way.")
    steepness: float = Field(10.0, ge=0, le=100, description="Steepness k of the weight.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        z_P_G = standardise(batch.length.double(), batch.correct)
        return (-self.alpha * z_P_G).exp().where(batch.correct, -1.0)

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        advantage_P_G = super().advantage(reward_P_G, batch, spines)
        accuracy_P_1 = masked_mean(batch.correct.double(), batch.valid)
        return advantage_P_G * self.weight(accuracy_P_1).where(advantage_P_G > 0, self.weight(1 - accuracy_P_1))

    def weight(self, x: Tensor) -> Tensor:
        """w(x), between `low` and `high`."""
        return self.low + (self.high - self.low) * (self.steepness * (self.middle - x)).sigmoid()
