"""QLPO (Chen et al., arXiv 2607.21793): more rollouts than are trained; which are trained decides on length."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import mixed
from suffice.methods.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


class QLPO(GRPO):
    """GRPO on a part of each group: as many right and wrong as in the whole, rather short right and long wrong ones.

    Each class has a preferred half by length. Within a half members are drawn in the order of their columns, which says
    nothing of them: a group's rollouts are alike but for their random streams. Those that are not drawn have no
    advantage; those that are stand for the others in the mean over members.
    """

    name = "qlpo"
    paper = "Chen et al. 2026, QLPO, arXiv 2607.21793"
    formula = (
        "M = keep·K of the K rollouts are trained, M·(right / K) of them right; of the right short and long as 1 : α, "
        "of the wrong long and short;  r and A as in grpo over those M, A = 0 for the others"
    )
    aggregate = "token"

    keep: float = Field(0.5, gt=0, le=1, description="Part of a group's rollouts that is trained.")
    alpha: float = Field(1 / 3, ge=0, le=1, description="Members α of the other half for each of the preferred one.")

    def eased(self, factor: float) -> Self:
        """α moved towards 1, where both halves are drawn alike."""
        return self.model_copy(update={"alpha": 1 - factor * (1 - self.alpha)})

    def drawn(self, batch: GroupBatch) -> Tensor:
        """bool [P, G]: the members that are trained, at least two. Halves of a member round up."""
        wrong_P_G = batch.valid & ~batch.correct
        all_P_1, right_P_1 = (x.sum(-1, keepdim=True).double() for x in (batch.valid, batch.correct))
        kept_P_1 = (self.keep * all_P_1 + 0.5).floor().clamp(min=2).minimum(all_P_1)
        kept_right_P_1 = (kept_P_1 * right_P_1 / all_P_1.clamp(min=1) + 0.5).floor()
        length_P_G = batch.length.double()
        right_P_G = self.preferred(batch.correct, length_P_G, kept_right_P_1)
        return right_P_G | self.preferred(wrong_P_G, -length_P_G, kept_P_1 - kept_right_P_1)

    def preferred(self, members_P_G: Tensor, length_P_G: Tensor, count_P_1: Tensor) -> Tensor:
        """bool [P, G]: `count` of the members, mostly of the half with the least `length`, the greater half if odd."""
        rank_P_G = length_P_G.masked_fill(~members_P_G, math.inf).argsort(dim=-1, stable=True).argsort(dim=-1)
        half_P_1 = (members_P_G.sum(-1, keepdim=True) + 1) // 2
        first_P_G = members_P_G & (rank_P_G < half_P_1)
        rest_P_G = members_P_G & ~first_P_G
        first_P_1 = (count_P_1 / (1 + self.alpha) - 1e-9).ceil().minimum(half_P_1)
        return (first_P_G & (first_P_G.cumsum(-1) <= first_P_1)) | (
            rest_P_G & (rest_P_G.cumsum(-1) <= count_P_1 - first_P_1)
        )

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        drawn_P_G = self.drawn(batch)
        stands_for_P_1 = batch.valid.sum(-1, keepdim=True) / drawn_P_G.sum(-1, keepdim=True).clamp(min=1)
        return super().advantage(reward_P_G, replace(batch, valid=drawn_P_G), spines) * stands_for_P_1.double()

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups of which right and wrong members are drawn."""
        drawn_P_G = self.drawn(batch)
        return mixed(batch.correct & drawn_P_G, drawn_P_G)
