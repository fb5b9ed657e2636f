"""GRPO-λ (Dai, Liu and Si, arXiv 2505.18086): only the batch's most accurate groups are asked to be shorter."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PrivateAttr

from suffice.groups import GroupBatch
from suffice.methods.adaptive import START, Gained
from suffice.methods.base import masked_mean
from suffice.methods.length_penalty import LengthPenalty

if TYPE_CHECKING:
    from torch import Tensor

GAIN = 10.0  # a tenth above the start penalises every group
MEMORY = 0.1


class GRPOLambda(LengthPenalty):
    """The length penalty on the top λ of the batch's groups by correctness, plain 0/1 on the rest.

    k = ceil(λ·P) groups are selected over the whole global batch. The paper leaves rounding and ties open; here ties
    go to the group whose correct members are longer on average, then to the earlier problem, and a group without a
    correct member is never selected, even if fewer than k remain.
    """

    name = "grpo-lambda"
    paper = "Dai, Liu and Si 2025, GRPO-λ, arXiv 2505.18086, Eq. 1-2"
    formula = "r = length-penalty's in the top ⌈λP⌉ groups by correctness, 1[correct] elsewhere;  A as in grpo"
    pressure = "lam"

    lam: Annotated[float, Field(ge=0, le=1)] | Literal["adaptive"] = Field(
        0.2, description="Fraction λ of the batch's groups that get the length penalty; adaptive: it follows accuracy."
    )
    _gained: Gained = PrivateAttr(default_factory=Gained)
    _gain: float = PrivateAttr(default=GAIN)

    @property
    def learns(self) -> bool:
        return self.lam == "adaptive"

    @property
    def fraction(self) -> float:
        """λ as it is now."""
        if self.lam != "adaptive":
            return self.lam
        return min(1.0, max(0.0, self._gain * self._gained.points)) if self._gained.known else START

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        if self.lam != "adaptive":
            return {}
        self._gained.observe(accuracy, MEMORY)
        return {"lam": self.fraction}

    def eased(self, factor: float) -> Self:
        """A fixed λ is scaled, an adaptive one follows accuracy with a scaled gain."""
        if self.lam != "adaptive":
            return super().eased(factor)
        method = self.model_copy()
        method._gained, method._gain = replace(self._gained), factor * self._gain
        return method

    def state_dict(self) -> dict[str, float]:
        return asdict(self._gained) if self.lam == "adaptive" else {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        if self.lam == "adaptive":
            self._gained = Gained(**state)  # type: ignore[arg-type]

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return super().reward(batch, spines).where(self.selected(batch)[:, None], batch.correct.double())

    def selected(self, batch: GroupBatch) -> Tensor:
        """bool [P]: the groups that are asked to be shorter."""
        accuracy_P = masked_mean(batch.correct.double(), batch.valid)[:, 0].tolist()
        length_P = masked_mean(batch.length.double(), batch.correct)[:, 0].tolist()
        k = math.ceil(self.fraction * len(accuracy_P) - 1e-9)
        ranked = sorted(range(len(accuracy_P)), key=lambda p: (-accuracy_P[p], -length_P[p], p))
        chosen_P = batch.correct.new_zeros(len(accuracy_P))
        chosen_P[[p for p in ranked[:k] if accuracy_P[p] > 0]] = True
        return chosen_P
