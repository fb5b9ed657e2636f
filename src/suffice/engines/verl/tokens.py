"""The tokens of members: where a budget cuts them, and which the policy sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from suffice.engines.verl.members import Member


def within(tokens: list[int], last: int, ends: frozenset[int]) -> tuple[list[int], bool]:
    """(tokens up to their end of turn, False), or (`last` tokens, True) where none comes by index `last`."""
    for i, token in enumerate(tokens[: last + 1]):
        if token in ends:
            return tokens[: i + 1], False
    return tokens[:last], True


def sampled(rows: Sequence[Member | None], mask_B_T: Tensor) -> Tensor:
    """bool [B, T]: tokens that the policy sampled; not the inducer, not padding."""
    found = torch.zeros_like(mask_B_T)
    for b, row in enumerate(rows):
        if row is not None:
            found[b] = True
            found[b, row.injected[0] : row.injected[1]] = False
    return found
