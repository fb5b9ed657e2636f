"""L1 (Aggarwal and Welleck, arXiv 2503.04697): as long as the prompt asks for, exactly or at most.

The paper writes the target, drawn anew for every problem, into the prompt. A reward cannot: here the target is that
of the batch (`GroupBatch.target`), or one number for all problems, which no prompt states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import targets
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class L1Exact(LengthReward):
    """Members pay for each token they are away from the target, on either side, wrong ones too."""

    name = "l1-exact"
    paper = "Aggarwal and Welleck 2025, L1, arXiv 2503.04697, Eq. 1"
    formula = "r = 1[correct] − α·|target − L|;  A as in grpo"
    pressure = "alpha"

    alpha: float = Field(0.0003, ge=0, le=1, description="Price α of a token away from the target.")
    target: int = Field(2048, ge=0, description="Length in tokens, where the batch names none.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        missed_P_G = (targets(batch, self.target) - batch.length.double()).abs()
        return batch.correct.double() - self.alpha * missed_P_G


class L1Max(L1Exact):
    """A right member earns δ at the target, more if shorter and less if longer, within 0 and 1; a wrong one nothing."""

    name = "l1-max"
    paper = "Aggarwal and Welleck 2025, L1, arXiv 2503.04697, Eq. 2"
    formula = "r = 1[correct]·clip(α·(target − L) + δ, 0, 1);  A as in grpo"

    delta: float = Field(0.5, ge=0, le=1, description="Reward δ of a right member exactly at the target.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        spared_P_G = targets(batch, self.target) - batch.length.double()
        return batch.correct * (self.alpha * spared_P_G + self.delta).clamp(0, 1)
