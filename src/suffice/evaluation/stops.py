"""Does a trained model beat stopping the untouched one early, which costs no training?

A kind of stop with a budget reaches any point between two neighbouring budgets by mixing them, question by question
alike. So it is met at the side's own mean of thinking tokens. DEER has no budget to turn: it is a point, met where it
stands, with the trial answers it throws away counted among its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from suffice.evaluation.summary import LENGTHS, OUTCOMES, by_question
from suffice.interval import Interval
from suffice.numbers import interval, number
from suffice.run.directory import Evaluation
from suffice.run.records import Difference, Record, StopKind
from suffice.statistics import Samples, paired_difference, proportion_difference

KINDS: dict[StopKind, str] = {"budget": "cutting at a budget", "inducer": "the inducer at a budget", "deer": "DEER"}
"""All kinds of training-free stops, as sentences name them."""

HELD = 0.03
"""Accuracy held if its interval rules out a loss beyond this; that it includes 0 is not enough."""

Length = Literal["thought_tokens", "tokens"]
Outcome = Literal["loses", "matched", "trades", "beats"]
_FROM_WORST: tuple[Outcome, ...] = ("loses", "matched", "trades", "beats")


@dataclass(frozen=True, slots=True)
class Point:
    """A model, stopped early or not, on one task. All samples are by question: accuracy as 0 or 1, lengths in tokens;
    `tokens` are all that were generated."""

    name: str
    accuracy: Samples
    thought_tokens: Samples
    tokens: Samples

    def length(self, which: Length) -> Samples:
        return self.thought_tokens if which == "thought_tokens" else self.tokens


def point_of(name: str, evaluation: Evaluation) -> Point:
    measures = (OUTCOMES["accuracy"], LENGTHS["thought_tokens"], LENGTHS["tokens"])
    return Point(name, *(by_question(evaluation.records, measure) for measure in measures))


class Rival(Record):
    """The best that a kind of stop sets against a side.

    `length` is what the two were met at, or compared by; `between` are the names of the points that were mixed, the
    second with `weight`, or of the one point.
    """

    kind: StopKind
    length: Length
    between: tuple[str, ...]
    weight: float
    accuracy: Difference
    length_difference: Difference | None
    """In tokens; None where the rival was met at the side's own length."""
    dominates: bool
    """The stop is, as measured, at least as accurate with at most as many tokens."""
    outcome: Outcome


class Contest(Record):
    """A side against all kinds of stops: the outcome is that against the rival that does best."""

    outcome: Outcome
    sentence: str
    rivals: list[Rival]


def contest(side: Point, untouched: Point, stops: Mapping[StopKind, Sequence[Point]]) -> Contest:
    """
    Args:
        stops: the points of each kind of stop; at least one.
    """
    rivals = [
        beside(side, points) if kind == "deer" else along(kind, side, [*points, untouched])
        for kind, points in stops.items()
    ]
    best = min(rivals, key=lambda rival: (_FROM_WORST.index(rival.outcome), rival.accuracy.mean))
    return Contest(outcome=best.outcome, sentence=sentence(best), rivals=rivals)


def rival(
    kind: StopKind,
    length: Length,
    between: tuple[str, ...],
    weight: float,
    accuracy: Interval,
    length_difference: Interval | None,
) -> Rival:
    """With what follows from its two differences."""
    return Rival(
        kind=kind,
        length=length,
        between=between,
        weight=weight,
        accuracy=accuracy,
        length_difference=length_difference,
        dominates=accuracy.mean <= 0 and (length_difference is None or length_difference.mean >= 0),
        outcome=outcome_of(accuracy, length_difference),
    )


def outcome_of(accuracy: Interval, length: Interval | None) -> Outcome:
    """Of what is clear (the interval excludes 0): fewer tokens win only where accuracy surely holds to `HELD`."""
    right, longer = accuracy.sign, length.sign if length else 0
    if right == 0:
        if longer < 0 and accuracy.low >= -HELD:
            return "beats"
        return "loses" if longer > 0 and accuracy.high <= HELD else "matched"
    if right == longer:
        return "trades"
    return "beats" if right > 0 else "loses"


