"""The tokens of one member: where a budget cuts them, which the policy sampled, which are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from suffice.engines.verl.members import Member
from suffice.groups import Branch, Group, Spine
from suffice.objective import Objective
from suffice.objective.weights import Weighed, weigh


def within(tokens: list[int], last: int, ends: frozenset[int]) -> tuple[list[int], bool]:
    """(tokens up to their end of turn, False), or (`last` tokens, True) where none comes by index `last`."""
    for i, token in enumerate(tokens[: last + 1]):
        if token in ends:
            return tokens[: i + 1], False
    return tokens[:last], True


def weigh_alone(group: Group, spine: Spine, member: Spine | Branch, objective: Objective) -> Weighed:
    """Which of a member's tokens are trained, as the local engine decides it."""
    alone = replace(spine, branches=[] if isinstance(member, Spine) else [member])
    weighed = weigh([replace(group, spines=[alone])], torch.ones(1, 2), objective)[0]
    return weighed[-1] if isinstance(member, Spine) else weighed[0]


def sampled(rows: Sequence[Member | None], mask_B_T: Tensor) -> Tensor:
    """bool [B, T]: tokens that the policy sampled; not the inducer, not padding."""
    found = torch.zeros_like(mask_B_T)
    for b, row in enumerate(rows):
        if row is not None:
            found[b] = True
            found[b, row.injected[0] : row.injected[1]] = False
    return found
