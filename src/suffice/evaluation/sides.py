"""What is compared: models, each with finished evaluations of one or more tasks, read from what suffice wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from suffice.errors import RunError
from suffice.evaluation.stops import KINDS
from suffice.run import layout
from suffice.run.directory import Evaluation, Run, read_evaluation

PLAIN = ""
"""The variant of a model that nothing stops early."""


@dataclass(frozen=True, slots=True)
class Side:
    """A model's evaluations by task, then by variant: `PLAIN` first, then its training-free stops by their labels.

    `run` is the training run that the model comes from, where that was given.
    """

    name: str
    evaluations: dict[str, dict[str, Evaluation]]
    run: Run | None = None

    def plain(self, task: str) -> Evaluation:
        return self.evaluations[task][PLAIN]


def read_sides(paths: Sequence[Path]) -> list[Side]:
    """One side a path, in their order, under names that differ; a training run given alone is two, before and after.

    Raises:
        RunError: as of `read_side`.
    """
    if len(paths) == 1 and all(map(Run(paths[0]).is_evaluated, (layout.BEFORE, layout.AFTER))):
        return [_lone(Run(paths[0]).evaluation_folder(label), label) for label in (layout.BEFORE, layout.AFTER)]
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
    if (path / layout.SUMMARY).exists():
        return _lone(path)
    run = Run(path)
    labels = run.evaluated()
    if layout.AFTER in labels:
        return replace(_lone(run.evaluation_folder(layout.AFTER), path.resolve().name), run=run)
    if layout.BEFORE in labels:
        raise RunError(f"the evaluation after training is missing in {path}; finish it: suffice train --resume {path}")
    evaluations: dict[str, dict[str, Evaluation]] = {}
    for label in labels:
        stop = layout.stop_in(label)
        # stops are many, and their texts begin as those of the plain evaluation do
        evaluation = _checked(run.evaluation_folder(label), texts=not stop)
        variants = evaluations.setdefault(evaluation.summary.task, {})
        if stop in variants:
            raise RunError(f"{path} holds two evaluations of {evaluation.summary.task}; give one of their folders")
        variants[stop] = evaluation
    complete = {task: dict(sorted(each.items(), key=_place)) for task, each in evaluations.items() if PLAIN in each}
    if not complete:
        raise RunError(
            f"a finished evaluation is missing in {path}; if one was begun there, continue it: "
            f"suffice eval --resume {path}"
        )
    models = {variants[PLAIN].summary.model for variants in complete.values()}
    return Side(short(min(models)), complete)


def _lone(folder: Path, name: str | None = None) -> Side:
    """The side of one evaluation."""
    evaluation = _checked(folder)
    name = name or f"{short(evaluation.summary.model)} {layout.stop_in(folder.name)}".strip()
    return Side(name, {evaluation.summary.task: {PLAIN: evaluation}})


def short(model: str) -> str:
    """The part of a model's name or path that tells it from others: `Qwen3-8B`, or `my-run/step-000100`."""
    parts = [part for part in PurePath(model).parts if part not in {"/", layout.CHECKPOINTS}]
    if not parts:
        return model
    return "/".join(parts[-2:]) if layout.step_of(parts[-1]) is not None else parts[-1]


def _checked(folder: Path, texts: bool = True) -> Evaluation:
    """
    Raises:
        RunError: it is missing or malformed.
    """
    evaluation = read_evaluation(folder, texts=texts)
    if layout.stop_in(folder.name) and evaluation.summary.variant is None:
        raise RunError(f"{folder / layout.SUMMARY} does not say how it was stopped; give what suffice eval wrote")
    return evaluation


def _place(labelled: tuple[str, Evaluation]) -> tuple[int, float]:
    """Not stopped first, then by kind, each from its smallest parameter."""
    label, evaluation = labelled
    if label == PLAIN:
        return -1, 0.0
    stop = evaluation.summary.variant
    assert stop is not None
    return list(KINDS).index(stop.kind), stop.parameter or 0.0


def _tell_apart(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Names as they are where they differ, else with their path, and with a number where that is the same too."""
    shared = Counter(names)
    longer = [f"{name} ({path})" if shared[name] > 1 else name for name, path in zip(names, paths, strict=True)]
    repeated = Counter(longer)
    return [f"{name} {longer[: i + 1].count(name)}" if repeated[name] > 1 else name for i, name in enumerate(longer)]