def along(kind: StopKind, side: Point, curve: Sequence[Point]) -> Rival:
    """A side against the accuracy that a curve reaches at the side's mean thinking tokens, by linear interpolation.

    Beyond the curve it meets the nearest end. The interval is the delta method's: it counts that the lengths, which
    fix the weight of the mixture, are themselves measured.
    """
    by_length: dict[float, Point] = {}
    for point in sorted(curve, key=lambda point: _mean(point.accuracy)):
        by_length[_mean(point.thought_tokens)] = point  # of equal lengths the most accurate stays
    at, lengths = _mean(side.thought_tokens), sorted(by_length)
    if at in by_length or not lengths[0] < at < lengths[-1]:
        nearest = min(lengths, key=lambda length: abs(length - at))
        return _meet(kind, side, by_length[nearest], "thought_tokens")
    upper = next(length for length in lengths if length > at)
    lower = lengths[lengths.index(upper) - 1]
    low, high, weight = by_length[lower], by_length[upper], (at - lower) / (upper - lower)
    rise = _mean(high.accuracy) - _mean(low.accuracy)
    if abs(rise) < 1e-12:  # any mixture is right as often, and outcomes that are 0 or 1 have the more honest interval
        accuracy = proportion_difference(side.accuracy, low.accuracy)
    else:
        slope, ours = rise / (upper - lower), _per_question(side.thought_tokens)
        theirs = _mix(low.thought_tokens, high.thought_tokens, weight)
        reached = _mix(low.accuracy, high.accuracy, weight)
        # ours − theirs is 0 in the mean: it moves the interval, not the difference
        level = {question: [reached[question] + slope * (ours[question] - theirs[question])] for question in reached}
        accuracy = paired_difference(side.accuracy, level)
    return rival(kind, "thought_tokens", (low.name, high.name), weight, accuracy, None)


def beside(side: Point, points: Sequence[Point]) -> Rival:
    """A side against DEER: its most accurate point that spends no more, or else the one that spends least."""
    tokens = _mean(side.tokens)
    affordable = [point for point in points if _mean(point.tokens) <= tokens]
    if affordable:
        met = max(affordable, key=lambda point: _mean(point.accuracy))
    else:
        met = min(points, key=lambda point: _mean(point.tokens))
    return _meet("deer", side, met, "tokens")


def sentence(rival: Rival) -> str:
    """What to say after the side's name, such as "beats every training-free stop: +3.1 points (+1.2 to +5.0) at …"."""
    name = rival.between[0] if len(rival.between) == 1 else KINDS[rival.kind]
    longer = rival.length_difference
    if longer is not None and rival.length == "thought_tokens":
        name += ", the nearest that was measured"
    said = {
        "beats": "beats every training-free stop",
        "matched": f"is matched by {name}",
        "loses": f"loses to {name}",
        "trades": f"neither beats nor loses to {name}",
    }[rival.outcome]
    points = interval(*rival.accuracy, 100, signed=True, unit=" points")
    words = "thinking tokens" if rival.length == "thought_tokens" else "generated tokens"
    if longer is None:
        return f"{said}: {points} at the same {words}"
    lengths = f"{number(abs(longer.mean), 0)} {'fewer' if longer.mean < 0 else 'more'} {words}"
    return f"{said}: {points} with {lengths}" + (f" than {name}" if rival.outcome == "beats" else "")


def _meet(kind: StopKind, side: Point, point: Point, which: Length) -> Rival:
    """Point against point; lengths that are the same are left out."""
    accuracy = proportion_difference(side.accuracy, point.accuracy)
    ours, theirs = side.length(which), point.length(which)
    length = None if _mean(ours) == _mean(theirs) else paired_difference(ours, theirs)
    return rival(kind, which, (point.name,), 0.0, accuracy, length)


def _per_question(samples: Samples) -> dict[str, float]:
    return {question: sum(own) / len(own) for question, own in samples.items()}


def _mean(samples: Samples) -> float:
    means = _per_question(samples)
    return sum(means.values()) / len(means)


def _mix(low: Samples, high: Samples, weight: float) -> dict[str, float]:
    one, other = _per_question(low), _per_question(high)
    return {question: (1 - weight) * one[question] + weight * other[question] for question in one}
