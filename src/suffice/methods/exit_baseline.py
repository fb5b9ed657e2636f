"""What thinking on was worth, exit by exit: MRT's termination-reward baseline (arXiv 2503.07572), in BRPO's dense form
(arXiv 2505.13438), on S-GRPO's groups (arXiv 2505.07686), with a constrained-RL price.

S-GRPO compares every exit with the mean of its group. Here each is compared with the exit before it, and since a token
of the thought belongs to every member that keeps it, the differences add up: what trains a token after exit i is what
the whole thought earned less what answering at exit i earned. That is the policy gradient of the decision to think on,
against its own alternative. Ours is that the members are those baselines and are trained, exactly on what they share,
and the price inside every exit with its controller on the base's length.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pydantic import Field, PrivateAttr

from suffice.groups import GroupBatch
from suffice.methods.adaptive import START, Gained
from suffice.methods.base import EQUAL, extremes, masked_mean
from suffice.methods.priced import Price, Priced

if TYPE_CHECKING:
    from torch import Tensor

GAIN = 10.0  # a point of accuracy above the start raises the price by 0.1
MOST = 0.3
MEMORY = 0.2  # one thought a problem: steps are cheap and large, so what counts are the last few


class ExitBaseline(Priced):
    """A right answer earns 1 and thinking has a price; a member's advantage is its lead over the exit before it.

    The price is that of a thought as long as the base's, which the first `FIRST` steps tell: 0.2 means the same to a
    model of 60 thinking tokens and to one of 6,000. Weights of tokens add up only where every member's tokens weigh the
    same, `aggregate = "constant"`.
    """

    name = "exit-baseline"
    paper = "MRT's baseline, arXiv 2503.07572, in BRPO's form, arXiv 2505.13438, on S-GRPO's groups, arXiv 2505.07686"
    formula = "r = 1[correct] − price·L/L_base;  A = r − r of the exit before, the first exit's: r − mean r"

    price: Price = Field(
        0.2, description="Accuracy that a thought as long as the base's may cost; adaptive: it follows accuracy."
    )
    target: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Part of the base's thought that an adaptive price aims at; negative below it.",
    )
    _gained: Gained = PrivateAttr(default_factory=Gained)
    _base_length: float = PrivateAttr(default=0.0)
    _length: float = PrivateAttr(default=0.0)

    @property
    def adaptive(self) -> float:
        """What accuracy allows, and no more than brings thoughts to their target."""
        allowed = self._ease * min(MOST, max(0.0, START + GAIN * self._gained.points))
        wanted = self._length / (self.target * self._base_length) - 1 if self._base_length else MOST
        return max(-MOST, min(allowed, wanted))

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        self._gained.observe(accuracy, MEMORY)
        self._length += (thought_tokens - self._length) * self._gained.share(MEMORY)
        if not self._gained.known:
            self._base_length = self._length
        return {"price": self.cost}

    @property
    def base_length(self) -> float:
        return self._base_length

    def state_dict(self) -> dict[str, float]:
        return {**asdict(self._gained), "base_length": self._base_length, "length": self._length}

    def load_state_dict(self, state: dict[str, float]) -> None:
        rest = dict(state)
        self._base_length, self._length = rest.pop("base_length"), rest.pop("length")
        self._gained = Gained(**rest)  # type: ignore[arg-type]

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        low_P_1, high_P_1 = extremes(reward_P_G, batch.valid)
        before_P_K = masked_mean(reward_P_G, batch.valid).expand(-1, spines)
        advantage_P_K_M = reward_P_G.new_zeros(reward_P_G.shape).unflatten(1, (spines, -1))
        columns = zip(
            reward_P_G.unflatten(1, (spines, -1)).unbind(-1),
            batch.valid.unflatten(1, (spines, -1)).unbind(-1),
            strict=True,
        )
        for m, (reward_P_K, valid_P_K) in enumerate(columns):
            advantage_P_K_M[..., m] = (reward_P_K - before_P_K) * valid_P_K
            before_P_K = reward_P_K.where(valid_P_K, before_P_K)
        return advantage_P_K_M.flatten(1).masked_fill(high_P_1 - low_P_1 <= EQUAL, 0.0)
