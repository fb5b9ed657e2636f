"""BRPO (Qi et al., arXiv 2505.13438): anytime reasoning, each stretch of a thought against the answers before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from suffice.methods.exits import Exits, budgets

if TYPE_CHECKING:
    from torch import Tensor


class BRPO(Exits):
    """A stretch of thought is credited with what is right from its end on, R, less a baseline of two parts.

    V1 is how right the exits before it were, each twice as much as the one before; V2 is how right the group's thoughts
    are from there on. Both are times P, the probability of a budget that is still to come. The baseline goes from V2 at
    the first stretch towards V1 at the last.
    """

    name = "brpo"
    paper = "Qi et al. 2025, Optimizing Anytime Reasoning via Budget Relative Policy Optimization, arXiv 2505.13438"
    formula = (
        "r = 1[correct], R_s = Σ_{k≥s} p_k·r_k, P_s = Σ_{k≥s} p_k;  W_s = R_s − (s·V1 + (M − s)·V2) / M, "
        "V1 = P_s·Σ_{k<s} 2^k·r_k / Σ_{k<s} 2^k, V2 = P_s·mean R_s / P_s of the spines;  A_s = W_s − W_{s+1}"
    )

    prior: Literal["linear", "uniform", "base"] = Field(
        "linear", description="Probability p of a budget: as its tokens, the same for all, or 1 for the whole thought."
    )
    budget: int = Field(8000, ge=1, description="Largest budget that counts, in thinking tokens.")

    def compared(self, reward_P_K_M: Tensor, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        members = valid_P_K_M.shape[-1]
        worth_P_K_M = self.worth(reward_P_K_M, valid_P_K_M, position_P_K_M)
        advantage_P_K_M = worth_P_K_M.clone()
        now_P_K = worth_P_K_M[..., 0]  # of the stretch that ends at the next member there is
        for m in range(members):
            after_P_K = worth_P_K_M[..., m + 1] if m + 1 < members else now_P_K.new_zeros(now_P_K.shape)
            advantage_P_K_M[..., m] = now_P_K - after_P_K
            now_P_K = after_P_K.where(valid_P_K_M[..., m], now_P_K)
        return advantage_P_K_M

    def worth(self, reward_P_K_M: Tensor, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        """float64 [P, K, M]: W, what trains a token of the thought that follows the exit of the column before."""
        prior_P_K_M = self.probability(valid_P_K_M, position_P_K_M)
        return_P_K_M, left_P_K_M = _from_here(prior_P_K_M * reward_P_K_M), _from_here(prior_P_K_M)
        column_M = left_P_K_M.new_ones(left_P_K_M.shape[-1]).cumsum(0) - 1
        doubled_P_K_M = valid_P_K_M * 2 ** (column_M - len(column_M))
        right_P_K_M = _mean(_before(doubled_P_K_M * reward_P_K_M), _before(doubled_P_K_M))
        rate_P_K_M = _mean(return_P_K_M, left_P_K_M)
        there_P_K_1 = valid_P_K_M.any(-1, keepdim=True).double()
        others_P_1_M = _mean((rate_P_K_M * there_P_K_1).sum(1, keepdim=True), there_P_K_1.sum(1, keepdim=True))
        share_M = column_M / len(column_M)
        return return_P_K_M - left_P_K_M * (share_M * right_P_K_M + (1 - share_M) * others_P_1_M)

    def probability(self, valid_P_K_M: Tensor, position_P_K_M: Tensor) -> Tensor:
        """float64 [P, K, M]: p, that the budget is one of those a member stands for; of a spine 1 in all."""
        if self.prior == "base":
            return (valid_P_K_M & (_from_here(valid_P_K_M.double()) == 1)).double()
        low_P_K_M, high_P_K_M = (x / self.budget for x in budgets(valid_P_K_M, position_P_K_M, self.budget))
        power = 2 if self.prior == "linear" else 1
        return (high_P_K_M**power - low_P_K_M**power) * valid_P_K_M


def _from_here(x: Tensor) -> Tensor:
    """Sums over an entry of the last axis and those after it."""
    return x.flip(-1).cumsum(-1).flip(-1)


def _before(x: Tensor) -> Tensor:
    """Sums over the entries of the last axis before an entry."""
    return x.cumsum(-1) - x


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    """total / weight, 0 where there is no weight."""
    return (total / weight).where(weight > 0, 0.0)
