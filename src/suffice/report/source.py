"""All of a run directory that a page shows, read once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.errors import RunError
from suffice.run.directory import Run
from suffice.run.layout import RECIPE, is_greedy, step_of
from suffice.run.records import (
    Chosen,
    Comparison,
    CutThought,
    DiagnosisSummary,
    EvaluationSummary,
    GuardLine,
    Manifest,
    Sample,
    Step,
)


@dataclass(frozen=True, slots=True)
class Contents:
    """Absent parts are empty. Evaluations and diagnoses are by label, before and after training first; samples only
    those of evaluations that a table compares, and cuts only those whose thought was recorded."""

    name: str
    recipe: dict[str, Any]
    recipe_text: str
    manifest: Manifest | None
    steps: list[Step]
    evaluations: dict[str, EvaluationSummary]
    samples: dict[str, list[Sample]]
    diagnoses: dict[str, DiagnosisSummary]
    cuts: dict[str, list[CutThought]]
    comparison: Comparison | None
    alarms: list[GuardLine]
    chosen: Chosen | None

    @property
    def main(self) -> dict[str, EvaluationSummary]:
        """The evaluations that a table compares: before and after, or the one of `suffice eval`."""
        return {label: summary for label, summary in self.evaluations.items() if _is_main(label)}


def read_contents(path: Path) -> Contents:
    """
    Raises:
        RunError: `path` is no directory, holds nothing to show, or a file of it is malformed.
    """
    if not path.is_dir():
        raise RunError(f"{path} is not a directory; give the run that suffice train, eval or diagnose wrote")
    run = Run(path)
    evaluations, diagnoses = run.evaluations(), run.diagnoses()
    text, recipe = _recipe(path / RECIPE)
    contents = Contents(
        name=path.resolve().name,
        recipe=recipe,
        recipe_text=text,
        manifest=run.manifest(),
        steps=run.metrics(),
        evaluations=evaluations,
        samples={label: run.evaluation(label).records for label in evaluations if _is_main(label)},
        diagnoses=diagnoses,
        cuts={label: [cut for cut in run.diagnosis(label).records if cut.thought] for label in diagnoses},
        comparison=run.comparison(),
        alarms=[line for line in run.guard() if line.reason],
        chosen=run.chosen(),
    )
    if not (contents.steps or evaluations or diagnoses):
        raise RunError(f"{path} has nothing to report; run suffice train, eval or diagnose into it first")
    return contents


def _is_main(label: str) -> bool:
    return not is_greedy(label) and step_of(label) is None


def _recipe(path: Path) -> tuple[str, dict[str, Any]]:
    """The recipe as it is written, not checked: its method may be of a package that is not installed here."""
    if not path.exists():
        return "", {}
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid TOML ({error}); restore the recipe that made the run") from None
