"""Tasks: where problems come from.

>>> [problem.id for problem in load_task("arithmetic", split="test", limit=2)]
['arithmetic-test-788', 'arithmetic-test-1729']
"""

from __future__ import annotations

import random
from difflib import get_close_matches
from typing import Any, Protocol

from suffice.errors import DataError
from suffice.groups import Problem
from suffice.tasks import jsonl
from suffice.tasks.datasets import DATASETS
from suffice.tasks.lab import LAB
from suffice.tasks.overlap import overlap
from suffice.tasks.prompts import PROMPTS, check_prompt

__all__ = ["PROMPTS", "TASKS", "list_tasks", "load_task", "locate", "overlap"]


class Task(Protocol):
    """Where the problems of one name come from; arguments as `load_task` and `locate` take them."""

    def load(
        self,
        path: str | None,
        split: str | None,
        fields: dict[str, str] | None,
        revision: str | None,
        prompt: str | None,
    ) -> list[Problem]:
        """All problems of a split, their prompts by the option `prompt`, or by the task's own."""

    def locate(self, path: str | None, split: str | None, revision: str | None) -> dict[str, Any]:
        """What fixes which data `load` reads."""


TASKS: dict[str, Task] = {**LAB, **DATASETS, "jsonl": jsonl}


def list_tasks() -> list[str]:
    """Names that `load_task` and a recipe's `[task] name` take."""
    return list(TASKS)


def load_task(
    name: str,
    *,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    fields: dict[str, str] | None = None,
    revision: str | None = None,
    prompt: str | None = None,
) -> list[Problem]:
    """The problems of a task, at least one, in the order of their source, with ids that are unique and stable.

    Args:
        path: a local file or folder; without it the task's hub data set is loaded (the lab's need neither).
        split: `train` or `test`, as far as the task has it, `ballots` and `sums` also `final`; for
            `jsonl` only a part of the ids.
        limit: at most so many problems (at least 1), a random subset that `seed` decides, still in order.
        fields: for `jsonl`, our field names → the file's columns: `{"prompt": "query", "gold": "reward.answer"}`.
        revision: of the hub's data set; unused for a local one.
        prompt: an option of `PROMPTS`; default `boxed` for data sets of the hub and for choices that `jsonl` lists,
            else `plain`.

    Raises:
        DataError: unknown task, split or prompt, a limit below 1, a hub out of reach, or a file that is missing, empty
            or malformed, with the place.
    """
    task = _task(name)
    if prompt is not None:
        check_prompt(prompt)
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, not {limit}; leave it out for all problems")
    problems = task.load(path, split, fields or None, revision, prompt)
    if limit is None or limit >= len(problems):
        return problems
    chosen = random.Random(seed).sample(range(len(problems)), limit)
    return [problems[index] for index in sorted(chosen)]


def locate(
    name: str, *, path: str | None = None, split: str | None = None, revision: str | None = None
) -> dict[str, Any]:
    """Which data `load_task` reads with the same arguments, so that they can be had again.

    `task` and `split`; for the hub `hub`, `config` and `revision`, the commit that `revision` stands for now; for a
    local copy its `path` and `sha256` (of the shards in order, where it has several).

    Raises:
        DataError: unknown task or split, a hub out of reach, or a file that is missing.
    """
    return {"task": name, **_task(name).locate(path, split, revision)}


def _task(name: str) -> Task:
    if name not in TASKS:
        nearest = get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise DataError(f"unknown task {name!r}; {hint}known: {', '.join(TASKS)}")
    return TASKS[name]
