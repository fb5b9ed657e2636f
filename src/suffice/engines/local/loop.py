"""A run of the local engine: steps, evaluations, checkpoints, and stopping in good order."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from suffice.config import Recipe
from suffice.engines.local.build import build_engine, load_eval_problems
from suffice.engines.local.engine import Engine, training_dtype
from suffice.engines.local.keeper import Keeper
from suffice.engines.trackers import Trackers
from suffice.errors import Interrupted, ModelError, NonFiniteError, RunError
from suffice.evaluation.compare import compare
from suffice.evaluation.evaluate import evaluate
from suffice.evaluation.local import LocalSource
from suffice.evaluation.source import Sampling
from suffice.grading import Grader
from suffice.groups import Group, Problem
from suffice.guard.rules import Guard
from suffice.model.checkpoint import latest_checkpoint, save_checkpoint
from suffice.model.load import load_model
from suffice.rollout.metrics import shown
from suffice.run.directory import Run
from suffice.run.files import read_json, read_jsonl, write_jsonl
from suffice.run.layout import (
    AFTER,
    BEFORE,
    CHOSEN,
    COMPARISON,
    DATA,
    EVALUATIONS,
    GUARD,
    MANIFEST,
    METRICS,
    NON_FINITE,
    RECIPE,
    ROLLOUTS,
    TRAINER,
    greedy,
    is_greedy,
    step_name,
    step_of,
)
from suffice.run.lock import locked
from suffice.run.progress import progress
from suffice.run.records import Comparison, Data, Step
from suffice.run.signals import stop_requests
from suffice.run.start import manifest, start_run
from suffice.tasks.provenance import check_unchanged, locate_data, shared

SHOWN_GROUPS = 2  # groups a step that rollouts.jsonl keeps


def train(recipe: Recipe, run: Path, *, resume: bool = False) -> Path:
    """Train a recipe in a run directory, made here unless it is one already; returns the checkpoint to keep.

    Model and data are loaded and checked before anything is made.
    With `train.eval_every` the model is evaluated before, every so many steps, and after, and the two ends compared.
    Resumed, it goes on from the newest good checkpoint, or from step 0 where there is none.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the step was finished and saved.
        RunError: another process works in the run, or its data have changed.
    """
    with ExitStack() as stack:
        if resume:
            stack.enter_context(locked(run))
        checkpoint = latest_checkpoint(run) if resume else None
        if checkpoint and is_finished(run, recipe, checkpoint):
            print(f"{run} is finished: nothing is left to do", file=sys.stderr)
            return Run(run).chosen_checkpoint() or checkpoint
        data = locate_data(recipe)
        if (run / DATA).exists():
            check_unchanged(run, data)
        trackers, grader = stack.enter_context(Trackers(recipe)), stack.enter_context(Grader())
        stopped = stack.enter_context(stop_requests())
        engine, start = build_engine(recipe, grader, checkpoint, stopped)
        held_out = load_eval_problems(recipe, engine.model, engine.chat) if recipe.train.eval_every else []
        if not resume:
            if not (run / RECIPE).exists():
                start_run(run, recipe.dump())
            stack.enter_context(locked(run))
            if (run / DATA).exists():
                raise RunError(f"another process began in {run} meanwhile; choose another directory with --out")
        forget_after(run, start, recipe.train.steps)
        if not (run / MANIFEST).exists():  # killed before it was written
            Run(run).write(manifest())
        if not (run / DATA).exists():
            Run(run).write(Data(**data, **shared(engine.problems.problems, held_out)))
        trackers.open(run, start)
        if held_out and start == 0:
            trackers.log(0, evaluate_now(engine, held_out, run, BEFORE))
        keeper = Keeper.of(engine, run, read_json(checkpoint / TRAINER).get("guard") if checkpoint else None)
        if start == 0 and keeper.begin():
            save(engine, run, 0, keeper.guard)
        steps = start if keeper.guard.stopped else take_steps(keeper, held_out, trackers, start, stopped)
        kept = keeper.finish(steps)
        if held_out:
            if kept != Run(run).checkpoint(steps):
                dtype = training_dtype(recipe) if recipe.model.lora else "float32"
                engine.model = load_model(
                    str(kept), device=recipe.model.device, dtype=dtype, revision=recipe.model.revision
                )
            trackers.log(steps, evaluate_now(engine, held_out, run, AFTER))
            Run(run).write(compare_ends(run))
    return kept


def take_steps(
    keeper: Keeper, held_out: Sequence[Problem], trackers: Trackers, start: int, stopped: Callable[[], bool]
) -> int:
    """The steps after `start`, to the recipe's end or to where the guard stops; the last of them.

    Raises:
        Interrupted: as `train`.
    """
    engine, run, train = keeper.engine, keeper.run, keeper.engine.recipe.train
    with progress(f"train {engine.recipe.method.name}", train.steps, done=start) as advance:
        for step in range(start + 1, train.steps + 1):
            metrics, groups = take_step(engine, run, step)
            if held_out and step % train.eval_every == 0 and step < train.steps:
                metrics |= evaluate_now(engine, held_out, run, step_name(step))
            metrics |= keeper.look(step, metrics)
            Run(run).append([Step.model_validate({"step": step, **metrics})])
            trackers.log(step, metrics)
            Run(run).append([shown(step, group, engine.chat) for group in groups[:SHOWN_GROUPS]])
            ends = step == train.steps or stopped() or keeper.guard.stopped
            if step % train.checkpoint_every == 0 or ends or keeper.due(step):
                save(engine, run, step, keeper.guard)
                keeper.tidy(step)
            advance(1, f"accuracy {metrics['accuracy']:.2f}, thinking tokens {metrics['thought_tokens']:.0f}")
            if keeper.guard.stopped:
                return step
            if stopped() and step < train.steps:
                raise Interrupted(f"stopped after step {step}; continue with: suffice train --resume {run}")
    return train.steps


def take_step(engine: Engine, run: Path, step: int) -> tuple[dict[str, float], list[Group]]:
    """One step of the engine.

    Raises:
        NonFiniteError: no update was made; the groups whose gradient is not finite are in `non-finite.jsonl`.
        ModelError: memory ran out.
    """
    try:
        return engine.step(step)
    except NonFiniteError as error:
        path = run / NON_FINITE
        write_jsonl(path, [shown(step, group, engine.chat).as_dict() for group in error.groups])
        raise NonFiniteError(f"step {step}: {error} (whose it is: {path})") from None
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "DefaultCPUAllocator" not in str(error):
            raise
        cache, batch = engine.recipe.rollout.cache_gb, engine.recipe.train.micro_batch_tokens
        raise ModelError(
            f"step {step} ran out of memory; if it was sampling, lower rollout.cache_gb (now {cache:g}), if updating, "
            f"train.micro_batch_tokens (now {batch}) or set model.gradient_checkpointing; suffice doctor "
            f"{run / RECIPE} estimates both; then resume"
        ) from error


def is_finished(run: Path, recipe: Recipe, checkpoint: Path) -> bool:
    """Whether the last step is saved, or a checkpoint chosen by the guard, and, if the run evaluates, the two ends are
    compared."""
    last = checkpoint == Run(run).checkpoint(recipe.train.steps) and not recipe.guard.probes
    return (last or (run / CHOSEN).exists()) and (not recipe.train.eval_every or (run / COMPARISON).exists())


def forget_after(run: Path, step: int, steps: int) -> None:
    """Drop the log lines and evaluations of steps, of `steps` in all, that a resumed run will do again."""
    for name in (METRICS, ROLLOUTS, GUARD):
        if (run / name).exists():
            write_jsonl(run / name, [line for line in read_jsonl(run / name) if line["step"] <= step])
    folders = [*(run / EVALUATIONS).glob("*")]
    later = [each for each in folders if (step_of(each.name.removesuffix(greedy(""))) or 0) > step]
    if step < steps:
        later += [each for each in folders if each.name in (AFTER, greedy(AFTER))]
        (run / COMPARISON).unlink(missing_ok=True)
        (run / CHOSEN).unlink(missing_ok=True)
    for folder in later:
        shutil.rmtree(folder)


def compare_ends(run: Path) -> Comparison:
    """After minus before, sampled (the primary figure) and greedy."""
    before, after = (Run(run).evaluation(label, texts=False) for label in (BEFORE, AFTER))
    cold_before, cold_after = (Run(run).evaluation(greedy(label), texts=False) for label in (BEFORE, AFTER))
    return Comparison(**dict(compare(before, after)), greedy=compare(cold_before, cold_after))


def evaluate_now(engine: Engine, problems: Sequence[Problem], run: Path, label: str) -> dict[str, float]:
    """The recipe's evaluation, sampled and greedy, written to `evaluations/<label>` and `<label>-greedy`.

    What is there already was written by an earlier process from the same state, and stands.
    """
    sampled = Sampling.of(engine.recipe.eval, cache_gb=engine.recipe.rollout.cache_gb)
    engine.model.eval()
    found: dict[str, float] = {}
    for name, protocol in ((label, sampled), (greedy(label), replace(sampled, temperature=0.0, samples=1))):
        if Run(run).is_evaluated(name):
            evaluation = Run(run).evaluation(name)
        else:
            with engine.precision():
                evaluation = evaluate(LocalSource(name, engine.model, engine.chat), problems, protocol, engine.grader)
            Run(run).write_evaluation(name, evaluation)
        prefix = "eval_greedy" if is_greedy(name) else "eval"
        metrics = evaluation.summary.metrics
        found |= {f"{prefix}_accuracy": metrics.accuracy.mean, f"{prefix}_thought_tokens": metrics.thought_tokens.mean}
    return found


def save(engine: Engine, run: Path, step: int, guard: Guard) -> None:
    state = {"drawn": engine.problems.drawn, "method": engine.method.state_dict(), "guard": guard.state_dict()}
    save_checkpoint(run, step, engine.model, engine.chat.tokenizer, engine.optimizer, state)
