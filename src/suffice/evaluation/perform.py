"""Work done in a run directory, from where an earlier attempt left it.

Finished tasks stand in `evaluations/<task>` or `diagnosis/<task>`; what is sampled of the next one is in
`journal/<task>.jsonl`.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from suffice.errors import Interrupted, RunError, SufficeError, UnfitError
from suffice.evaluation.baselines import baselines, default_budgets, stops
from suffice.evaluation.budgets import Terms, advise_stops
from suffice.evaluation.collect import collect, grade
from suffice.evaluation.diagnose import diagnose
from suffice.evaluation.doubts import doubts
from suffice.evaluation.evaluate import evaluation_of, owned
from suffice.evaluation.prepare import Work
from suffice.evaluation.request import Request
from suffice.grading import Grader
from suffice.run import layout
from suffice.run.directory import Diagnosis, Evaluation, Run
from suffice.run.files import read_json, write_json
from suffice.run.journal import Journal
from suffice.run.lock import locked
from suffice.run.start import manifest

Performed = dict[str, Evaluation | Diagnosis]
"""By label: a task, or a task and the stop that ended its samples early."""


def perform(work: Work, directory: Path) -> Performed:
    """Do what was asked in a run directory, from where an earlier attempt left it.

    Raises:
        Interrupted: Ctrl-C; what was sampled is kept.
        SufficeError: what was sampled is kept; a directory without any sample is removed.
    """
    begin(work, directory)
    found: Performed = {}
    try:
        with locked(directory), Grader() as grader:
            for task in work.problems:
                found |= _perform_task(work, Run(directory), task, grader)
    except (KeyboardInterrupt, SufficeError) as error:
        kept = any(path.stat().st_size for path in directory.glob("*/*.jsonl")) or any(
            directory.glob(f"*/*/{layout.SUMMARY}")
        )
        if not kept:
            shutil.rmtree(directory)
        how = f"continue with: suffice {work.request.verb} --resume {directory}" if kept else "nothing was sampled yet"
        if kept and isinstance(error, UnfitError):
            how = f"what was sampled stays in {directory}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"stopped; {how}") from None
        raise type(error)(f"{error}; {how}") from error
    return found


def terms(request: Request) -> Terms:
    """By which a budget is chosen."""
    return Terms(sorted(set(request.budgets)), request.points, request.price, request.speed)


def begin(work: Work, directory: Path) -> None:
    """Write down what was asked and of which problems, which is enough to resume.

    Raises:
        RunError: it was begun with other problems.
    """
    origins = [origin.as_dict() for origin in work.origins]
    begun = {
        layout.REQUEST: work.request.model_dump(),
        layout.DATA: origins,
        layout.MANIFEST: manifest().as_dict(),
    }
    for name, content in begun.items():
        if not (directory / name).exists():
            write_json(directory / name, content)
    if read_json(directory / layout.DATA) != origins:
        raise RunError(
            f"the problems are not those that {directory} began with ({layout.DATA}); put them back, or start a new run"
        )


def _perform_task(work: Work, run: Run, task: str, grader: Grader) -> Performed:
    if work.request.verb == "eval" and run.is_evaluated(task):
        beside = [label for label in run.evaluated() if label.startswith(layout.stopped(task, ""))]
        return {label: run.evaluation(label) for label in (task, *beside)}
    if work.request.verb == "diagnose" and run.is_diagnosed(task):
        return {task: run.diagnosis(task)}
    with run.journal(task) as journal:
        if work.request.verb == "eval":
            found = _evaluate(work, run, task, grader, journal)
        else:
            found = _diagnose(work, run, task, grader, journal)
    for doubt in found[task].summary.doubts:
        print(f"{task}: {doubt}", file=sys.stderr)
    return found


def _evaluate(work: Work, run: Run, task: str, grader: Grader, journal: Journal) -> Performed:
    request, problems, protocol = work.request, work.problems[task], work.protocol(task)
    budgets = sorted(set(request.budgets)) or default_budgets(protocol.max_thought_tokens)
    traces = collect(work.source, problems, protocol, stops(budgets) if request.baselines else None, journal)
    grade(traces, problems, grader)
    doubted = doubts(traces, protocol, served=request.server is not None)
    plain = evaluation_of(work.source, problems, protocol, traces, doubted)
    stopped = baselines(plain, owned(problems, traces), budgets) if request.baselines else {}
    if advice := advise_stops(plain, [*stopped.values()], terms(request)):
        plain = replace(plain, summary=plain.summary.model_copy(update={"budget": advice}))
    found = {task: plain} | {layout.stopped(task, stop): evaluation for stop, evaluation in stopped.items()}
    for label in reversed(found):  # the task's own folder last: it says that all are there
        run.write_evaluation(label, found[label])
    return {**found}


def _diagnose(work: Work, run: Run, task: str, grader: Grader, journal: Journal) -> Performed:
    request, protocol = work.request, work.protocol(task)
    found = diagnose(
        work.source,
        work.problems[task],
        protocol,
        grader,
        journal=journal,
        recorded=work.recorded,
        terms=terms(request),
        served=request.server is not None,
    )
    run.write_diagnosis(task, found)
    return {task: found}
