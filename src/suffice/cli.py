"""The verbs. Each imports what it needs when it is called: `suffice --help` loads neither torch nor transformers."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suffice.errors import Interrupted, NonFiniteError, SufficeError, one_line

if TYPE_CHECKING:
    from suffice.bench.found import BenchFound
    from suffice.evaluation.perform import Performed

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach reasoning language models to stop thinking when they know.",
)
lab = typer.Typer(no_args_is_help=True, help="The lab: micro reasoners that overthink, and tasks to train them on.")
app.add_typer(lab, name="lab")
say = Console(soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Out = Annotated[Path | None, typer.Option("--out", help="Directory for the results; default runs/<verb>-<time>.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a recipe key: section.key=value.")]
Model = Annotated[
    str | None,
    typer.Argument(
        help="Checkpoint folder, run directory, hub id, lab/arithmetic, lab/ballots or lab/sums; its name on a server."
    ),
]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Task to sample problems from; may be repeated.")]
DataPath = Annotated[str | None, typer.Option("--path", help="Local file or folder of the tasks' format.")]
Split = Annotated[str, typer.Option("--split")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="How a problem is put; default: the task's own way.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Hub revision of the task's data.")]
Count = Annotated[int | None, typer.Option("--problems", min=2, help="Problems, drawn by the seed; default all.")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Samples per problem.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0, max=2, help="0 is greedy.")]
TopP = Annotated[float, typer.Option("--top-p", min=0.01, max=1)]
ThoughtBudget = Annotated[
    int | None, typer.Option("--max-thought-tokens", min=1, help="Default 8192, or what the model's positions hold.")
]
AnswerBudget = Annotated[
    int | None, typer.Option("--max-answer-tokens", min=1, help="Default 1024, or a quarter of the model's positions.")
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="OpenAI-compatible server to sample from, such as http://host:8000/v1.")
]
Tokenizer = Annotated[
    str | None, typer.Option("--tokenizer", help="Of the served model (folder or hub id): exact counts, and exits.")
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Requests to the server at once.")]
KeyVariable = Annotated[str, typer.Option("--api-key-env", help="Environment variable that holds the server's key.")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Continue the run in this directory.")]


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    complain = Console(stderr=True, soft_wrap=True)
    say.stderr = False
    try:
        app()
    except Interrupted as stop:
        complain.print(one_line(stop), markup=False, highlight=False)
        sys.exit(130)
    except SufficeError as error:
        complain.print(f"error: {one_line(error)}", style="red", markup=False, highlight=False)
        sys.exit(3 if isinstance(error, NonFiniteError) else 2)


def emit(value: Any) -> None:
    """A result for other programs: alone on standard output, what is said to people goes to standard error."""
    say.stderr = True
    print(json.dumps(value, indent=2, ensure_ascii=False))


@app.command()
def methods(as_json: Json = False) -> None:
    """List the training methods: paper, formula, parameters."""
    from suffice.methods import registry

    if as_json:
        emit(
            {
                name: {
                    "paper": method.paper,
                    "formula": method.formula,
                    "groups": "serial" if method.serial else "parallel",
                    "parameters": {
                        key: {"default": field.default, "description": field.description}
                        for key, field in method.model_fields.items()
                    },
                }
                for name, method in registry().items()
            }
        )
        return
    for name, method in registry().items():
        say.print(f"[bold]{name}[/bold]  [dim]{method.paper}[/dim]", highlight=False)
        say.print(f"    {method.formula}", markup=False, highlight=False)
        for key, field in method.model_fields.items():
            say.print(f"    {key} = {field.default}  {field.description}", markup=False, highlight=False)


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A .toml file or the name of a packaged recipe.")] = None,
    overrides: Set = None,
    out: Out = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue the run in this directory.")] = None,
    engine: Annotated[
        Literal["local", "verl"] | None,
        typer.Option("--engine", help="local (default), or verl for many GPUs; a resumed run keeps its own."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe, or verl's configuration, and stop.")
    ] = False,
) -> None:
    """Train a model by a recipe. With --engine verl, --set verl.KEY=VALUE sets verl's own configuration."""
    from suffice.config import load_recipe, recipe_names
    from suffice.run.layout import RECIPE, VERL_CONFIGURATION

    if (recipe is None) == (resume is None):
        raise SufficeError(
            f"give a recipe ({', '.join(recipe_names())} or a .toml file), or --resume with a run directory"
        )
    own: list[str] = []
    if resume is not None:
        if not (resume / RECIPE).is_file():
            raise SufficeError(f"{resume} is not a run directory: it holds no {RECIPE}; start one with --out {resume}")
        if overrides or out:
            raise SufficeError("--resume continues a run as it was: --set and --out do not go with it")
        was: Literal["local", "verl"] = "verl" if (resume / VERL_CONFIGURATION).exists() else "local"
        if engine not in (None, was):
            raise SufficeError(f"{resume} was trained with --engine {was}: leave --engine out to continue it")
        engine, resolved = was, load_recipe(str(resume / RECIPE))
    else:
        assert recipe is not None
        if engine == "verl":
            own = [override for override in overrides or [] if override.startswith("verl.")]
        resolved = load_recipe(recipe, [override for override in overrides or [] if override not in own])
    if dry_run and engine != "verl":
        print(resolved.dump(), end="")
        return
    from suffice.run.start import free_run, timestamped

    run = resume or free_run(out or resolved.run.dir or timestamped(Path(str(recipe)).stem))
    if engine == "verl":
        from suffice.engines import verl

        if dry_run:
            print(verl.dry_run(resolved, run, own), end="")
            return
        checkpoint = verl.train(resolved, run, own, resume=resume is not None)
    else:
        from suffice.engines.local import train as train_locally

        checkpoint = train_locally(resolved, run, resume=resume is not None)
    say.print(f"Trained: {checkpoint}", markup=False, highlight=False)
    say.print(f"Next: suffice report {run}", markup=False, highlight=False)


