"""What should be served? The smallest thinking budget that surely costs no more than a few points of accuracy.

A budget stops every thought that is longer and makes it answer there; shorter thoughts stay as they are, so that both
are compared on the same thoughts. Budgets are weighed from the largest down, and the first that is not safe ends the
search: in that fixed order no correction for their number is needed, and a budget that is safe by luck, below one that
is not, is never recommended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from suffice.errors import DataError
from suffice.evaluation.baselines import CONFIDENT
from suffice.evaluation.savings import right_in_full
from suffice.evaluation.stops import Point, point_of
from suffice.groups import Verdict
from suffice.interval import UNKNOWN, Interval
from suffice.numbers import interval, number
from suffice.run.directory import Evaluation
from suffice.run.records import BudgetAdvice, CutThought, Stopped
from suffice.statistics import Samples, mean_of, paired_difference, proportion_difference, ratio_change


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a budget is chosen, and in what its savings are told.

    `budgets` to weigh, in thought tokens, none for round numbers; `points` of accuracy that may be lost at the lower
    end of the interval; `price` of a million generated tokens; `speed` in tokens a second that one request gets.
    """

    budgets: Sequence[int] = ()
    points: float = 2.0
    price: float | None = None
    speed: float | None = None


USUAL = Terms()
_LEADS = [*range(10, 20), *range(20, 50, 2), *range(50, 100, 5)]
"""First two digits of the budgets that are weighed by default: no two neighbours are more than a tenth apart."""
SHORTEST = 0.01  # of the longest thought, below which no budget is weighed by default
IN_A_ROW = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
"""How many equal answers are tried as a sign of being sure."""


