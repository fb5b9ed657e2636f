"""ALP (Xiang et al., arXiv 2506.05256): a token costs more, the more often its problem is solved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import extremes, masked_mean
from suffice.methods.grpo import SCALE, LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class ALP(LengthReward):
    """Every member pays for its tokens, at a price in proportion to the group's accuracy, at least 1/K of it."""

    name = "alp"
    paper = "Xiang et al. 2025, Just Enough Thinking, arXiv 2506.05256"
    formula = "r = 1[correct] − β·max(p, 1/K)·L, p the accuracy of the group's K members;  A as in grpo"
    pressure = "beta"

    beta: float = Field(1e-7, ge=0, le=1, description="Price β of a token where every member is right.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        solved_P_1 = masked_mean(batch.correct.double(), batch.valid)
        least_P_1 = 1 / batch.valid.sum(-1, True).clamp(min=1).double()
        return batch.correct.double() - self.beta * solved_P_1.maximum(least_P_1) * batch.length.double()


class ALPRelative(ALP):
    """ALP with lengths relative to the group's longest, so that the price needs no scale, and no standard deviation.

    An unsolved group pays nothing.
    """

    name = "alp-relative"
    paper = "after Xiang et al. 2025, arXiv 2506.05256; the length penalty of prime-rl"
    formula = "r = 1[correct] − β·p·L / max L;  A = r − mean r"

    beta: float = Field(0.25, ge=0, le=100, description="Price β of the longest member where every member is right.")
    scale_rewards: Literal["std", "batch", "none"] = Field("none", description=SCALE)

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.length.double()
        _, longest_P_1 = extremes(length_P_G, batch.valid)
        solved_P_1 = masked_mean(batch.correct.double(), batch.valid)
        return batch.correct.double() - self.beta * solved_P_1 * length_P_G / longest_P_1.clamp(min=1)
