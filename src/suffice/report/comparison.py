"""The comparison of models as one self-contained HTML page, in the look of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.evaluation.stops import KINDS
from suffice.report import findings, plots
from suffice.report.examples import CLASSES, compared_examples
from suffice.report.findings import ranged
from suffice.report.parts import Cell, Table, difficulty, fill, shape
from suffice.report.serving import budget_table
from suffice.run.files import write_text

if TYPE_CHECKING:
    from suffice.evaluation.compared import Compared, MeanRow, OnTask, Row
    from suffice.evaluation.sides import Side
    from suffice.interval import Interval
    from suffice.run.records import Protocol

PAGE = "comparison.html"
PER_CLASS, LONGEST = 40, 5000  # pairs shown, and bytes of a text: together they keep a page within about 3 MB


def write_comparison(sides: Sequence[Side], found: Compared, out: Path) -> Path:
    """Write the page of what `compare_all` found, whole or not at all, and return its path.

    Args:
        out: a file that ends in .html, or a directory for `comparison.html`.

    Raises:
        RunError: it cannot be written.
    """
    page = out if out.suffix == ".html" else out / PAGE
    write_text(page, fill("comparison.html.j2", _context(sides, found)))
    return page


def _context(sides: Sequence[Side], found: Compared) -> dict[str, Any]:
    first, last = sides[0].name, sides[-1].name
    tasks = [_task(f"task{i}", name, each, first, last) for i, (name, each) in enumerate(found.tasks.items())]
    ends = (sides[0], sides[-1]) if len(sides) > 1 else ()
    pairs = [{side.name: side.plain(task).records for side in ends} for task in found.tasks]
    chosen, totals = compared_examples(pairs, PER_CLASS, LONGEST)
    ordered = {name: totals[name] for name in CLASSES if totals[name]}
    return {
        "eyebrow": f"{last} against {first}" if len(sides) > 1 else first,
        "headline": _headline(found, first, last),
        "subject": _subject(found),
        "cards": _cards(found, last) if len(sides) > 1 else [],
        "overall": _overall(found.overall),
        "tasks": tasks,
        "stops": any(row.kind for each in found.tasks.values() for row in each.rows),
        "first": first,
        "last": last,
        "pairs": totals.total(),
        "totals": ordered,
        "count": PER_CLASS,
        "choices": {"all": "all"} | {name: f"{name} {total:,}" for name, total in ordered.items()},
        "examples": [example for name in CLASSES for example in chosen[name]],
        "protocols": _protocols(sides, list(found.tasks)),
    }


def _headline(found: Compared, first: str, last: str) -> str:
    change = _ends(found, last).change
    if change is None:
        return f"{first} and its training-free stops"
    return findings.movement(change.thought_tokens_change, change.accuracy)


def _subject(found: Compared) -> str:
    said = ", ".join(f"{name} ({each.questions:,} questions)" for name, each in found.tasks.items())
    if len(found.trained) > 1:
        spent = [f"{side} {each.tokens:,} generated tokens" for side, each in found.trained.items()]
        said += f". Trained on: {', '.join(spent)}"
    left = [f"{task} (only {', '.join(names)})" for task, names in found.left_out.items()]
    return f"{said}. Not compared: {', '.join(left)}" if left else said


def _ends(found: Compared, last: str) -> Row | MeanRow:
    """The last side's row over all tasks, or of the only one."""
    rows: Sequence[Row | MeanRow] = found.overall or next(iter(found.tasks.values())).rows
    return next(row for row in rows if row.side == last and row.variant is None)


def _cards(found: Compared, last: str) -> list[tuple[str, str, str]]:
    row = _ends(found, last)
    assert row.change is not None
    part, between = ranged(row.compression, "percent")
    points, of_points = ranged(row.change.accuracy, "points")
    cards = [(part, "of the generated tokens", between), (points, "points of accuracy", of_points)]
    contests = [each.outcomes[last] for each in found.tasks.values() if last in each.outcomes]
    if contests:
        beaten = sum(contest.outcome == "beats" for contest in contests)
        words = "task" if len(contests) == 1 else "tasks"
        cards.append((f"{beaten} of {len(contests)}", f"{words} where it beats every training-free stop", ""))
    return cards


