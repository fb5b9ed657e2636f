"""What a report reads of a run directory, checked on the way in."""

from __future__ import annotations

import tomllib
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from suffice.errors import RunError
from suffice.groups import Verdict
from suffice.run.chosen import Chosen, read_chosen
from suffice.run.files import read_json, read_jsonl


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


Number = Annotated[float, BeforeValidator(lambda value: nan if value is None else value)]


class Interval(Part):
    """A mean or a paired difference with its question-clustered 95 % interval; NaN where nothing was counted."""

    mean: Annotated[Number, Field(validation_alias=AliasChoices("mean", "difference"))] = nan
    low: Number = nan
    high: Number = nan

    @property
    def known(self) -> bool:
        return isfinite(self.mean)

    @property
    def bounded(self) -> bool:
        return isfinite(self.mean) and isfinite(self.low) and isfinite(self.high)

    @property
    def sign(self) -> int:
        """1 or −1 where the whole interval lies on one side of 0, else 0."""
        return (self.low > 0) - (self.high < 0)


class Level(Part):
    """The share of an evaluation that has one difficulty label."""

    problems: int
    accuracy: Interval
    thought_tokens: Interval


class Evaluation(Part):
    """`evaluations/<label>/summary.json`."""

    model: str
    task: str
    protocol: dict[str, Any]
    metrics: dict[str, Interval | None]
    levels: dict[str, Level] = {}

    def metric(self, name: str) -> Interval:
        return self.metrics.get(name) or Interval()


class Sample(Part):
    """One line of `evaluations/<label>/records.jsonl`."""

    problem: str
    difficulty: str | None = None
    sample: int
    verdict: Verdict
    thought_tokens: int
    answer_tokens: int
    closed: bool
    truncated: bool
    prompt: str
    gold: str
    thought: str
    answer: str


class CurvePoint(Part):
    """Accuracy when the thought is cut after `fraction` of its tokens."""

    fraction: float
    accuracy: Interval


class Diagnosis(Part):
    """`diagnosis/<label>/summary.json`."""

    model: str
    task: str
    protocol: dict[str, Any]
    curve: list[CurvePoint]
    sufficient_fraction: Interval
    saveable_fraction: Interval
    saveable_tokens: Interval
    verdict: str


class CutSample(Part):
    """One line of `diagnosis/<label>/records.jsonl`; `sufficient` is the fraction of the thought that was enough."""

    problem: str
    difficulty: str | None = None
    sample: int
    thought_tokens: int
    full_verdict: Verdict
    sufficient: float | None
    prompt: str
    gold: str
    thought: str
    sufficient_text: str | None
    answer: str


class Comparison(Part):
    """`comparison.json`: paired differences, after minus before; `greedy` holds the same for greedy decoding."""

    accuracy: Interval
    thought_tokens: Interval
    thought_tokens_change: Interval
    greedy: Comparison | None = None


class Alarm(Part):
    """A line of `guard.jsonl`."""

    step: int
    action: str
    reason: str
    rolled_back_to: int | None = None


class Run(Part):
    """All of a run directory that a report shows. Absent parts are empty."""

    name: str
    recipe: dict[str, Any]
    recipe_text: str
    manifest: dict[str, Any]
    steps: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]
    samples: dict[str, list[Sample]]
    diagnoses: dict[str, Diagnosis]
    cuts: dict[str, list[CutSample]]
    comparison: Comparison | None
    alarms: list[Alarm]
    chosen: Chosen | None

    @property
    def main(self) -> dict[str, Evaluation]:
        """The evaluations that a table compares: before and after, or the one of `suffice eval`."""
        return {label: self.evaluations[label] for label in self.evaluations if _is_main(label)}


def read_run(path: Path) -> Run:
    """Read what a report needs.

    Raises:
        RunError: `path` is no directory, holds nothing to report, or a file of it is malformed.
    """
    if not path.is_dir():
        raise RunError(f"{path} is not a directory; give the run that suffice train, eval or diagnose wrote")
    evaluations, diagnoses = _labels(path / "evaluations"), _labels(path / "diagnosis")
    comparison, manifest, recipe = path / "comparison.json", path / "manifest.json", path / "recipe.toml"
    recipe_text, recipe_table = _recipe(recipe) if recipe.exists() else ("", {})
    run = Run(
        name=path.resolve().name,
        recipe=recipe_table,
        recipe_text=recipe_text,
        manifest=read_json(manifest) if manifest.exists() else {},
        steps=_steps(path / "metrics.jsonl"),
        evaluations={label: _check(folder / "summary.json", Evaluation) for label, folder in evaluations.items()},
        samples={label: _records(folder, Sample) for label, folder in evaluations.items() if _is_main(label)},
        diagnoses={label: _check(folder / "summary.json", Diagnosis) for label, folder in diagnoses.items()},
        cuts={label: _records(folder, CutSample) for label, folder in diagnoses.items()},
        comparison=_check(comparison, Comparison) if comparison.exists() else None,
        alarms=[alarm for alarm in _lines(path / "guard.jsonl", Alarm) if alarm.reason],
        chosen=read_chosen(path),
    )
    if not (run.steps or run.evaluations or run.diagnoses):
        raise RunError(f"{path} has nothing to report; run suffice train, eval or diagnose into it first")
    return run


Model = TypeVar("Model", bound=Part)


def _labels(folder: Path) -> dict[str, Path]:
    """Finished subfolders by name, before and after first.

    Dotted ones are still being written; those with an @ are training-free stops, which a comparison shows.
    """
    order = ["before", "after", "before-greedy", "after-greedy"]
    finished = [summary.parent for summary in folder.glob("*/summary.json")]
    found = [each for each in finished if not each.name.startswith(".") and "@" not in each.name]
    found.sort(key=lambda each: (order.index(each.name) if each.name in order else len(order), each.name))
    return {each.name: each for each in found}


def _is_main(label: str) -> bool:
    return not label.endswith("-greedy") and not label.startswith("step-")


def _check(path: Path, model: type[Model]) -> Model:
    return validate(path, model, read_json(path))


def _records(folder: Path, model: type[Model]) -> list[Model]:
    return _lines(folder / "records.jsonl", model)


def _lines(path: Path, model: type[Model]) -> list[Model]:
    return [validate(path, model, record) for record in read_jsonl(path)] if path.exists() else []


def validate(path: Path, model: type[Model], value: Any) -> Model:
    """A value of the file `path` as what it should be.

    Raises:
        RunError: it is not.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RunError(f"{path}: {where}: {first['msg']}; write it again with the command that made it") from None


def _steps(path: Path) -> list[dict[str, Any]]:
    """Metrics in order of step; a resumed run writes some steps twice, and the later line counts."""
    if not path.exists():
        return []
    try:
        by_step = {int(row["step"]): row for row in read_jsonl(path)}
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{path} has a line without a step; remove that line") from None
    return [by_step[step] for step in sorted(by_step)]


def _recipe(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid TOML ({error}); restore the recipe that made the run") from None
