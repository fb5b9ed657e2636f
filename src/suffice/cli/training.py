"""The verbs that train: one recipe, several to compare, the demo, a base for the lab."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from suffice.cli.options import RESUMED, Json, Out, Resume, Seed, Set, numbers, refuse
from suffice.cli.screen import emit, tell
from suffice.cli.tables import show_arms, show_demo
from suffice.errors import Interrupted, SufficeError


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A .toml file or the name of a packaged recipe.")
    ] = None,
    overrides: Set = None,
    out: Out = None,
    resume: Resume = None,
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

    own: list[str] = []
    if resume is not None:
        refuse(context, RESUMED, but={"resume", "engine", "dry_run"})
        if not (resume / RECIPE).is_file():
            raise SufficeError(f"{resume} is not a run directory: it holds no {RECIPE}; start one with --out {resume}")
        was: Literal["local", "verl"] = "verl" if (resume / VERL_CONFIGURATION).exists() else "local"
        if engine not in (None, was):
            raise SufficeError(f"{resume} was trained with --engine {was}: leave --engine out to continue it")
        engine, resolved = was, load_recipe(str(resume / RECIPE))
    elif recipe is not None:
        if engine == "verl":
            own = [override for override in overrides or [] if override.startswith("verl.")]
        resolved = load_recipe(recipe, [override for override in overrides or [] if override not in own])
    else:
        raise SufficeError(
            f"give a recipe ({', '.join(recipe_names())} or a .toml file), or --resume with a run directory"
        )
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
    tell(f"Trained: {checkpoint}")
    tell(f"Next: suffice report {run}")


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
    from suffice.bench.plan import load_plan, methods_plan, resolve, with_overrides, with_seeds

    plan = load_plan(what) if methods is None else methods_plan(what, [each.strip() for each in methods.split(",")])
    plan = with_overrides(plan, overrides or [])
    if seeds is not None:
        plan = with_seeds(plan, numbers("--seeds", seeds))
    planned = resolve(plan)
    if dry_run:
        for cell in planned.cells:
            tell(f"{cell.folder}  steps {', '.join(map(str, cell.at))}")
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


def demo(seed: Seed = 0, out: Out = None, as_json: Json = False) -> None:
    """The main job on the embedded micro reasoner: diagnose, train with S-GRPO, evaluate, report. About two minutes."""
    from suffice.demo import run_demo
    from suffice.run.start import timestamped

    result = run_demo(out or timestamped("demo"), seed)
    if as_json:
        emit(result)
    show_demo(result)


def build_base(
    out: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="For the trained base; default runs/lab-<task>.")
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
    tell(f"Built: {out}")
    tell(f"Next: suffice diagnose {out} --task {task} --max-thought-tokens 256")