def _overall(rows: Sequence[MeanRow]) -> Table | None:
    if not rows:
        return None
    return Table(
        "", ["accuracy", "points", "CR"], [(_name(row), [_accuracy(row), _points(row), _part(row)]) for row in rows]
    )


def _task(key: str, name: str, each: OnTask, first: str, last: str) -> dict[str, Any]:
    rows = each.rows
    front = [_name(row).strip() for row in rows if row.pareto]
    more = f" and {len(front) - 3} more" if len(front) > 3 else ""
    spots = [
        plots.Spot(
            row.side, row.kind or "", (row.variant or "").rpartition("-")[2],
            row.metrics.thought_tokens, row.metrics.accuracy, row.pareto,
        )
        for row in rows
        if row.kind or not row.variant
    ]  # fmt: skip
    cells = [
        (
            f"{_name(row)} ●" if row.pareto else _name(row),
            [_accuracy(row), _points(row), _count(row.metrics.thought_tokens), _count(row.metrics.tokens), _part(row)],
        )
        for row in rows
    ]
    levels = {row.side: row.levels for row in rows if row.variant is None}
    return {
        "name": name,
        "outcomes": [(side, contest.outcome, contest.sentence) for side, contest in each.outcomes.items()],
        "budget": each.budget and f"To serve {first} untrained: {each.budget.sentence}",
        "budgets": each.budget and budget_table("Against the same, not stopped", each.budget),
        "frontier": shape(
            f"{key}-frontier",
            f"On the Pareto front: {', '.join(front[:3])}{more}",
            plots.frontier_figure(spots, KINDS),
        ),
        "table": Table("", ["accuracy", "points", "thinking", "tokens", "CR"], cells),
        "at_budgets": _at_budgets(rows),
        "difficulty": difficulty(levels, (first, last), f"{key}-"),
        "notes": [f"{note}." for note in each.notes]
        + [
            f"Sampled differently: {setting.replace('_', ' ')} {', '.join(f'{by[side]} for {side}' for side in by)}."
            for setting, by in each.protocols.items()
        ],
    }


def _at_budgets(rows: Sequence[Row]) -> Table:
    """Accuracy at the largest thinking budgets and over all of them, of sides that no stop has ended."""
    curves = {row.side: row.at_budgets for row in rows if row.at_budgets}
    shown = {side: [(f"{at.budget:,}", at.accuracy) for at in each.curve[-4:]] for side, each in curves.items()}
    cells: list[tuple[str, list[Cell]]] = [
        (side, [[(*ranged(each, "percent"), False)] for each in (*dict(shown[side]).values(), curve.area)])
        for side, curve in curves.items()
    ]
    return Table(
        "Accuracy if cut at so many thinking tokens", [*dict(next(iter(shown.values()))), "mean of all"], cells
    )


def _name(row: Row | MeanRow) -> str:
    return f"\u2003{row.variant}" if row.variant else row.side


def _accuracy(row: Row | MeanRow) -> Cell:
    return [(*ranged(row.metrics.accuracy, "percent"), False)]


def _points(row: Row | MeanRow) -> Cell:
    if row.change is None:
        return []
    points = row.change.accuracy
    return [(*ranged(points, "points"), points.sign != 0)]


def _count(tokens: Interval) -> Cell:
    return [(*ranged(tokens, "count"), False)]


def _part(row: Row | MeanRow) -> Cell:
    return [("100\u202f%", "", False)] if row.change is None else [(*ranged(row.compression, "percent"), False)]


def _protocols(sides: Sequence[Side], tasks: Sequence[str]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Distinct protocols with the evaluations that share each."""
    shared: dict[tuple[str, str, Protocol], list[str]] = {}
    for side in sides:
        for task in tasks:
            summary = side.plain(task).summary
            shared.setdefault((side.name, summary.model, summary.protocol), []).append(task)
    return [
        (f"{name}: {', '.join(labels)}", [("model", model), *protocol.facts()])
        for (name, model, protocol), labels in shared.items()
    ]
