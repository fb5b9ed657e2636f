"""REO-RL (Gao et al., arXiv 2506.07104): right at every budget, weighed as the integral over budgets asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.methods.exits import Exits, budgets

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
        low_P_K_M, high_P_K_M = budgets(valid_P_K_M, position_P_K_M, self.budget)
        weight_P_K_M = (high_P_K_M - low_P_K_M) * valid_P_K_M
        total_P_1_1 = weight_P_K_M.sum((1, 2), keepdim=True).clamp(min=1)
        mean_P_1_1 = (weight_P_K_M * reward_P_K_M).sum((1, 2), keepdim=True) / total_P_1_1
        members_P_1_1 = valid_P_K_M.sum((1, 2), keepdim=True)
        return weight_P_K_M * (reward_P_K_M - mean_P_1_1) * members_P_1_1 / total_P_1_1
