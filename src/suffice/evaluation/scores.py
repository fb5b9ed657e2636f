"""One number for accuracy and tokens together, of a model against another on the same questions.

The field reports several. The one to trust is `equal_accuracy`: tokens against tokens where both models are equally
accurate. What is wrong with the others stands in docs/evaluate.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan

import numpy as np

from suffice.errors import DataError
from suffice.evaluation.at_budgets import Curve, under
from suffice.evaluation.summary import by_question
from suffice.interval import UNKNOWN, Interval
from suffice.numbers import interval, number
from suffice.run.records import Change, Sample, Scores
from suffice.statistics import Array, bootstrap_interval, paired_difference

GAIN, LOSS = 3.0, 5.0
"""Weights of accuracy gained and lost in AES, relative to the base's (O1-Pruner, arXiv 2501.12570)."""

MOVED = 0.1
"""Part of the thinking tokens lost that is worth telling where it shows up in answers."""

Two = Callable[[Array], tuple[float, float, float, float]]
"""Accuracy and tokens before, then after, of weighted questions."""


def scores(before: Sequence[Sample], after: Sequence[Sample], limit: int) -> Scores:
    """
    Args:
        limit: thinking tokens up to which the area under accuracy by budget is taken.
    """
    index = {problem: i for i, problem in enumerate(dict.fromkeys(r.problem for r in before))}
    base, other = Curve.of(before, index), Curve.of(after, index)

    def two(weight_Q: Array) -> tuple[float, float, float, float]:
        return base.accuracy(weight_Q), base.tokens(weight_Q), other.accuracy(weight_Q), other.tokens(weight_Q)

    even = np.full(len(index), 1 / len(index))
    return Scores(
        level=min(base.accuracy(even), other.accuracy(even)),
        equal_accuracy=_over(lambda weight_Q: equal_accuracy(base, other, weight_Q), index),
        area=paired_difference(by_question(after, under(limit)), by_question(before, under(limit))),
        aes=_over(lambda weight_Q: aes(*two(weight_Q)), index),
        e3=_over(lambda weight_Q: e3(*two(weight_Q)), index),
    )


def _over(statistic: Callable[[Array], float], questions: Mapping[str, int]) -> Interval:
    return bootstrap_interval(statistic, len(questions)) if len(questions) > 1 else UNKNOWN


def equal_accuracy(base: Curve, other: Curve, weight_Q: Array) -> float:
    """Tokens of the other as a part of the base's, both under the smallest budget at which they are as accurate as the
    less accurate of the two."""
    level = min(base.accuracy(weight_Q), other.accuracy(weight_Q))
    tokens = base.tokens_at(level, weight_Q)
    return other.tokens_at(level, weight_Q) / tokens if tokens else nan


def aes(accuracy: float, tokens: float, other: float, others_tokens: float) -> float:
    """Accuracy-efficiency score: tokens saved as a part of the base's, plus `GAIN` times the accuracy gained or less
    `LOSS` times that lost, as parts of the base's."""
    if not accuracy or not tokens:
        return nan
    gained = other / accuracy - 1
    return 1 - others_tokens / tokens + (GAIN if gained >= 0 else LOSS) * gained


def e3(accuracy: float, tokens: float, other: float, others_tokens: float) -> float:
    """E3-Score (arXiv 2511.10201): the harmonic mean of the ratio of the odds of being right and that of tokens saved,
    weighted with the base's accuracy; 1 for the base itself."""
    if not 0 < accuracy < 1 - 1e-9 or not tokens:
        return nan
    if not other:
        return 0.0
    odds = accuracy * (1 - other) / ((1 - accuracy) * other)  # of the base over the other's
    inverse = accuracy * odds + (1 - accuracy) * others_tokens / tokens
    return 1 / inverse if inverse else nan


