"""From a request to work that can be done: data and model loaded, and checked against each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from suffice.config import DEFAULT_INDUCER
from suffice.errors import DataError, RecipeError, SufficeError
from suffice.evaluation.protocols import PAPER_SAMPLES, PROTOCOLS
from suffice.evaluation.request import Request
from suffice.evaluation.source import Sampling, Source, Trace
from suffice.evaluation.summary import check_questions
from suffice.groups import Problem
from suffice.run.directory import Run, read_samples
from suffice.run.files import read_json
from suffice.run.layout import SUMMARY
from suffice.run.records import Origin
from suffice.tasks import load_task, locate


@dataclass(frozen=True)
class Work:
    """A request with everything loaded and checked: nothing was sampled or written yet."""

    request: Request
    source: Source
    problems: dict[str, list[Problem]]
    recorded: list[Trace] | None
    protocol: Callable[[str], Sampling]
    origins: list[Origin]


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
        origins.append(Origin(task=task, path=request.recorded))
    for part in request.tasks:
        if part.name in problems:
            raise SufficeError(f"--task {part.name} is given twice; leave one out")
        place = Origin(**locate(part.name, path=part.path, split=part.split, revision=part.revision))
        part.revision = place.revision  # the commit it stands for now, for this run and when it is resumed
        origins.append(place)
        problems[part.name] = load_task(
            part.name,
            path=part.path,
            split=part.split,
            limit=part.problems,
            seed=request.seed,
            fields=part.fields,
            revision=part.revision,
            prompt=part.prompt,
        )
    if request.verb == "diagnose":
        for listed in problems.values():
            check_questions(listed)
    everything = [problem for listed in problems.values() for problem in listed]
    try:
        source, thought, answer = _open(request, everything)
    except RecipeError as error:  # of budgets that the model cannot hold
        if request.protocol and "max_thought_tokens" in PROTOCOLS[request.protocol]:
            raise RecipeError(f"{error}, without --protocol {request.protocol}") from None
        raise

    def protocol(task: str) -> Sampling:
        samples = PAPER_SAMPLES.get(task, 4) if request.samples == "paper" else request.samples
        return Sampling(
            samples,
            request.temperature,
            request.top_p,
            thought,
            answer,
            request.seed,
            top_k=request.top_k,
            min_p=request.min_p,
            presence_penalty=request.presence_penalty,
            name=request.protocol,
        )

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
        if chosen := Run(Path(request.model)).chosen():
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
    summary = path.parent / SUMMARY
    task = read_json(summary)["task"] if summary.exists() else "recorded"
    problems: dict[str, Problem] = {}
    traces = []
    for r in read_samples(path):
        problems[r.problem] = Problem(r.problem, task, r.prompt, r.gold, r.kind, r.difficulty)
        counts = (r.thought_tokens, r.answer_tokens, r.closed, r.truncated)
        traces.append(Trace(r.problem, r.sample, r.thought, r.answer, *counts))
    if not traces:
        raise DataError(f"{path} holds no record; give the {path.name} that suffice eval wrote")
    return task, list(problems.values()), traces
