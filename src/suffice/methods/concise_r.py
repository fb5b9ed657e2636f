"""ConciseR (Song and Zheng, arXiv 2505.21178): walk before you run. Length counts once the whole group is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.groups import GroupBatch
from suffice.methods.base import extremes
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class ConciseR(LengthReward):
    """Right or wrong; where every member is right, also the share of the group's longest response that is saved.

    This is the paper's second stage; its first, longer one is `dapo` without a length reward.
    """

    name = "concise-r"
    paper = "Song and Zheng 2025, ConciseR, arXiv 2505.21178, L-GRPO"
    formula = "r = 1[correct], and 1 + 1 − L / max L where all are right;  A as in grpo"
    clip_high = 0.28

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.length.double()
        _, longest_P_1 = extremes(length_P_G, batch.valid)
        all_right_P_1 = (batch.correct | ~batch.valid).all(-1, True)
        saved_P_G = 1 - length_P_G / longest_P_1.clamp(min=1)
        return batch.correct + saved_P_G.where(all_right_P_1, 0.0)
