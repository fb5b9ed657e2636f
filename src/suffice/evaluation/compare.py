"""Evaluations of the same questions, paired: the other minus the first, with question-clustered 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suffice.errors import DataError
from suffice.evaluation.at_budgets import at_budgets
from suffice.evaluation.budgets import USUAL, Terms, advise_stops
from suffice.evaluation.compared import Compared, MeanChange, MeanMetrics, MeanRow, OnTask, Row
from suffice.evaluation.equal_cost import trained, with_controls
from suffice.evaluation.scores import asked_alike, at_equal_accuracy, gaps, moved, scores
from suffice.evaluation.sides import PLAIN, Side
from suffice.evaluation.stops import Contest, Point, contest, point_of
from suffice.evaluation.summary import (
    ENDLESS_SHARES,
    ENDLESS_TOKENS,
    LENGTHS,
    OUTCOMES,
    by_question,
    check_questions,
    is_told,
    levels_of,
    metrics_of,
)
from suffice.interval import UNKNOWN, Interval
from suffice.run.directory import Evaluation
from suffice.run.records import BudgetAdvice, Change, StopKind
from suffice.statistics import Samples, mean_of, paired_difference, proportion_difference, ratio_change

_SAMPLED_BY = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "max_thought_tokens",
    "max_answer_tokens",
)


def compare(before: Evaluation, after: Evaluation) -> Change:
    """Differences and relative changes between two evaluations; a change relative to nothing is not known.

    Raises:
        DataError: the two did not answer the same questions, or fewer than two.
    """
    questions = [{record.problem for record in evaluation.records} for evaluation in (before, after)]
    if questions[0] != questions[1]:
        missing = len(questions[0] ^ questions[1])
        raise DataError(
            f"{before.summary.model} and {after.summary.model} differ in {missing} questions of "
            f"{before.summary.task}; evaluate both on the same task, split, number of problems and seed"
        )
    check_questions(questions[0])
    measures = LENGTHS | {"accuracy": OUTCOMES["accuracy"]}
    old, new = (
        {name: by_question(evaluation.records, measure) for name, measure in measures.items()}
        for evaluation in (before, after)
    )
    return Change(
        accuracy=proportion_difference(new["accuracy"], old["accuracy"]),
        **{name: paired_difference(new[name], old[name]) for name in LENGTHS},
        **{f"{name}_change": _relative(new[name], old[name]) for name in ("thought_tokens", "tokens")},
        **_endless(before, after),
    )


def _endless(before: Evaluation, after: Evaluation) -> dict[str, Interval]:
    """Changes of the figures of endless thoughts that both evaluations have."""
    return {
        name: difference(by_question(after.records, measure), by_question(before.records, measure))
        for measures, difference in ((ENDLESS_SHARES, proportion_difference), (ENDLESS_TOKENS, paired_difference))
        for name, measure in measures.items()
        if is_told(name, before.records) and is_told(name, after.records)
    }


def compression(change: Change) -> Interval:
    """Generated tokens as a part of what they were, the papers' CR."""
    return Interval(*(1 + end for end in change.tokens_change))


def compare_all(sides: Sequence[Side]) -> Compared:
    """Every side and each of its variants against the first side, on each task that all sides have: its training-free
    stops, and for arms that were trained here their models at equal cost.

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
    spent = trained(sides)
    sides = with_controls(sides, spent)
    tasks = {task: _on_task(task, sides) for task in shared}
    return Compared(
        sides=[side.name for side in sides],
        tasks=tasks,
        overall=_overall([each.rows for each in tasks.values()]),
        left_out={task: names for task, names in having.items() if task not in shared},
        trained={name: steps[-1] for name, steps in spent.items()},
    )


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points (tokens, accuracy) no other beats: as accurate with as few tokens, and better in one of the two."""
    return [
        not any(
            (tokens <= own_tokens and accuracy >= own_accuracy) and (tokens, accuracy) != (own_tokens, own_accuracy)
            for tokens, accuracy in points
        )
        for own_tokens, own_accuracy in points
    ]