@app.command("eval")
def evaluate(
    model: Model = None,
    task: Tasks = None,
    path: DataPath = None,
    split: Split = "test",
    prompt: Prompt = None,
    revision: Revision = None,
    problems: Count = None,
    samples: Samples = 4,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="paper: 16, 8 or 4 samples by benchmark, as S-GRPO's evaluation.")
    ] = None,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_thought_tokens: ThoughtBudget = None,
    max_answer_tokens: AnswerBudget = None,
    seed: Seed = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also what stopping early reaches without training.")
    ] = False,
    budgets: Annotated[
        str | None, typer.Option("--budgets", help="Thinking tokens of the baselines, such as 512,1024.")
    ] = None,
    device: Device = "auto",
    base_url: BaseUrl = None,
    tokenizer: Tokenizer = None,
    concurrency: Concurrency = 32,
    api_key_env: KeyVariable = "OPENAI_API_KEY",
    out: Out = None,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model: accuracy and tokens, each with a question-clustered 95 % interval."""
    from suffice.run.layout import EVALUATIONS, stop_in

    if protocol not in (None, "paper"):
        raise SufficeError(f"unknown --protocol {protocol!r}; there is: paper")
    asked: dict[str, Any] = {
        "samples": protocol or samples,
        "baselines": baselines or budgets is not None,
        "budgets": numbers("--budgets", budgets),
    }
    asked |= {"temperature": temperature, "top_p": top_p, "seed": seed, "device": device}
    asked |= {"max_thought_tokens": max_thought_tokens, "max_answer_tokens": max_answer_tokens}
    asked["server"] = server(base_url, tokenizer, concurrency, api_key_env)
    data = {"path": path, "split": split, "revision": revision, "prompt": prompt, "problems": problems}
    asked["tasks"] = [{"name": name, **data} for name in task or []]
    directory, found = carry_out("eval", model, asked, out, resume)
    if as_json:
        emit(summaries(found))
    by_label = {label: each.summary.as_dict() for label, each in found.items()}
    show_metrics({label: summary for label, summary in by_label.items() if not stop_in(label)})
    if stops := {label: summary for label, summary in by_label.items() if stop_in(label)}:
        show_stops(stops)
    say.print(f"Records: {directory / EVALUATIONS}", markup=False, highlight=False)
    say.print(
        f"Next: suffice compare {directory} ANOTHER, or suffice report {directory}", markup=False, highlight=False
    )


@app.command()
def diagnose(
    model: Model = None,
    task: Tasks = None,
    path: DataPath = None,
    split: Split = "test",
    prompt: Prompt = None,
    revision: Revision = None,
    problems: Count = 200,
    samples: Samples = 1,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_thought_tokens: ThoughtBudget = None,
    max_answer_tokens: AnswerBudget = None,
    seed: Seed = 0,
    recorded: Annotated[
        Path | None, typer.Option("--from", help="records.jsonl of suffice eval: its thoughts, only exits sampled.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Of a million generated tokens, for what could be saved.")
    ] = None,
    device: Device = "auto",
    base_url: BaseUrl = None,
    tokenizer: Tokenizer = None,
    concurrency: Concurrency = 32,
    api_key_env: KeyVariable = "OPENAI_API_KEY",
    out: Out = None,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Measure how much of a model's thinking comes after it knows: the forced-exit curve."""
    from suffice.report import save_diagnosis_picture
    from suffice.run.directory import Run
    from suffice.run.layout import DIAGNOSES, PICTURE

    if recorded and task:
        raise SufficeError("--from brings its own problems: leave --task out")
    asked: dict[str, Any] = {"samples": samples, "price": price, "recorded": recorded and str(recorded)}
    asked |= {"temperature": temperature, "top_p": top_p, "seed": seed, "device": device}
    asked |= {"max_thought_tokens": max_thought_tokens, "max_answer_tokens": max_answer_tokens}
    asked["server"] = server(base_url, tokenizer, concurrency, api_key_env)
    data = {"path": path, "split": split, "revision": revision, "prompt": prompt, "problems": problems}
    asked["tasks"] = [{"name": name, **data} for name in task or []]
    directory, found = carry_out("diagnose", model, asked, out, resume)
    diagnoses = Run(directory).diagnoses()
    picture = save_diagnosis_picture(diagnoses, directory / PICTURE)
    if as_json:
        emit(summaries(found))
    for label, diagnosis in diagnoses.items():
        show_curve(label, diagnosis.as_dict())
        say.print(diagnosis.conclusion, style="bold", markup=False)
    say.print(f"Records: {directory / DIAGNOSES}, picture: {picture}", markup=False, highlight=False)
    recipe = "lab-s-grpo" if "arithmetic" in found else "RECIPE"
    say.print(f"Next: suffice train {recipe} --set model.path={diagnosis.model}", markup=False, highlight=False)


