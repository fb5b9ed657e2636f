"""The verbs. Each imports what it needs when it is called: `laconic --help` loads neither torch nor transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from laconic.errors import Interrupted, LaconicError

if TYPE_CHECKING:
    from laconic.groups import Problem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach reasoning language models to stop thinking when they know.",
)
lab = typer.Typer(no_args_is_help=True, help="The lab: a micro reasoner that overthinks, and a task to train it on.")
app.add_typer(lab, name="lab")
say = Console(soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Out = Annotated[Path | None, typer.Option("--out", help="Directory for the results; default runs/<verb>-<time>.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a recipe key: section.key=value.")]
Model = Annotated[str, typer.Argument(help="Checkpoint folder, run directory, hub id, or lab/arithmetic.")]
Task = Annotated[str, typer.Option("--task", help="Task to sample problems from.")]
DataPath = Annotated[str | None, typer.Option("--path", help="Local file or folder of the task's format.")]
Split = Annotated[str, typer.Option("--split")]
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


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    complain = Console(stderr=True, soft_wrap=True)
    say.stderr = False
    try:
        app()
    except Interrupted as stop:
        complain.print(str(stop), markup=False, highlight=False)
        sys.exit(130)
    except LaconicError as error:
        complain.print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)


def emit(value: Any) -> None:
    """A result for other programs: alone on standard output, what is said to people goes to standard error."""
    say.stderr = True
    print(json.dumps(value, indent=2, ensure_ascii=False))


@app.command()
def methods(as_json: Json = False) -> None:
    """List the training methods: paper, formula, parameters."""
    from laconic.methods import METHODS

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
                for name, method in METHODS.items()
            }
        )
        return
    for name, method in METHODS.items():
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train a model by a recipe."""
    from laconic.config import load_recipe, recipe_names

    if (recipe is None) == (resume is None):
        raise LaconicError(
            f"give a recipe ({', '.join(recipe_names())} or a .toml file), or --resume with a run directory"
        )
    if resume is not None:
        if not (resume / "recipe.toml").is_file():
            raise LaconicError(f"{resume} is not a run directory: it holds no recipe.toml")
        if overrides or out:
            raise LaconicError("--resume continues a run as it was: --set and --out do not go with it")
        resolved = load_recipe(str(resume / "recipe.toml"))
    else:
        assert recipe is not None
        resolved = load_recipe(recipe, overrides or [])
    if dry_run:
        print(resolved.dump(), end="")
        return
    from laconic.engines.local import train as train_locally
    from laconic.runs import free_run, timestamped

    run = resume or free_run(out or resolved.run.dir or timestamped(Path(str(recipe)).stem))
    checkpoint = train_locally(resolved, run, resume=resume is not None)
    say.print(f"Trained: {checkpoint}", markup=False, highlight=False)
    say.print(f"Next: laconic report {run}", markup=False, highlight=False)


@app.command("eval")
def evaluate(
    model: Model,
    task: Task,
    path: DataPath = None,
    split: Split = "test",
    problems: Count = None,
    samples: Samples = 4,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_thought_tokens: ThoughtBudget = None,
    max_answer_tokens: AnswerBudget = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model: accuracy and tokens, each with a question-clustered 95 % interval."""
    from laconic.evaluation.protocol import Protocol, write_evaluation
    from laconic.evaluation.protocol import evaluate as run_evaluation
    from laconic.grading import Grader
    from laconic.runs import free_run, fresh_run, timestamped
    from laconic.tasks import load_task

    directory = free_run(out or timestamped("eval"))
    chosen = load_task(task, path=path, split=split, limit=problems, seed=seed)
    loaded, chat, budgets = prepare(model, device, chosen, max_thought_tokens, max_answer_tokens)
    with fresh_run(directory), Grader() as grader:
        protocol = Protocol(samples, temperature, top_p, *budgets, seed)
        evaluation = run_evaluation(loaded, chat, chosen, protocol, grader, model_name=model)
        write_evaluation(directory / "evaluations" / "model", evaluation)
    if as_json:
        emit(evaluation.summary)
    show_metrics({model: evaluation.summary})
    say.print(f"Records: {directory / 'evaluations' / 'model'}", markup=False, highlight=False)
    say.print(
        f"Next: laconic compare {directory} ANOTHER, or laconic report {directory}", markup=False, highlight=False
    )


@app.command()
def diagnose(
    model: Model,
    task: Task,
    path: DataPath = None,
    split: Split = "test",
    problems: Count = 200,
    samples: Samples = 1,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_thought_tokens: ThoughtBudget = None,
    max_answer_tokens: AnswerBudget = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure how much of a model's thinking comes after it knows: the forced-exit curve."""
    from laconic.evaluation.diagnose import diagnose as run_diagnosis
    from laconic.evaluation.protocol import Protocol, check_questions, write_evaluation
    from laconic.grading import Grader
    from laconic.report import save_diagnosis_picture
    from laconic.runs import free_run, fresh_run, timestamped
    from laconic.tasks import load_task

    directory = free_run(out or timestamped("diagnose"))
    chosen = load_task(task, path=path, split=split, limit=problems, seed=seed)
    check_questions(chosen)
    loaded, chat, budgets = prepare(model, device, chosen, max_thought_tokens, max_answer_tokens)
    with fresh_run(directory), Grader() as grader:
        protocol = Protocol(samples, temperature, top_p, *budgets, seed)
        diagnosis = run_diagnosis(loaded, chat, chosen, protocol, grader, model_name=model)
        write_evaluation(directory / "diagnosis" / "model", diagnosis)
        picture = save_diagnosis_picture({model: diagnosis.summary}, directory / "diagnosis.png")
    if as_json:
        emit(diagnosis.summary)
    show_curve(diagnosis.summary)
    say.print(diagnosis.summary["verdict"], style="bold", markup=False)
    say.print(f"Records: {directory / 'diagnosis' / 'model'}, picture: {picture}", markup=False, highlight=False)
    say.print(f"Next: laconic train lab-s-grpo --set model.path={model}", markup=False, highlight=False)


def prepare(
    model: str, device: str, problems: list[Problem], thought: int | None, answer: int | None
) -> tuple[Any, Any, tuple[int, int]]:
    """Model, chat, and budgets (thought, answer) as asked or as suits the model; checked before any sampling."""
    from laconic.config import DEFAULT_INDUCER
    from laconic.engines.local.model import check_positions, load_chat, load_model, set_threads, suitable_budgets

    chat = load_chat(model, DEFAULT_INDUCER)
    loaded = load_model(model, device=device)
    set_threads(loaded)
    budgets = suitable_budgets(loaded, chat, problems, thought, answer)
    check_positions(loaded, chat, problems, *budgets)
    return loaded, chat, budgets


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="What `laconic eval` wrote, or one of its evaluation folders.")],
    after: Annotated[Path, typer.Argument(help="The same, of the other model.")],
    as_json: Json = False,
) -> None:
    """Compare two evaluations of the same questions, paired."""
    from laconic.evaluation.compare import compare as compare_paired
    from laconic.evaluation.protocol import find_evaluation

    first, second = find_evaluation(before), find_evaluation(after)
    found = compare_paired(first, second)
    if as_json:
        emit(found)
    show_metrics({str(before): first.summary, str(after): second.summary})
    show_difference(found)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")], as_json: Json = False) -> None:
    """Write a run's HTML report."""
    from laconic.report import write_report

    page = write_report(run)
    if as_json:
        emit({"report": str(page)})
    say.print(f"Report: {page} (open it in a browser; it needs no network)", markup=False, highlight=False)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, devices, memory, disk, the shipped model, the grader."""
    from laconic.doctor import examine

    findings = examine()
    if as_json:
        emit([finding._asdict() for finding in findings])
    for finding in findings:
        mark = "[green]ok  [/green]" if finding.ok else "[red]fail[/red]"
        say.print(f"{mark} {finding.what}: {finding.found}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(2)


@app.command()
def demo(
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The main job on the embedded micro reasoner: diagnose, train with S-GRPO, evaluate, report. About two minutes."""
    from laconic.demo import run_demo
    from laconic.runs import timestamped

    result = run_demo(out or timestamped("demo"), seed)
    if as_json:
        emit(result)
    show_demo(result)


