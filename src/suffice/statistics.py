"""Question-clustered statistics, done once for every number that suffice shows.

Samples of one question are not independent, so the question is the unit: every estimate is of the mean over questions
of the per-question mean, each question counting the same however many samples it has, and every standard error is that
of the per-question values, with (questions − 1) degrees of freedom. With equally many samples per question this is the
plain mean with its cluster-robust standard error (Miller, arXiv 2411.00640). Fewer than two questions say nothing of
the spread between questions: every function then raises ValueError, and its caller shows no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from suffice.interval import UNKNOWN, Interval

Array = NDArray[np.float64]
Samples = Mapping[str, Sequence[float]]
"""The samples of each question, under its id."""


def mean_interval(values: Sequence[float] | Array, clusters: Sequence[Hashable], level: float = 0.95) -> Interval:
    """The mean of a quantity without bounds, such as a length, with its Student-t interval.

    Where every question has the same mean the interval has width zero; for proportions, where that would claim too
    much, use `proportion_interval`.

    Args:
        values: one finite number per sample.
        clusters: the question of each sample.
        level: of confidence, between 0 and 1.

    Raises:
        ValueError: fewer than two questions, lengths that differ, a value that is not finite, or an impossible level.
    """
    return _t_interval(_per_question(_by_cluster(values, clusters)), level)


def proportion_interval(
    outcomes: Sequence[float] | Array, clusters: Sequence[Hashable], level: float = 0.95
) -> Interval:
    """The mean of outcomes that are 0 or 1, such as accuracy, with its Wilson interval, which stays within 0 and 1.

    Wilson's interval is taken at the effective number of samples p·(1 − p)/SE², SE the clustered standard error, but
    never more than there are samples. It keeps its coverage near 0 and 1, where Student's loses it. If all questions
    have the same mean, as when every sample is right, nothing is known of how samples of a question agree, and each
    question counts once: 200 questions without an error give 0.981 to 1.

    Raises:
        ValueError: as of `mean_interval`, or an outcome other than 0 and 1.
    """
    samples = _by_cluster(outcomes, clusters)
    _check_outcomes(samples)
    return _wilson(_per_question(samples), len(outcomes), level)


def share_interval(shares: Sequence[float], outcomes: int, level: float = 0.95) -> Interval:
    """The mean of one share a question, each in 0…1, such as its pass@k, with Wilson's interval.

    Args:
        outcomes: what all shares together are worth at most, as independent outcomes: with n samples a question that
            are looked at k together, ⌊n/k⌋ a question.

    Raises:
        ValueError: as of `mean_interval`, or a share outside 0…1.
    """
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("a share must lie in 0…1")
    return _wilson(_per_question([[share] for share in shares]), outcomes, level)


def _wilson(means: Array, outcomes: int, level: float) -> Interval:
    """Wilson's interval of the mean of shares of single questions, which rest on so many outcomes at most."""
    quantile = _quantile(len(means), level)
    mean = float(means.mean())
    variance = float(means.var(ddof=1)) / len(means)
    size = float(len(means)) if _constant(means) else min(mean * (1 - mean) / variance, float(outcomes))
    shrink = 1 + quantile**2 / size
    centre = (mean + quantile**2 / (2 * size)) / shrink
    half = quantile / shrink * float(np.sqrt(mean * (1 - mean) / size + (quantile / (2 * size)) ** 2))
    # rounding must not put the ends outside what is possible, nor the estimate outside its interval
    return Interval(mean, min(max(centre - half, 0.0), mean), max(min(centre + half, 1.0), mean))


def paired_difference(after: Samples, before: Samples, level: float = 0.95) -> Interval:
    """Mean after − mean before of a quantity without bounds, with the Student-t interval of the questions' differences.

    Raises:
        ValueError: the question sets differ (saying which), or as of `mean_interval`.
    """
    first, second = _joined(after, before)
    return _t_interval(first - second, level)


