"""One self-contained HTML page about a run: no network, no script, model text escaped and shown as text."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import chain
from math import isfinite, nan
from pathlib import Path
from typing import Any

from suffice.evaluation.stops import HELD
from suffice.guard.foresight import foresee
from suffice.report import findings, plots
from suffice.report.findings import NARROW, Unit, shown
from suffice.report.parts import Shape, Table, difficulty, fill, shape
from suffice.report.source import Comparison, Diagnosis, Evaluation, Interval, Run, read_run
from suffice.report.traces import KINDS, cut_traces, sample_traces
from suffice.run.files import write_text

SAMPLES, CUTS = 12, 4

_METRICS: dict[str, tuple[str, Unit]] = {
    "accuracy": ("Accuracy", "percent"),
    "thought_tokens": ("Thinking tokens", "tokens"),
    "thought_tokens_correct": ("… where correct", "tokens"),
    "answer_tokens": ("Answer tokens", "tokens"),
    "unclosed": ("Thought never closed", "percent"),
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
    page = run / "report.html"
    write_text(page, render(read_run(run)))
    return page


def render(run: Run) -> str:
    """The page as text that UTF-8 can encode."""
    return fill("page.html.j2", _context(run))


def _context(run: Run) -> dict[str, Any]:
    traces, totals = sample_traces(run.samples, SAMPLES)
    subjects = [*chain[Evaluation | Diagnosis](run.evaluations.values(), run.diagnoses.values())]
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
        "difficulty": difficulty({label: each.levels for label, each in run.main.items()}, ("before", "after")),
        "traces": traces,
        "kinds": [(kind, totals[kind]) for kind in KINDS if totals[kind]],
        "choices": {kind: kind for kind in ("all", *KINDS) if kind == "all" or totals[kind]},
        "cuts": cut_traces(run.cuts, CUTS),
        "protocols": _protocols(run),
        "provenance": _provenance(run),
    }


def _cards(run: Run) -> list[tuple[str, str, str]]:
    """The few numbers to remember, as (value, what it is, range)."""
    cards = []
    if run.comparison is not None:
        value, between = shown(run.comparison.thought_tokens_change, "relative")
        cards.append((value, "thinking tokens", between))
        value, between = shown(run.comparison.accuracy, "points")
        cards.append((value, "points of accuracy", between))
    for label in ("before", "after"):
        if label in run.diagnoses and run.diagnoses[label].saveable_fraction.known:
            value, between = shown(run.diagnoses[label].saveable_fraction, "percent")
            when = f" {label} training" if len(run.diagnoses) > 1 else ""
            cards.append((value, f"of the thought could be saved{when}", between))
    return cards


def _movement(run: Run) -> Shape | None:
    """Where accuracy and thought tokens went; None unless there is a before and an after to join."""
    if not {"before", "after"} <= run.evaluations.keys():
        return None
    paths = {
        name: [run.evaluations[label] for label in labels if label in run.evaluations]
        for name, labels in {
            "sampled": ["before", *_held_out_labels(run), "after"],
            "greedy": ["before-greedy", "after-greedy"],
        }.items()
    }
    return shape("movement", "Left is shorter, up is more often right", plots.movement_figure(paths))


def _tables(run: Run) -> list[Table]:
    tables = []
    greedy = {label: each for label in run.main if (each := run.evaluations.get(f"{label}-greedy"))}
    for columns, compared in ((run.main, run.comparison), (greedy, run.comparison and run.comparison.greedy)):
        if columns:
            tables.append(_table(columns, compared))
    return tables


def _table(columns: dict[str, Evaluation], compared: Comparison | None) -> Table:
    rows = []
    is_greedy = all(evaluation.protocol.get("temperature") == 0 for evaluation in columns.values())
    for name, (words, unit) in _METRICS.items():
        intervals = [evaluation.metric(name) for evaluation in columns.values()]
        if any(interval.known for interval in intervals):
            cells = [[(*shown(interval, unit), False)] for interval in intervals]
            rows.append((words, [*cells, _changes(name, compared)] if compared else cells))
    return Table("Greedy" if is_greedy else "Sampled", [*columns, *(["change"] if compared else [])], rows)


def _changes(metric: str, compared: Comparison) -> list[tuple[str, str, bool]]:
    match metric:
        case "accuracy":
            return [(*shown(compared.accuracy, "points"), compared.accuracy.sign != 0)]
        case "thought_tokens":
            part, tokens = compared.thought_tokens_change, compared.thought_tokens
            return [(*shown(part, "relative"), part.sign != 0), (*shown(tokens, "tokens", True), tokens.sign != 0)]
        case _:
            return []


def _curves(run: Run) -> list[Shape]:
    """One figure per metric that at least two steps recorded."""
    shapes = []
    numbers = [int(row["step"]) for row in run.steps]
    rows = [row | {"risk": score} for row, score in zip(run.steps, foresee(run.steps), strict=True)]
    for key, words, percent in _CURVES:
        values = [_number(row.get(key)) for row in rows]
        if sum(map(isfinite, values)) < 2:
            continue
        title = findings.training_title(words, plots.smooth(values), percent)
        figure = plots.training_figure(numbers, values, _held_out(run, key, numbers[-1]), percent)
        shapes.append(shape(f"train-{key.replace('_', '-')}", title, figure))
    return shapes


def _held_out_labels(run: Run) -> list[str]:
    return sorted(each for each in run.evaluations if each.startswith("step-") and not each.endswith("-greedy"))


def _held_out(run: Run, metric: str, last: int) -> list[tuple[int, Interval]]:
    at = {"before": 0, "after": last}
    at |= {label: int(label.removeprefix("step-")) for label in _held_out_labels(run)}
    found = [(step, run.evaluations[label].metric(metric)) for label, step in at.items() if label in run.evaluations]
    return sorted((each for each in found if each[1].known), key=lambda each: each[0])


def _cost(run: Run) -> list[tuple[str, str]]:
    """What training took, as (value, words)."""

    def total(*keys: str) -> float:
        return sum(value for row in run.steps for key in keys if isfinite(value := _number(row.get(key))))

    seconds = total("seconds")
    amounts = [
        (f"{len(run.steps):,}", "steps", bool(run.steps)),
        (_duration(seconds), "of training", seconds > 0),
        (_large(total("tokens_decode")), "tokens sampled", total("tokens_decode") > 0),
        (_large(total("tokens_train")), "tokens trained on", total("tokens_train") > 0),
    ]
    return [(value, words) for value, words, known in amounts if known]


def _guard(run: Run) -> list[str]:
    """What the guard saw and did, and the checkpoint it chose."""
    said = [
        f"Step {alarm.step}: {alarm.reason}"
        + {"roll back": f"; rolled back to step {alarm.rolled_back_to}", "stop": "; stopped"}.get(alarm.action, "")
        for alarm in run.alarms
    ]
    return [*said, *([f"Kept: {run.chosen.words}"] if run.chosen else [])]


def _diagnosis(diagnoses: dict[str, Diagnosis]) -> dict[str, Any] | None:
    if not diagnoses:
        return None
    figure = plots.diagnosis_figure({label: each.model_dump() for label, each in diagnoses.items()})
    measures: list[tuple[str, Callable[[Diagnosis], Interval], Unit]] = [
        ("Part that sufficed, where right in the end", lambda each: each.sufficient_fraction, "percent"),
        ("Part that could be saved", lambda each: each.saveable_fraction, "percent"),
        ("Tokens that could be saved", lambda each: each.saveable_tokens, "tokens"),
    ]
    rows = [(words, [[(*shown(of(each), unit), False)] for each in diagnoses.values()]) for words, of, unit in measures]
    return {
        "shape": shape("diagnosis", findings.diagnosis_title(diagnoses), figure),
        "table": Table("Diagnosis", list(diagnoses), rows),
        "verdicts": [(label, each.verdict) for label, each in diagnoses.items()],
    }


def _protocols(run: Run) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Distinct protocols with the labels that share each."""
    shared: dict[str, tuple[list[str], dict[str, Any]]] = {}
    everything = chain[tuple[str, str, dict[str, Any]]](
        (("evaluation", label, each.protocol) for label, each in run.evaluations.items()),
        (("diagnosis", label, each.protocol) for label, each in run.diagnoses.items()),
    )
    for kind, label, protocol in everything:
        shared.setdefault(f"{kind} {protocol}", ([kind], protocol))[0].append(label)
    return [(f"{names[0]}: {', '.join(names[1:])}", list(protocol.items())) for names, protocol in shared.values()]


def _provenance(run: Run) -> list[tuple[str, str]]:
    command = run.manifest.get("command")
    facts = {
        "command": shlex.join(map(str, command)) if command else None,
        "seed": run.recipe.get("run", {}).get("seed") if isinstance(run.recipe.get("run"), dict) else None,
        "revision": run.manifest.get("git"),
        **{key: run.manifest.get(key) for key in ("suffice", "torch", "transformers", "python", "created")},
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else nan


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}{NARROW}s"
    return f"{seconds / 60:.0f}{NARROW}min" if seconds < 7200 else f"{seconds / 3600:.1f}{NARROW}h"


def _large(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{NARROW}{letter}"
    return f"{value:.0f}"
