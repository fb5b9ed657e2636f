"""What is compared: models, each with finished evaluations of one or more tasks, read from what suffice wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, NonNegativeInt, ValidationError

from suffice.errors import RunError
from suffice.evaluation.protocol import Evaluation, read_evaluation
from suffice.evaluation.stops import KINDS
from suffice.groups import Verdict

PLAIN = ""
"""The variant of a model that nothing stops early."""


class _Summary(BaseModel):
    """What is relied on in `summary.json`."""

    model: str
    task: str
    protocol: dict[str, Any]


class _Record(BaseModel):
    """What is relied on in a line of `records.jsonl`."""

    problem: str
    sample: int
    difficulty: str | None
    verdict: Verdict
    thought_tokens: NonNegativeInt
    answer_tokens: NonNegativeInt
    closed: bool
    truncated: bool
    probe_tokens: NonNegativeInt = 0


@dataclass(frozen=True, slots=True)
class Side:
    """A model's evaluations by task, then by variant: `PLAIN` first, then its training-free stops by their labels."""

    name: str
    evaluations: dict[str, dict[str, Evaluation]]

    def plain(self, task: str) -> Evaluation:
        return self.evaluations[task][PLAIN]


def read_sides(paths: Sequence[Path]) -> list[Side]:
    """One side a path, in their order, under names that differ; a training run given alone is two, before and after.

    Raises:
        RunError: as of `read_side`.
    """
    ends = [path / "evaluations" / label for path in paths for label in ("before", "after")]
    if len(paths) == 1 and all((folder / "summary.json").exists() for folder in ends):
        return [replace(read_side(folder), name=folder.name) for folder in ends]
    sides = [read_side(path) for path in paths]
    names = _tell_apart([side.name for side in sides], [str(path) for path in paths])
    return [replace(side, name=name) for side, name in zip(sides, names, strict=True)]


def read_side(path: Path) -> Side:
    """The side in a directory of `suffice eval`, in a training run (its model after training), or in one evaluation.

    Raises:
        RunError: nothing finished is there, or what is there is malformed.
    """
    if not path.is_dir():
        raise RunError(f"{path} is missing; give what suffice eval or suffice train wrote")
    if (path / "summary.json").exists():
        evaluation, stop = read_checked(path), path.name.partition("@")[2]
        name = f"{short(evaluation.summary['model'])} {stop}".strip()
        return Side(name, {evaluation.summary["task"]: {PLAIN: evaluation}})
    found = {summary.parent.name: summary.parent for summary in (path / "evaluations").glob("*/summary.json")}
    if "after" in found:
        return replace(read_side(found["after"]), name=path.resolve().name)
    if "before" in found:
        raise RunError(f"the evaluation after training is missing in {path}; finish it: suffice train --resume {path}")
    evaluations: dict[str, dict[str, Evaluation]] = {}
    for label in sorted(found):
        if label.startswith("."):
            continue  # still being written
        evaluation = read_checked(found[label])
        variants = evaluations.setdefault(evaluation.summary["task"], {})
        stop = label.partition("@")[2]
        if stop in variants:
            raise RunError(f"{path} holds two evaluations of {evaluation.summary['task']}; give one of their folders")
        variants[stop] = _without_text(evaluation) if stop else evaluation
    complete = {task: dict(sorted(each.items(), key=_place)) for task, each in evaluations.items() if PLAIN in each}
    if not complete:
        raise RunError(
            f"a finished evaluation is missing in {path}; if one was begun there, continue it: "
            f"suffice eval --resume {path}"
        )
    models = {variants[PLAIN].summary["model"] for variants in complete.values()}
    return Side(short(min(models)), complete)


def short(model: str) -> str:
    """The part of a model's name or path that tells it from others: `Qwen3-8B`, or `my-run/step-000100`."""
    parts = [part for part in PurePath(model).parts if part not in {"/", "checkpoints"}]
    if not parts:
        return model
    return "/".join(parts[-2:]) if parts[-1].startswith("step-") else parts[-1]


def read_checked(folder: Path) -> Evaluation:
    """An evaluation that can be computed with.

    Raises:
        RunError: it is missing or malformed.
    """
    evaluation = read_evaluation(folder)
    try:
        _Summary.model_validate(evaluation.summary)
    except ValidationError:
        raise RunError(f"{folder / 'summary.json'} is not of an evaluation; give what suffice eval wrote") from None
    if "@" in folder.name and evaluation.summary.get("variant", {}).get("kind") not in KINDS:
        raise RunError(f"{folder / 'summary.json'} does not say how it was stopped; give what suffice eval wrote")
    for number, record in enumerate(evaluation.records, 1):
        try:
            _Record.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            wrong = f"lacks {first['loc'][0]}" if first["type"] == "missing" else f"has a bad {first['loc'][0]}"
            raise RunError(
                f"{folder / 'records.jsonl'}:{number} {wrong}; is {folder} what suffice eval wrote?"
            ) from None
    return evaluation


def _without_text(evaluation: Evaluation) -> Evaluation:
    """What a stop is compared by: stops are many, and their text begins as that of the plain evaluation does."""
    kept = _Record.model_fields
    return replace(
        evaluation,
        records=[{key: value for key, value in record.items() if key in kept} for record in evaluation.records],
    )


def _place(labelled: tuple[str, Evaluation]) -> tuple[int, float]:
    """Not stopped first, then by kind, each from its smallest parameter."""
    label, evaluation = labelled
    if label == PLAIN:
        return -1, 0.0
    variant = evaluation.summary["variant"]
    return list(KINDS).index(variant["kind"]), float(variant.get("budget", variant.get("threshold", 0)))


def _tell_apart(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Names as they are where they differ, else with their path, and with a number where that is the same too."""
    shared = Counter(names)
    longer = [f"{name} ({path})" if shared[name] > 1 else name for name, path in zip(names, paths, strict=True)]
    repeated = Counter(longer)
    return [f"{name} {longer[: i + 1].count(name)}" if repeated[name] > 1 else name for i, name in enumerate(longer)]