def proportion_difference(after: Samples, before: Samples, level: float = 0.95) -> Interval:
    """`paired_difference` of outcomes that are 0 or 1, honest also where all n questions have the same difference d.

    There Student's interval has width zero. Instead at most u = 1 − (1 − level)^(1/n) of all questions can be
    unlike those seen (the rule of three: about 3/n at 95 %), and the difference of those lies between −1 and 1. The
    interval is (1 − u)·d ± u. Where it is not needed the interval is Student's, unclipped.

    Raises:
        ValueError: as of `paired_difference`, or an outcome other than 0 and 1.
    """
    _check_outcomes([*after.values(), *before.values()])
    first, second = _joined(after, before)
    difference = first - second
    interval = _t_interval(difference, level)
    if not _constant(difference):
        return interval
    unseen = 1 - (1 - level) ** (1 / len(difference))
    seen = (1 - unseen) * interval.mean
    return Interval(interval.mean, seen - unseen, seen + unseen)


def ratio_change(after: Samples, before: Samples, level: float = 0.95) -> Interval:
    """Relative change mean(after) / mean(before) − 1 (−0.4: 40 % less), with a paired interval by the delta method.

    With R the ratio of the two means, the standard error is that of the questions' (after − R·before) / mean(before).

    Raises:
        ValueError: as of `paired_difference`, or mean(before) is not above 0.
    """
    first, second = _joined(after, before)
    base = float(second.mean())
    if base <= 0:
        raise ValueError(f"a relative change needs a mean before above 0, not {base:g}")
    ratio = float(first.mean()) / base
    half = _t_half((first - ratio * second) / base, level)
    return Interval(ratio - 1, ratio - 1 - half, ratio - 1 + half)


def bootstrap_interval(
    statistic: Callable[[Array], float], questions: int, level: float = 0.95, draws: int = 1000
) -> Interval:
    """A statistic of questions without a simple standard error, with its percentile interval over resampled questions.

    The percentiles are as much further out as Student's distribution and a variance over n − 1 ask for (Hesterberg,
    The American Statistician 69, 2015). The draws are always the same.

    Args:
        statistic: of weights of the questions [questions], together 1; NaN where it is not defined.

    Raises:
        ValueError: fewer than two questions, or an impossible level.
    """
    if questions < 2:
        raise ValueError(f"an interval needs at least 2 questions, not {questions}")
    outside = float(stats.norm.cdf(-math.sqrt(questions / (questions - 1)) * _quantile(questions, level)))
    rng, even = np.random.default_rng(0), np.full(questions, 1 / questions)
    found = np.array([statistic(rng.multinomial(questions, even) / questions) for _ in range(draws)])
    value = statistic(even)
    defined = found[np.isfinite(found)]
    if not math.isfinite(value) or len(defined) < (1 - outside) * draws:
        return Interval(value, math.nan, math.nan)
    low, high = map(float, np.quantile(defined, [outside, 1 - outside]))
    return Interval(value, min(low, value), max(high, value))


def part_interval(parts: Samples, wholes: Samples, level: float = 0.95) -> Interval:
    """mean(parts) / mean(wholes) of a quantity of which each part lies between 0 and its whole, by the delta method.

    The ends are kept within 0 and 1. Where all n questions have the same part R the delta method's width is zero;
    instead at most u of all questions can be unlike those seen, as in `proportion_difference`, and the interval is
    (1 − u)·R to (1 − u)·R + u.

    Raises:
        ValueError: as of `ratio_change`.
    """
    found = Interval(*(1 + end for end in ratio_change(parts, wholes, level)))
    first, second = _joined(parts, wholes)
    if not _constant((first - found.mean * second) / second.mean()):
        return Interval(found.mean, max(found.low, 0.0), min(found.high, 1.0))
    unseen = 1 - (1 - level) ** (1 / len(first))
    return Interval(found.mean, (1 - unseen) * found.mean, (1 - unseen) * found.mean + unseen)


