"""The blanket length penalty (Arora and Zanette, arXiv 2502.04463): everywhere, shorter right answers earn more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import standardise
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class LengthPenalty(LengthReward):
    """GRPO with a length penalty on every group. Shortens fast; on hard problems at the price of accuracy."""

    name = "length-penalty"
    paper = "Arora and Zanette 2025, arXiv 2502.04463, Eq. 3"
    formula = "r = 1[correct]·(1 − α·sigmoid((L − mean L) / (std L + 1e-6)));  A as in grpo"
    pressure = "alpha"

    alpha: float = Field(0.2, ge=0, le=1, description="Strength α of the length penalty.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        """Mean and population std run over the group's correct members, so one correct member alone gets 1 − α/2."""
        z_P_G = standardise(batch.length.double(), batch.correct)
        return batch.correct * (1 - self.alpha * z_P_G.sigmoid())
