"""What recorded exits of models of billions of parameters say: the tables of docs/real-models.md.

    python -m benchmarks.real_models             render what benchmarks/results/real_models.json holds
    python -m benchmarks.real_models FOLDER      first diagnose the exits recorded in FOLDER, and keep the figures

FOLDER holds a file `NAME.jsonl` for each of `SOURCES`, in the layout of docs/data.md; without it, where
SUFFICE_BENCHMARKS names a folder, it is `recorded` in there. The page takes a table between `<!-- real NAME -->` and
`<!-- /real -->`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import readme
from benchmarks.readme import RESULTS, ROOT, headed
from suffice.evaluation.recorded import diagnose_recorded
from suffice.grading import Grader
from suffice.numbers import interval, number
from suffice.run.records import CutThought, DiagnosisSummary, Part, Stopped

RECORD = RESULTS / "real_models.json"
PAGE = ROOT / "docs" / "real-models.md"
PLACE = re.compile(r"(<!-- real (?P<name>[\w-]+) -->\n).*?(<!-- /real -->)", re.DOTALL)
SOURCES = {
    "qwen3-8b-aime24": "Qwen3-8B, AIME 2024",
    "qwen3-8b-aime25": "Qwen3-8B, AIME 2025",
    "qwen3-8b-hmmt25": "Qwen3-8B, HMMT 2025",
    "gemma-4-12b-gpqa": "Gemma-4-12B, GPQA Diamond",
}
SHOWN = (0.2, 0.5, 0.8, 0.9)
"""Fractions of the thought at which the curve is shown."""
HELD = 20_000
"""A budget that is shown for all, beside the recommended one."""


def keep(folder: Path) -> None:
    """Diagnose every file of a folder, and keep what the page shows."""
    found = {}
    with Grader() as grader:
        for name in SOURCES:
            started = time.perf_counter()
            diagnosis = diagnose_recorded(folder / f"{name}.jsonl", {}, grader)
            summary = diagnosis.summary.model_copy(update={"doubts": []}).as_dict()
            seconds = time.perf_counter() - started
            print(f"{name}: {len(diagnosis.records):,} thoughts in {seconds:.1f} s", file=sys.stderr)
            found[name] = {
                "thoughts": len(diagnosis.records),
                "questions": len({record.problem for record in diagnosis.records}),
                "as_text": sum(each.answer == each.gold for each in diagnosis.records) / len(diagnosis.records),
                "letters": letters(diagnosis.records),
                "summary": summary,
            }
    readme.keep(RECORD, found)


def letters(records: Sequence[CutThought]) -> dict[str, dict[str, int]] | None:
    """How often each letter was said first, last, in the end, and is right; None where answers are not letters."""
    if any(each.gold not in "ABCD" for each in records):
        return None
    said = {
        "first forced": [each.exits[0].answer for each in records],
        "last forced": [each.exits[-1].answer for each in records],
        "in the end": [each.answer for each in records],
        "right": [each.gold for each in records],
    }
    return {name: {letter: own.count(letter) for letter in "ABCD"} for name, own in said.items()}


def guesses(record: dict[str, Any]) -> str:
    """The letters of a model that answers with one."""
    found = next(each["letters"] for each in record.values() if each["letters"])
    lines = headed(["letter", *"ABCD"])
    lines += [f"| {name} | {' | '.join(map(str, own.values()))} |" for name, own in found.items()]
    return "\n".join(lines) + "\n"


def curve(record: dict[str, Any]) -> str:
    """Accuracy in the end and at fractions of the thought."""
    heads = [
        "",
        "thoughts",
        "thinking tokens",
        "right in the end",
        "… as text",
        *(f"at {100 * each:.0f} %" for each in SHOWN),
    ]

    def row(name: str, summary: DiagnosisSummary) -> list[str]:
        at = {point.fraction: point.accuracy for point in summary.curve}
        return [
            f"{record[name]['thoughts']:,} of {record[name]['questions']} questions",
            number(summary.full.thought_tokens.mean, 0),
            interval(*summary.full.accuracy, 100),
            number(100 * record[name]["as_text"]),
            *(interval(*at[fraction], 100) for fraction in SHOWN),
        ]

    return table(heads, record, row)


def savings(record: dict[str, Any]) -> str:
    """What could be saved by one who knows the right answer, and how much of it is luck."""
    heads = ["", "after the first right answer", "… of right thoughts", "after it is settled", "… of right thoughts",
             "luck", "lost in the end"]  # fmt: skip

    def row(_: str, summary: DiagnosisSummary) -> list[str]:
        shares = (summary.first_right, summary.first_right_right, summary.saveable_fraction, summary.saveable_right)
        return [interval(*each, 100) for each in (*shares, summary.luck, summary.lost)]

    return table(heads, record, row)


def rates(record: dict[str, Any]) -> str:
    """Saveable tokens by the question's pass rate, and how many questions have it."""
    several = {name: each for name, each in record.items() if "pass rate" in summary_of(each).parts}
    names = [*dict.fromkeys(band for each in several.values() for band in summary_of(each).parts["pass rate"])]

    def after(part: Part) -> float:
        return part.problems * part.thought_tokens.mean * part.first_right.mean

    def row(_: str, summary: DiagnosisSummary) -> list[str]:
        parts = summary.parts["pass rate"]
        whole = sum(map(after, parts.values()))
        cells = {
            band: f"{interval(*part.first_right, 100)}; {part.problems} questions, {100 * after(part) / whole:.0f} %"
            for band, part in parts.items()
        }
        return [cells.get(band, "–") for band in names]

    return table(["", *names], several, row)


def budgets(record: dict[str, Any]) -> str:
    """The budget to serve, one for all, and an exit when answers agree."""
    heads = ["", "recommended budget", "changes accuracy by", "saves", f"at {HELD:,}: accuracy", "saves",
             "exit when answers agree: accuracy", "saves"]  # fmt: skip

    def cells(stopped: Stopped | None) -> list[str]:
        if stopped is None:
            return ["–", "–"]
        accuracy = interval(*stopped.accuracy, 100, signed=True)
        return [accuracy, interval(*stopped.saved_fraction, 100, 0, unit=" %")]

    def row(_: str, summary: DiagnosisSummary) -> list[str]:
        advice = summary.budget
        assert advice is not None
        held = next((each for each in advice.budgets if each.budget == HELD), None)
        chosen = f"{advice.recommended.budget:,}" if advice.recommended else "none is safe"
        return [chosen, *cells(advice.recommended), *cells(held), *cells(next(iter(advice.others), None))]

    return table(heads, record, row)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "curve": curve,
    "letters": guesses,
    "savings": savings,
    "rates": rates,
    "budgets": budgets,
}


def table(heads: Sequence[str], record: dict[str, Any], row: Callable[[str, DiagnosisSummary], list[str]]) -> str:
    lines = headed(heads)
    for name, each in record.items():
        lines.append(f"| {' | '.join([SOURCES[name], *row(name, summary_of(each))])} |")
    return "\n".join(lines) + "\n"


def summary_of(record: dict[str, Any]) -> DiagnosisSummary:
    return DiagnosisSummary.model_validate(record["summary"])


def rendered(page: str) -> str:
    """The page with its tables replaced."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']](record)}{place[3]}", page)


def main(folders: list[str]) -> None:
    if not folders and "SUFFICE_BENCHMARKS" in os.environ:
        folders = [str(Path(os.environ["SUFFICE_BENCHMARKS"]) / "recorded")]
    for folder in folders:
        keep(Path(folder))
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
