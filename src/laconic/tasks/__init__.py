"""Tasks: where problems come from, one module per task.

>>> load_task("arithmetic", split="test", limit=100)  # doctest: +SKIP
"""

from __future__ import annotations

import random
from collections.abc import Callable
from difflib import get_close_matches

from laconic.errors import DataError
from laconic.groups import Problem
from laconic.tasks import arithmetic, gsm8k, jsonl

__all__ = ["TASKS", "list_tasks", "load_task"]

Loader = Callable[[str | None, str | None, dict[str, str] | None, str | None], list[Problem]]

TASKS: dict[str, Loader] = {"arithmetic": arithmetic.load, "gsm8k": gsm8k.load, "jsonl": jsonl.load}


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
) -> list[Problem]:
    """The problems of a task, at least one, in the order of their source, with ids that are unique and stable.

    Args:
        path: a local file or folder; without it the task's hub data set is loaded (`arithmetic` needs neither).
        split: `train` or `test`; for `jsonl` only a part of the ids.
        limit: at most so many problems (at least 1), a random subset that `seed` decides, still in order.
        fields: for `jsonl`, our field names → the file's: `{"prompt": "query"}`.
        revision: of the hub's data set; unused for a local one.

    Raises:
        DataError: unknown task or split, a limit below 1, a hub out of reach, or a file that is missing, empty or
            malformed, with the place.
    """
    if name not in TASKS:
        nearest = get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise DataError(f"unknown task {name!r}; {hint}known: {', '.join(TASKS)}")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, not {limit}; leave it out for all problems")
    problems = TASKS[name](path, split, fields or None, revision)
    if limit is None or limit >= len(problems):
        return problems
    chosen = random.Random(seed).sample(range(len(problems)), limit)
    return [problems[index] for index in sorted(chosen)]
