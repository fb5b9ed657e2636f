"""The lab's tasks as any other: always the same problems, made by suffice itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from suffice.errors import DataError
from suffice.groups import Problem
from suffice.lab import arithmetic, ballots, sums
from suffice.lab.splits import SPLITS
from suffice.tasks.prompts import with_prompts


@dataclass(frozen=True, slots=True)
class LabTask:
    """A task of the lab: `problems(split, count)`, and how many each split holds."""

    name: str
    problems: Callable[[Any, int], list[Problem]]
    counts: dict[str, int]

    def load(
        self,
        path: str | None,
        split: str | None,
        fields: dict[str, str] | None,
        revision: str | None,
        prompt: str | None,
    ) -> list[Problem]:
        """The problems of a split (default: train)."""
        if path is not None or fields:
            raise DataError(f"task {self.name} makes its own problems; leave path and fields out")
        split = split or "train"
        return with_prompts((each, prompt or "plain") for each in self.problems(split, self.counts.get(split, 1)))

    def locate(self, path: str | None, split: str | None, revision: str | None) -> dict[str, Any]:
        """Its problems come from suffice itself: only the split says which."""
        return {"split": split or "train"}


LAB = {
    "arithmetic": LabTask("arithmetic", arithmetic.problems, {"train": 4000, "test": 2000}),
    **{
        poll.name: LabTask(poll.name, partial(ballots.problems, poll=poll), dict.fromkeys(SPLITS, 4000))
        for poll in ballots.POLLS
    },
    "sums": LabTask("sums", sums.problems, dict.fromkeys(SPLITS, 4000)),
}
"""`final` is for the last figures of a study alone, after every choice was made on the others."""
