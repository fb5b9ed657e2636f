"""How much of its thinking does a model need? The forced-exit curve.

Full thoughts are sampled, cut at fractions of their length, and answered through the inducer. Where the answer is
already right at half the thought, the other half was overthinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from suffice.errors import DataError
from suffice.evaluation.collect import answer, collect, grade
from suffice.evaluation.doubts import doubts
from suffice.evaluation.evaluate import origin, owned
from suffice.evaluation.source import Sampling, Source, Trace
from suffice.evaluation.summary import Measure, average, by_question, endless_of, rate
from suffice.grading import Grader
from suffice.groups import Problem, Verdict
from suffice.interval import Interval
from suffice.numbers import number, span
from suffice.run.directory import Diagnosis
from suffice.run.journal import Journal
from suffice.run.records import CurvePoint, CutThought, DiagnosisSummary, Exit, Full
from suffice.statistics import proportion_difference, ratio_change

FRACTIONS = tuple(i / 10 for i in range(11))
TOLERANCE = 0.02  # accuracy that an early stop may cost at the lower end of its interval
NOTHING_RIGHT = (
    "No conclusion: no thought ended in a right answer, so it cannot be said how much of it was needed; "
    "take easier problems, a stronger model or larger budgets."
)
WORTH, NOT_WORTH = 0.20, 0.10  # saveable fractions between which the conclusion is open


def diagnose(
    source: Source,
    problems: Sequence[Problem],
    protocol: Sampling,
    grader: Grader,
    *,
    journal: Journal | None = None,
    recorded: Sequence[Trace] | None = None,
    price: float | None = None,
    served: bool = False,
) -> Diagnosis:
    """The forced-exit curve of a model: records (one a thought, with its exits) and their summary.

    Thoughts are sampled by the protocol, or `recorded` ones are answered early by this source. With a `price` of a
    million generated tokens the summary tells what could be saved, per 1,000 answers. `served` says that the source is
    a server, for the summary's doubts.

    Raises:
        DataError: the model did not think at all.
    """
    if recorded is None:
        traces = collect(source, problems, protocol, exits, journal)
    else:
        traces = answer(source, owned(problems, recorded), protocol, exits, journal)
    if not any(trace.thought_tokens for trace in traces):
        raise DataError(
            f"{source.name} wrote no thought for any problem, so there is nothing to shorten; switch its thinking on, "
            "or the server's reasoning parser"
        )
    grade(traces, problems, grader)
    records = [cut_thought(problem, trace) for problem, trace in owned(problems, traces)]
    found = conclude(records)
    if price is not None:
        saved: Interval = found["saveable_tokens"]
        found["saveable_cost"] = Interval(*(end * price / 1000 for end in saved))
    doubted = doubts(traces, protocol, served=served) if recorded is None else []
    return Diagnosis(records, DiagnosisSummary(**origin(source, problems, protocol), doubts=doubted, **found))


def exits(trace: Trace) -> list[int]:
    return sorted(set(cuts(trace.thought_tokens).values()))


def cuts(thought_tokens: int) -> dict[float, int]:
    """Thought tokens kept at each fraction of the curve."""
    return {fraction: round(fraction * thought_tokens) for fraction in FRACTIONS}


def cut_thought(problem: Problem, trace: Trace) -> CutThought:
    """A graded trace and what was answered at its exits, as a record."""
    assert trace.verdict is not None
    forced = {each.position: each for each in trace.forced}
    at = [(fraction, forced[position]) for fraction, position in cuts(trace.thought_tokens).items()]
    sufficient, kept = None, None
    if trace.verdict is Verdict.CORRECT:
        late_wrong = [i for i, (_, each) in enumerate(at) if each.verdict is not Verdict.CORRECT]
        sufficient, kept = at[min(late_wrong[-1] + 1, len(at) - 1)] if late_wrong else at[0]
    return CutThought(
        problem=problem.id,
        difficulty=problem.difficulty,
        sample=trace.sample,
        thought_tokens=trace.thought_tokens,
        closed=trace.closed,
        full_verdict=trace.verdict,
        exits=[Exit(fraction=f, exit=each.position, verdict=each.verdict) for f, each in at if each.verdict],
        sufficient=sufficient,
        saveable_tokens=0 if kept is None else trace.thought_tokens - kept.position,
        prompt=problem.prompt,
        gold=problem.gold,
        thought=trace.thought,
        sufficient_text=None if kept is None else trace.thought[: kept.characters],
        answer=trace.answer,
    )


def conclude(records: Sequence[CutThought]) -> dict[str, Any]:
    """What a summary says of its records: the curve, what could be saved at no loss, and what follows from it."""
    right = [r for r in records if r.sufficient is not None]
    needed = ratio_change(
        by_question(records, lambda r: r.thought_tokens - r.saveable_tokens),
        by_question(records, lambda r: r.thought_tokens),
    )
    saveable = Interval(0 - needed.mean, 0 - needed.high, 0 - needed.low)
    safe = safe_fraction(records)
    return {
        "curve": [
            CurvePoint(
                fraction=fraction,
                accuracy=rate(records, right_at(i)),
                thought_tokens=sum(r.exits[i].exit for r in records) / len(records),
                lost=rate(records, flipped(right_at(i), right_in_full)),
                mended=rate(records, flipped(right_in_full, right_at(i))),
            )
            for i, fraction in enumerate(FRACTIONS)
        ],
        "full": Full(
            accuracy=rate(records, right_in_full), thought_tokens=average(records, lambda r: r.thought_tokens)
        ),
        "lost": rate(records, flipped(right_at_any, right_in_full)),
        **endless_of(records),
        "sufficient_fraction": average(right, lambda r: r.sufficient or 0.0),
        "saveable_fraction": saveable,
        "saveable_tokens": average(records, lambda r: r.saveable_tokens),
        "safe_fraction": safe,
        "conclusion": sentence(saveable, safe) if right else NOTHING_RIGHT,
        "worth_training": saveable.low >= WORTH,
    }


def right_at(i: int) -> Measure[CutThought]:
    """Whether the answer forced at the i-th fraction is right."""
    return lambda r: r.exits[i].verdict is Verdict.CORRECT


def right_at_any(r: CutThought) -> bool:
    return any(exit.verdict is Verdict.CORRECT for exit in r.exits)


def flipped(right: Measure[CutThought], wrong: Measure[CutThought]) -> Measure[CutThought]:
    """Right by the one and wrong by the other."""
    return lambda r: right(r) and not wrong(r)


def right_in_full(r: CutThought) -> bool:
    return r.full_verdict is Verdict.CORRECT


def safe_fraction(records: Sequence[CutThought]) -> float | None:
    """The smallest fraction at which stopping EVERY thought costs at most `TOLERANCE`, 95 % sure; None if none does."""
    full = by_question(records, right_in_full)
    for i, fraction in enumerate(FRACTIONS):
        if proportion_difference(by_question(records, right_at(i)), full).low >= -TOLERANCE:
            return fraction
    return None


def sentence(saveable: Interval, safe: float | None) -> str:
    share, ends = number(100 * saveable.mean, 0), span(100 * saveable.low, 100 * saveable.high, 0)
    said = f"{share} % of the thinking tokens (95 % interval {ends}) come after the answer is settled"
    if safe is not None and safe < 1:
        lost = number(100 * TOLERANCE, 0)
        said += f", and stopping every thought at {number(100 * safe, 0)} % would cost at most {lost} % accuracy"
    if saveable.low >= WORTH:
        return f"Worth training: {said}."
    if saveable.high < NOT_WORTH:
        return f"Not worth training: only {said}."
    return f"Perhaps worth training: {said}; measure more problems to be sure."
