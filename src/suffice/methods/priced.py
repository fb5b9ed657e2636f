"""What methods share that put a price on thinking, fixed or following what the run shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PrivateAttr

from suffice.groups import GroupBatch
from suffice.methods.base import Method, masked_mean

if TYPE_CHECKING:
    from torch import Tensor

Price = Annotated[float, Field(ge=0, le=1)] | Literal["adaptive"]


class Priced(Method):
    """Serial groups; a right answer earns 1, and a thought as long as the base's costs `cost`.

    Subclasses say what an adaptive price is, and what they know of the base's length.
    """

    serial = True
    aggregate = "constant"
    pressure = "price"

    price: Price = Field(0.2, description="Accuracy that a thought as long as the base's may cost.")
    _ease: float = PrivateAttr(default=1.0)

    @property
    def learns(self) -> bool:
        return True

    @property
    def adaptive(self) -> float:
        """The adaptive price as it is now."""
        raise NotImplementedError

    @property
    def base_length(self) -> float:
        """Thinking tokens of the base; 0 where that is not known yet, and the batch's stand for it."""
        raise NotImplementedError

    @property
    def cost(self) -> float:
        """The price as it is now."""
        return self.adaptive if self.price == "adaptive" else self.price

    def eased(self, factor: float) -> Self:
        """The price times `factor`, also where it is adaptive."""
        method = super().eased(factor) if self.price != "adaptive" else self.model_copy()
        method.load_state_dict(self.state_dict())
        method._ease = factor * self._ease
        return method

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.thought_length.double()
        whole_P_K = [x.unflatten(1, (spines, -1))[..., -1] for x in (length_P_G, batch.valid)]
        base = self.base_length or float(masked_mean(*(x.flatten() for x in whole_P_K)))
        right_P_G = batch.value if self.values and batch.value is not None else batch.correct.double()
        return right_P_G - self.cost * length_P_G / max(1.0, base)
