"""A run directory as a type: where its parts lie, and what they say, checked on the way in."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from suffice.config import Recipe, explain
from suffice.errors import RunError
from suffice.run import layout
from suffice.run.files import append_jsonl, read_json, read_jsonl, whole_directory, write_json, write_jsonl
from suffice.run.journal import Journal
from suffice.run.records import (
    Chosen,
    Comparison,
    CutThought,
    Data,
    DiagnosisSummary,
    EvaluationSummary,
    GuardLine,
    Manifest,
    Record,
    Sample,
    ShownGroup,
    Step,
)

MADE_AGAIN = "write it again with the command that made it"
TEXTS = dict.fromkeys(("prompt", "gold", "thought", "answer"), "")

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Records of an evaluation, one a sample, and their summary."""

    records: list[Sample]
    summary: EvaluationSummary


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Records of a diagnosis, one a thought, and their summary."""

    records: list[CutThought]
    summary: DiagnosisSummary


@dataclass(frozen=True, slots=True)
class Run:
    """What a command wrote, or writes, in the directory `path`; any part may be missing.

    Nothing is read before it is asked for. What is malformed raises RunError, with the place.
    """

    path: Path

    # -- what was asked

    def recipe(self) -> Recipe:
        """The recipe of a training run, resolved when the run began.

        Raises:
            RunError: there is none.
        """
        path = self.path / layout.RECIPE
        if not path.is_file():
            raise RunError(
                f"{self.path} is not a training run: it holds no {layout.RECIPE}; give what suffice train wrote"
            )
        try:
            return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise RunError(f"{path}: {explain(error, Recipe)}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is not readable TOML ({error}); restore the recipe that made the run") from None

    def manifest(self) -> Manifest | None:
        return self._document(Manifest)

    def data(self) -> Data:
        """What a training run read."""
        return _read(Data, self.path / Data.FILE)

    # -- training

    def metrics(self) -> list[Step]:
        """The steps in order; of one that a resumed run did again, what it came to then."""
        by_step = {line.step: line for line in self._lines(Step)}
        return [by_step[step] for step in sorted(by_step)]

    def guard(self) -> list[GuardLine]:
        return self._lines(GuardLine)

    def chosen(self) -> Chosen | None:
        """What the guard chose to keep, if it did."""
        return self._document(Chosen)

    def chosen_checkpoint(self) -> Path | None:
        """The model that the guard chose: a checkpoint of the run, or the base by its own path."""
        chosen = self.chosen()
        if chosen is None:
            return None
        return self.path / chosen.path if chosen.step else Path(chosen.path)

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies, if there is one."""
        return self.path / layout.CHECKPOINTS / layout.step_name(step)

    def checkpoints(self) -> dict[int, Path]:
        """All checkpoints by step, in order, good or not."""
        folders = (self.path / layout.CHECKPOINTS).glob("*")
        found = {step: folder for folder in folders if (step := layout.step_of(folder.name)) is not None}
        return dict(sorted(found.items()))

    # -- what was measured

    def evaluation(self, label: str, *, texts: bool = True) -> Evaluation:
        """As `read_evaluation`."""
        return read_evaluation(self.evaluation_folder(label), texts=texts)

    def evaluations(self) -> dict[str, EvaluationSummary]:
        """Summaries of the finished evaluations by label, before and after training first; without training-free stops,
        which are many."""
        folders = _finished(self.path / layout.EVALUATIONS)
        return {
            label: _read(EvaluationSummary, folder / layout.SUMMARY)
            for label, folder in folders.items()
            if not layout.stop_in(label)
        }

    def evaluation_folder(self, label: str) -> Path:
        return self.path / layout.EVALUATIONS / label

    def evaluated(self) -> list[str]:
        """Labels of all finished evaluations, training-free stops too, before and after training first."""
        return list(_finished(self.path / layout.EVALUATIONS))

    def is_evaluated(self, label: str) -> bool:
        return (self.evaluation_folder(label) / layout.SUMMARY).exists()

    @contextmanager
    def journal(self, label: str) -> Iterator[Journal]:
        """What is sampled for a label, kept until all that it is for is written."""
        path = self.path / layout.JOURNAL / f"{label}.jsonl"
        with Journal(path) as journal:
            yield journal
            path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()

    def diagnosis(self, label: str) -> Diagnosis:
        folder = self.diagnosis_folder(label)
        return Diagnosis(
            list(_read_lines(CutThought, folder / layout.RECORDS)), _read(DiagnosisSummary, folder / layout.SUMMARY)
        )

    def diagnoses(self) -> dict[str, DiagnosisSummary]:
        """Summaries of the finished diagnoses by label, before and after training first."""
        folders = _finished(self.path / layout.DIAGNOSES)
        return {label: _read(DiagnosisSummary, folder / layout.SUMMARY) for label, folder in folders.items()}

    def diagnosis_folder(self, label: str) -> Path:
        return self.path / layout.DIAGNOSES / label

    def is_diagnosed(self, label: str) -> bool:
        return (self.diagnosis_folder(label) / layout.SUMMARY).exists()

    def comparison(self) -> Comparison | None:
        return self._document(Comparison)

    # -- writing

    def write(self, document: Manifest | Data | Chosen | Comparison) -> None:
        """Its file, whole."""
        write_json(self.path / document.FILE, document.as_dict())

    def append(self, lines: Sequence[Step] | Sequence[ShownGroup] | Sequence[GuardLine]) -> None:
        """To their log; they are on the disk when this returns."""
        if lines:
            append_jsonl(self.path / lines[0].FILE, [line.as_dict() for line in lines])

    def write_evaluation(self, label: str, evaluation: Evaluation) -> None:
        """Its folder, whole."""
        _write_measured(self.evaluation_folder(label), evaluation)

    def write_diagnosis(self, label: str, diagnosis: Diagnosis) -> None:
        """Its folder, whole."""
        _write_measured(self.diagnosis_folder(label), diagnosis)

    def _document(self, kind: type[R]) -> R | None:
        path = self.path / kind.FILE
        return _read(kind, path, f"remove it and resume {self.path}") if path.exists() else None

    def _lines(self, kind: type[R]) -> list[R]:
        path = self.path / kind.FILE
        return list(_read_lines(kind, path, advice="remove that line")) if path.exists() else []