def round_budgets(longest: int) -> list[int]:
    """Round numbers of thought tokens below the longest thought, the same for every task."""
    budgets = {lead * 10**power // 10 for power in range(len(str(longest)) + 1) for lead in _LEADS}
    return sorted(budget for budget in budgets if max(1, SHORTEST * longest) <= budget < longest)


def check_budgets(budgets: Collection[int], longest: int) -> None:
    """
    Raises:
        DataError: one is above every thought.
    """
    if above := [budget for budget in budgets if budget >= longest]:
        raise DataError(
            f"a thinking budget of {min(above):,} stops nothing: the longest thought has {longest:,} tokens; "
            "give smaller --budgets"
        )


def advise_cut(records: Sequence[CutThought], terms: Terms = USUAL) -> BudgetAdvice:
    """What to serve, from a diagnosis: at a budget a longer thought gives the answer of its last exit within, if any.

    That is a little less than the model can: it may think on from that exit to its budget. Thought tokens alone count.
    """
    longest = max(r.thought_tokens for r in records)
    untouched = _point("as it is", records, _as_it_is)
    stops = {
        budget: _point(f"a budget of {budget:,}", records, partial(_at_budget, budget=budget))
        for budget in terms.budgets or round_budgets(longest)
    }
    return advise(untouched, stops, _when_sure(records), terms)


def advise_stops(
    plain: Evaluation, stopped: Sequence[Evaluation], terms: Terms = USUAL, trained: Sequence[Point] = ()
) -> BudgetAdvice | None:
    """What to serve, from an evaluation and its training-free stops; None where it was not stopped at budgets.

    Budgets are those at which an answer was forced; one that only cuts makes answers wrong and serves nobody.
    """
    stops, sure = {}, []
    for evaluation in stopped:
        stop = evaluation.summary.variant
        if stop is not None and stop.kind == "inducer" and stop.budget is not None:
            stops[stop.budget] = point_of(f"a budget of {stop.budget:,}", evaluation)
        if stop is not None and stop.kind == "deer":
            sure.append(point_of("DEER, an exit when sure", evaluation))
    if not stops or len({record.problem for record in plain.records}) < 2:
        return None
    return advise(point_of("as it is", plain), stops, sure, terms, trained)


def advise(
    untouched: Point,
    stops: Mapping[int, Point],
    sure: Sequence[Point] = (),
    terms: Terms = USUAL,
    trained: Sequence[Point] = (),
) -> BudgetAdvice:
    """What to serve, from one task's samples as they are and as they are with each budget.

    Args:
        sure: exits when sure, from the least sure on: the first that is safe is kept, or else the one that costs least.
        trained: models trained to think less, on the same questions.
    """
    longest = round(max(length for own in untouched.thought_tokens.values() for length in own))
    weighed = [against(untouched, point, budget) for budget, point in sorted(stops.items()) if budget < longest]
    recommended = smallest_safe(weighed, terms.points)
    exits = [against(untouched, point) for point in sure]
    kept = smallest_safe(exits, terms.points) or max(exits, key=lambda each: each.accuracy.low, default=None)
    return BudgetAdvice(
        points=terms.points,
        longest=longest,
        thought_tokens=_mean_of(untouched.thought_tokens),
        budgets=weighed,
        recommended=recommended,
        others=[*([kept] if kept else []), *(against(untouched, point) for point in trained)],
        price=terms.price,
        speed=terms.speed,
        sentence=sentence(weighed, recommended, terms.points, sorted(budget for budget in stops if budget >= longest)),
    )


def overall(tasks: Mapping[str, BudgetAdvice]) -> BudgetAdvice | None:
    """What to serve where one budget is for all tasks, each counting the same; None for a single one.

    A budget above every thought of a task changes nothing there.
    """
    if len(tasks) < 2:
        return None
    first = next(iter(tasks.values()))
    weighed = []
    for budget in sorted({each.budget for advice in tasks.values() for each in advice.budgets if each.budget}):
        found = [_on_task(advice, budget) for advice in tasks.values()]
        there = [each for each in found if each]
        if len(there) == len(tasks):
            weighed.append(_mean(there, budget))
    recommended = smallest_safe(weighed, first.points)
    return BudgetAdvice(
        points=first.points,
        longest=None,
        thought_tokens=sum(advice.thought_tokens for advice in tasks.values()) / len(tasks),
        budgets=weighed,
        recommended=recommended,
        price=first.price,
        speed=first.speed,
        sentence=sentence(weighed, recommended, first.points),
    )


def against(untouched: Point, point: Point, budget: int | None = None) -> Stopped:
    """A way to stop against the samples as they are. Tokens are all that were generated, where those are known."""
    saved = paired_difference(untouched.tokens, point.tokens)
    some = any(length for own in untouched.tokens.values() for length in own)
    kept = ratio_change(point.tokens, untouched.tokens) if some else UNKNOWN
    return Stopped(
        rule=point.name,
        budget=budget,
        accuracy=proportion_difference(point.accuracy, untouched.accuracy),
        changed=sum(sum(own) != sum(untouched.accuracy[question]) for question, own in point.accuracy.items()),
        thought_tokens=_mean_of(point.thought_tokens),
        saved_tokens=saved,
        saved_fraction=_negated(kept),
    )


def smallest_safe(weighed: Sequence[Stopped], points: float) -> Stopped | None:
    """The first of a row that is safe with all that follow it; those that change no answer end no search."""
    found = None
    for each in reversed(weighed):
        if each.accuracy.low > -points / 100:
            found = each
        elif each.changed:
            break
    return found


def sentence(weighed: Sequence[Stopped], recommended: Stopped | None, points: float, above: Sequence[int] = ()) -> str:
    """What to serve, and at what cost."""
    said = f"; budgets from {above[0]:,} on are above every thought and stop nothing" if above else ""
    if recommended is not None:
        budget = f"Serve a thinking budget of {recommended.budget:,} tokens"
        return f"{budget}: {saves(recommended)}, both with 95 % intervals{said}."
    none = f"No budget is safe: none that was weighed surely keeps accuracy within {points:g} points"
    if not weighed:
        return f"{none}{said}."
    best = max(weighed, key=lambda each: each.accuracy.low)
    return f"{none}; the one that costs least, {best.budget:,} tokens, has {saves(best)}{said}."


def saves(stopped: Stopped) -> str:
    """`−0.3 points (−1.1 to +0.5) of accuracy, 12 % (9 to 15) fewer tokens`."""
    accuracy = interval(*stopped.accuracy, 100, signed=True, unit=" points")
    fewer = stopped.saved_fraction
    words = "fewer" if fewer.mean >= 0 else "more"
    part = interval(*(fewer if fewer.mean >= 0 else _negated(fewer)), 100, 0, unit=" %")
    return f"{accuracy} of accuracy, {part} {words} tokens"


def worth(advice: BudgetAdvice, stopped: Stopped) -> list[str]:
    """What its saved tokens are in money and in time, where price and speed are known."""
    said = []
    if advice.price is not None:
        cost = interval(*stopped.saved_tokens, advice.price / 1000, 2)
        said.append(f"saves {cost} per 1,000 answers, at your price")
    if advice.speed is not None:
        said.append(f"saves {interval(*stopped.saved_tokens, 1 / advice.speed)} s an answer, at your speed")
        if stopped.budget:
            longest = number(stopped.budget / advice.speed, 0)
            said.append(f"lets no thought take more than {longest} s")
    return said


Outcome = tuple[bool, int]
"""Whether a thought ended right, and its tokens."""


def _as_it_is(r: CutThought) -> Outcome:
    return right_in_full(r), r.thought_tokens


def _at_budget(r: CutThought, budget: int) -> Outcome:
    if r.thought_tokens <= budget:
        return _as_it_is(r)
    within = bisect_right(r.exits, budget, key=lambda each: each.exit)
    return within > 0 and r.exits[within - 1].verdict is Verdict.CORRECT, budget


def _when_sure(records: Sequence[CutThought]) -> list[Point]:
    """Leaving when sure: by the forced answers' confidence (as DEER, arXiv 2504.15895) where it is known, else when so
    many forced answers in a row are equal. What is asked for in vain is not counted."""
    exits = [each for r in records for each in r.exits]
    if exits and all(each.confidence is not None for each in exits):
        sure = {id(r): [(each.confidence or 0) >= CONFIDENT for each in r.exits] for r in records}
        name = f"an exit when {100 * CONFIDENT:.0f} % sure, tries not counted"
        return [_point(name, records, lambda r: _leaves(r, sure[id(r)]))]
    runs = {id(r): _runs(r) for r in records}
    longest = max((run for own in runs.values() for run in own), default=0)
    return [
        _point(
            f"an exit when {row} forced answers in a row agree, tries not counted",
            records,
            partial(lambda r, row: _leaves(r, [run >= row for run in runs[id(r)]]), row=row),
        )
        for row in IN_A_ROW
        if row <= longest
    ]


def _runs(r: CutThought) -> list[int]:
    """At each exit how many answers in a row, up to it, are the same text; 0 where there is none."""
    found, run, last = [], 0, None
    for each in r.exits:
        run = 0 if each.answer is None else run + 1 if each.answer == last else 1
        last = each.answer
        found.append(run)
    return found


def _leaves(r: CutThought, sure: Sequence[bool]) -> Outcome:
    """At its first sure exit, if there is one."""
    if True not in sure:
        return _as_it_is(r)
    left = r.exits[sure.index(True)]
    return left.verdict is Verdict.CORRECT, left.exit


def _point(name: str, records: Sequence[CutThought], outcome: Callable[[CutThought], Outcome]) -> Point:
    accuracy: dict[str, list[float]] = {}
    lengths: dict[str, list[float]] = {}
    for r in records:
        right, tokens = outcome(r)
        accuracy.setdefault(r.problem, []).append(float(right))
        lengths.setdefault(r.problem, []).append(float(tokens))
    return Point(name, accuracy, lengths, lengths)


def _on_task(advice: BudgetAdvice, budget: int) -> Stopped | None:
    """What a budget does to a task; None where that was not weighed."""
    if found := next((each for each in advice.budgets if each.budget == budget), None):
        return found
    if advice.longest is None or budget < advice.longest:
        return None
    nothing = Interval(0.0, 0.0, 0.0)
    return Stopped(
        rule=f"a budget of {budget:,}",
        budget=budget,
        accuracy=nothing,
        changed=0,
        thought_tokens=advice.thought_tokens,
        saved_tokens=nothing,
        saved_fraction=nothing,
    )


def _mean(tasks: Sequence[Stopped], budget: int) -> Stopped:
    return Stopped(
        rule=tasks[0].rule,
        budget=budget,
        accuracy=mean_of([each.accuracy for each in tasks]),
        changed=sum(each.changed for each in tasks),
        thought_tokens=sum(each.thought_tokens for each in tasks) / len(tasks),
        saved_tokens=mean_of([each.saved_tokens for each in tasks]),
        saved_fraction=mean_of([each.saved_fraction for each in tasks]),
    )


def _mean_of(samples: Samples) -> float:
    """Over questions, of their means."""
    means = [sum(own) / len(own) for own in samples.values()]
    return sum(means) / len(means)


def _negated(interval: Interval) -> Interval:
    return Interval(0 - interval.mean, 0 - interval.high, 0 - interval.low) if interval.known else UNKNOWN
