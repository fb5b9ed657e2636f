"""From samples to figures: what of an evaluation is computed from its records, and can be computed again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import comb, nan
from typing import Any, Protocol, TypeVar

from suffice.errors import DataError
from suffice.groups import Verdict
from suffice.interval import UNKNOWN, Interval
from suffice.loops import repeated_share
from suffice.run.records import Level, Metrics, Sample, Together
from suffice.statistics import Samples, mean_interval, proportion_interval, share_interval


class OfProblem(Protocol):
    """A record that belongs to a problem: a sample, or a thought and its exits."""

    @property
    def problem(self) -> str: ...


R = TypeVar("R", bound=OfProblem)
Measure = Callable[[R], float]
"""A length in tokens or a part, or an outcome, 0 or 1."""

LENGTHS: dict[str, Measure[Sample]] = {
    "thought_tokens": lambda r: r.thought_tokens,
    "answer_tokens": lambda r: r.answer_tokens,
    "tokens": lambda r: r.thought_tokens + r.answer_tokens + r.trial_tokens,
}
OUTCOMES: dict[str, Measure[Sample]] = {
    "accuracy": lambda r: r.verdict is Verdict.CORRECT,
    "truncated": lambda r: r.truncated,
    "unparsed": lambda r: r.verdict is Verdict.UNPARSED,
}


def metrics_of(records: Sequence[Sample]) -> Metrics:
    right, wrong = ([r for r in records if (r.verdict is Verdict.CORRECT) is verdict] for verdict in (True, False))
    return Metrics(
        **{name: rate(records, outcome) for name, outcome in OUTCOMES.items()},
        **endless_of(records),
        **{name: average(records, length) for name, length in LENGTHS.items()},
        thought_tokens_correct=average(right, LENGTHS["thought_tokens"]),
        thought_tokens_wrong=average(wrong, LENGTHS["thought_tokens"]),
        together=together(by_question(records, OUTCOMES["accuracy"])),
    )


def together(right: Samples) -> list[Together]:
    """What k samples of a question come to, for k = 2, 4, 8, … up to all that every question has.

    A question with n samples of which c are right has any right among k with probability 1 − C(n − c, k) / C(n, k)
    (Chen et al., arXiv 2107.03374), and all right with C(c, k) / C(n, k): the means over all subsets of k.
    """
    counts = [(len(own), int(sum(own))) for own in right.values()]
    most = min((n for n, _ in counts), default=0)
    return [
        Together(
            k=k,
            any_correct=_shares([1 - comb(n - c, k) / comb(n, k) for n, c in counts], k, counts),
            all_correct=_shares([comb(c, k) / comb(n, k) for n, c in counts], k, counts),
        )
        for k in sorted({2**i for i in range(1, most.bit_length())} | ({most} if most > 1 else set()))
    ]


def _shares(shares: Sequence[float], k: int, counts: Sequence[tuple[int, int]]) -> Interval:
    if len(shares) < 2:
        return Interval(sum(shares) / len(shares), nan, nan)
    return share_interval(shares, sum(n // k for n, _ in counts))


class OfThought(OfProblem, Protocol):
    """A record of a thought, as text and in tokens."""

    @property
    def thought(self) -> str: ...
    @property
    def thought_tokens(self) -> int: ...
    @property
    def closed(self) -> bool | None: ...


ENDLESS_SHARES: dict[str, Measure[OfThought]] = {
    "unclosed": lambda r: not r.closed,
    "looping": lambda r: repeated_share(r.thought) > 0,
}
ENDLESS_TOKENS: dict[str, Measure[OfThought]] = {
    "unclosed_tokens": lambda r: 0 if r.closed else r.thought_tokens,
    "loop_tokens": lambda r: repeated_share(r.thought) * r.thought_tokens,
}
"""What thoughts that never end cost; of a loop by its share of the text."""


def endless_of(records: Sequence[OfThought]) -> dict[str, Interval]:
    """How many thoughts never close or end in a loop, and what that costs; unknown where not told of all."""
    return {
        name: estimate(records, measure) if is_told(name, records) else UNKNOWN
        for measures, estimate in ((ENDLESS_SHARES, rate), (ENDLESS_TOKENS, average))
        for name, measure in measures.items()
    }


def is_told(name: str, records: Sequence[OfThought]) -> bool:
    """Whether a figure of endless thoughts can be had: some records are kept without texts, some servers hide them."""
    if name.startswith("unclosed"):
        return all(r.closed is not None for r in records)
    return all(r.thought or not r.thought_tokens for r in records)


def levels_of(records: Sequence[Sample]) -> dict[str, Level]:
    """Figures by difficulty, of the records that have one."""
    by_level: dict[str, list[Sample]] = {}
    for record in records:
        if record.difficulty is not None:
            by_level.setdefault(record.difficulty, []).append(record)
    return {
        level: Level(
            problems=len({r.problem for r in of_level}),
            accuracy=rate(of_level, OUTCOMES["accuracy"]),
            thought_tokens=average(of_level, LENGTHS["thought_tokens"]),
        )
        for level, of_level in sorted(by_level.items())
    }


def average(records: Sequence[R], measure: Measure[R]) -> Interval:
    """The mean of what has no bounds, such as a length."""
    return _estimate(mean_interval, records, measure)


def rate(records: Sequence[R], outcome: Measure[R]) -> Interval:
    """How often an outcome (0 or 1) holds."""
    return _estimate(proportion_interval, records, outcome)


def _estimate(statistic: Callable[..., Interval], records: Sequence[R], measure: Measure[R]) -> Interval:
    questions = [r.problem for r in records]
    values = [float(measure(r)) for r in records]
    if len(set(questions)) < 2:
        return Interval(sum(values) / len(values) if values else nan, nan, nan)
    return statistic(values, questions)


def by_question(records: Sequence[R], measure: Measure[R]) -> dict[str, list[float]]:
    """A measure's values by question."""
    values: dict[str, list[float]] = {}
    for record in records:
        values.setdefault(record.problem, []).append(float(measure(record)))
    return values


def check_questions(questions: Collection[Any]) -> None:
    """Refuse what no interval can be had of, best before anything is sampled.

    Raises:
        DataError: fewer than two questions.
    """
    if len(questions) < 2:
        raise DataError(f"{len(questions)} problem is too few: an interval needs at least 2; give more data")
