"""DAPO (Yu et al., arXiv 2503.14476): a higher upper clip, token mean, mixed groups only, soft overlong punishment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


class DAPO(GRPO):
    """Right or wrong, and a punishment that grows from 0 to −1 over the last `buffer` tokens before `limit`.

    Dynamic sampling is `has_signal` together with a recipe's `train.refill_cap`.
    """

    name = "dapo"
    paper = "Yu et al. 2025, DAPO, arXiv 2503.14476"
    formula = "r = ±1[correct] − clip((L − (limit − buffer)) / buffer, 0, 1), 1 if truncated;  A as in grpo"
    aggregate = "token"
    clip_high = 0.28

    limit: int = Field(20480, ge=1, description="Length, in tokens, from which the punishment is whole.")
    buffer: int = Field(4096, ge=1, description="Tokens before `limit` over which the punishment grows.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        overlong_P_G = ((batch.length.double() - self.limit) / self.buffer + 1).clamp(0, 1)
        return 2 * batch.correct.double() - 1 - overlong_P_G.masked_fill(batch.truncated, 1.0)
