"""What a model reaches without training, by being stopped: the least that training has to beat.

A model that is stopped early says up to there what it would have said anyway. So all of these are read off the same
samples, with answers forced within them, and compare with the untouched model on the very same thoughts:

- `budget`: a thought longer than so many tokens is cut and counts as wrong.
- `inducer`: it is cut there and made to answer (budget forcing).
- `deer`: an answer is tried wherever the thought turns (`SWITCH`), and given where the model is sure enough of it
  (dynamic early exit, arXiv 2504.15895; the trial is our greedy forced answer, where DEER asks for the boxed result
  alone). What is tried and thrown away is counted as `trial_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from suffice.evaluation.evaluate import sample_of
from suffice.evaluation.source import ExitRule, Forced, Trace
from suffice.evaluation.summary import levels_of, metrics_of
from suffice.groups import Problem, Verdict
from suffice.run.directory import Evaluation
from suffice.run.records import Stop, StopKind

CONFIDENT = 0.95
"""Confidence from which DEER answers (its paper's threshold)."""


def default_budgets(max_thought_tokens: int) -> list[int]:
    """Thinking tokens: a half, a quarter, … a 32nd of the limit."""
    return sorted({max(1, max_thought_tokens // 2**i) for i in range(1, 6)})


def stops(budgets: Sequence[int]) -> ExitRule:
    """Where answers are forced for all baselines at once."""
    return lambda trace: sorted({*trace.switches, *(b for b in budgets if b < trace.thought_tokens)})


def baselines(
    plain: Evaluation, owned: Sequence[tuple[Problem, Trace]], budgets: Sequence[int]
) -> dict[str, Evaluation]:
    """Each baseline as an evaluation under the label `<kind>-<parameter>`, from graded traces with `stops(budgets)`.

    DEER is left out where the source gives no confidences.
    """
    tried = [Stop(kind=kind, budget=budget) for budget in budgets for kind in AT_BUDGET]
    if all(forced.confidence is not None for _, trace in owned for forced in trace.forced):
        tried.append(Stop(kind="deer", threshold=CONFIDENT))
    return {stop.label: _stopped(plain, owned, stop) for stop in tried}


def _stopped(plain: Evaluation, owned: Sequence[tuple[Problem, Trace]], stop: Stop) -> Evaluation:
    records = []
    for problem, trace in owned:
        stopped, trial_tokens = stopped_by(stop, trace)
        records.append(sample_of(problem, stopped, trial_tokens=trial_tokens))
    figures = {"variant": stop, "metrics": metrics_of(records), "levels": levels_of(records), "at_budgets": None}
    return Evaluation(records, plain.summary.model_copy(update=figures))


def stopped_by(stop: Stop, trace: Trace) -> tuple[Trace, int]:
    """The trace as it is with this stop, and the tokens of answers that were tried in vain."""
    if stop.threshold is not None:
        return when_confident(trace, stop.threshold)
    assert stop.budget is not None
    return AT_BUDGET[stop.kind](trace, stop.budget), 0


def at_budget(trace: Trace, budget: int) -> Trace:
    """Cut and wrong beyond the budget."""
    if trace.thought_tokens <= budget:
        return trace
    cut = with_inducer(trace, budget)
    return replace(cut, closed=False, truncated=True, verdict=Verdict.WRONG, answer="", answer_tokens=0)


def with_inducer(trace: Trace, budget: int) -> Trace:
    """Made to answer at the budget."""
    if trace.thought_tokens <= budget:
        return trace
    return left(trace, next(forced for forced in trace.forced if forced.position == budget))


AT_BUDGET: dict[StopKind, Callable[[Trace, int], Trace]] = {"budget": at_budget, "inducer": with_inducer}


def when_confident(trace: Trace, threshold: float) -> tuple[Trace, int]:
    """The first answer tried that the model is sure of, and the tokens of those tried in vain before it."""
    trial_tokens = 0
    for forced in trace.forced:
        if forced.position not in trace.switches:
            continue
        assert forced.confidence is not None
        if forced.confidence >= threshold:
            return left(trace, forced), trial_tokens
        trial_tokens += forced.answer_tokens
    return trace, trial_tokens


def left(trace: Trace, forced: Forced) -> Trace:
    """The trace as it would have been, had it left its thought with this answer."""
    return replace(
        trace,
        thought=trace.thought[: forced.characters],
        thought_tokens=forced.position,
        answer=forced.answer,
        answer_tokens=forced.answer_tokens,
        closed=True,
        truncated=forced.truncated,
        verdict=forced.verdict,
    )
