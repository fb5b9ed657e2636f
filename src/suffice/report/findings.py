"""Numbers as people read them, and the sentences that the numbers allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from suffice import numbers
from suffice.evaluation.stops import HELD
from suffice.interval import Interval
from suffice.report.source import Contents
from suffice.run.layout import AFTER, BEFORE
from suffice.run.records import DiagnosisSummary, EvaluationSummary

Unit = Literal["tokens", "count", "percent", "points", "relative"]

NARROW = "\u202f"


def number(value: float, unit: Unit) -> str:
    """A value with its unit; points and relative changes carry a sign, a count is as precise as it needs to be."""
    scale, digits, signed, suffix = _form(value, unit)
    return numbers.number(scale * value, digits, signed) + suffix


def ranged(interval: Interval, unit: Unit, signed: bool = False) -> tuple[str, str]:
    """Mean and range as text, such as ("61.2 %", "59.0 to 63.4"); no range where there is none."""
    if not interval.known:
        return numbers.UNKNOWN, ""
    scale, digits, always, suffix = _form(interval.mean, unit)
    mean = numbers.number(scale * interval.mean, digits, signed or always) + suffix
    if not interval.bounded:
        return mean, ""
    return mean, numbers.span(scale * interval.low, scale * interval.high, digits, signed or always)


def _form(value: float, unit: Unit) -> tuple[float, int, bool, str]:
    """What values of a unit are multiplied by, their digits, whether they carry a sign, and what follows them."""
    match unit:
        case "tokens":
            return 1, 1, False, ""
        case "count":
            return 1, 0 if value >= 100 else 1, False, ""
        case "percent":
            return 100, 1, False, f"{NARROW}%"
        case "points":
            return 100, 1, True, ""
        case "relative":
            return 100, 0, True, f"{NARROW}%"


def headline(run: Contents) -> str:
    """The run in one line: only what its intervals support."""
    before, after = run.evaluations.get(BEFORE), run.evaluations.get(AFTER)
    if run.comparison is not None:
        return movement(run.comparison.thought_tokens_change, run.comparison.accuracy)
    if before is not None and after is not None:
        was, now = (_standing(each) for each in (before, after))
        return f"{was} before, {now} after"
    if run.main:
        return _standing(*run.main.values())
    for diagnosis in run.diagnoses.values():
        return diagnosis.conclusion
    if run.evaluations:
        return _standing(list(run.evaluations.values())[-1])
    return f"{len(run.steps)} steps of training"


def movement(thought_tokens: Interval, accuracy: Interval) -> str:
    """What became of thinking tokens (relative change) and accuracy (difference): only what the intervals support."""
    return f"{_thought_change(thought_tokens)}, {_accuracy_change(accuracy)}"


def training_title(name: str, smoothed: Sequence[float], percent: bool) -> str:
    """Where a training curve began and ended, smoothed, such as "Reward in training rose from 0.31 to 0.52"."""
    finite = [value for value in smoothed if np.isfinite(value)]
    start, end = ((f"{100 * v:.0f}{NARROW}%" if percent else _short(v)) for v in (finite[0], finite[-1]))
    if start == end:
        return f"{name} in training stayed at {end}"
    return f"{name} in training {'rose' if finite[-1] > finite[0] else 'fell'} from {start} to {end}"


def difficulty_title(
    name: str, levels: dict[str, dict[str, Interval]], unit: Unit, ends: tuple[str, str] = (BEFORE, AFTER)
) -> str:
    """At how many difficulties a metric moved from one of the `ends` to the other, and where most.

    A move counts where the two intervals lie apart.
    """
    first, last = ends
    pairs = {level: (row[first], row[last]) for level, row in levels.items() if {first, last} <= row.keys()}
    moved = {level: now.mean - was.mean for level, (was, now) in pairs.items() if _apart(was, now)}
    if not pairs or first == last:
        return f"{name} by difficulty"
    if not moved:
        return f"{name} changed clearly at no difficulty"
    if unit == "relative":
        moved = {level: change / pairs[level][0].mean for level, change in moved.items() if pairs[level][0].mean}
    most = max(moved, key=lambda level: abs(moved[level]))
    where = f"most at {most} ({number(moved[most], unit)}{' points' if unit == 'points' else ''})"
    signs = {change > 0 for change in moved.values()}
    verb = "changed clearly" if len(signs) > 1 else "rose" if True in signs else "fell"
    many = "every difficulty" if len(moved) == len(pairs) else f"{len(moved)} of {len(pairs)} difficulties"
    return f"{name} {verb} at {many}, {where}"


def diagnosis_title(diagnoses: dict[str, DiagnosisSummary]) -> str:
    """How much of the thought could be saved, before and after."""
    parts = [
        f"{number(each.saveable_fraction.mean, 'percent')} {label}".replace(".0", "")
        for label, each in diagnoses.items()
        if each.saveable_fraction.known
    ]
    if not parts:
        return "How much of the thought the answer needs"
    if len(parts) == 1:
        return f"{parts[0].rpartition(' ')[0]} of the thought could be saved"
    return f"Thought that could be saved: {', '.join(parts)} training"


def _apart(one: Interval, other: Interval) -> bool:
    return one.bounded and other.bounded and (one.high < other.low or other.high < one.low)


def _standing(*evaluations: EvaluationSummary) -> str:
    """How an evaluation went; of several benchmarks the mean, each counting the same."""
    accuracy = float(np.mean([each.metrics.accuracy.mean for each in evaluations]))
    tokens = float(np.mean([each.metrics.thought_tokens.mean for each in evaluations]))
    mean = f" on average over {len(evaluations)} benchmarks" if len(evaluations) > 1 else ""
    return f"{number(accuracy, 'percent')} correct{mean} with {number(tokens, 'tokens')} thinking tokens"


def _thought_change(change: Interval) -> str:
    if not change.sign:
        return "Thinking tokens did not measurably change"
    return f"Thinking tokens {'rose' if change.sign > 0 else 'fell'} by {100 * abs(change.mean):.0f}{NARROW}%"


def _accuracy_change(change: Interval) -> str:
    if change.sign:
        return f"accuracy {'rose' if change.sign > 0 else 'fell'} by {100 * abs(change.mean):.1f} points"
    if change.bounded and change.low >= -HELD:
        return "accuracy held"
    return "what happened to accuracy is unclear"


def _short(value: float) -> str:
    return numbers.number(value, 0 if abs(value) >= 10 else 2)
