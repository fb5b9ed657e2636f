"""What the lab's tasks share in drawing problems: their splits, what they refuse, distinct ones in order."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeVar

from suffice.errors import DataError

Split = Literal["train", "test", "final"]

SPLITS: tuple[Split, ...] = ("train", "test", "final")


class Drawn(Protocol):
    """A drawn problem."""

    @property
    def prompt(self) -> str: ...


D = TypeVar("D", bound=Drawn)


def split_of(prompt: str) -> Split:
    """Train for half of all prompts, test and final for a quarter each, by a hash of the text."""
    return ("train", *SPLITS)[zlib.crc32(prompt.encode()) % 4]


def check(task: str, split: str, count: int, splits: Sequence[str] = SPLITS) -> None:
    """Refuse what cannot be drawn.

    Raises:
        DataError: an unknown split, or fewer than one problem asked for.
    """
    if split not in splits:
        *first, last = map(repr, splits)
        raise DataError(f"{task} has no split {split!r}; use {', '.join(first)} or {last}")
    if count < 1:
        raise DataError(f"{task} cannot give {count} problems; ask for at least 1")


def first_distinct(drawn: Iterable[D], count: int) -> list[D]:
    """The first `count` of different prompts, in order."""
    distinct: dict[str, D] = {}
    for each in drawn:
        distinct.setdefault(each.prompt, each)
        if len(distinct) == count:
            break
    return list(distinct.values())