def over_seeds(questions: Interval, means: Sequence[float], level: float = 0.95) -> Interval:
    """The interval of a figure that several training runs estimate, over seeds AND questions.

    Both are drawn: another seed trains another model, other questions have other means. `questions` is the interval of
    the pooled samples by question, `means` are the figures of the single seeds, s² their variance. On either side the
    standard error is √(SE² + s²/S), SE that of the questions' half of the interval, and the width Student's at
    Satterthwaite's degrees of freedom (S − 1)·(SE² + s²/S)² / (s²/S)². Seeds that agree leave the questions' interval
    as it is; where questions matter nothing it is Student's of the seeds. A single seed says nothing of others: the
    interval is then of its questions alone. The noise of sampling is in both terms. In simulation a 95 % interval holds
    the truth in 92 to 97 % of cases from three seeds on, with two in 89 % where the seeds differ much.

    Raises:
        ValueError: no seed, or an impossible level.
    """
    if not means:
        raise ValueError("an interval over seeds needs at least 1 seed")
    between = float(np.var(means, ddof=1)) / len(means) if len(means) > 1 else 0.0
    if between == 0:
        return questions
    normal = float(stats.norm.ppf((1 + level) / 2))

    def half(side: float) -> float:
        variance = (side / normal) ** 2 + between
        freedom = (len(means) - 1) / max(between / variance, 1e-9) ** 2  # no float holds the square of less
        return float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)

    mean, low, high = questions
    return Interval(mean, mean - half(mean - low), mean + half(high - mean))


def mean_of(estimates: Sequence[Interval]) -> Interval:
    """The mean of independent estimates, such as of several tasks, each counting the same.

    Its interval is put together from theirs, distances from the mean added in squares on either side (the method of
    variance estimates recovery, Zou and Donner 2008). Unknown where one of them has none.
    """
    if not all(each.bounded for each in estimates):
        return UNKNOWN
    n = len(estimates)
    mean = sum(each.mean for each in estimates) / n
    below = math.sqrt(sum((each.mean - each.low) ** 2 for each in estimates)) / n
    above = math.sqrt(sum((each.mean - each.high) ** 2 for each in estimates)) / n
    return Interval(mean, mean - below, mean + above)


def _t_interval(per_question: Array, level: float) -> Interval:
    mean, half = float(per_question.mean()), _t_half(per_question, level)
    return Interval(mean, mean - half, mean + half)


def _t_half(per_question: Array, level: float) -> float:
    """Half the width of Student's interval for the mean of independent values."""
    n = len(per_question)
    quantile = _quantile(n, level)
    return quantile * float(per_question.std(ddof=1)) / float(np.sqrt(n))


def _quantile(questions: int, level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    return float(stats.t.ppf((1 + level) / 2, questions - 1))


def _constant(per_question: Array) -> bool:
    """Whether all questions agree, up to the rounding of their means."""
    return float(np.ptp(per_question)) <= 1e-12


def _by_cluster(values: Sequence[float] | Array, clusters: Sequence[Hashable]) -> list[list[float]]:
    samples: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        samples.setdefault(cluster, []).append(float(value))
    return list(samples.values())


def _per_question(samples: Sequence[Sequence[float]]) -> Array:
    """Mean of each question's samples, float64 [questions]."""
    if len(samples) < 2:
        raise ValueError(f"an interval needs at least 2 questions, not {len(samples)}")
    if not all(len(own) for own in samples):
        raise ValueError("every question needs at least 1 sample")
    means = np.array([math.fsum(own) / len(own) for own in samples])
    if not np.isfinite(means).all():
        raise ValueError("every value must be a finite number")
    return means


def _check_outcomes(samples: Sequence[Sequence[float]]) -> None:
    if not all(value in (0, 1) for own in samples for value in own):
        raise ValueError("an outcome must be 0 or 1")


def _joined(after: Samples, before: Samples) -> tuple[Array, Array]:
    """Per-question means of both sides, in the same order of questions."""
    sides: tuple[tuple[str, Any], ...] = (
        ("before", after.keys() - before.keys()),
        ("after", before.keys() - after.keys()),
    )
    for side, missing in sides:
        if missing:
            names = ", ".join(sorted(missing)[:3]) + (", …" if len(missing) > 3 else "")
            raise ValueError(f"{len(missing)} questions are missing {side}: {names}")
    return _per_question([after[question] for question in after]), _per_question(
        [before[question] for question in after]
    )
