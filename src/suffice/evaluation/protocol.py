"""Evaluation by one protocol: k samples a problem, every figure with a question-clustered 95 % interval.

Records (one a sample) are what is kept; the summary is computed from them and can be computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suffice.errors import DataError
from suffice.evaluation.collect import collect, grade
from suffice.evaluation.source import Sampling, Source, Trace
from suffice.grading import Grader
from suffice.groups import Problem, Verdict
from suffice.run.files import read_json, read_jsonl, whole_directory, write_json, write_jsonl
from suffice.statistics import Interval, mean_interval, proportion_interval

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Records of an evaluation, one a sample, and their summary."""

    records: list[Record]
    summary: dict[str, Any]


def evaluate(source: Source, problems: Sequence[Problem], protocol: Sampling, grader: Grader) -> Evaluation:
    """Sample and grade every problem; the summary holds the `seconds` it took."""
    started = time.perf_counter()
    traces = collect(source, problems, protocol)
    grade(traces, problems, grader)
    found = evaluation_of(source, problems, protocol, traces)
    found.summary["seconds"] = time.perf_counter() - started
    return found


def evaluation_of(
    source: Source, problems: Sequence[Problem], protocol: Sampling, traces: Sequence[Trace]
) -> Evaluation:
    """Graded traces as records and their summary."""
    records = [record(problem, trace) for problem, trace in owned(problems, traces)]
    return Evaluation(records, header(source, problems, protocol) | summarise(records))


def owned(problems: Sequence[Problem], traces: Sequence[Trace]) -> list[tuple[Problem, Trace]]:
    """Every trace with its problem."""
    by_id = {problem.id: problem for problem in problems}
    return [(by_id[trace.problem], trace) for trace in traces]


def header(source: Source, problems: Sequence[Problem], protocol: Sampling) -> dict[str, Any]:
    """What a summary says of where its records come from."""
    return {
        "model": source.name,
        "task": problems[0].task,
        "protocol": {"problems": len(problems), **asdict(protocol)},
        "token_counts": source.counts,
    }


def record(problem: Problem, trace: Trace) -> Record:
    """One sample as a line of records.jsonl; token counts leave out the marks of thought and turn."""
    return {
        "problem": problem.id,
        "difficulty": problem.difficulty,
        "sample": trace.sample,
        "verdict": str(trace.verdict),
        "thought_tokens": trace.thought_tokens,
        "answer_tokens": trace.answer_tokens,
        "closed": trace.closed,
        "truncated": trace.truncated,
        "prompt": problem.prompt,
        "kind": problem.kind,
        "gold": problem.gold,
        "thought": trace.thought,
        "answer": trace.answer,
    }


Measure = Callable[[Record], float]

LENGTHS: dict[str, Measure] = {
    "thought_tokens": lambda r: r["thought_tokens"],
    "answer_tokens": lambda r: r["answer_tokens"],
    "tokens": lambda r: r["thought_tokens"] + r["answer_tokens"] + r.get("probe_tokens", 0),
}
OUTCOMES: dict[str, Measure] = {
    "accuracy": lambda r: r["verdict"] == Verdict.CORRECT,
    "truncated": lambda r: r["truncated"],
    "unclosed": lambda r: not r["closed"],
    "unparsed": lambda r: r["verdict"] == Verdict.UNPARSED,
}


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """`metrics` over all records and `levels` per difficulty, each figure as {mean, low, high}."""
    right = [r for r in records if r["verdict"] == Verdict.CORRECT]
    metrics = {name: share(records, measure) for name, measure in OUTCOMES.items()}
    metrics |= {name: average(records, measure) for name, measure in LENGTHS.items()}
    metrics["thought_tokens_correct"] = average(right, LENGTHS["thought_tokens"])
    levels = {}
    for level in sorted({r["difficulty"] for r in records if r["difficulty"] is not None}):
        of_level = [r for r in records if r["difficulty"] == level]
        levels[level] = {
            "problems": len({r["problem"] for r in of_level}),
            "accuracy": share(of_level, OUTCOMES["accuracy"]),
            "thought_tokens": average(of_level, LENGTHS["thought_tokens"]),
        }
    return {"metrics": metrics, "levels": levels}


Figure = dict[str, float | None]


def average(records: Sequence[Record], measure: Measure) -> Figure:
    """A length's mean and interval; the ends are None for fewer than two questions, the mean too for none."""
    return _figure(mean_interval, records, measure)


def share(records: Sequence[Record], outcome: Measure) -> Figure:
    """How often an outcome (0 or 1) holds, as `average`."""
    return _figure(proportion_interval, records, outcome)


def _figure(statistic: Callable[..., Interval], records: Sequence[Record], measure: Measure) -> Figure:
    questions = [r["problem"] for r in records]
    values = [float(measure(r)) for r in records]
    if len(set(questions)) < 2:
        return {"mean": sum(values) / len(values) if values else None, "low": None, "high": None}
    return {**statistic(values, questions).as_dict()}


def check_questions(questions: Collection[Any]) -> None:
    """Refuse what no interval can be had of, best before anything is sampled.

    Raises:
        DataError: fewer than two questions.
    """
    if len(questions) < 2:
        raise DataError(f"{len(questions)} problem is too few: an interval needs at least 2; give more data")


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """`summary.json` and `records.jsonl` in a folder that appears whole."""
    with whole_directory(folder) as aside:
        write_json(aside / "summary.json", evaluation.summary)
        write_jsonl(aside / "records.jsonl", evaluation.records)


def read_evaluation(folder: Path) -> Evaluation:
    return Evaluation(read_jsonl(folder / "records.jsonl"), read_json(folder / "summary.json"))