def carry_out(
    verb: Literal["eval", "diagnose"], model: str | None, asked: dict[str, Any], out: Path | None, resume: Path | None
) -> tuple[Path, Performed]:
    """Do an evaluation or a diagnosis, or go on with one: its directory and what was found."""
    from pydantic import ValidationError

    from suffice.config import explain
    from suffice.evaluation.perform import perform
    from suffice.evaluation.prepare import prepare
    from suffice.evaluation.request import Request, read_request
    from suffice.run.start import create_run, free_run, timestamped

    if resume is not None:
        if model or asked["tasks"] or out:
            raise SufficeError("--resume continues a run as it was: leave MODEL, --task and --out out")
        return resume, perform(prepare(read_request(resume, verb)), resume)
    if model is None or not (asked["tasks"] or asked.get("recorded")):
        raise SufficeError(f"give a model and a task: suffice {verb} MODEL --task TASK, or --resume with a directory")
    directory = free_run(out or timestamped(verb))
    try:
        request = Request(verb=verb, model=model, **asked)
    except ValidationError as error:
        raise SufficeError(explain(error, Request)) from None
    work = prepare(request)
    return directory, perform(work, create_run(directory))


def summaries(found: Performed) -> dict[str, Any]:
    """For `--json`: the summary of one evaluation, or those of several by label."""
    by_label = {label: each.summary.as_dict() for label, each in found.items()}
    return by_label if len(by_label) > 1 else next(iter(by_label.values()))


