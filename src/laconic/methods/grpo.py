"""GRPO (Shao et al., arXiv 2402.03300): independent rollouts, right or wrong, standardised within the group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from laconic.groups import GroupBatch
from laconic.methods.base import Method, centre, standardise


class GRPO(Method):
    """Reward 1 for a correct member, 0 otherwise. Blind to length: the control that every other method is read by."""

    name = "grpo"
    paper = "Shao et al. 2024, DeepSeekMath, arXiv 2402.03300"
    formula = "r = 1[correct];  A = (r − mean r) / (std r + 1e-6), or r − mean r with scale_rewards = none"

    scale_rewards: Literal["std", "none"] = Field("std", description="What the advantage is divided by.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return batch.correct.double()

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        """(r − mean)/(std + 1e-6) over a group's valid members, population std.

        Without std (Liu et al., arXiv 2503.20783) a small difference of rewards stays a small advantage: with it a
        group of right members that differ by one token pushes as hard as one of right and wrong members.
        """
        return (standardise if self.scale_rewards == "std" else centre)(reward_P_G, batch.valid)

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups whose members agree have no advantage at all."""
        return (batch.correct.any(-1)) & (batch.valid & ~batch.correct).any(-1)
