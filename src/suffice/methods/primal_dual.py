"""Length as a constraint (Liu et al., arXiv 2602.14468): a price that rises while thoughts are beyond a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, PrivateAttr

from suffice.groups import GroupBatch
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class PrimalDual(LengthReward):
    """Every member pays λ for what exceeds the budget, in budgets. λ, the dual variable, follows the mean thought.

    A thought within the budget pays nothing, however long the others are. Short thoughts weigh in the mean that moves λ
    though: the constraint is on the mean.
    """

    name = "primal-dual"
    paper = "Liu et al. 2026, Length-Aware Constrained Reinforcement Learning for LLM, arXiv 2602.14468"
    formula = (
        "r = 1[correct] − λ·max(0, L/budget − 1), L in thinking tokens;  A as in grpo;  "
        "after a step λ ← clip(λ + rate·(mean L/budget − 1), 0, ceiling), from 0"
    )
    pressure = "ceiling"

    budget: int = Field(1500, ge=1, description="Mean thinking tokens that are allowed.")
    rate: float = Field(0.002, gt=0, le=1, description="Step of λ, where the mean thought is twice the budget.")
    ceiling: float = Field(1.0, ge=0, le=100, description="Largest λ: the price of a thought twice the budget.")
    _lam: float = PrivateAttr(default=0.0)

    @property
    def learns(self) -> bool:
        return True

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        excess_P_G = (batch.thought_length.double() / self.budget - 1).clamp(min=0)
        return batch.correct.double() - self._lam * excess_P_G

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        self._lam = min(self.ceiling, max(0.0, self._lam + self.rate * (thought_tokens / self.budget - 1)))
        return {"lam": self._lam}

    def eased(self, factor: float) -> Self:
        """Ceiling and λ times `factor`."""
        method = super().eased(factor)
        method._lam = factor * self._lam
        return method

    def state_dict(self) -> dict[str, float]:
        return {"lam": self._lam}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._lam = state["lam"]
