"""Evaluations of the same questions, paired: the other minus the first, with question-clustered 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from suffice.errors import DataError
from suffice.evaluation.protocol import (
    LENGTHS,
    OUTCOMES,
    Evaluation,
    Figure,
    Measure,
    Record,
    check_questions,
    summarise,
)
from suffice.evaluation.sides import PLAIN, Side
from suffice.evaluation.stops import Point, difference, verdict
from suffice.statistics import Samples, paired_difference, proportion_difference, ratio_change

_SAMPLED_BY = ("temperature", "top_p", "max_thought_tokens", "max_answer_tokens")


def compare(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Differences and relative changes between two evaluations.

    `accuracy` and each of the lengths `thought_tokens`, `answer_tokens`, `tokens` as {difference, low, high};
    `thought_tokens_change` and `tokens_change` as a fraction of before {mean, low, high}, all None where before is 0.

    Raises:
        DataError: the two did not answer the same questions, or fewer than two.
    """
    questions = [{record["problem"] for record in evaluation.records} for evaluation in (before, after)]
    if questions[0] != questions[1]:
        missing = len(questions[0] ^ questions[1])
        raise DataError(
            f"{before.summary['model']} and {after.summary['model']} differ in {missing} questions of "
            f"{before.summary['task']}; evaluate both on the same task, split, number of problems and seed"
        )
    check_questions(questions[0])
    old, new = before.records, after.records
    accuracy = OUTCOMES["accuracy"]
    return {
        "accuracy": difference(proportion_difference(samples(new, accuracy), samples(old, accuracy))),
        **{
            name: difference(paired_difference(samples(new, measure), samples(old, measure)))
            for name, measure in LENGTHS.items()
        },
        **{
            f"{name}_change": _relative(samples(new, LENGTHS[name]), samples(old, LENGTHS[name]))
            for name in ("thought_tokens", "tokens")
        },
    }


def compare_all(sides: Sequence[Side]) -> dict[str, Any]:
    """Every side and each of its training-free stops against the first side, on each task that all sides have.

    - `sides`: names in order.
    - `tasks`: by task `questions`; `rows`, one a side and variant (None: not stopped), with `metrics` and `levels` as
      in an evaluation's summary, `change` as of `compare` (None for the first), `compression` (generated tokens as a
      part of the first's, the papers' CR) and `pareto`, whether no other row is as accurate with as few thinking
      tokens and better in one; `protocols`, settings in which sides differ; `verdicts`, by side, whether it beats the
      first side's training-free stops, where those were measured.
    - `overall`: for rows that all tasks have, the means over tasks, each counting the same, as the papers' last
      column; empty for a single task.
    - `left_out`: tasks that not all sides have, with the sides that have them.

    Raises:
        DataError: there is nothing to compare, or sides did not answer the same questions.
    """
    if len(sides) == 1 and all(len(variants) == 1 for variants in sides[0].evaluations.values()):
        raise DataError(f"{sides[0].name} is alone; give another evaluation to compare it with")
    having = {
        task: [side.name for side in sides if task in side.evaluations] for each in sides for task in each.evaluations
    }
    shared = [task for task, names in having.items() if len(names) == len(sides)]
    if not shared:
        has = "; ".join(f"{side.name} has {', '.join(side.evaluations)}" for side in sides)
        raise DataError(f"there is no task that all have: {has}; evaluate all on the same task")
    tasks = {task: _on_task(task, sides) for task in shared}
    return {
        "sides": [side.name for side in sides],
        "tasks": tasks,
        "overall": _overall([each["rows"] for each in tasks.values()]),
        "left_out": {task: names for task, names in having.items() if task not in shared},
    }