def read_evaluation(folder: Path, *, texts: bool = True) -> Evaluation:
    """The evaluation in a folder; without its texts where only figures are asked for: evaluations are many, texts long.

    Raises:
        RunError: it is missing or malformed.
    """
    summary = _read(EvaluationSummary, folder / layout.SUMMARY)
    return Evaluation(list(_read_lines(Sample, folder / layout.RECORDS, None if texts else TEXTS)), summary)


def read_samples(path: Path) -> list[Sample]:
    """The records of an evaluation alone.

    Raises:
        RunError: they are missing or malformed.
    """
    return list(_read_lines(Sample, path))


def _finished(folder: Path) -> dict[str, Path]:
    """Subfolders by label. Dotted ones are still being written."""
    ends = [layout.BEFORE, layout.AFTER, layout.greedy(layout.BEFORE), layout.greedy(layout.AFTER)]
    found = [summary.parent for summary in folder.glob(f"*/{layout.SUMMARY}")]
    named = {each.name: each for each in found if not each.name.startswith(".")}
    order = sorted(named, key=lambda label: (ends.index(label) if label in ends else len(ends), label))
    return {label: named[label] for label in order}


def _write_measured(folder: Path, measured: Evaluation | Diagnosis) -> None:
    with whole_directory(folder) as aside:
        write_json(aside / layout.SUMMARY, measured.summary.as_dict())
        write_jsonl(aside / layout.RECORDS, (record.as_dict() for record in measured.records))


def _read(kind: type[R], path: Path, advice: str = MADE_AGAIN) -> R:
    return _checked(kind, read_json(path), str(path), advice)


def _read_lines(
    kind: type[R], path: Path, instead: Mapping[str, Any] | None = None, advice: str = MADE_AGAIN
) -> Iterator[R]:
    """The records in the lines of a file, with other values for the fields in `instead`."""
    for number, line in enumerate(read_jsonl(path), 1):
        yield _checked(kind, {**line, **instead} if instead else line, f"{path}:{number}", advice)


def _checked(kind: type[R], value: Any, place: str, advice: str) -> R:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        match first["type"]:
            case "missing":
                wrong = f"lacks {name}"
            case "extra_forbidden":
                wrong = f"has {name}, which this version of suffice does not know"
            case _:
                wrong = f"has a bad {name} ({first['msg']})" if name else f"is not what it should be ({first['msg']})"
        raise RunError(f"{place} {wrong}; {advice}") from None
