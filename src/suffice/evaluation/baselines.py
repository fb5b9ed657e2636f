"""What a model reaches without training, by being stopped: the least that training has to beat.

A model that is stopped early says up to there what it would have said anyway. So all of these are read off the same
samples, with answers forced within them, and compare with the untouched model on the very same thoughts:

- `budget`: a thought longer than so many tokens is cut and counts as wrong.
- `inducer`: it is cut there and made to answer (budget forcing).
- `deer`: an answer is tried wherever the thought turns (`SWITCH`), and given where the model is sure enough of it
  (dynamic early exit, arXiv 2504.15895; the trial is our greedy forced answer, where DEER asks for the boxed result
  alone). What is tried and thrown away is counted as `probe_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from suffice.evaluation.protocol import Evaluation, record, summarise
from suffice.evaluation.source import Exits, Forced, Trace
from suffice.groups import Problem, Verdict

SURE = 0.95
"""Confidence from which DEER answers (its paper's threshold)."""


def default_budgets(max_thought_tokens: int) -> list[int]:
    """Thinking tokens: a half, a quarter, … a 32nd of the limit."""
    return sorted({max(1, max_thought_tokens // 2**i) for i in range(1, 6)})


def stops(budgets: Sequence[int]) -> Exits:
    """Where answers are forced for all baselines at once."""
    return lambda trace: sorted({*trace.switches, *(b for b in budgets if b < trace.thought_tokens)})


def baselines(
    plain: Evaluation, owned: Sequence[tuple[Problem, Trace]], budgets: Sequence[int]
) -> dict[str, Evaluation]:
    """Each baseline as an evaluation under the label `<kind>-<parameter>`, from graded traces with `stops(budgets)`.

    DEER is left out where the source gives no confidences.
    """
    found = {}
    for budget in budgets:
        found[f"budget-{budget}"] = _stopped(plain, owned, {"kind": "budget", "budget": budget})
        found[f"inducer-{budget}"] = _stopped(plain, owned, {"kind": "inducer", "budget": budget})
    if all(forced.confidence is not None for _, trace in owned for forced in trace.forced):
        found[f"deer-{SURE}"] = _stopped(plain, owned, {"kind": "deer", "threshold": SURE})
    return found


def _stopped(plain: Evaluation, owned: Sequence[tuple[Problem, Trace]], variant: dict[str, Any]) -> Evaluation:
    stop = {"budget": at_budget, "inducer": with_inducer, "deer": when_sure}[variant["kind"]]
    limit = variant.get("budget", SURE)
    records = []
    for problem, trace in owned:
        stopped, probes = stop(trace, limit)
        records.append(record(problem, stopped) | {"probe_tokens": probes})
    return Evaluation(records, plain.summary | {"variant": variant} | summarise(records))


def at_budget(trace: Trace, budget: int) -> tuple[Trace, int]:
    """Cut and wrong beyond the budget."""
    if trace.thought_tokens <= budget:
        return trace, 0
    cut = left(trace, next(forced for forced in trace.forced if forced.position == budget))
    return replace(cut, closed=False, truncated=True, verdict=Verdict.WRONG, answer="", answer_tokens=0), 0


def with_inducer(trace: Trace, budget: int) -> tuple[Trace, int]:
    """Made to answer at the budget."""
    if trace.thought_tokens <= budget:
        return trace, 0
    return left(trace, next(forced for forced in trace.forced if forced.position == budget)), 0


def when_sure(trace: Trace, threshold: float) -> tuple[Trace, int]:
    """The first answer tried that the model is sure of, and the tokens of those tried in vain before it."""
    probes = 0
    for forced in trace.forced:
        if forced.position not in trace.switches:
            continue
        assert forced.confidence is not None
        if forced.confidence >= threshold:
            return left(trace, forced), probes
        probes += forced.answer_tokens
    return trace, probes


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
