"""One self-contained HTML page about a run: no network, no script, model text escaped and shown as text."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from itertools import chain
from math import isfinite, nan
from pathlib import Path
from typing import Any

from suffice.evaluation.stops import HELD
from suffice.guard.foresight import foresee
from suffice.interval import UNKNOWN, Interval
from suffice.report import findings, plots
from suffice.report.examples import KINDS, cut_examples, sample_examples
from suffice.report.findings import NARROW, Unit, ranged
from suffice.report.parts import Cell, Shape, Table, difficulty, fill, shape
from suffice.report.serving import serving
from suffice.report.source import Contents, read_contents
from suffice.run.files import write_text
from suffice.run.layout import AFTER, BEFORE, REPORT, greedy, step_of
from suffice.run.records import Change, DiagnosisSummary, EvaluationSummary, Part, Protocol, Together

SAMPLES, CUTS = 12, 4

_METRICS: dict[str, tuple[str, Unit]] = {
    "accuracy": ("Accuracy", "percent"),
    "thought_tokens": ("Thinking tokens", "tokens"),
    "thought_tokens_correct": ("… where correct", "tokens"),
    "thought_tokens_wrong": ("… where not", "tokens"),
    "answer_tokens": ("Answer tokens", "tokens"),
    "unclosed": ("Thought never closed", "percent"),
    "unclosed_tokens": ("… thinking tokens of those", "tokens"),
    "looping": ("Thought ends in a loop", "percent"),
    "loop_tokens": ("… thinking tokens that repeat", "tokens"),
    "truncated": ("Cut at a token limit", "percent"),
    "unparsed": ("Answer not readable", "percent"),
}
_CURVES = [
    ("accuracy", "Accuracy", True),
    ("thought_tokens", "Thinking tokens", False),
    ("reward", "Mean reward", False),
    ("unclosed", "Thoughts never closed", True),
    ("risk", "Risk of collapse", True),
]


def write_report(run: Path) -> Path:
    """Write `report.html` into a run directory, whole or not at all, and return its path.

    Parts that the run lacks are left out; evaluations or a diagnosis without training make a report too.

    Raises:
        RunError: the run is missing, has nothing to report, holds a malformed file, or cannot be written.
    """
    page = run / REPORT
    write_text(page, render(read_contents(run)))
    return page


def render(run: Contents) -> str:
    """The page as text that UTF-8 can encode."""
    return fill("page.html.j2", _context(run))


def _context(run: Contents) -> dict[str, Any]:
    examples, totals = sample_examples(run.samples, SAMPLES)
    subjects = [*chain[EvaluationSummary | DiagnosisSummary](run.evaluations.values(), run.diagnoses.values())]
    subject = subjects[0] if subjects else None
    tasks = dict.fromkeys(each.task for each in subjects)
    recipe = {key: value for key, value in run.recipe.items() if isinstance(value, dict)}
    return {
        "run": run,
        "method": recipe.get("method", {}).get("name"),
        "task": ", ".join(tasks) or recipe.get("task", {}).get("name"),
        "model": recipe.get("model", {}).get("path") or (subject.model if subject else None),
        "headline": findings.headline(run),
        "cards": _cards(run),
        "movement": _movement(run),
        "tables": _tables(run),
        "compared": run.comparison is not None,
        "held": f"{100 * HELD:.0f}",
        "curves": _curves(run),
        "cost": _cost(run),
        "guard": _guard(run),
        "diagnosis": _diagnosis(run.diagnoses),
        "serving": serving(run.evaluations, run.diagnoses),
        "difficulty": difficulty({label: each.levels for label, each in run.main.items()}, (BEFORE, AFTER)),
        "examples": examples,
        "kinds": [(kind, totals[kind]) for kind in KINDS if totals[kind]],
        "choices": {kind: kind for kind in ("all", *KINDS) if kind == "all" or totals[kind]},
        "cuts": cut_examples(run.cuts, CUTS),
        "protocols": _protocols(run),
        "provenance": _provenance(run),
    }


def _cards(run: Contents) -> list[tuple[str, str, str]]:
    """The few numbers to remember, as (value, what it is, range)."""
    cards = []
    if run.comparison is not None:
        value, between = ranged(run.comparison.thought_tokens_change, "relative")
        cards.append((value, "thinking tokens", between))
        value, between = ranged(run.comparison.accuracy, "points")
        cards.append((value, "points of accuracy", between))
    for label in (BEFORE, AFTER):
        if label in run.diagnoses and run.diagnoses[label].saveable_fraction.known:
            value, between = ranged(run.diagnoses[label].saveable_fraction, "percent")
            when = f" {label} training" if len(run.diagnoses) > 1 else ""
            cards.append((value, f"of the thought could be saved{when}", between))
    return cards


def _movement(run: Contents) -> Shape | None:
    """Where accuracy and thought tokens went; None unless there is a before and an after to join."""
    if not {BEFORE, AFTER} <= run.evaluations.keys():
        return None
    paths = {
        name: [run.evaluations[label] for label in labels if label in run.evaluations]
        for name, labels in {
            "sampled": [BEFORE, *_between(run), AFTER],
            "greedy": [greedy(BEFORE), greedy(AFTER)],
        }.items()
    }
    return shape("movement", "Left is shorter, up is more often right", plots.movement_figure(paths))


def _tables(run: Contents) -> list[Table]:
    tables = []
    by_greed = {label: each for label in run.main if (each := run.evaluations.get(greedy(label)))}
    for columns, compared in ((run.main, run.comparison), (by_greed, run.comparison and run.comparison.greedy)):
        if columns:
            tables.append(_table(columns, compared))
    return tables


def _table(columns: dict[str, EvaluationSummary], compared: Change | None) -> Table:
    rows = []
    at_zero = all(evaluation.protocol.temperature == 0 for evaluation in columns.values())
    for name, (words, unit) in _METRICS.items():
        intervals = [getattr(evaluation.metrics, name) for evaluation in columns.values()]
        if any(interval.known for interval in intervals):
            cells: list[Cell] = [[(*ranged(interval, unit), False)] for interval in intervals]
            rows.append((words, [*cells, _changes(name, compared)] if compared else cells))
    rows += _together([evaluation.metrics.together for evaluation in columns.values()], bool(compared))
    return Table("Greedy" if at_zero else "Sampled", [*columns, *(["change"] if compared else [])], rows)


def _together(columns: Sequence[Sequence[Together]], compared: bool) -> list[tuple[str, list[Cell]]]:
    """What all samples of a question come to together, where every evaluation has as many."""
    last = [each[-1] for each in columns if each]
    if len(last) < len(columns) or len({each.k for each in last}) != 1:
        return []
    more: list[Cell] = [[]] if compared else []
    k = last[0].k
    return [
        (f"Any of {k} correct (pass@{k})", [[(*ranged(each.any_correct, "percent"), False)] for each in last] + more),
        (f"All {k} correct", [[(*ranged(each.all_correct, "percent"), False)] for each in last] + more),
    ]


def _changes(metric: str, compared: Change) -> Cell:
    match metric:
        case "accuracy":
            return [(*ranged(compared.accuracy, "points"), compared.accuracy.sign != 0)]
        case "unclosed" | "looping" if (change := getattr(compared, metric)).known:
            return [(*ranged(change, "points"), change.sign != 0)]
        case "unclosed_tokens" | "loop_tokens" if (change := getattr(compared, metric)).known:
            return [(*ranged(change, "tokens", True), change.sign != 0)]
        case "thought_tokens":
            part, tokens = compared.thought_tokens_change, compared.thought_tokens
            return [
                (*ranged(part, "relative"), part.sign != 0),
                (*ranged(tokens, "tokens", True), tokens.sign != 0),
            ]
        case "answer_tokens":
            return [(*ranged(compared.answer_tokens, "tokens", True), compared.answer_tokens.sign != 0)]
        case _:
            return []


def _curves(run: Contents) -> list[Shape]:
    """One figure per metric that at least two steps recorded."""
    shapes = []
    rows = [step.as_dict() for step in run.steps]
    numbers = [step.step for step in run.steps]
    risks = [nan if score is None else score for score in foresee(rows)]
    for key, words, percent in _CURVES:
        values = risks if key == "risk" else [float(row.get(key, nan)) for row in rows]
        if sum(map(isfinite, values)) < 2:
            continue
        title = findings.training_title(words, plots.smooth(values), percent)
        figure = plots.training_figure(numbers, values, _held_out(run, key, numbers[-1]), percent)
        shapes.append(shape(f"train-{key.replace('_', '-')}", title, figure))
    return shapes


def _between(run: Contents) -> dict[str, int]:
    """The sampled evaluations between the two ends, with their steps, in order."""
    found = {label: step for label in run.evaluations if (step := step_of(label)) is not None}
    return dict(sorted(found.items(), key=lambda each: each[1]))


def _held_out(run: Contents, metric: str, last: int) -> list[tuple[int, Interval]]:
    at = {BEFORE: 0, AFTER: last} | _between(run)
    found = [
        (step, getattr(run.evaluations[label].metrics, metric, UNKNOWN))
        for label, step in at.items()
        if label in run.evaluations
    ]
    return sorted((each for each in found if each[1].known), key=lambda each: each[0])


def _cost(run: Contents) -> list[tuple[str, str]]:
    """What training took, as (value, words)."""
    seconds = sum(step.seconds for step in run.steps if isfinite(step.seconds))
    sampled, trained, pushed, cached = (
        sum(getattr(step, f"tokens_{name}") for step in run.steps) for name in ("decode", "train", "prefill", "cached")
    )
    amounts = [
        (f"{len(run.steps):,}", "steps", bool(run.steps)),
        (_duration(seconds), "of training", seconds > 0),
        (_large(sampled), "tokens sampled", sampled > 0),
        (_large(trained), "tokens trained on", trained > 0),
        (f"{cached / max(1, cached + pushed):.0%}", "of prefixes found in the server's cache", cached > 0),
    ]
    return [(value, words) for value, words, known in amounts if known]


def _guard(run: Contents) -> list[str]:
    """What the guard saw and did, and the checkpoint it chose."""
    said = [
        f"Step {alarm.step}: {alarm.reason}"
        + {"roll back": f"; rolled back to step {alarm.rolled_back_to}", "stop": "; stopped"}.get(alarm.action, "")
        for alarm in run.alarms
    ]
    return [*said, *([f"Kept: {run.chosen.words}"] if run.chosen else [])]


def _diagnosis(diagnoses: dict[str, DiagnosisSummary]) -> dict[str, Any] | None:
    if not diagnoses:
        return None
    figure = plots.diagnosis_figure(diagnoses)
    measures: list[tuple[str, Callable[[DiagnosisSummary], Interval], Unit]] = [
        ("Part that sufficed, where right in the end", lambda each: each.sufficient_fraction, "percent"),
        ("Part that could be saved", lambda each: each.saveable_fraction, "percent"),
        ("… of right thoughts", lambda each: each.saveable_right, "percent"),
        ("Part after the first right answer", lambda each: each.first_right, "percent"),
        ("Right at an exit, wrong at a later one", lambda each: each.luck, "percent"),
        ("Tokens that could be saved", lambda each: each.saveable_tokens, "tokens"),
    ]
    rows = [
        (words, [[(*ranged(of(each), unit), False)] for each in diagnoses.values()]) for words, of, unit in measures
    ]
    return {
        "shape": shape("diagnosis", findings.diagnosis_title(diagnoses), figure),
        "table": Table("Diagnosis", list(diagnoses), rows),
        "parts": [
            _parts(f"{label}, by {kind}" if len(diagnoses) > 1 else f"By {kind}", parts)
            for label, each in diagnoses.items()
            for kind, parts in each.parts.items()
        ],
        "conclusions": [(label, each.conclusion) for label, each in diagnoses.items()],
    }


def _parts(title: str, parts: dict[str, Part]) -> Table:
    columns = ["problems", "right", "could be saved", "… of right thoughts", "after the first right", "luck"]
    rows: list[tuple[str, list[Cell]]] = []
    for name, each in parts.items():
        shares = (each.accuracy, each.saveable_fraction, each.saveable_right, each.first_right, each.luck)
        cells: list[Cell] = [[(*ranged(share, "percent"), False)] for share in shares]
        rows.append((name, [[(f"{each.problems:,}", "", False)], *cells]))
    return Table(title, columns, rows)


def _protocols(run: Contents) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Distinct protocols with the labels that share each."""
    shared: dict[tuple[str, Protocol], list[str]] = {}
    for kind, found in (("evaluation", run.evaluations), ("diagnosis", run.diagnoses)):
        for label, each in found.items():
            if each.protocol is not None:
                shared.setdefault((kind, each.protocol), []).append(label)
    return [(f"{kind}: {', '.join(labels)}", protocol.facts()) for (kind, protocol), labels in shared.items()]


def _provenance(run: Contents) -> list[tuple[str, str]]:
    made = run.manifest
    section = run.recipe.get("run")
    facts = {"seed": section.get("seed") if isinstance(section, dict) else None}
    if made is not None:
        facts = {"command": shlex.join(made.command), **facts, "revision": made.git}
        facts |= {name: getattr(made, name) for name in ("suffice", "torch", "transformers", "python", "created")}
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}{NARROW}s"
    return f"{seconds / 60:.0f}{NARROW}min" if seconds < 7200 else f"{seconds / 3600:.1f}{NARROW}h"


def _large(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{NARROW}{letter}"
    return f"{value:.0f}"
