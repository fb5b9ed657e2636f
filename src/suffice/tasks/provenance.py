"""`data.json` of a run: where its problems come from, and what those of training and evaluation share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suffice.config import EvalSection, Recipe, TaskSection
from suffice.errors import RunError
from suffice.groups import Problem
from suffice.run.files import read_json
from suffice.run.layout import DATA
from suffice.tasks import load_task, locate, overlap
from suffice.tasks.lab import LAB

PASSAGE = 13  # words
FIRST = 10  # pairs shown


def locate_data(task: TaskSection, held_out: EvalSection | None) -> dict[str, Any]:
    """`train` and, if the run evaluates, `eval`, as `suffice.tasks.locate` gives them.

    Raises:
        DataError: unknown task or split, a hub out of reach, or a file that is missing.
    """
    data = {"train": locate(task.name, path=task.path, split=task.split, revision=task.revision)}
    if held_out is not None:
        name = held_out.task or task.name
        data["eval"] = locate(name, path=held_out.path, split=held_out.split, revision=held_out.revision)
    return data


def pinned(recipe: Recipe, data: dict[str, Any]) -> Recipe:
    """The recipe with the commits that its revisions stand for in `data`, as `locate_data` gives it, so that what is
    loaded next, and by a resumed run, is what is recorded."""
    train, held_out = (data.get(side, {}).get("revision") for side in ("train", "eval"))
    task = recipe.task.model_copy(update={"revision": train or recipe.task.revision})
    evaluation = recipe.eval.model_copy(update={"revision": held_out or recipe.eval.revision})
    return recipe.model_copy(update={"task": task, "eval": evaluation})


def training_problems(task: TaskSection, seed: int) -> list[Problem]:
    """The problems of `[task]`, drawn by the run's seed, before any are left out for how often they are solved.

    Raises:
        DataError: they cannot be read.
    """
    return load_task(
        task.name,
        path=task.path,
        split=task.split,
        limit=task.limit,
        seed=seed,
        fields=task.fields,
        revision=task.revision,
        prompt=task.prompt,
    )


def check_unchanged(run: Path, data: dict[str, Any]) -> None:
    """
    Raises:
        RunError: a file that the run was started with has changed.
    """
    recorded = read_json(run / DATA)
    for name, found in data.items():
        if found != recorded.get(name):
            raise RunError(
                f"{found.get('path', found['task'])} is not what {run} was started with ({DATA}, {name}); "
                "put it back, or start a new run"
            )


def overlap_record(train: Sequence[Problem], test: Sequence[Problem]) -> dict[str, Any]:
    """`overlap`: how many evaluation problems share a passage of `words` words with a training problem; said if any do.

    Problems of the lab are all made of the same few phrases: there only whole texts are compared (`words` is null).
    Without evaluation problems there is nothing to say.
    """
    if not test:
        return {}
    generated = {problem.task for problem in (*train[:1], *test[:1])} <= set(LAB)
    pairs = overlap(train, test, sys.maxsize if generated else PASSAGE)
    count = len({found for _, found in pairs})
    if count:
        what = "their whole text" if generated else f"a passage of {PASSAGE} words"
        print(
            f"overlap: {count} of {len(test)} evaluation problems share {what} with a training problem, the first "
            f"{pairs[0][1]} with {pairs[0][0]}; see overlap in data.json",
            file=sys.stderr,
        )
    return {
        "overlap": {
            "words": None if generated else PASSAGE,
            "problems": {"train": len(train), "eval": len(test)},
            "count": count,
            "share": count / len(test),
            "first": [{"train": trained, "eval": held_out} for trained, held_out in pairs[:FIRST]],
        }
    }
