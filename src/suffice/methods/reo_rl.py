"""REO-RL (Gao et al., arXiv 2506.07104): right at every budget, weighed as the integral over budgets asks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from suffice.methods.exits import Exits

if TYPE_CHECKING:
    from torch import Tensor


class REORL(Exits):
    """The objective is the sum of accuracies at all thinking budgets, by the trapezoidal rule over a few of them.

    A budget cuts the thought and an answer is forced; beyond its own end a thought answers for itself. The budgets are
    the exits of the thought, so a member is a rollout at its budget, and its weight c how many budgets it stands for.
    """

    name = "reo-rl"
    paper = "Gao et al. 2025, How Far Are We from Optimal Reasoning Efficiency?, arXiv 2506.07104"
    formula = "r = 1[correct];  A = c·(r − Σ c·r / Σ c) / mean c, c = (next L − last L) / 2, L in thinking tokens"

    budget: int = Field(16384, ge=1, description="Largest budget that counts, in thinking tokens.")

    def compared(self, reward_P_K_M: Tensor, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        weight_P_K_M = self.weights(valid_P_K_M, position_P_K_M)
        total_P = weight_P_K_M.sum((-2, -1)).clamp(min=1)[:, None, None]
        mean_P = (weight_P_K_M * reward_P_K_M).sum((-2, -1))[:, None, None] / total_P
        members_P = valid_P_K_M.sum((-2, -1))[:, None, None]
        return weight_P_K_M * (reward_P_K_M - mean_P) * members_P / total_P

    def weights(self, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        """float64 [P, K, M]: budgets, in tokens, that each member stands for; those of a spine sum to `budget`.

        Half the way to its neighbours; the first also for the budgets below it, the last for those beyond.
        """
        at_P_K_M = position_P_K_M.clamp(max=self.budget).cummax(-1).values
        last_P_K_M, next_P_K_M = -at_P_K_M, 2 * self.budget - at_P_K_M  # as if mirrored at both ends
        earlier_P_K_M = at_P_K_M.masked_fill(~valid_P_K_M, -1.0).cummax(-1).values[..., :-1]
        later_P_K_M = at_P_K_M.masked_fill(~valid_P_K_M, math.inf).flip(-1).cummin(-1).values.flip(-1)[..., 1:]
        last_P_K_M[..., 1:] = earlier_P_K_M.where(earlier_P_K_M >= 0, last_P_K_M[..., 1:])
        next_P_K_M[..., :-1] = later_P_K_M.where(later_P_K_M < math.inf, next_P_K_M[..., :-1])
        return (next_P_K_M - last_P_K_M) / 2 * valid_P_K_M
