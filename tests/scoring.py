"""Batches and comparisons for the tests of methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from suffice import GroupBatch

R, W = True, False  # right, wrong

claim = settings(deadline=None, max_examples=60)


TENSORS = ("valid", "thought_length", "truncated", "target")


def batch(correct: list[list[bool]], length: list[list[int]] | None = None, **fields: Any) -> GroupBatch:
    """A batch from lists; without lengths every member is 100 tokens long."""
    correct_P_G = torch.tensor(correct)
    length_P_G = torch.full(correct_P_G.shape, 100) if length is None else torch.tensor(length)
    tensors: dict[str, Any] = {name: torch.tensor(fields.pop(name)) for name in TENSORS if name in fields}
    return GroupBatch(correct=correct_P_G, length=length_P_G, **tensors, **fields)


def near(actual: Tensor, expected: Sequence[Any], atol: float = 2e-5) -> None:
    """Within rounding of the hand-written figures and the 1e-6 added to a standard deviation."""
    want = torch.tensor(expected, dtype=torch.float32)
    assert_close(actual, want, atol=atol, rtol=0)


def lists(problems: int, members: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(values, min_size=members, max_size=members), min_size=problems, max_size=problems)


@st.composite
def group_batches(draw: st.DrawFn, *, spines: bool = False, ragged: bool = True) -> GroupBatch:
    """Up to 5 groups; plain ones of up to 8 members, or with `spines` up to 4 spines of up to 4 members."""
    problems, members = draw(st.integers(1, 5)), draw(st.integers(1, 4 if spines else 8))
    k = draw(st.integers(1, 4)) if spines else None
    shape = problems, members * (k or 1)
    length = st.one_of(st.integers(0, 20), st.integers(0, 40_000), st.integers(0, 10**9))
    return batch(
        draw(lists(*shape, st.booleans())),
        draw(lists(*shape, length)),
        valid=draw(lists(*shape, st.booleans() if ragged else st.just(True))),
        spines=k,
    )


def pick(groups: GroupBatch, *index: Any) -> GroupBatch:
    """The batch with correct, length, valid and truncated indexed alike."""
    return GroupBatch(
        groups.correct[index],
        groups.length[index],
        groups.valid[index],
        groups.spines,
        truncated=groups.truncated[index],
    )
