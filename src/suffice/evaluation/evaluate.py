"""Evaluation by one protocol: k samples a problem, graded, kept as records, every figure with its interval."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from suffice.evaluation.at_budgets import at_budgets
from suffice.evaluation.collect import collect, grade
from suffice.evaluation.source import Sampling, Source, Trace
from suffice.evaluation.summary import levels_of, metrics_of
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.run.directory import Evaluation, Run
from suffice.run.records import EvaluationSummary, Protocol, Sample


def evaluate(
    source: Source, problems: Sequence[Problem], protocol: Sampling, grader: Grader, run: Run, label: str
) -> Evaluation:
    """Sample and grade every problem, and write the evaluation under its label.

    What an interrupted attempt had sampled is not sampled again; the `seconds` that it took are then not known.
    """
    started = time.perf_counter()
    with run.journal(label) as journal:
        whole = not journal.lines
        traces = collect(source, problems, protocol, journal=journal)
        grade(traces, problems, grader)
        found = evaluation_of(source, problems, protocol, traces)
        if whole:
            took = {"seconds": time.perf_counter() - started}
            found = replace(found, summary=found.summary.model_copy(update=took))
        run.write_evaluation(label, found)
    return found


def evaluation_of(
    source: Source, problems: Sequence[Problem], protocol: Sampling, traces: Sequence[Trace], doubts: Sequence[str] = ()
) -> Evaluation:
    """Graded traces as records and their summary."""
    records = [sample_of(problem, trace) for problem, trace in owned(problems, traces)]
    summary = EvaluationSummary(
        **origin(source, problems, protocol),
        doubts=[*doubts],
        metrics=metrics_of(records),
        levels=levels_of(records),
        at_budgets=at_budgets(records, protocol.max_thought_tokens),
    )
    return Evaluation(records, summary)


def owned(problems: Sequence[Problem], traces: Sequence[Trace]) -> list[tuple[Problem, Trace]]:
    """Every trace with its problem."""
    by_id = {problem.id: problem for problem in problems}
    return [(by_id[trace.problem], trace) for trace in traces]


def origin(source: Source, problems: Sequence[Problem], protocol: Sampling) -> dict[str, Any]:
    """What a summary says of where its records come from."""
    return {
        "model": source.name,
        "task": problems[0].task,
        "protocol": Protocol(problems=len(problems), **asdict(protocol)),
        "token_counts": source.counts,
    }


def sample_of(problem: Problem, trace: Trace, **trials: int) -> Sample:
    """A graded trace as a record; of one that a stop ended early also its `trial_tokens`."""
    assert trace.verdict is not None
    return Sample(
        problem=problem.id,
        difficulty=problem.difficulty,
        sample=trace.sample,
        verdict=trace.verdict,
        thought_tokens=trace.thought_tokens,
        answer_tokens=trace.answer_tokens,
        closed=trace.closed,
        truncated=trace.truncated,
        prompt=problem.prompt,
        kind=problem.kind,
        gold=problem.gold,
        thought=trace.thought,
        answer=trace.answer,
        **trials,
    )
