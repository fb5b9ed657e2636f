"""What methods share that take an early answer for the value of the thought it leaves.

A member is right or wrong, an early answer as much as a whole thought. A token of the thought belongs to every member
that keeps it, so what trains it is the sum of their advantages: exact where every token weighs the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from suffice.groups import GroupBatch
from suffice.methods.base import EQUAL, Method, extremes, mixed

if TYPE_CHECKING:
    from torch import Tensor


class Exits(Method):
    """Serial groups, right or wrong. Subclasses say what the members of a spine are compared with."""

    serial = True
    aggregate = "constant"

    def compared(self, reward_P_K_M: Tensor, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        """float64 [P, K, M]: advantages; of invalid members ignored, as is all of a group whose members agree.

        Args:
            position_P_K_M: thought tokens that a member keeps, float64. It is 0 in invalid members, as is the reward.
        """
        raise NotImplementedError

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return batch.correct.double()

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        low_P_1, high_P_1 = extremes(reward_P_G, batch.valid)
        position_P_G = batch.thought_length.double().masked_fill(~batch.valid, 0.0)
        blocks = [x.unflatten(1, (spines, -1)) for x in (reward_P_G, batch.valid, position_P_G)]
        return self.compared(*blocks).flatten(1).masked_fill(high_P_1 - low_P_1 <= EQUAL, 0.0)

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups whose members agree have no advantage at all."""
        return mixed(batch.correct, batch.valid)


def budgets(valid_P_K_M: Tensor, position_P_K_M: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """(least, greatest) budget that a member stands for, float64 [P, K, M], in thinking tokens from 0 to `most`.

    The trapezoidal rule: half the way to its neighbours. A spine's first member also stands for the budgets below it,
    its last for all beyond. Meaningless in invalid members.

    Args:
        position_P_K_M: thinking tokens of a member; 0 in invalid ones.
    """
    at_P_K_M = position_P_K_M.clamp(max=most).cummax(-1).values
    low_P_K_M, high_P_K_M = at_P_K_M.new_zeros(at_P_K_M.shape), at_P_K_M.new_full(at_P_K_M.shape, most)
    before_P_K_M = at_P_K_M.masked_fill(~valid_P_K_M, -1.0).cummax(-1).values[..., :-1]
    after_P_K_M = at_P_K_M.masked_fill(~valid_P_K_M, math.inf).flip(-1).cummin(-1).values.flip(-1)[..., 1:]
    between_P_K_M = (before_P_K_M + at_P_K_M[..., 1:]) / 2
    low_P_K_M[..., 1:] = between_P_K_M.where(before_P_K_M >= 0, low_P_K_M[..., 1:])
    between_P_K_M = (after_P_K_M + at_P_K_M[..., :-1]) / 2
    high_P_K_M[..., :-1] = between_P_K_M.where(after_P_K_M < math.inf, high_P_K_M[..., :-1])
    return low_P_K_M, high_P_K_M
