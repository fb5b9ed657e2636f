"""From problems to graded traces: sampled lot by lot, every lot kept at once, and then graded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from suffice.errors import RunError
from suffice.evaluation.source import Draw, ExitRule, Forced, Sampling, Source, Trace
from suffice.grading import Grader
from suffice.grading.verdicts import give_verdicts
from suffice.groups import Problem
from suffice.run.journal import Journal
from suffice.run.progress import progress


def collect(
    source: Source,
    problems: Sequence[Problem],
    sampling: Sampling,
    exits: ExitRule | None = None,
    journal: Journal | None = None,
) -> list[Trace]:
    """All samples of a protocol, by problem, then sample. What the journal holds is not sampled again."""
    k = sampling.samples
    found = _kept(journal)
    per_lot = max(1, source.lot // k) if source.lot else len(problems)
    with progress(f"sample {source.name} on {problems[0].task}", len(problems) * k, done=len(found)) as advance:
        for start in range(0, len(problems), per_lot):
            lot: list[Draw] = [(problem, i) for problem in problems[start : start + per_lot] for i in range(k)]
            missing = [(problem, i) for problem, i in lot if (problem.id, i) not in found]
            if missing:
                # a lot that was cut short is sampled whole: its samples come out as they would have
                traces = source.sample(lot if source.lot else missing, sampling, exits, advance)
                _keep(traces, found, journal)
    return [found[problem.id, i] for problem in problems for i in range(k)]


def answer(
    source: Source,
    recorded: Sequence[tuple[Problem, Trace]],
    sampling: Sampling,
    exits: ExitRule,
    journal: Journal | None = None,
) -> list[Trace]:
    """Recorded traces with answers forced in them, in their order. What the journal holds is not answered again."""
    found = _kept(journal)
    per_lot = source.lot or len(recorded)
    with progress(f"force answers of {source.name}", len(recorded), done=len(found)) as advance:
        for start in range(0, len(recorded), per_lot):
            lot = recorded[start : start + per_lot]
            missing = [each for each in lot if (each[1].problem, each[1].sample) not in found]
            if missing:
                _keep(source.force(lot if source.lot else missing, sampling, exits, advance), found, journal)
    return [found[trace.problem, trace.sample] for _, trace in recorded]


Found = dict[tuple[str, int], Trace]
TRACE = TypeAdapter(Trace)


def _kept(journal: Journal | None) -> Found:
    found: Found = {}
    if journal is None:
        return found
    for number, line in enumerate(journal.lines, 1):
        try:
            trace = TRACE.validate_python(line)
        except ValidationError:
            raise RunError(f"{journal.path}:{number} is not what this version writes; remove that line") from None
        found[trace.problem, trace.sample] = trace
    return found


def _keep(lots: Iterable[list[Trace]], found: Found, journal: Journal | None) -> None:
    for traces in lots:
        fresh = [trace for trace in traces if (trace.problem, trace.sample) not in found]
        if journal:
            journal.append(map(asdict, fresh))
        found |= {(trace.problem, trace.sample): trace for trace in fresh}


def grade(traces: Sequence[Trace], problems: Iterable[Problem], grader: Grader) -> None:
    """Give every trace and every forced answer its verdict, in place."""
    by_id = {problem.id: problem for problem in problems}

    def answers() -> Iterator[tuple[Trace | Forced, Problem]]:
        for trace in traces:
            yield trace, by_id[trace.problem]
            for forced in trace.forced:
                yield forced, by_id[trace.problem]

    give_verdicts(answers(), lambda said: said.answer, grader)
