"""The verbs that measure: eval, diagnose, and compare."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from suffice.cli.options import (
    Asked,
    Budgets,
    Count,
    Json,
    Points,
    Price,
    Samples,
    Speed,
    asking,
    fields_of,
    json_object,
    numbers,
    refuse,
)
from suffice.cli.screen import emit, say, tell
from suffice.cli.tables import (
    show_budget,
    show_comparison,
    show_curve,
    show_lines,
    show_metrics,
    show_parts,
    show_stops,
)
from suffice.errors import SufficeError

if TYPE_CHECKING:
    from suffice.evaluation.perform import Performed
    from suffice.evaluation.request import Request


@asking
def evaluate(
    asked: Asked,
    problems: Count = None,
    samples: Samples = 4,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="paper: S-GRPO's evaluation, 16, 8 or 4 samples by benchmark; qwen3: T 0.6, top-p 0.95, top-k 20, 32k "
            "tokens.",
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also what stopping early reaches without training.")
    ] = False,
    budgets: Budgets = None,
    points: Points = 2.0,
    price: Price = None,
    speed: Speed = None,
) -> None:
    """Evaluate a model: accuracy and tokens, each with a question-clustered 95 % interval."""
    from suffice.cli.advice import after_evaluation
    from suffice.evaluation.protocols import PROTOCOLS
    from suffice.run.layout import EVALUATIONS, stop_in

    if protocol is not None and protocol not in PROTOCOLS:
        raise SufficeError(f"unknown --protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    fixed = PROTOCOLS[protocol] if protocol else {}
    if fixed:
        refuse(asked.context, f"--protocol {protocol} says how to sample", fixed)
    if not baselines and budgets is None:
        refuse(asked.context, "without --baselines no budget is weighed", {"points", "price", "speed"})
    own = {
        "samples": samples,
        **fixed,
        "protocol": protocol,
        "baselines": baselines or budgets is not None,
        **_terms(budgets, points, price, speed),
    }
    directory, request, found = measure("eval", asked, problems, own)
    summaries = by_label(found)
    if asked.as_json:
        emit(alone(summaries))
    show_metrics({label: summary for label, summary in summaries.items() if not stop_in(label)})
    if stops := {label: summary for label, summary in summaries.items() if stop_in(label)}:
        show_stops(stops)
    _recommend(summaries, request)
    tell(f"Records: {directory / EVALUATIONS}")
    tell(after_evaluation(directory, request))


@asking
def diagnose(
    asked: Asked,
    problems: Count = 200,
    samples: Samples = 1,
    recorded: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="records.jsonl of suffice eval: its problems and thoughts, only exits sampled. Or a file of recorded "
            "exits: no model is needed, and --fields names their columns.",
        ),
    ] = None,
    budgets: Budgets = None,
    points: Points = 2.0,
    price: Price = None,
    speed: Speed = None,
) -> None:
    """Measure how much of a model's thinking comes after it knows, and which thinking budget to serve."""
    from suffice.cli.advice import after_diagnosis
    from suffice.evaluation.recorded import holds_exits
    from suffice.report import save_diagnosis_picture
    from suffice.run.directory import Run
    from suffice.run.layout import DIAGNOSES, PICTURE

    own = {"samples": samples, "recorded": recorded and str(recorded), **_terms(budgets, points, price, speed)}
    request: Request | None = None
    if recorded:
        refuse(asked.context, "--from brings its own problems and thoughts", BROUGHT)
    fields = fields_of(asked.fields) if recorded else {}
    if recorded and holds_exits(recorded, fields):
        its_own = {"recorded", "fields", "budgets", "points", "price", "speed", "out", "as_json"}
        refuse(asked.context, f"{recorded} holds exits already, and no model is asked", but=its_own)
        directory, summaries = diagnose_exits(recorded, fields, asked.out, own)
    else:
        if recorded:
            refuse(asked.context, f"{recorded} holds no exits, and what suffice eval wrote needs none", {"fields"})
        if recorded and asked.model is None:
            raise SufficeError(
                f"{recorded} holds no exits: give the MODEL that is to answer early in its thoughts, or say which "
                "column holds them: --fields exits=COLUMN"
            )
        directory, request, found = measure("diagnose", asked, problems, own)
        summaries = by_label(found)
    picture = save_diagnosis_picture(Run(directory).diagnoses(), directory / PICTURE)
    if asked.as_json:
        emit(alone(summaries))
    for label, summary in summaries.items():
        show_curve(label, summary)
        show_parts(summary)
        say.print(summary["conclusion"], style="bold", markup=False)
    _recommend(summaries, request)
    tell(f"Records: {directory / DIAGNOSES}, picture: {picture}")
    for line in after_diagnosis(request, summaries) if request else ():
        tell(line)


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="What suffice eval or train wrote, or one of its evaluation folders; all are compared with the first. "
            "A training run alone: after with before.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the HTML page: a .html file, or a folder for it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare evaluations of the same questions, paired; and with stopping early, where eval measured that."""
    from suffice.evaluation.compare import compare_all
    from suffice.evaluation.sides import read_sides
    from suffice.report import write_comparison

    sides = read_sides(paths)
    found = compare_all(sides)
    if as_json:
        emit(found.as_dict())
    show_comparison(found.as_dict())
    if out:
        page = write_comparison(sides, found, out)
        tell(f"Page: {page} (open it in a browser; it needs no network)")


BROUGHT = {
    "task",
    "path",
    "split",
    "prompt",
    "revision",
    "problems",
    "samples",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "seed",
}
"""Parameters that decide what recorded thoughts bring along."""