def server(base_url: str | None, tokenizer: str | None, concurrency: int, key_variable: str) -> dict[str, Any] | None:
    if base_url is None:
        if tokenizer:
            raise SufficeError("--tokenizer goes with --base-url: a local model brings its own")
        return None
    return {
        "base_url": base_url,
        "tokenizer": tokenizer,
        "concurrency": concurrency,
        "key_variable": key_variable,
    }


def whole_numbers(option: str, text: str) -> list[int]:
    """`0,1,2` as numbers from 0 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SufficeError(f"{option} {text!r} is not a comma-separated list of numbers, such as 0,1,2")
    return [int(part) for part in parts]


def numbers(option: str, text: str | None) -> list[int]:
    """`512,1024` as numbers above 0."""
    parts = text.split(",") if text is not None else []
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise SufficeError(f"{option} {text!r} is not a comma-separated list of numbers above 0, such as 512,1024")
    return [int(part) for part in parts]


@app.command()
def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
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
        say.print(f"Page: {page} (open it in a browser; it needs no network)", markup=False, highlight=False)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")], as_json: Json = False) -> None:
    """Write a run's HTML report."""
    from suffice.report import write_report

    page = write_report(run)
    if as_json:
        emit({"report": str(page)})
    say.print(f"Report: {page} (open it in a browser; it needs no network)", markup=False, highlight=False)


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(help="The directory of a training run.")],
    once: Annotated[bool, typer.Option("--once", help="Print the state it is in and stop.")] = False,
) -> None:
    """Follow a training run until it is complete; Ctrl-C ends the watching, not the run."""
    from suffice.watch import watch as watch_run

    watch_run(run, say, once=once)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The directory of a training run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the model; default RUN/export.")] = None,
    checkpoint: Annotated[
        int | None, typer.Option("--checkpoint", min=1, help="Its step; default: the guard's choice, else the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model to serve or share: weights, tokenizer, generation config, model card."""
    from suffice.export import export as export_model

    exported = export_model(run, out, checkpoint)
    if as_json:
        emit({"export": str(exported.folder), "step": exported.step, "serve": exported.serve})
    say.print(f"Exported: {exported.folder}, step {exported.step}{exported.why}", markup=False, highlight=False)
    say.print(f"Next: {exported.serve}", markup=False, highlight=False)


@app.command()
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(help="Also what this recipe needs and will cost: a .toml file or a packaged name.")
    ] = None,
    overrides: Set = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Kind of GPU to estimate for, such as H100.")] = None,
    mean_thought: Annotated[
        float | None, typer.Option("--mean-thought", min=1, help="Tokens of a thought; default half of its budget.")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option("--tokens-per-second", min=1, help="That one GPU samples, if you have measured it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, devices, memory, disk, the shipped model, the grader; or what a recipe needs."""
    from suffice import doctor as doing

    estimate = None
    if recipe is None:
        if overrides or gpu or mean_thought or tokens_per_second:
            raise SufficeError("these options are about a recipe: give a recipe, as in suffice doctor lab-s-grpo")
        findings = doing.examine()
    else:
        from suffice.config import load_recipe

        resolved = load_recipe(recipe, overrides or [])
        findings, estimate = doing.examine_recipe(
            resolved, gpu=gpu, mean_thought=mean_thought, tokens_per_second=tokens_per_second
        )
    if as_json:
        plain = [finding._asdict() for finding in findings]
        emit(plain if recipe is None else {"findings": plain, "estimate": estimate and estimate.as_dict()})
    for finding in findings:
        mark = "[green]ok  [/green]" if finding.ok else "[red]fail[/red]"
        say.print(mark, end=" ")
        say.print(f"{finding.what}: {finding.found}", markup=False, highlight=False)
    for what, how_much in doing.said_of(estimate) if estimate else ():
        say.print(f"     {what}: {how_much}", markup=False, highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(2)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(metavar="PLAN", help="A plan (.toml or packaged); with --methods a recipe.")],
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Compare these, such as grpo,s-grpo, on the recipe's model and task."),
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Instead of the plan's, such as 0,1,2.")] = None,
    overrides: Set = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Cells at a time; default one per core.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory; default runs/bench-<plan>, to go on in.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Train several arms with several seeds, evaluate all alike, and compare them; what is done already stands."""
    import os

    from suffice.bench.plan import methods_plan, read_plan, resolve, with_overrides, with_seeds

    plan = with_overrides(methods_plan(what, methods.split(",")) if methods else read_plan(what), overrides or [])
    if seeds is not None:
        plan = with_seeds(plan, whole_numbers("--seeds", seeds))
    planned = resolve(plan)
    if dry_run:
        for cell in planned.cells:
            say.print(f"{cell.folder}  steps {', '.join(map(str, cell.at))}", markup=False, highlight=False)
        return
    from suffice.bench import record
    from suffice.bench.run import run_bench
    from suffice.run.layout import RUNS

    out = out or Path(RUNS) / f"bench-{Path(what).stem}"
    try:
        failed = run_bench(planned, out, jobs or os.cpu_count() or 1)
    except Interrupted:
        record(planned, out, {})
        raise
    result = record(planned, out, failed)
    if as_json:
        emit(result.as_dict())
    show_arms(result, out)
    if failed:
        raise typer.Exit(2)


@app.command()
def demo(
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The main job on the embedded micro reasoner: diagnose, train with S-GRPO, evaluate, report. About two minutes."""
    from suffice.demo import run_demo
    from suffice.run.start import timestamped

    result = run_demo(out or timestamped("demo"), seed)
    if as_json:
        emit(result)
    show_demo(result)


@lab.command("build")
def lab_build(
    out: Annotated[
        Path | None, typer.Argument(help="Folder for the trained base; default runs/lab-<task>.", show_default=False)
    ] = None,
    task: Annotated[
        str, typer.Option("--task", help="arithmetic, ballots, ballots-4, ballots-easy or sums.")
    ] = "arithmetic",
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Default: the task's; fewer make a weaker base.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Train a base model of the lab from nothing, in about three minutes on one core."""
    import torch

    from suffice.lab import build
    from suffice.lab.training import course
    from suffice.run.layout import RUNS
    from suffice.run.progress import progress

    out, recipe = out or Path(RUNS) / f"lab-{task}", course(task).recipe
    recipe = replace(recipe, steps=steps or recipe.steps)
    torch.set_num_threads(1)  # a model this small gains nothing from more
    with progress("build the base", recipe.steps) as advance:
        build(out, seed, recipe, progress=lambda step, loss: advance(1, f"loss {loss:.3f}"), task=task)
    say.print(f"Built: {out}", markup=False, highlight=False)
    say.print(f"Next: suffice diagnose {out} --task {task} --max-thought-tokens 256", markup=False, highlight=False)


@lab.command("bench")
def lab_bench(
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated seeds.")] = "0,1,2",
    overrides: Set = None,
    recipe: Annotated[str, typer.Option("--recipe")] = "lab-s-grpo",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Train a lab recipe with several seeds, evaluate each before and after, and show all of them."""
    from suffice.lab.bench import bench
    from suffice.run.start import timestamped

    try:
        chosen = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        chosen = []
    if not chosen or len(set(chosen)) < len(chosen):
        raise SufficeError(f"--seeds {seeds!r} is not a comma-separated list of different numbers, for example 0,1,2")
    result = bench(recipe, chosen, overrides or [], out or timestamped("lab-bench"))
    if as_json:
        emit(result)
    show_bench(result)


# ---------------------------------------------------------------------------------------------------- tables


def with_interval(
    figure: dict[str, float], scale: float = 1.0, signed: bool = False, key: str = "mean", digits: int = 1
) -> str:
    """`61.2 (59.0 … 63.4)`, or the mean alone where no interval could be had."""
    if figure[key] is None:
        return "n/a"
    plus = "+" if signed else ""
    shape = f"{plus}.{digits}f"
    mean = f"{scale * figure[key]:{shape}}"
    return (
        mean
        if figure["low"] is None
        else f"{mean} ({scale * figure['low']:{shape}} … {scale * figure['high']:{shape}})"
    )


def show_metrics(summaries: dict[str, dict[str, Any]]) -> None:
    counted = {summary.get("token_counts", "tokenizer") for summary in summaries.values()} - {"tokenizer"}
    source = {"server": "; tokens as the server counts them", "characters": "; tokens split by characters"}
    caption = "95 % intervals, clustered by question" + "".join(source[each] for each in sorted(counted))
    table = Table("", *summaries, caption=caption)
    for name, label, scale in (
        ("accuracy", "accuracy, %", 100),
        ("thought_tokens", "thinking tokens", 1),
        ("thought_tokens_correct", "… where correct", 1),
        ("answer_tokens", "answer tokens", 1),
        ("truncated", "cut by a limit, %", 100),
        ("unclosed", "thought not closed, %", 100),
        ("unparsed", "answer not parsed, %", 100),
    ):
        table.add_row(label, *(with_interval(s["metrics"][name], scale) for s in summaries.values()))
    say.print(table)


def show_stops(summaries: dict[str, dict[str, Any]]) -> None:
    table = Table("stopped without training", "accuracy, %", "thinking tokens", "with answers and trials")
    for label, summary in summaries.items():
        metrics = summary["metrics"]
        table.add_row(
            label.replace("@", " "),
            with_interval(metrics["accuracy"], 100),
            *(f"{metrics[name]['mean']:.1f}" for name in ("thought_tokens", "tokens")),
        )
    say.print(table)
    if not any("@deer" in label for label in summaries):
        say.print("DEER is left out: it needs log-probabilities, and this server gives none with forced answers.")


def show_comparison(found: dict[str, Any]) -> None:
    """One table for all tasks as the papers print it, or one a task where the terminal is too narrow for that."""
    tasks = {task: each["rows"] for task, each in found["tasks"].items()}
    overall = {"overall": found["overall"]} if found["overall"] else {}
    table = papers_table(tasks | overall)
    if say.measure(table, options=say.options.update(max_width=1000)).maximum <= say.width:
        say.print(table)
    else:
        for task, rows in (tasks | overall).items():
            say.print(papers_table({task: rows}))
    lines = [f"Not compared: only {', '.join(names)} has {task}" for task, names in found["left_out"].items()]
    for task, each in found["tasks"].items():
        for row in each["rows"]:
            if row["change"] and not row["variant"]:
                accuracy = with_interval(row["change"]["accuracy"], 100, signed=True, key="difference")
                thought = with_interval(row["change"]["thought_tokens_change"], 100, signed=True)
                lines.append(f"{task}, {row['side']}: paired, accuracy {accuracy} points, thinking tokens {thought} %")
        for side, contest in each["outcomes"].items():
            lines.append(f"{task}, {side}: {contest['sentence']}")
        for key, values in each["protocols"].items():
            said = ", ".join(f"{value} for {side}" for side, value in values.items())
            lines.append(f"{task}: sampled differently, {key} {said}")
    for line in lines:
        say.print(line, markup=False, highlight=False)


def papers_table(tasks: dict[str, list[dict[str, Any]]]) -> Table:
    """Rows of a comparison by task, each with accuracy, generated tokens and their part of the first row's."""
    table = Table(caption="Acc %, generated tokens, CR % of the first row's; * on the Pareto front", show_edge=False)
    table.add_column("")
    for task in tasks:
        for i, name in enumerate(("Acc", "Tok", "CR")):
            table.add_column(f"{'' if i else task}\n{name}", justify="right", no_wrap=True)
    by_task = [{(row["side"], row["variant"]): row for row in rows} for rows in tasks.values()]
    for side, variant in dict.fromkeys(name for rows in by_task for name in rows):
        cells = [cell for rows in by_task for cell in papers_cells(rows.get((side, variant)))]
        table.add_row(Text(f"  {variant}" if variant else side), *cells)
    return table


def papers_cells(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["–"] * 3
    mark = "*" if row.get("pareto") else " "
    compression = row["compression"]["mean"]
    return [
        f"{100 * row['metrics']['accuracy']['mean']:.1f}{mark}",
        f"{row['metrics']['tokens']['mean']:,.0f}",
        "n/a" if compression is None else f"{100 * compression:.1f}",
    ]


def show_curve(label: str, summary: dict[str, Any]) -> None:
    table = Table(
        "thought kept", "thinking tokens", "accuracy, %", "lost by thinking on, %", "mended by it, %", title=label
    )
    for point in summary["curve"]:
        table.add_row(
            f"{point['fraction']:.0%}",
            f"{point['thought_tokens']:.1f}",
            *(with_interval(point[name], 100) for name in ("accuracy", "lost", "mended")),
        )
    say.print(table)
    if "saveable_cost" in summary:
        say.print(f"saveable per 1,000 answers, at your price: {with_interval(summary['saveable_cost'], digits=2)}")


def show_demo(result: dict[str, Any]) -> None:
    table = Table(
        "held-out problems", "before", "after", "paired change", caption="95 % intervals, clustered by question"
    )
    for kind in ("sampled", "greedy"):
        before, after, change = (result[kind][key] for key in ("before", "after", "change"))
        table.add_row(
            f"thinking tokens, {kind}",
            with_interval(before["thought_tokens"]),
            with_interval(after["thought_tokens"]),
            with_interval(change["thought_tokens_change"], 100, signed=True) + " %",
        )
        table.add_row(
            f"accuracy, {kind}, %",
            with_interval(before["accuracy"], 100),
            with_interval(after["accuracy"], 100),
            with_interval(change["accuracy"], 100, signed=True, key="difference") + " points",
        )
    say.print(f"Before: {result['diagnosis_before']}", markup=False)
    say.print(f"After:  {result['diagnosis_after']}", markup=False)
    say.print(table)
    say.print(f"{result['seconds']:.0f} s in all. Report: {result['report']}", markup=False, highlight=False)
    say.print("Next, with your own model: suffice diagnose MODEL --task gsm8k", markup=False, highlight=False)


def show_bench(result: dict[str, Any]) -> None:
    table = Table(
        "seed", "thinking tokens", "change, %", "accuracy, points", "greedy tokens, %", "greedy accuracy, points"
    )
    for row in result["seeds"]:
        change = row["change"]
        table.add_row(
            str(row["seed"]),
            f"{row['before']['thought_tokens']['mean']:.1f} → {row['after']['thought_tokens']['mean']:.1f}",
            with_interval(change["thought_tokens_change"], 100, signed=True),
            with_interval(change["accuracy"], 100, signed=True, key="difference"),
            with_interval(change["greedy"]["thought_tokens_change"], 100, signed=True),
            with_interval(change["greedy"]["accuracy"], 100, signed=True, key="difference"),
        )
    say.print(table)
    say.print(f"Recorded: {result['record']}", markup=False, highlight=False)


def show_arms(result: BenchFound, out: Path) -> None:
    from suffice.bench.tables import CAPTION, blocks, notes
    from suffice.run.layout import BENCH

    for block in blocks(result):
        table = Table(*block.heads, title=block.title, title_justify="left", show_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in block.rows:
            table.add_row(*map(Text, row))
        say.print(table)
    for line in [CAPTION, *notes(result), f"Recorded: {out / BENCH}; tables and figures beside it"]:
        say.print(line, markup=False, highlight=False)
