"""ACOER (Lee et al., arXiv 2606.22716): only right answers are paid for brevity, and a loop controls how much."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PrivateAttr

from suffice.groups import GroupBatch
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor

BEND = 5.0  # of the logarithm that turns tokens saved into a bonus
LEAST, MOST = 0.01, 0.5  # bounds of α
UP, DOWN = 1.02, 0.95  # what α is multiplied by, a step
LOSS = 0.02  # of accuracy, that turns α down
BELOW = 0.85  # the budget, as a part of the mean thought
MEMORY = 2 / 51  # share of the newest step in the running means


class ACOER(LengthReward):
    """A right answer earns 1 and up to α more for a thought shorter than the budget. A wrong one earns 0, however long.

    α grows while the running accuracy holds against that of `window` steps before and shrinks when it has lost two
    points; the budget stays a little below the running length. Neither moves before `warmup` and `window` steps.
    """

    name = "acoer"
    paper = "Lee et al. 2026, Beyond Penalizing Mistakes, arXiv 2606.22716"
    formula = "r = 1[correct]·(1 + α·log(1 + 5·(1 − min(1, L/budget))) / log 6), L in thinking tokens;  A as in grpo"
    pressure = "alpha"

    alpha: float = Field(0.02, ge=0, le=1, description="Bonus α at first, of a right answer without a thought.")
    budget: int = Field(4096, ge=1, description="Budget at first, in thinking tokens.")
    floor: int = Field(512, ge=1, description="Smallest budget, in thinking tokens.")
    warmup: int = Field(200, ge=0, description="Steps before α and the budget move.")
    window: int = Field(100, ge=2, description="Steps over which accuracy is compared, the newest included.")
    _bonus: float = PrivateAttr(default=0.0)
    _limit: float = PrivateAttr(default=0.0)
    _steps: int = PrivateAttr(default=0)
    _length: float = PrivateAttr(default=0.0)
    _accuracies: list[float] = PrivateAttr(default_factory=list)

    def model_post_init(self, context: Any, /) -> None:
        self._bonus, self._limit = self.alpha, float(self.budget)

    @property
    def learns(self) -> bool:
        return True

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        saved_P_G = (1 - batch.thought_length.double() / self._limit).clamp(min=0)
        return batch.correct * (1 + self._bonus * (1 + BEND * saved_P_G).log() / math.log(1 + BEND))

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        past = self._accuracies
        self._length += (thought_tokens - self._length) * (MEMORY if past else 1)
        past.append(past[-1] + (accuracy - past[-1]) * MEMORY if past else accuracy)
        del past[: -self.window]
        if self._steps >= self.warmup and len(past) == self.window:
            lost = past[0] - past[-1] > LOSS
            self._bonus = max(LEAST, self._bonus * DOWN) if lost else min(MOST, self._bonus * UP)
            self._limit = max(float(self.floor), BELOW * self._length)
        self._steps += 1
        return {"alpha": self._bonus, "budget": self._limit}

    def eased(self, factor: float) -> Self:
        """α times `factor`, from where it is."""
        method = super().eased(factor)
        method.load_state_dict(self.state_dict())
        method._bonus = factor * self._bonus
        return method

    def state_dict(self) -> dict[str, float]:
        past = {f"accuracy_{i}": value for i, value in enumerate(self._accuracies)}
        return {"alpha": self._bonus, "budget": self._limit, "steps": self._steps, "length": self._length, **past}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._bonus, self._limit, self._length = state["alpha"], state["budget"], state["length"]
        self._steps = int(state["steps"])
        self._accuracies = [value for key, value in state.items() if key.startswith("accuracy_")]
