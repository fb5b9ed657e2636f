"""Accuracy at thinking budgets, read off one sampling of any model, trained or not.

Up to where it is cut a model says what it would have said anyway. So a thought longer than the budget counts as wrong,
as `baselines.at_budget` has it, and nothing need be sampled again: records alone give accuracy at every budget, the
area under that curve, and the tokens that some accuracy costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from suffice.evaluation.summary import Measure, average, by_question, rate
from suffice.groups import Verdict
from suffice.interval import Interval
from suffice.run.records import AtBudget, AtBudgets, Sample
from suffice.statistics import Array, share_interval

HALVINGS = 6
"""Budgets of a curve: the limit, its half, … its 32nd."""

LENGTH = ("thought_tokens", "answer_tokens")


def at_budgets(records: Sequence[Sample], limit: int) -> AtBudgets:
    """The curve of an evaluation up to a limit of thinking tokens."""
    budgets = sorted({max(1, limit // 2**i) for i in range(HALVINGS)})
    return AtBudgets(
        limit=limit,
        curve=[
            AtBudget(
                budget=budget,
                accuracy=rate(records, right_within(budget)),
                thought_tokens=average(records, thought_within(budget)),
            )
            for budget in budgets
        ],
        area=area(records, limit),
    )


def right_within(budget: int) -> Measure[Sample]:
    return lambda r: r.verdict is Verdict.CORRECT and r.thought_tokens <= budget


def thought_within(budget: int) -> Measure[Sample]:
    return lambda r: min(r.thought_tokens, budget)


def under(limit: int) -> Measure[Sample]:
    """A sample's part in the area: of all budgets from 0 to the limit the share at which it is right."""
    return lambda r: max(0.0, 1 - r.thought_tokens / limit) if r.verdict is Verdict.CORRECT else 0.0


def area(records: Sequence[Sample], limit: int) -> Interval:
    """Mean accuracy over all budgets from 0 to the limit (AUC of overthinking-adjusted accuracy, arXiv 2508.13141)."""
    by = by_question(records, under(limit))
    shares = [sum(own) / len(own) for own in by.values()]
    if len(shares) < 2:
        return average(records, under(limit))
    return share_interval(shares, len(records))


@dataclass(frozen=True, slots=True)
class Curve:
    """The samples of one model by rising length of their thoughts [N], and means by question [Q].

    Questions have an index that curves share; `share` is a sample's part of its question.
    """

    question: NDArray[np.intp]
    share: Array
    thought: Array
    answer: Array
    right: Array
    right_by: Array
    tokens_by: Array

    @classmethod
    def of(cls, records: Sequence[Sample], index: Mapping[str, int]) -> Self:
        """
        Args:
            index: of every question, 0…Q − 1.
        """
        ordered = sorted(records, key=lambda r: r.thought_tokens)
        question = np.array([index[r.problem] for r in ordered])
        count_by = np.bincount(question)
        thought, answer = (np.array([float(getattr(r, name)) for r in ordered]) for name in LENGTH)
        right = np.array([float(r.verdict is Verdict.CORRECT) for r in ordered])
        right_by, tokens_by = (np.bincount(question, each) / count_by for each in (right, thought + answer))
        return cls(question, 1 / count_by[question], thought, answer, right, right_by, tokens_by)

    def accuracy(self, weight_Q: Array) -> float:
        """Of questions that weigh so much, together 1."""
        return min(1.0, float(weight_Q @ self.right_by))

    def tokens(self, weight_Q: Array) -> float:
        """Generated, mean."""
        return float(weight_Q @ self.tokens_by)

    def tokens_at(self, accuracy: float, weight_Q: Array) -> float:
        """Mean tokens generated under the smallest budget with this accuracy; two neighbouring budgets are mixed.

        NaN for an accuracy of 0, which no token is needed for, and for one that is not reached.
        """
        weight = weight_Q[self.question] * self.share
        last = np.append(self.thought[1:] > self.thought[:-1], True)  # of the samples of one length
        right = np.append(0.0, np.cumsum(weight * self.right)[last])
        ended, within = (np.cumsum(weight * each)[last] for each in (self.thought + self.answer, np.ones_like(weight)))
        spent = np.append(0.0, ended + self.thought[last] * np.maximum(0.0, 1 - within))
        at = int(np.searchsorted(right, accuracy - 1e-9))
        if not 0 < at < len(right):
            return float("nan")
        part = (accuracy - right[at - 1]) / (right[at] - right[at - 1])
        return float(spent[at - 1] + min(1.0, part) * (spent[at] - spent[at - 1]))
