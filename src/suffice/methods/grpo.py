"""GRPO (Shao et al., arXiv 2402.03300): independent rollouts, right or wrong, standardised within the group.

Dr. GRPO (Liu et al., arXiv 2503.20783) is GRPO without its two biases: the standard deviation and 1/|o|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import EPSILON, Method, centre, masked_mean, mixed, standardise

if TYPE_CHECKING:
    from torch import Tensor

SCALE = "What the advantage is divided by: the group's deviation, one for the whole batch, or nothing."


class GRPO(Method):
    """Reward 1 for a correct member, 0 otherwise. Blind to length: the control that every other method is read by."""

    name = "grpo"
    paper = "Shao et al. 2024, DeepSeekMath, arXiv 2402.03300"
    formula = "r = 1[correct];  A = (r − mean r) / (std r + 1e-6), undivided with scale_rewards = none"

    scale_rewards: Literal["std", "batch", "none"] = Field("std", description=SCALE)

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return batch.correct.double()

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        """(r − mean)/(std + 1e-6) over a group's valid members, population std.

        With `batch` the deviation is that of all groups' r − mean (REINFORCE++ with baseline, arXiv 2501.03262).
        Without std (Liu et al., arXiv 2503.20783) a small difference of rewards stays a small advantage: with it a
        group of right members that differ by one token pushes as hard as one of right and wrong members.
        """
        if self.scale_rewards == "std":
            return standardise(reward_P_G, batch.valid)
        centred_P_G = centre(reward_P_G, batch.valid)
        if self.scale_rewards == "none":
            return centred_P_G
        variance = masked_mean(centred_P_G.flatten() ** 2, batch.valid.flatten())  # every group's mean is 0
        return centred_P_G / (variance.sqrt() + EPSILON)

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups whose members agree have no advantage at all."""
        return mixed(batch.correct, batch.valid)


class DrGRPO(GRPO):
    """The reward less its group's mean, and every token weighed by the same constant: neither easy groups nor short
    wrong answers count more."""

    name = "dr-grpo"
    paper = "Liu et al. 2025, Understanding R1-Zero-Like Training, arXiv 2503.20783"
    formula = "r = 1[correct];  A = r − mean r"
    aggregate = "constant"

    scale_rewards: Literal["none"] = Field("none", description="The paper divides by nothing.")


class LengthReward(GRPO):
    """What methods share whose reward looks at length: groups whose members are all right have a signal too."""

    drop: Literal["none", "all-wrong"] = Field("none", description="Groups that refill replaces.")

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """At most the all-wrong groups are dropped."""
        return batch.correct.any(-1) if self.drop == "all-wrong" else batch.valid.any(-1)