@lab.command("build")
def lab_build(
    out: Annotated[Path, typer.Argument(help="Folder for the trained base.")] = Path("runs/lab-arithmetic"),
    seed: Seed = 0,
) -> None:
    """Train the lab's base model from nothing, in about three minutes on one core."""
    import torch

    from laconic.lab import build
    from laconic.lab.training import BaseRecipe
    from laconic.progress import progress

    torch.set_num_threads(1)  # a model this small gains nothing from more
    with progress("build the base", BaseRecipe().steps) as advance:
        build(out, seed, progress=lambda step, loss: advance(1, f"loss {loss:.3f}"))
    say.print(f"Built: {out}", markup=False, highlight=False)
    say.print(f"Next: laconic diagnose {out} --task arithmetic --max-thought-tokens 256", markup=False, highlight=False)


@lab.command("bench")
def lab_bench(
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated seeds.")] = "0,1,2",
    overrides: Set = None,
    recipe: Annotated[str, typer.Option("--recipe")] = "lab-s-grpo",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Train a lab recipe with several seeds, evaluate each before and after, and show all of them."""
    from laconic.lab.bench import bench
    from laconic.runs import timestamped

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise LaconicError(f"--seeds {seeds!r} is not a comma-separated list of different numbers, for example 0,1,2")
    result = bench(recipe, numbers, overrides or [], out or timestamped("lab-bench"))
    if as_json:
        emit(result)
    show_bench(result)


# ---------------------------------------------------------------------------------------------------- tables


def with_interval(figure: dict[str, float], scale: float = 1.0, signed: bool = False, key: str = "mean") -> str:
    """`61.2 (59.0 … 63.4)`, or the mean alone where no interval could be had."""
    if figure[key] is None:
        return "n/a"
    plus = "+" if signed else ""
    mean = f"{scale * figure[key]:{plus}.1f}"
    return (
        mean
        if figure["low"] is None
        else f"{mean} ({scale * figure['low']:{plus}.1f} … {scale * figure['high']:{plus}.1f})"
    )


def show_metrics(summaries: dict[str, dict[str, Any]]) -> None:
    table = Table("", *summaries, caption="95 % intervals, clustered by question")
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


def show_difference(found: dict[str, Any]) -> None:
    accuracy = with_interval(found["accuracy"], 100, signed=True, key="difference")
    change = with_interval(found["thought_tokens_change"], 100, signed=True)
    say.print(f"paired: accuracy {accuracy} points, thinking tokens {change} %", markup=False, highlight=False)


def show_curve(summary: dict[str, Any]) -> None:
    table = Table("thought kept", "thinking tokens", "accuracy, %")
    for point in summary["curve"]:
        table.add_row(
            f"{point['fraction']:.0%}", f"{point['thought_tokens']:.1f}", with_interval(point["accuracy"], 100)
        )
    say.print(table)


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
    say.print("Next, with your own model: laconic diagnose MODEL --task gsm8k", markup=False, highlight=False)


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
