"""Decide, don't rewrite: only the decision to stop is trained, and no token of the thought.

At each exit the model's own decision to stop, which was not sampled there, gets what stopping would have earned less
what the whole thought did. The whole thought teaches its answer alone, and the objective holds thoughts to the base's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PrivateAttr

from suffice.groups import GroupBatch
from suffice.methods.adaptive import Floor
from suffice.methods.base import EQUAL, Method, extremes, masked_mean

if TYPE_CHECKING:
    from torch import Tensor

LEAST, RARE, USUAL = 0.005, 0.01, 0.78
"""Probabilities of stopping: below the first stopping is not on the table; natural steps push one that is below the
second no further down, and none above the third further up."""


class Decide(Method):
    """A member earns its probability of being right, less a price of its thought; a branch is compared with the whole.

    `natural` divides the weight of a decision by 1 − π, π the probability of stopping there, so that the logit of
    stopping moves by the advantage alone; `policy` multiplies that by π, which is the policy gradient.
    """

    name = "decide"
    paper = "ours; groups of Dai, Yang and Si 2025, S-GRPO, arXiv 2505.07686"
    formula = "r = P(right) − price·L/L_base;  A = (r − r of the whole)/(1 − π), the whole's: answer·P(right)"
    serial = True
    aggregate = "constant"
    train_on = "decision"
    at = "stops"
    kl = 0.3
    pressure = "price"

    price: Annotated[float, Field(ge=0, le=1)] | Literal["adaptive"] = Field(
        "adaptive", description="Accuracy that a thought as long as the base's may cost; adaptive: above a floor."
    )
    target: float = Field(0.55, gt=0, le=1, description="Part of the base's thought that an adaptive price aims at.")
    step: Literal["natural", "policy"] = Field("natural", description="How a decision's weight hangs on π.")
    answer: float = Field(3.0, ge=0, description="Weight of the answer after the whole thought.")
    _floor: Floor = PrivateAttr(default_factory=Floor)
    _ease: float = PrivateAttr(default=1.0)

    @property
    def learns(self) -> bool:
        return True

    @property
    def held_out(self) -> int:
        return 1024 if self.price == "adaptive" else 0

    def look(self, accuracy: float, thought_tokens: float, rollouts: int) -> None:
        self._floor.look(accuracy, thought_tokens, rollouts, self.target)

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        self._floor.observe(thought_tokens)
        return {"asked": self._floor.asked, "pressure": self._floor.pressure}

    def eased(self, factor: float) -> Self:
        method = self.model_copy()
        method.load_state_dict(self.state_dict())
        method._ease = factor * self._ease
        return method

    def state_dict(self) -> dict[str, float]:
        return asdict(self._floor)

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._floor = Floor(**state)  # type: ignore[arg-type]

    def spines(self, batch: GroupBatch) -> int:
        return batch.spines or 1

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.thought_length.double() * batch.valid
        whole_P_K = [x.unflatten(1, (spines, -1))[..., -1] for x in (length_P_G, batch.valid)]
        base = self._floor.base_length or float(masked_mean(*(x.flatten() for x in whole_P_K)))
        right_P_G, spent_P_G = right(batch), length_P_G / max(1.0, base)
        return right_P_G - self.cost(right_P_G, spent_P_G, batch, spines) * spent_P_G

    def cost(self, right_P_G: Tensor, spent_P_G: Tensor, batch: GroupBatch, spines: int) -> float:
        """The price in this batch. An adaptive one is `pressure` above that at which the batch's decisions, taken
        together, are moved neither way; thinking is never paid for."""
        if self.price != "adaptive":
            return self._ease * self.price
        factor_P_G = self.factor(batch, None) * batch.valid
        gained, more = (float((factor_P_G * -lead(x, spines)).sum()) for x in (right_P_G, spent_P_G))
        held = gained / more if more > EQUAL else 0.0
        return self._ease * min(1.0, max(0.0, held + self._floor.pressure))

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        lead_P_G = lead(reward_P_G, spines)
        advantage_P_K_M = (lead_P_G * self.factor(batch, lead_P_G)).unflatten(1, (spines, -1))
        advantage_P_K_M[..., -1] = self.answer * taught(batch).unflatten(1, (spines, -1))[..., -1]
        low_P_1, high_P_1 = extremes(reward_P_G, batch.valid)
        equal_P_1 = (high_P_1 - low_P_1 <= EQUAL) & (batch.value is None)
        return advantage_P_K_M.flatten(1).masked_fill(equal_P_1, 0.0)

    def factor(self, batch: GroupBatch, lead_P_G: Tensor | None) -> Tensor:
        """What the lead of an exit over the whole thought is multiplied by, for the probability of stopping there.
        Without leads, as if it had none."""
        if batch.stopping is None:
            return batch.correct.double().fill_(1.0)
        goes_on_P_G, off_P_G = (1 - batch.stopping).clamp(min=1 - USUAL), batch.stopping < LEAST
        if self.step == "policy":
            return (batch.stopping / goes_on_P_G).masked_fill(off_P_G, 0.0)
        if lead_P_G is not None:
            off_P_G = off_P_G | ((batch.stopping < RARE) & (lead_P_G < 0)) | ((batch.stopping > USUAL) & (lead_P_G > 0))
        return (1 / goes_on_P_G).masked_fill(off_P_G, 0.0)


def right(batch: GroupBatch) -> Tensor:
    """Probability [P, G] that a member is right; 0 or 1 where its answer was sampled."""
    return batch.correct.double() if batch.value is None else batch.value


def lead(x_P_G: Tensor, spines: int) -> Tensor:
    """What every member has more than its spine's whole thought [P, G]."""
    x_P_K_M = x_P_G.unflatten(1, (spines, -1))
    return (x_P_K_M - x_P_K_M[..., -1:]).flatten(1)


def taught(batch: GroupBatch) -> Tensor:
    """Weight [P, G] of a member's answer: of a gold one its probability, of one that was sampled its lead over the
    group's mean."""
    if batch.value is not None:
        return batch.value
    correct_P_G = batch.correct.double()
    return correct_P_G - masked_mean(correct_P_G, batch.valid)
