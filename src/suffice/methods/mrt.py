"""MRT's termination-reward baseline (Qu et al., arXiv 2503.07572): thinking on against having stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.groups import GroupBatch
from suffice.methods.base import mixed
from suffice.methods.exits import Exits

if TYPE_CHECKING:
    from torch import Tensor


class MRT(Exits):
    """What follows an exit is credited with the reward of the whole thought less that of terminating there.

    Every exit is one sample of the authors' A(s, a) = R(s, a) − R_termination: s ends at the exit, a is the rest of the
    thought, and the mean of the samples is trained. What precedes the first exit is in no a and is left alone, for
    which early answers take the opposite advantage.
    """

    name = "mrt"
    paper = "Qu et al. 2025, Meta Reinforcement Fine-Tuning, arXiv 2503.07572, termination-reward baseline of its code"
    formula = "r = 1[correct];  A = r − mean r of the exits for the whole thought, (r − r of the whole) / m for an exit"

    def compared(self, reward_P_K_M: Tensor, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        both_P_K_M = valid_P_K_M & valid_P_K_M[..., -1:]
        lead_P_K_M = (reward_P_K_M[..., -1:] - reward_P_K_M) * both_P_K_M
        share_P_K_M = lead_P_K_M / valid_P_K_M[..., :-1].sum(-1, keepdim=True).clamp(min=1)
        advantage_P_K_M = -share_P_K_M
        advantage_P_K_M[..., -1] = share_P_K_M.sum(-1)
        return advantage_P_K_M

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups in which an exit of some spine and its whole thought differ."""
        return mixed(*(x.unflatten(1, (self.spines(batch), -1)) for x in (batch.correct, batch.valid))).any(-1)
