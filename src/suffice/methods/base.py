"""What every method is: parameters with ranges, a reward, an advantage, and its papers' choices for the loss.

Arithmetic runs in float64 and `score` returns float32. Rewards that differ by at most `EQUAL` count as equal and earn
an advantage of exactly 0: in float32 the mean of nine times 0.95 is not 0.95, and a standard deviation of 1e-8 would
turn that into a full-strength signal.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from suffice.groups import GroupBatch, Scores

if TYPE_CHECKING:
    from torch import Tensor

EQUAL = 1e-9
EPSILON = 1e-6


class Method(BaseModel):
    """A way to reward and baseline the members of a batch of groups.

    Subclasses are one module each and override `reward` and `advantage`; fields are the method's parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    paper: ClassVar[str]
    formula: ClassVar[str]
    serial: ClassVar[bool] = False
    """Whether groups may have exits; a parallel method is given spines only (`spines = G`)."""
    aggregate: ClassVar[Literal["sequence", "constant", "token"]] = "sequence"
    """The papers' loss aggregation. It, where exits lie, what is trained and the clips are a method's choices, which a
    recipe's `[objective]` and `[group]` override."""
    train_on: ClassVar[Literal["all", "sampled", "sampled+close", "decision"]] = "sampled"
    at: ClassVar[Literal["random", "stops"]] = "random"
    kl: ClassVar[float] = 0.0
    values: ClassVar[bool] = False
    """Whether it reads `GroupBatch.value`, and so may be given members that were not answered."""
    clip_low: ClassVar[float] = 0.2
    clip_high: ClassVar[float] = 0.2
    pressure: ClassVar[str | None] = None
    """The parameter that says how hard the method presses for short thoughts, if it has one."""

    def score(self, batch: GroupBatch) -> Scores:
        """Reward and advantage of every member, float32 [P, G]; 0 for invalid members. Pure: same batch, same scores.

        Raises:
            ValueError: the batch's `spines` does not fit the method.
        """
        spines = self.spines(batch)
        reward_P_G = self.reward(batch, spines).masked_fill(~batch.valid, 0.0)
        advantage_P_G = self.advantage(reward_P_G, batch, spines).masked_fill(~batch.valid, 0.0)
        return Scores(reward_P_G.float(), advantage_P_G.float())

    def spines(self, batch: GroupBatch) -> int:
        """Spines per group: of a serial method one unless the batch says otherwise; a parallel method's members all."""
        if self.serial:
            return batch.spines or 1
        members = batch.correct.shape[1]
        if batch.spines not in (None, members):
            raise ValueError(
                f"{self.name} scores parallel groups, where every one of the {members} members is a spine, "
                f"not {batch.spines} spines with exits"
            )
        return members

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        """float64 [P, G]; values of invalid members are ignored."""
        raise NotImplementedError

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        """float64 [P, G]; values of invalid members are ignored."""
        raise NotImplementedError

    @property
    def learns(self) -> bool:
        """Whether `observe` changes what it does: such a method needs an engine that calls it."""
        return False

    def observe(self, accuracy: float, thought_tokens: float) -> dict[str, float]:
        """Told the accuracy and mean thinking tokens of a step's full rollouts after it was scored; what metrics should
        say of it."""
        return {}

    @property
    def held_out(self) -> int:
        """Problems to be held out of training, of which `look` is told; 0 for a method that needs none."""
        return 0

    def look(self, accuracy: float, thought_tokens: float, rollouts: int) -> None:
        """Told the accuracy of so many full rollouts of problems that were not trained on, and the mean thinking tokens
        of those held out: of the base before the first step, later of the model now and then."""

    def state_dict(self) -> dict[str, float]:
        """What `observe` has left, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint's state."""

    def eased(self, factor: float) -> Self:
        """The method with its pressure on length times `factor`, in 0…1; itself where it has none."""
        if self.pressure is None:
            return self
        return self.model_copy(update={self.pressure: factor * getattr(self, self.pressure)})

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """bool [P]: groups that refill keeps. Decided before scoring, on what is right (within a cap, if any)."""
        return batch.valid.any(-1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis of the entries where `mask` holds, kept as size 1; 0 where none does."""
    return (x * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)


def extremes(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(least, greatest) of the masked entries of the last axis, kept as size 1; (∞, −∞) where there are none."""
    return x.masked_fill(~mask, math.inf).amin(-1, True), x.masked_fill(~mask, -math.inf).amax(-1, True)


def centre(x: Tensor, mask: Tensor) -> Tensor:
    """x − mean over the last axis; exactly 0 where the masked entries are equal, and outside the mask."""
    low, high = extremes(x, mask)
    return (x - masked_mean(x, mask)).masked_fill(~mask | (high - low <= EQUAL), 0.0)


def standardise(x: Tensor, mask: Tensor) -> Tensor:
    """`centre(x)` divided by (population standard deviation + 1e-6)."""
    centred = centre(x, mask)
    return centred / (masked_mean(centred**2, mask).sqrt() + EPSILON)


def mixed(correct_P_G: Tensor, valid_P_G: Tensor) -> Tensor:
    """bool [P]: groups with a right and a wrong member."""
    return correct_P_G.any(-1) & (valid_P_G & ~correct_P_G).any(-1)


def targets(batch: GroupBatch, otherwise: int) -> Tensor:
    """float64 [P, 1]: the length each problem asks for, in tokens, `otherwise` where the batch names none."""
    target_P = batch.length.new_full(batch.length.shape[:1], otherwise) if batch.target is None else batch.target
    return target_P.double()[:, None]