def diagnose_exits(
    recorded: Path, fields: dict[str, str], out: Path | None, own: dict[str, Any]
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Diagnose recorded exits into a directory of their own: that, and the summary by label."""
    from suffice.evaluation.budgets import Terms
    from suffice.evaluation.recorded import diagnose_recorded
    from suffice.grading import Grader
    from suffice.run.directory import Run
    from suffice.run.files import write_json
    from suffice.run.layout import DATA
    from suffice.run.records import Origin
    from suffice.run.start import create_run, free_run, manifest, timestamped
    from suffice.tasks.files import checksum

    directory = free_run(out or timestamped("diagnose"))
    terms = Terms(**{name: own[name] for name in ("budgets", "points", "price", "speed")})
    with Grader() as grader:
        found = diagnose_recorded(recorded, fields, grader, terms)
    run, label = Run(create_run(directory)), found.summary.task
    origin = Origin(task=label, path=str(recorded), sha256=checksum([recorded]))
    try:
        write_json(run.path / DATA, [origin.as_dict()])
        run.write(manifest())
        run.write_diagnosis(label, found)
    except SufficeError:
        shutil.rmtree(directory)
        raise
    return directory, {label: found.summary.as_dict()}


def _terms(budgets: str | None, points: float, price: float | None, speed: float | None) -> dict[str, Any]:
    """The parts of a request that decide which budget is recommended."""
    for option, value in (("--price", price), ("--speed", speed)):
        if value is not None and not 0 < value < inf:
            raise SufficeError(f"{option} {value:g} is not a number above 0; leave it out, or give what it is")
    weighed = [] if budgets is None else numbers("--budgets", budgets, least=1)
    return {"budgets": sorted(set(weighed)), "points": points, "price": price, "speed": speed}


def _recommend(summaries: dict[str, dict[str, Any]], request: Request | None) -> None:
    """Which budget to serve, by task and for all, and how."""
    from suffice.evaluation.budgets import overall
    from suffice.evaluation.serving import parser_of, serve_lines
    from suffice.run.records import BudgetAdvice

    found = {
        label: BudgetAdvice.model_validate(summary["budget"])
        for label, summary in summaries.items()
        if summary.get("budget")
    }
    for label, advice in found.items():
        show_budget(label, advice)
    together = overall(found)
    if together:
        show_budget("all tasks", together)
    serve = together or (next(iter(found.values())) if found else None)
    if serve and serve.recommended and serve.recommended.budget:
        model = request.model if request else "MODEL"
        checkpoint = request.checkpoint if request else None
        parser = parser_of(Path(checkpoint)) if checkpoint else None
        show_lines(serve_lines(serve.recommended.budget, model, parser))


def measure(
    verb: Literal["eval", "diagnose"], asked: Asked, problems: int | None, own: dict[str, Any]
) -> tuple[Path, Request, Performed]:
    """Do an evaluation or a diagnosis, or go on with one: its directory, what was asked, and what was found."""
    from suffice.evaluation.perform import perform
    from suffice.evaluation.prepare import prepare
    from suffice.evaluation.request import read_request
    from suffice.run.start import create_run, free_run, timestamped

    if asked.resume is not None:
        request, directory = read_request(asked.resume, verb), asked.resume
        return directory, request, perform(prepare(request), directory)
    request = requested(verb, asked, problems, own)
    directory = free_run(asked.out or timestamped(verb))
    work = prepare(request)
    return directory, request, perform(work, create_run(directory))


def requested(verb: Literal["eval", "diagnose"], asked: Asked, problems: int | None, own: dict[str, Any]) -> Request:
    """The request that the command line makes.

    Raises:
        SufficeError: it lacks a model or a task, or names options that do not go together.
    """
    from pydantic import ValidationError

    from suffice.config import explain
    from suffice.evaluation.request import Request

    if asked.model is None or not (asked.task or own.get("recorded")):
        raise SufficeError(f"give a model and a task: suffice {verb} MODEL --task TASK, or --resume with a directory")
    if asked.base_url is None:
        served = {"tokenizer", "concurrency", "api_key_env"}
        refuse(asked.context, "--base-url is missing, so the model is a local one", served)
        server = None
    else:
        refuse(asked.context, "--base-url asks a server", {"device"})
        server = {
            "base_url": asked.base_url,
            "tokenizer": asked.tokenizer,
            "concurrency": asked.concurrency,
            "key_variable": asked.api_key_env,
        }
    data = {name: getattr(asked, name) for name in ("path", "split", "revision", "prompt")}
    data |= {"fields": asked.fields or {}, "problems": problems}
    sampling = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "max_thought_tokens", "max_answer_tokens")
    given = {name: getattr(asked, name) for name in (*sampling, "seed", "device")}
    try:
        return Request(
            verb=verb,
            model=asked.model,
            system=asked.system,
            chat_template_kwargs=json_object("--chat-template-kwargs", asked.chat_template_kwargs or "{}"),
            server=server,
            tasks=[{"name": name, **data} for name in asked.task or []],
            **given | own,
        )
    except ValidationError as error:
        raise SufficeError(explain(error, Request)) from None


def by_label(found: Performed) -> dict[str, dict[str, Any]]:
    return {label: measured.summary.as_dict() for label, measured in found.items()}


def alone(summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """For `--json`: the summary of one evaluation, or those of several by label."""
    return summaries if len(summaries) > 1 else next(iter(summaries.values()))
