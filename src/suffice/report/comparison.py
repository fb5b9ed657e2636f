"""The comparison of models as one self-contained HTML page, in the look of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.evaluation.stops import KINDS
from suffice.report import findings, plots
from suffice.report.findings import shown
from suffice.report.parts import Table, difficulty, fill, shape
from suffice.report.source import Interval, Level, Sample, validate
from suffice.report.traces import CLASSES, compared_traces
from suffice.run.files import write_text

if TYPE_CHECKING:
    from suffice.evaluation.sides import Side

PER_CLASS, LONGEST = 40, 5000  # pairs shown, and bytes of a text: together they keep a page within about 3 MB

Cell = list[tuple[str, str, bool]]


def write_comparison(sides: Sequence[Side], found: dict[str, Any], out: Path) -> Path:
    """Write the page of what `compare_all` found, whole or not at all, and return its path.

    Args:
        out: a file that ends in .html, or a directory for `comparison.html`.

    Raises:
        RunError: it cannot be written, or a record lacks what a page shows.
    """
    page = out if out.suffix == ".html" else out / "comparison.html"
    write_text(page, fill("comparison.html.j2", _context(sides, found)))
    return page


def _context(sides: Sequence[Side], found: dict[str, Any]) -> dict[str, Any]:
    first, last = sides[0].name, sides[-1].name
    tasks = [_task(f"task{i}", name, each, first, last) for i, (name, each) in enumerate(found["tasks"].items())]
    shared = list(found["tasks"])
    pairs = [_samples(task, (sides[0], sides[-1])) for task in shared] if len(sides) > 1 else []
    chosen, totals = compared_traces(pairs, PER_CLASS, LONGEST)
    ordered = {name: totals[name] for name in CLASSES if totals[name]}
    return {
        "eyebrow": f"{last} against {first}" if len(sides) > 1 else first,
        "headline": _headline(found, first, last),
        "subject": _subject(found),
        "cards": _cards(found, last) if len(sides) > 1 else [],
        "overall": _overall(found["overall"]),
        "tasks": tasks,
        "stops": any(row["kind"] for each in found["tasks"].values() for row in each["rows"]),
        "first": first,
        "last": last,
        "pairs": totals.total(),
        "totals": ordered,
        "count": PER_CLASS,
        "choices": {"all": "all"} | {name: f"{name} {total:,}" for name, total in ordered.items()},
        "traces": [trace for name in CLASSES for trace in chosen[name]],
        "protocols": _protocols(sides, shared),
    }


def _headline(found: dict[str, Any], first: str, last: str) -> str:
    change = _ends(found, last)["change"]
    if change is None:
        return f"{first} and its training-free stops"
    return findings.movement(_interval(change["thought_tokens_change"]), _interval(change["accuracy"]))


def _subject(found: dict[str, Any]) -> str:
    said = ", ".join(f"{name} ({each['questions']:,} questions)" for name, each in found["tasks"].items())
    left = [f"{task} (only {', '.join(names)})" for task, names in found["left_out"].items()]
    return f"{said}. Not compared: {', '.join(left)}" if left else said


def _ends(found: dict[str, Any], last: str) -> dict[str, Any]:
    """The last side's row over all tasks, or of the only one."""
    rows = found["overall"] or next(iter(found["tasks"].values()))["rows"]
    return next(row for row in rows if row["side"] == last and row["variant"] is None)


def _cards(found: dict[str, Any], last: str) -> list[tuple[str, str, str]]:
    row = _ends(found, last)
    compression, compressed = shown(_interval(row["compression"]), "percent")
    points, between = shown(_interval(row["change"]["accuracy"]), "points")
    cards = [(compression, "of the generated tokens", compressed), (points, "points of accuracy", between)]
    verdicts = [each["verdicts"][last] for each in found["tasks"].values() if last in each["verdicts"]]
    if verdicts:
        beaten = sum(verdict["outcome"] == "beats" for verdict in verdicts)
        words = "task" if len(verdicts) == 1 else "tasks"
        cards.append((f"{beaten} of {len(verdicts)}", f"{words} where it beats every training-free stop", ""))
    return cards


def _overall(rows: Sequence[dict[str, Any]]) -> Table | None:
    if not rows:
        return None
    return Table(
        "", ["accuracy", "points", "CR"], [(_name(row), [_accuracy(row), _points(row), _part(row)]) for row in rows]
    )


def _task(key: str, name: str, each: dict[str, Any], first: str, last: str) -> dict[str, Any]:
    rows = each["rows"]
    front = [_name(row).strip() for row in rows if row["pareto"]]
    more = f" and {len(front) - 3} more" if len(front) > 3 else ""
    spots = [
        plots.Spot(
            row["side"], row["kind"] or "", (row["variant"] or "").rpartition("-")[2],
            _interval(row["metrics"]["thought_tokens"]), _interval(row["metrics"]["accuracy"]), row["pareto"],
        )
        for row in rows
    ]  # fmt: skip
    levels = {
        row["side"]: {level: Level.model_validate(figures) for level, figures in row["levels"].items()}
        for row in rows
        if row["variant"] is None
    }
    lengths = {"thinking": "thought_tokens", "tokens": "tokens"}
    cells = [
        (
            f"{_name(row)} ●" if row["pareto"] else _name(row),
            [
                _accuracy(row),
                _points(row),
                *([(*shown(_interval(row["metrics"][metric]), "count"), False)] for metric in lengths.values()),
                _part(row),
            ],
        )
        for row in rows
    ]
    return {
        "name": name,
        "verdicts": [(side, verdict["outcome"], verdict["sentence"]) for side, verdict in each["verdicts"].items()],
        "frontier": shape(
            f"{key}-frontier",
            f"On the Pareto front: {', '.join(front[:3])}{more}",
            plots.frontier_figure(spots, KINDS),
        ),
        "table": Table("", ["accuracy", "points", *lengths, "CR"], cells),
        "difficulty": difficulty(levels, (first, last), f"{key}-"),
        "notes": [
            f"Sampled differently: {setting.replace('_', ' ')} {', '.join(f'{by[side]} for {side}' for side in by)}."
            for setting, by in each["protocols"].items()
        ],
    }


def _name(row: dict[str, Any]) -> str:
    return f"\u2003{row['variant']}" if row["variant"] else str(row["side"])


def _accuracy(row: dict[str, Any]) -> Cell:
    return [(*shown(_interval(row["metrics"]["accuracy"]), "percent"), False)]


def _points(row: dict[str, Any]) -> Cell:
    if row["change"] is None:
        return []
    points = _interval(row["change"]["accuracy"])
    return [(*shown(points, "points"), points.sign != 0)]


def _part(row: dict[str, Any]) -> Cell:
    compression = _interval(row["compression"])
    return [("100\u202f%", "", False)] if row["change"] is None else [(*shown(compression, "percent"), False)]


def _samples(task: str, ends: Sequence[Side]) -> dict[str, list[Sample]]:
    return {
        side.name: [validate(Path(side.name), Sample, record) for record in side.plain(task).records] for side in ends
    }


def _protocols(sides: Sequence[Side], tasks: Sequence[str]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Distinct protocols with the evaluations that share each."""
    shared: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for side in sides:
        for task in tasks:
            summary = side.plain(task).summary
            facts = {"model": summary["model"], **summary["protocol"]}
            shared.setdefault(f"{side.name} {facts}", ([side.name], facts))[0].append(task)
    return [(f"{names[0]}: {', '.join(names[1:])}", list(facts.items())) for names, facts in shared.values()]


def _interval(figure: Mapping[str, float | None]) -> Interval:
    return Interval.model_validate(figure)
