"""How much of its thinking does a model need? The forced-exit curve.

Full thoughts are sampled, cut at fractions of their length, and answered through the inducer. Where the answer is
already right at half the thought, the other half was overthinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from suffice.errors import DataError
from suffice.evaluation.budgets import USUAL, Terms, advise_cut
from suffice.evaluation.collect import answer, collect, grade
from suffice.evaluation.doubts import doubts
from suffice.evaluation.evaluate import origin, owned
from suffice.evaluation.savings import of_all, part_of, parts_of, right_in_full, saveable, saving_of
from suffice.evaluation.source import Sampling, Source, Trace
from suffice.evaluation.summary import Measure, average, by_question, endless_of, rate
from suffice.grading import Grader
from suffice.groups import Problem, Verdict
from suffice.interval import Interval
from suffice.numbers import interval, number
from suffice.run.directory import Diagnosis
from suffice.run.journal import Journal
from suffice.run.records import CurvePoint, CutThought, DiagnosisSummary, Exit, Full
from suffice.statistics import proportion_difference

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
    terms: Terms = USUAL,
    served: bool = False,
) -> Diagnosis:
    """The forced-exit curve of a model: records (one a thought, with its exits) and their summary.

    Thoughts are sampled by the protocol, or `recorded` ones are answered early by this source. By the
    `terms` a thinking budget is chosen. `served` says that the source is a server, for the summary's doubts.

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
    found = conclude(records, terms)
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
        exits=[
            Exit(fraction=f, exit=each.position, verdict=each.verdict, confidence=each.confidence)
            for f, each in at
            if each.verdict
        ],
        sufficient=sufficient,
        saveable_tokens=0 if kept is None else trace.thought_tokens - kept.position,
        prompt=problem.prompt,
        gold=problem.gold,
        thought=trace.thought,
        sufficient_text=None if kept is None else trace.thought[: kept.characters],
        answer=trace.answer,
    )


def conclude(records: Sequence[CutThought], terms: Terms = USUAL) -> dict[str, Any]:
    """What a summary says of its records: the curve, what could be saved at no loss, and what follows from it."""
    price = terms.price
    right = [r for r in records if r.sufficient is not None]
    saving = saving_of(records)
    fraction = part_of(records, saveable, of_all)
    safe = safe_fraction(records)
    return {
        "curve": [
            CurvePoint(
                fraction=fraction,
                accuracy=rate(records, right_at(fraction)),
                thought_tokens=sum(each.exit for r in records if (each := last_exit(r, fraction))) / len(records),
                lost=rate(records, flipped(right_at(fraction), right_in_full)),
                mended=rate(records, flipped(right_in_full, right_at(fraction))),
            )
            for fraction in FRACTIONS
        ],
        "full": Full(accuracy=rate(records, right_in_full), thought_tokens=average(records, of_all)),
        "lost": rate(records, flipped(right_at_any, right_in_full)),
        **endless_of(records),
        "sufficient_fraction": average(right, lambda r: r.sufficient or 0.0),
        "saveable_fraction": fraction,
        "saveable_tokens": average(records, saveable),
        "saveable_cost": None if price is None else average(records, lambda r: r.saveable_tokens * price / 1000),
        "safe_fraction": safe,
        "conclusion": sentence(saving["saveable_right"], fraction, safe) if right else NOTHING_RIGHT,
        "worth_training": saving["saveable_right"].low >= WORTH,
        "parts": parts_of(records),
        "budget": advise_cut(records, terms),
        **saving,
    }


def last_exit(r: CutThought, fraction: float) -> Exit | None:
    """The last exit at or before a fraction of the thought, if there is one."""
    return next((each for each in reversed(r.exits) if each.fraction <= fraction), None)


def right_at(fraction: float) -> Measure[CutThought]:
    """Whether the last answer forced by then is right."""

    def right(r: CutThought) -> bool:
        each = last_exit(r, fraction)
        return each is not None and each.verdict is Verdict.CORRECT

    return right


def right_at_any(r: CutThought) -> bool:
    return any(exit.verdict is Verdict.CORRECT for exit in r.exits)


def flipped(right: Measure[CutThought], wrong: Measure[CutThought]) -> Measure[CutThought]:
    """Right by the one and wrong by the other."""
    return lambda r: right(r) and not wrong(r)


def safe_fraction(records: Sequence[CutThought]) -> float | None:
    """The smallest fraction at which stopping EVERY thought costs at most `TOLERANCE`, 95 % sure; None if none does."""
    full = by_question(records, right_in_full)
    for fraction in FRACTIONS:
        if proportion_difference(by_question(records, right_at(fraction)), full).low >= -TOLERANCE:
            return fraction
    return None


def sentence(of_right: Interval, of_all: Interval, safe: float | None) -> str:
    """What to make of the saveable part of right thoughts and of all, and of the fraction at which all may stop.

    Right thoughts decide: what a wrong one could save is not known, so that of a weak model's tokens few are saveable,
    however much it overthinks.
    """
    said = (
        f"{interval(*of_right, 100, 0, unit=' %')} of the thinking tokens of right thoughts come after the answer is "
        f"settled, {interval(*of_all, 100, 0, unit=' %')} of those of all"
    )
    if safe is not None and safe < 1:
        lost = number(100 * TOLERANCE, 0)
        said += f", and stopping every thought at {number(100 * safe, 0)} % would cost at most {lost} % accuracy"
    said += "; 95 % intervals"
    if of_right.low >= WORTH:
        return f"Worth training: {said}."
    if of_right.high < NOT_WORTH:
        return f"Not worth training: only {said}."
    return f"Perhaps worth training: {said}. Measure more problems to be sure."