def samples(records: Sequence[Record], measure: Measure) -> dict[str, list[float]]:
    """A measure's values by question."""
    values: dict[str, list[float]] = {}
    for record in records:
        values.setdefault(record["problem"], []).append(float(measure(record)))
    return values


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points (tokens, accuracy) no other beats: as accurate with as few tokens, and better in one of the two."""
    return [
        not any(
            (tokens <= own_tokens and accuracy >= own_accuracy) and (tokens, accuracy) != (own_tokens, own_accuracy)
            for tokens, accuracy in points
        )
        for own_tokens, own_accuracy in points
    ]


def mean_of(figures: Sequence[Figure], centre: str = "mean") -> Figure:
    """The mean of independent estimates, such as of several tasks, each counting the same; `centre` names theirs.

    Its interval is put together from theirs, distances from the centre added in squares on either side (the method of
    variance estimates recovery, Zou and Donner 2008). None where one of them has none.
    """
    n = len(figures)
    means, lows, highs = (
        [value for figure in figures if (value := figure[key]) is not None] for key in (centre, "low", "high")
    )
    if min(len(means), len(lows), len(highs)) < n:
        return {centre: None, "low": None, "high": None}
    mean = sum(means) / n
    below, above = (sqrt(sum((m - end) ** 2 for m, end in zip(means, ends, strict=True))) / n for ends in (lows, highs))
    return {centre: mean, "low": mean - below, "high": mean + above}


def _on_task(task: str, sides: Sequence[Side]) -> dict[str, Any]:
    first = sides[0].plain(task)
    rows = []
    for side in sides:
        for variant, evaluation in side.evaluations[task].items():
            change = None if evaluation is first else compare(first, evaluation)
            figures = summarise(evaluation.records)
            rows.append(
                {
                    "side": side.name,
                    "variant": variant or None,
                    "kind": evaluation.summary["variant"]["kind"] if variant else None,
                    "metrics": figures["metrics"],
                    "levels": figures["levels"],
                    "change": change,
                    "compression": _compression(change),
                }
            )
    places = [(row["metrics"]["thought_tokens"]["mean"], row["metrics"]["accuracy"]["mean"]) for row in rows]
    for row, front in zip(rows, on_front(places), strict=True):
        row["pareto"] = front
    plain = {side.name: side.plain(task) for side in sides}
    return {
        "questions": len({record["problem"] for record in first.records}),
        "rows": rows,
        "protocols": _differing(plain),
        "verdicts": _verdicts(plain, sides[0].evaluations[task]),
    }


def _verdicts(plain: dict[str, Evaluation], first: dict[str, Evaluation]) -> dict[str, Any]:
    stops: dict[str, list[Point]] = {}
    for variant, evaluation in first.items():
        if variant != PLAIN:
            stops.setdefault(evaluation.summary["variant"]["kind"], []).append(_point(variant, evaluation))
    if not stops:
        return {}
    untouched = _point("the untouched model", first[PLAIN])
    return {name: verdict(_point(name, each), untouched, stops) for name, each in list(plain.items())[1:]}


def _point(name: str, evaluation: Evaluation) -> Point:
    measures = (OUTCOMES["accuracy"], LENGTHS["thought_tokens"], LENGTHS["tokens"])
    return Point(name, *(samples(evaluation.records, measure) for measure in measures))


def _overall(tasks: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows over tasks; none for a single task, whose rows say it already."""
    if len(tasks) < 2:
        return []
    by_name = [{(row["side"], row["variant"]): row for row in rows} for rows in tasks]
    found = []
    for side, variant in by_name[0]:
        if not all((side, variant) in rows for rows in by_name):
            continue
        rows = [each[side, variant] for each in by_name]
        found.append(
            {
                "side": side,
                "variant": variant,
                "metrics": {
                    name: mean_of([row["metrics"][name] for row in rows])
                    for name in ("accuracy", "thought_tokens", "tokens")
                },
                "compression": mean_of([row["compression"] for row in rows]),
                "change": _mean_change([row["change"] for row in rows if row["change"]]),
            }
        )
    return found


def _compression(change: dict[str, Any] | None) -> Figure:
    if change is None:
        return {"mean": 1.0, "low": 1.0, "high": 1.0}
    return {key: None if value is None else 1 + value for key, value in change["tokens_change"].items()}


def _mean_change(changes: Sequence[dict[str, Any]]) -> dict[str, Figure] | None:
    if not changes:
        return None
    return {
        "accuracy": mean_of([change["accuracy"] for change in changes], "difference"),
        "thought_tokens_change": mean_of([change["thought_tokens_change"] for change in changes]),
    }


def _relative(new: Samples, old: Samples) -> Figure:
    if not any(value for own in old.values() for value in own):
        return {"mean": None, "low": None, "high": None}  # nothing to be a part of
    return {**ratio_change(new, old).as_dict()}


def _differing(plain: dict[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """Settings of sampling that are not the same for all, each as values by side."""
    settings = {
        key: {name: evaluation.summary["protocol"].get(key) for name, evaluation in plain.items()}
        for key in _SAMPLED_BY
    }
    return {key: values for key, values in settings.items() if len(set(values.values())) > 1}
