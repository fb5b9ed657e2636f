"""LASER (Liu et al., arXiv 2505.15612): a bonus for right answers within a target length, no price for long ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import targets
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class Laser(LengthReward):
    """A step at the target: hard problems may stay long and still earn the reward of a right answer.

    The paper's LASER-D sets a target per difficulty and moves it as training goes: fill `GroupBatch.target` for that.
    """

    name = "laser"
    paper = "Liu et al. 2025, LASER, arXiv 2505.15612"
    formula = "r = 1[correct]·(1 + α·1[L ≤ target]);  A as in grpo"
    pressure = "alpha"

    alpha: float = Field(0.5, ge=0, le=100, description="Bonus α of a right answer within the target.")
    target: int = Field(4096, ge=0, description="Length in tokens, where the batch names none.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return batch.correct * (1 + self.alpha * (batch.length <= targets(batch, self.target)).double())
