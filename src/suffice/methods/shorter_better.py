"""ShorterBetter (Yi, Wang and Li, arXiv 2504.21370): every member is drawn to the length of the shortest right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import extremes, masked_mean
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class ShorterBetter(LengthReward):
    """The sampled optimal length of a group is that of its shortest right member, or the mean if all are wrong.

    Members pay for their distance from it on either side, wrong ones too.
    """

    name = "shorter-better"
    paper = "Yi, Wang and Li 2025, ShorterBetter, arXiv 2504.21370"
    formula = "r = α·1[correct] − β·|L − L*|, L* = min L of the right, mean L if none is;  A as in grpo"
    pressure = "beta"

    alpha: float = Field(2.0, ge=0, le=100, description="Reward α of a right answer.")
    beta: float = Field(0.001, ge=0, le=1, description="Price β of each token away from the group's best length.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.length.double()
        shortest_P_1, _ = extremes(length_P_G, batch.correct)
        mean_P_1 = masked_mean(length_P_G, batch.valid)
        best_P_1 = shortest_P_1.where(batch.correct.any(-1, True), mean_P_1)
        return self.alpha * batch.correct - self.beta * (length_P_G - best_P_1).abs()
