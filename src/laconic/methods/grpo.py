"""GRPO (Shao et al., arXiv 2402.03300): independent rollouts, right or wrong, standardised within the group."""

from __future__ import annotations

from torch import Tensor

from laconic.groups import GroupBatch
from laconic.methods.base import Method


class GRPO(Method):
    """Reward 1 for a correct member, 0 otherwise. Blind to length: the control that every other method is read by."""

    name = "grpo"
    paper = "Shao et al. 2024, DeepSeekMath, arXiv 2402.03300"
    formula = "r = 1[correct];  A = (r − mean r) / (std r + 1e-6)"

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return batch.correct.double()

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups whose members agree have no advantage at all."""
        return (batch.correct.any(-1)) & (batch.valid & ~batch.correct).any(-1)
