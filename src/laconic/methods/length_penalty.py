"""The blanket length penalty (Arora and Zanette, arXiv 2502.04463): everywhere, shorter right answers earn more."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from laconic.groups import GroupBatch
from laconic.methods.base import shorter_is_better
from laconic.methods.grpo import GRPO


class LengthPenalty(GRPO):
    """GRPO with a length penalty on every group. Shortens fast; on hard problems at the price of accuracy."""

    name = "length-penalty"
    paper = "Arora and Zanette 2025, arXiv 2502.04463, Eq. 3"
    formula = "r = 1[correct]·(1 − α·sigmoid((L − mean L) / (std L + 1e-6)));  A as in grpo"

    alpha: float = Field(0.2, ge=0, le=1, description="Strength α of the length penalty.")
    drop: Literal["none", "all-wrong"] = Field("none", description="Groups that refill replaces.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return shorter_is_better(batch.length, batch.correct, self.alpha)

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """All-correct groups carry the length signal, so at most the all-wrong ones are dropped."""
        return batch.correct.any(-1) if self.drop == "all-wrong" else batch.valid.any(-1)
