"""Decide, don't rewrite: only the decision to stop is trained, and no token of the thought.

At each exit the model's own decision to stop, which was not sampled there, gets what stopping would have earned less
what the whole thought did. The whole thought teaches its answer alone, and the objective holds thoughts to the base's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PrivateAttr

from suffice.groups import CONSIDERED, GroupBatch
from suffice.methods.adaptive import Floor
from suffice.methods.base import EQUAL, extremes, masked_mean
from suffice.methods.priced import Price, Priced

if TYPE_CHECKING:
    from torch import Tensor

RARE, USUAL = 0.01, 0.78
"""Probabilities of stopping: natural steps push none below the first further down, none above the second further up."""


class Decide(Priced):
    """A member earns its probability of being right, less a price of its thought; a branch is compared with the whole.

    `natural` divides the weight of a decision by 1 − π, π the probability of stopping there, so that the logit of
    stopping moves by the advantage alone; `policy` multiplies that by π, which is the policy gradient.
    """

    name = "decide"
    paper = "ours; groups of Dai, Yang and Si 2025, S-GRPO, arXiv 2505.07686"
    formula = "r = P(right) − price·L/L_base;  A = (r − r of the whole)/(1 − π), the whole's: answer·P(right)"
    train_on = "decision"
    at = "stops"
    kl = 0.3
    values = True

    price: Price = Field(
        "adaptive", description="Accuracy that a thought as long as the base's may cost; adaptive: above a floor."
    )
    target: float = Field(0.55, gt=0, le=1, description="Part of the base's thought that an adaptive price aims at.")
    pace: float = Field(0.06, gt=0, le=1, description="By which part one look may change what is asked.")
    step: Literal["natural", "policy"] = Field("natural", description="How a decision's weight hangs on π.")
    answer: float = Field(3.0, ge=0, description="Weight of the answer after the whole thought.")
    _floor: Floor = PrivateAttr(default_factory=Floor)

    @property
    def held_out(self) -> int:
        return 1024 if self.price == "adaptive" else 0

    def look(self, accuracy: float, thought_tokens: float, rollouts: int) -> None:
        self._floor.look(accuracy, thought_tokens, rollouts, self.target, self.pace)

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        self._floor.observe(thought_tokens)
        price = {"price": self.cost}
        return {"asked": self._floor.asked, **price} if self.held_out else price

    def state_dict(self) -> dict[str, float]:
        return asdict(self._floor)

    def load_state_dict(self, state: dict[str, float]) -> None:
        known, self._floor = self._floor, Floor(**state)  # type: ignore[arg-type]
        if not self._floor.base_looked:  # rolled back to before the first look
            self._floor.base, self._floor.base_looked = known.base, known.base_looked
            self._floor.base_length = self._floor.length = known.base_length

    @property
    def adaptive(self) -> float:
        return self._ease * self._floor.price

    @property
    def base_length(self) -> float:
        return self._floor.base_length

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        reward_P_K_M = reward_P_G.unflatten(1, (spines, -1))
        lead_P_G = (reward_P_K_M - reward_P_K_M[..., -1:]).flatten(1)
        advantage_P_K_M = (lead_P_G * self.factor(batch, lead_P_G)).unflatten(1, (spines, -1))
        advantage_P_K_M[..., -1] = self.answer * taught(batch).unflatten(1, (spines, -1))[..., -1]
        low_P_1, high_P_1 = extremes(reward_P_G, batch.valid)
        equal_P_1 = (high_P_1 - low_P_1 <= EQUAL) & (batch.value is None)
        return advantage_P_K_M.flatten(1).masked_fill(equal_P_1, 0.0)

    def factor(self, batch: GroupBatch, lead_P_G: Tensor) -> Tensor:
        """What the lead of an exit over the whole thought is multiplied by, for the probability of stopping there."""
        if (stopping_P_G := batch.stopping) is None:
            return lead_P_G.new_ones(lead_P_G.shape)
        goes_on_P_G, off_P_G = (1 - stopping_P_G).clamp(min=1 - USUAL), stopping_P_G < CONSIDERED
        if self.step == "policy":
            return (stopping_P_G / goes_on_P_G).masked_fill(off_P_G, 0.0)
        bounded_P_G = ((stopping_P_G < RARE) & (lead_P_G < 0)) | ((stopping_P_G > USUAL) & (lead_P_G > 0))
        return (1 / goes_on_P_G).masked_fill(bounded_P_G | off_P_G, 0.0)


def taught(batch: GroupBatch) -> Tensor:
    """Weight [P, G] of a member's answer: of a gold one its probability, of one that was sampled its lead over the
    group's mean."""
    if batch.value is not None:
        return batch.value
    correct_P_G = batch.correct.double()
    return correct_P_G - masked_mean(correct_P_G, batch.valid)
