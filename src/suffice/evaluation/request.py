"""What was asked of `suffice eval` or `suffice diagnose`, kept in the run directory, and how it is carried out.

`request.json` fixes everything that decides the results, so that an interrupted run goes on as it began. Finished tasks
stand in `evaluations/<task>` or `diagnosis/<task>`; what is sampled of the next one is in `journal/<task>.jsonl`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from suffice.config import DEFAULT_INDUCER, Section
from suffice.errors import DataError, Interrupted, RunError, SufficeError, UnfitError
from suffice.evaluation.baselines import baselines, default_budgets, stops
from suffice.evaluation.collect import collect, grade
from suffice.evaluation.diagnose import diagnose
from suffice.evaluation.doubts import doubts
from suffice.evaluation.protocol import (
    Evaluation,
    check_questions,
    evaluation_of,
    owned,
    read_evaluation,
    write_evaluation,
)
from suffice.evaluation.source import Sampling, Source, Trace
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.run.chosen import read_chosen
from suffice.run.files import Journal, locked, manifest, read_json, read_jsonl, write_json
from suffice.tasks import load_task, locate

PAPER_SAMPLES = {"aime24": 16, "aime25": 16, "amc23": 16, "math500": 8, "gpqa": 8, "gsm8k": 4}
"""Samples a problem in S-GRPO's evaluation (arXiv 2505.07686, §4.1); GRPO-λ's is not stated."""

FOLDERS = {"eval": "evaluations", "diagnose": "diagnosis"}


class ServerPart(Section):
    base_url: str
    key_variable: str = Field("OPENAI_API_KEY", description="Environment variable of the key, if one is needed.")
    tokenizer: str | None = Field(None, description="Checkpoint folder or hub id: exact counts, and exits.")
    concurrency: int = Field(32, ge=1, description="Requests in flight at once.")


class TaskPart(Section):
    name: str
    path: str | None = None
    split: str = "test"
    revision: str | None = None
    prompt: str | None = None
    problems: int | None = Field(None, ge=2)


class Request(Section):
    """Everything that decides what an evaluation or a diagnosis finds."""

    verb: Literal["eval", "diagnose"]
    model: str
    checkpoint: str | None = Field(None, description="What a local `model` stood for when the run began.")
    device: str = "auto"
    server: ServerPart | None = None
    tasks: list[TaskPart] = Field([])
    recorded: str | None = Field(None, description="records.jsonl whose thoughts are answered early.")
    samples: int | Literal["paper"] = 4
    temperature: float = Field(0.6, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    max_thought_tokens: int | None = Field(None, ge=1)
    max_answer_tokens: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    system: str | None = None
    chat_template_kwargs: dict[str, Any] = Field({})
    baselines: bool = False
    budgets: list[int] = Field([])
    price: float | None = Field(None, gt=0, description="Of a million generated tokens, in any currency.")


def read_request(run: Path, verb: str) -> Request:
    """The request that a run directory began with.

    Raises:
        RunError: it is no directory of this verb.
    """
    if not (run / "request.json").is_file():
        raise RunError(f"{run} is no directory of suffice {verb}: it holds no request.json")
    try:
        request = Request.model_validate(read_json(run / "request.json"))
    except ValidationError as error:
        raise RunError(f"{run / 'request.json'} is damaged ({error.errors()[0]['msg']}); start again") from None
    if request.verb != verb:
        raise RunError(f"{run} was made by suffice {request.verb}; continue it with that")
    return request


@dataclass(frozen=True)
class Work:
    """A request with everything loaded and checked: nothing was sampled or written yet."""

    request: Request
    source: Source
    problems: dict[str, list[Problem]]
    recorded: list[Trace] | None
    protocol: Callable[[str], Sampling]
    origins: list[dict[str, Any]]


def prepare(request: Request) -> Work:
    """Load data and model, and check that they fit each other.

    Raises:
        SufficeError: of data, model, server or budgets.
    """
    recorded: list[Trace] | None = None
    problems: dict[str, list[Problem]] = {}
    origins = []
    if request.recorded:
        task, listed, recorded = read_recorded(Path(request.recorded))
        problems[task] = listed
        origins.append({"task": task, "path": request.recorded})
    for part in request.tasks:
        if part.name in problems:
            raise SufficeError(f"--task {part.name} is given twice; leave one out")
        place = locate(part.name, path=part.path, split=part.split, revision=part.revision)
        part.revision = place.get("revision")  # the commit it stands for now, for this run and when it is resumed
        origins.append(place)
        problems[part.name] = load_task(
            part.name,
            path=part.path,
            split=part.split,
            limit=part.problems,
            seed=request.seed,
            revision=part.revision,
            prompt=part.prompt,
        )
    if request.verb == "diagnose":
        for listed in problems.values():
            check_questions(listed)
    everything = [problem for listed in problems.values() for problem in listed]
    source, thought, answer = _open(request, everything)

    def protocol(task: str) -> Sampling:
        samples = PAPER_SAMPLES.get(task, 4) if request.samples == "paper" else request.samples
        return Sampling(samples, request.temperature, request.top_p, thought, answer, request.seed)

    return Work(request, source, problems, recorded, protocol, origins)


def _open(request: Request, problems: Sequence[Problem]) -> tuple[Source, int, int]:
    """The source, and its budgets: as asked, else as suit the model."""
    from suffice.model.device import set_threads
    from suffice.model.load import load_chat, load_model
    from suffice.model.positions import check_positions, suitable_budgets
    from suffice.model.resolve import resolve_path
    from suffice.rollout.check import check_sampling

    thought, answer = request.max_thought_tokens, request.max_answer_tokens
    if request.server is not None:
        from suffice.evaluation.server import ServerSource, fitting

        part, chat = request.server, None
        if part.tokenizer:
            chat = load_chat(
                part.tokenizer,
                DEFAULT_INDUCER,
                options=request.chat_template_kwargs,
                system=request.system,
                use="evaluate" if request.verb == "diagnose" or request.baselines else "count",
            )
        source = ServerSource(
            part.base_url,
            request.model,
            chat=chat,
            system=request.system,
            options=request.chat_template_kwargs,
            api_key=os.environ.get(part.key_variable),
            concurrency=part.concurrency,
        )
        budgets = fitting(source.positions, chat, problems, thought, answer)
        request.max_thought_tokens, request.max_answer_tokens = budgets  # for this run and when it is resumed
        return source, *budgets
    from suffice.evaluation.local import LocalSource

    if request.checkpoint is None:
        request.checkpoint = resolve_path(request.model)  # of a run that trains on, the one of now
        if chosen := read_chosen(Path(request.model)):
            print(f"{request.model}: {chosen.words}", file=sys.stderr)
    chat = load_chat(
        request.checkpoint,
        DEFAULT_INDUCER,
        options=request.chat_template_kwargs,
        system=request.system,
        use="evaluate",
    )
    model = load_model(request.checkpoint, device=request.device)
    set_threads(model)
    budgets = suitable_budgets(model, chat, problems, thought, answer)
    check_sampling(model, chat, check_positions(model, chat, problems, *budgets))
    return LocalSource(request.model, model, chat), *budgets


def read_recorded(path: Path) -> tuple[str, list[Problem], list[Trace]]:
    """Task, problems and traces of the records that an evaluation wrote.

    Raises:
        RunError, DataError: no such file, or not records of an evaluation.
    """
    records = read_jsonl(path)
    summary = path.parent / "summary.json"
    task = read_json(summary)["task"] if summary.exists() else "recorded"
    problems: dict[str, Problem] = {}
    traces = []
    for number, r in enumerate(records, 1):
        try:
            problem = Problem(r["problem"], task, r["prompt"], r["gold"], r.get("kind", "math"), r["difficulty"])
            counts = (r["thought_tokens"], r["answer_tokens"], r["closed"], r["truncated"])
            traces.append(Trace(r["problem"], r["sample"], r["thought"], r["answer"], *counts))
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}:{number} has no {error}; give the records.jsonl that suffice eval wrote") from None
        problems[problem.id] = problem
    if not records:
        raise DataError(f"{path} holds no record; give the records.jsonl that suffice eval wrote")
    return task, list(problems.values()), traces


def perform(work: Work, run: Path) -> dict[str, Evaluation]:
    """Do what was asked in a run directory, from where an earlier attempt left it: label → evaluation.

    Raises:
        Interrupted: Ctrl-C; what was sampled is kept.
        SufficeError: what was sampled is kept; a directory without any sample is removed.
    """
    request = work.request
    begun = {"request": request.model_dump(), "data": work.origins, "manifest": manifest()}  # request: enough to resume
    for name, content in begun.items():
        if not (run / f"{name}.json").exists():
            write_json(run / f"{name}.json", content)
    if read_json(run / "data.json") != work.origins:
        raise RunError(
            f"the problems are not those that {run} began with (data.json); put them back, or start a new run"
        )
    found: dict[str, Evaluation] = {}
    try:
        with locked(run), Grader() as grader:
            for task in work.problems:
                found |= _perform_task(work, run, task, grader)
    except (KeyboardInterrupt, SufficeError) as error:
        kept = any(path.stat().st_size for path in run.glob("*/*.jsonl")) or any(run.glob("*/*/summary.json"))
        if not kept:
            shutil.rmtree(run)
        how = f"continue with: suffice {request.verb} --resume {run}" if kept else "nothing was sampled yet"
        if kept and isinstance(error, UnfitError):
            how = f"what was sampled stays in {run}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"stopped; {how}") from None
        raise type(error)(f"{error}; {how}") from error
    return found


def _perform_task(work: Work, run: Path, task: str, grader: Grader) -> dict[str, Evaluation]:
    folder = run / FOLDERS[work.request.verb]
    if (folder / task / "summary.json").exists():
        labels = [task, *sorted(path.name for path in folder.glob(f"{task}@*"))]
        return {label: read_evaluation(folder / label) for label in labels}
    path = run / "journal" / f"{task}.jsonl"
    with Journal(path) as journal:
        found = _find(work, task, grader, journal)
        for label in reversed(found):  # the task's own folder last: it says that all are there
            write_evaluation(folder / label, found[label])
        path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    return found


def _find(work: Work, task: str, grader: Grader, journal: Journal) -> dict[str, Evaluation]:
    request, problems, protocol = work.request, work.problems[task], work.protocol(task)
    served = request.server is not None
    if request.verb == "diagnose":
        plain = diagnose(
            work.source,
            problems,
            protocol,
            grader,
            journal=journal,
            recorded=work.recorded,
            price=request.price,
            served=served,
        )
        found = {task: plain}
    else:
        budgets = sorted(set(request.budgets)) or default_budgets(protocol.max_thought_tokens)
        traces = collect(work.source, problems, protocol, stops(budgets) if request.baselines else None, journal)
        grade(traces, problems, grader)
        plain = evaluation_of(work.source, problems, protocol, traces)
        plain.summary["doubts"] = doubts(traces, protocol, served=served)
        stopped = baselines(plain, owned(problems, traces), budgets) if request.baselines else {}
        found = {task: plain} | {f"{task}@{label}": evaluation for label, evaluation in stopped.items()}
    for doubt in plain.summary["doubts"]:
        print(f"{task}: {doubt}", file=sys.stderr)
    return found
