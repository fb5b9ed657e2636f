"""The verbs that measure: eval, diagnose, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from suffice.cli.options import Asked, Count, Json, Samples, asking, json_object, numbers, refuse
from suffice.cli.screen import emit, say, tell
from suffice.cli.tables import show_comparison, show_curve, show_metrics, show_stops
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
    budgets: Annotated[
        str | None, typer.Option("--budgets", help="Thinking tokens of the baselines, such as 512,1024.")
    ] = None,
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
    own = {
        "samples": samples,
        **fixed,
        "protocol": protocol,
        "baselines": baselines or budgets is not None,
        "budgets": [] if budgets is None else numbers("--budgets", budgets, least=1),
    }
    directory, request, found = measure("eval", asked, problems, own)
    summaries = by_label(found)
    if asked.as_json:
        emit(alone(summaries))
    show_metrics({label: summary for label, summary in summaries.items() if not stop_in(label)})
    if stops := {label: summary for label, summary in summaries.items() if stop_in(label)}:
        show_stops(stops)
    tell(f"Records: {directory / EVALUATIONS}")
    tell(after_evaluation(directory, request))


@asking
def diagnose(
    asked: Asked,
    problems: Count = 200,
    samples: Samples = 1,
    recorded: Annotated[
        Path | None, typer.Option("--from", help="records.jsonl of suffice eval: its thoughts, only exits sampled.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Of a million generated tokens, for what could be saved.")
    ] = None,
) -> None:
    """Measure how much of a model's thinking comes after it knows: the forced-exit curve."""
    from suffice.cli.advice import after_diagnosis
    from suffice.report import save_diagnosis_picture
    from suffice.run.directory import Run
    from suffice.run.layout import DIAGNOSES, PICTURE

    if recorded:
        brought = {
            "task",
            "path",
            "fields",
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
        refuse(asked.context, "--from brings its own problems and thoughts", brought)
    own = {"samples": samples, "price": price, "recorded": recorded and str(recorded)}
    directory, request, found = measure("diagnose", asked, problems, own)
    summaries = by_label(found)
    picture = save_diagnosis_picture(Run(directory).diagnoses(), directory / PICTURE)
    if asked.as_json:
        emit(alone(summaries))
    for label, summary in summaries.items():
        show_curve(label, summary)
        say.print(summary["conclusion"], style="bold", markup=False)
    tell(f"Records: {directory / DIAGNOSES}, picture: {picture}")
    for line in after_diagnosis(request, summaries):
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
