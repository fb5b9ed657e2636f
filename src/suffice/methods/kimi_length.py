"""Kimi k1.5's length reward (Kimi Team, arXiv 2501.12599): the group's shortest earn more, wrong ones never do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import extremes
from suffice.methods.grpo import SCALE, LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class KimiLength(LengthReward):
    """Between +weight/2 for a group's shortest member and −weight/2 for its longest, added to right or wrong.

    A wrong member is punished for being long and not rewarded for being short. The report's baseline is the group's
    mean without a standard deviation; it trains without the length reward first and phases it in.
    """

    name = "kimi-length"
    paper = "Kimi Team 2025, Kimi k1.5, arXiv 2501.12599, length penalty"
    formula = "λ = 1/2 − (L − min L) / (max L − min L);  r = 1 + w·λ if right, w·min(0, λ) if wrong;  A = r − mean r"
    pressure = "weight"

    weight: float = Field(0.4, ge=0, le=10, description="Weight w of the length reward; the report gives none.")
    scale_rewards: Literal["std", "batch", "none"] = Field("none", description=SCALE)

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.length.double()
        low_P_1, high_P_1 = extremes(length_P_G, batch.valid)
        shorter_P_G = 0.5 - (length_P_G - low_P_1) / (high_P_1 - low_P_1)
        shorter_P_G = shorter_P_G.where(batch.valid & (high_P_1 > low_P_1), 0.0)
        return (1 + self.weight * shorter_P_G).where(batch.correct, self.weight * shorter_P_G.clamp(max=0))