def _on_task(task: str, sides: Sequence[Side]) -> OnTask:
    first = sides[0].plain(task)
    named = [
        (side.name, variant, evaluation) for side in sides for variant, evaluation in side.evaluations[task].items()
    ]
    metrics = [metrics_of(evaluation.records) for *_, evaluation in named]
    front = on_front([(each.thought_tokens.mean, each.accuracy.mean) for each in metrics])
    plain = {side.name: side.plain(task) for side in sides}
    changes = [None if evaluation is first else compare(first, evaluation) for *_, evaluation in named]
    samples = {name: evaluation.records for name, evaluation in plain.items()}
    notes = asked_alike(task, samples)
    limit = min(evaluation.summary.protocol.max_thought_tokens for evaluation in plain.values())
    gap = gaps(samples, limit)
    rows = []
    for (side, variant, evaluation), figures, pareto, change in zip(named, metrics, front, changes, strict=True):
        stop = evaluation.summary.variant
        scored = scores(first.records, evaluation.records, limit) if change and not variant else None
        if change and scored:
            notes += [f"{side}: {said}" for said in (at_equal_accuracy(scored), moved(change)) if said]
        rows.append(
            Row(
                side=side,
                variant=variant or None,
                kind=stop.kind if variant and stop else None,
                metrics=figures,
                levels=levels_of(evaluation.records),
                change=change,
                scores=scored,
                at_budgets=None if variant else at_budgets(evaluation.records, limit),
                gap=None if variant else gap[side],
                compression=compression(change) if change else Interval(1.0, 1.0, 1.0),
                pareto=pareto,
            )
        )
    return OnTask(
        questions=len({record.problem for record in first.records}),
        rows=rows,
        protocols=_differing(plain),
        outcomes=_outcomes(plain, sides[0].evaluations[task]),
        notes=notes,
        budget=_budget(plain, sides[0].evaluations[task]),
    )


def _outcomes(plain: Mapping[str, Evaluation], first: Mapping[str, Evaluation]) -> dict[str, Contest]:
    stops: dict[StopKind, list[Point]] = {}
    for variant, evaluation in first.items():
        if variant != PLAIN and (stop := evaluation.summary.variant):
            stops.setdefault(stop.kind, []).append(point_of(variant, evaluation))
    if not stops:
        return {}
    untouched = point_of("the untouched model", first[PLAIN])
    return {name: contest(point_of(name, each), untouched, stops) for name, each in list(plain.items())[1:]}


def _budget(plain: Mapping[str, Evaluation], first: Mapping[str, Evaluation]) -> BudgetAdvice | None:
    """What to serve of the first side, beside the other sides, on the terms that its evaluation was asked on."""
    asked = first[PLAIN].summary.budget
    terms = Terms(points=asked.points, price=asked.price, speed=asked.speed) if asked else USUAL
    stopped = [evaluation for variant, evaluation in first.items() if variant != PLAIN]
    trained = [point_of(name, evaluation) for name, evaluation in list(plain.items())[1:]]
    return advise_stops(first[PLAIN], stopped, terms, trained)


def _overall(tasks: Sequence[Sequence[Row]]) -> list[MeanRow]:
    """Rows over tasks; none for a single task, whose rows say it already."""
    if len(tasks) < 2:
        return []
    by_name = [{(row.side, row.variant): row for row in rows} for rows in tasks]
    found = []
    for side, variant in by_name[0]:
        if not all((side, variant) in rows for rows in by_name):
            continue
        rows = [each[side, variant] for each in by_name]
        changes = [row.change for row in rows if row.change]
        found.append(
            MeanRow(
                side=side,
                variant=variant,
                metrics=MeanMetrics(
                    accuracy=mean_of([row.metrics.accuracy for row in rows]),
                    thought_tokens=mean_of([row.metrics.thought_tokens for row in rows]),
                    tokens=mean_of([row.metrics.tokens for row in rows]),
                ),
                compression=mean_of([row.compression for row in rows]),
                change=MeanChange(
                    accuracy=mean_of([change.accuracy for change in changes]),
                    thought_tokens_change=mean_of([change.thought_tokens_change for change in changes]),
                )
                if changes
                else None,
            )
        )
    return found


def _relative(new: Samples, old: Samples) -> Interval:
    if not any(value for own in old.values() for value in own):
        return UNKNOWN  # nothing to be a part of
    return ratio_change(new, old)


def _differing(plain: Mapping[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """Settings of sampling that are not the same for all, each as values by side."""
    settings = {
        key: {name: getattr(evaluation.summary.protocol, key) for name, evaluation in plain.items()}
        for key in _SAMPLED_BY
    }
    return {key: values for key, values in settings.items() if len(set(values.values())) > 1}