def gaps(sides: Mapping[str, Sequence[Sample]], limit: int) -> dict[str, Interval]:
    """Each side's mean distance in accuracy from the best of all sides, over all budgets from 0 to the limit.

    That is the reasoning efficiency gap (REG, arXiv 2506.07104) of these models alone, as a mean and not a sum. Which
    side is best at a budget is taken as measured, so that the gap is rather too large.
    """
    index = {problem: i for i, problem in enumerate(dict.fromkeys(r.problem for own in sides.values() for r in own))}
    curves = [Curve.of(own, index) for own in sides.values()]
    edges = np.unique(np.concatenate([[0.0, float(limit)], *(curve.thought for curve in curves)]))
    edges = edges[edges <= limit]
    even = np.full(len(index), 1 / len(index))
    reached = np.array([_reached(curve, edges[:-1], even) for curve in curves])
    # [sides, edges]: of all budgets from an edge on the share at which a side is best
    best = np.arange(len(curves))[:, None] == reached.argmax(0)
    wide = np.append(np.cumsum((best * np.diff(edges))[:, ::-1], 1)[:, ::-1], np.zeros((len(curves), 1)), 1) / limit
    front: dict[str, list[float]] = {
        problem: [sum(own)]
        for problem, *own in zip(index, *map(_worth, curves, wide, [edges] * len(curves)), strict=True)
    }
    return {name: paired_difference(front, by_question(own, under(limit))) for name, own in sides.items()}


def _reached(curve: Curve, budget: Array, weight_Q: Array) -> Array:
    """Accuracy at budgets."""
    right = np.append(0.0, np.cumsum(weight_Q[curve.question] * curve.share * curve.right))
    return np.asarray(right[np.searchsorted(curve.thought, budget, side="right")])


def _worth(curve: Curve, wide: Array, edges: Array) -> Array:
    """By question, the mean of right samples' shares of the budgets at which this curve is best [Q]."""
    place = np.minimum(np.searchsorted(edges, curve.thought), len(edges) - 1)
    worth = np.where(curve.thought <= edges[-1], wide[place], 0.0)
    return np.asarray(np.bincount(curve.question, curve.share * curve.right * worth), float)


def at_equal_accuracy(found: Scores) -> str | None:
    """A sentence about the tokens where both models are as accurate, and about accuracy whatever the budget."""
    if not found.equal_accuracy.known:
        return None
    part, area = interval(*found.equal_accuracy, 100, unit=" %"), interval(*found.area, 100, signed=True)
    return (
        f"{part} of the generated tokens, both cut where they reach {number(100 * found.level)} % accuracy; mean "
        f"accuracy over thinking budgets {area} points"
    )


def moved(change: Change) -> str | None:
    """A sentence where thoughts are clearly shorter, and answers clearly longer by a good part of that."""
    lost, gained = -change.thought_tokens.mean, change.answer_tokens.mean
    if not (change.thought_tokens.sign < 0 < change.answer_tokens.sign) or gained < MOVED * lost:
        return None
    thought, answer = (interval(*each, signed=True) for each in (change.thought_tokens, change.answer_tokens))
    return f"part of the thinking has moved into the answer: thinking tokens {thought}, answer tokens {answer}"


def asked_alike(task: str, sides: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Sentences about sides that were asked the same questions in other words than the first.

    Raises:
        DataError: the gold answers differ, so the questions are others under the same names.
    """
    (first, records), *others = sides.items()
    told = []
    gold, prompt = ({r.problem: getattr(r, name) for r in records} for name in ("gold", "prompt"))
    for name, own in others:
        if wrong := next((r for r in own if r.gold != gold[r.problem]), None):
            raise DataError(
                f"problem {wrong.problem} of {task} has the gold answer {gold[wrong.problem]!r:.40} in {first} and "
                f"{wrong.gold!r:.40} in {name}; evaluate both on the same data"
            )
        asked = {r.problem: r.prompt for r in own}
        if count := sum(asked[problem] != prompt[problem] for problem in asked):
            told.append(f"{name} was asked {count} of {len(asked)} questions in other words than {first}")
    return told
