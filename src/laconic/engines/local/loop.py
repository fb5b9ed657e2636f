"""A run of the local engine: steps, evaluations, checkpoints, and stopping in good order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from laconic.config import Recipe
from laconic.engines.local.build import build_engine, load_eval_problems
from laconic.engines.local.checkpoint import latest_checkpoint, save_checkpoint, step_folder
from laconic.engines.local.data import check_unchanged, locate_data, shared
from laconic.engines.local.engine import Engine
from laconic.engines.local.metrics import shown
from laconic.engines.local.signals import stop_requests
from laconic.engines.local.trackers import Trackers
from laconic.errors import Interrupted, ModelError, NonFiniteError
from laconic.evaluation.compare import compare
from laconic.evaluation.local import LocalSource
from laconic.evaluation.protocol import Protocol, evaluate, read_evaluation, write_evaluation
from laconic.grading import Grader
from laconic.groups import Group, Problem
from laconic.progress import progress
from laconic.runs import append_jsonl, locked, read_jsonl, start_run, write_json, write_jsonl

SHOWN_GROUPS = 2  # groups a step that rollouts.jsonl keeps


def train(recipe: Recipe, run: Path, *, resume: bool = False) -> Path:
    """Train a recipe in a run directory, made here unless it is one already; returns the last checkpoint.

    Model and data are loaded and checked before anything is made.
    With `train.eval_every` the model is evaluated before, every so many steps, and after, and the two ends compared.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the step was finished and saved.
    """
    checkpoint = latest_checkpoint(run) if resume else None
    data = locate_data(recipe)
    if resume:
        check_unchanged(run, data)
    with ExitStack() as stack:
        trackers, grader = stack.enter_context(Trackers(recipe)), stack.enter_context(Grader())
        stopped = stack.enter_context(stop_requests())
        engine, start = build_engine(recipe, grader, checkpoint, stopped)
        held_out = load_eval_problems(recipe, engine) if recipe.train.eval_every else []
        if not resume and not (run / "recipe.toml").exists():
            start_run(run, recipe.dump())
        stack.enter_context(locked(run))
        if resume:
            forget_after(run, start)
        else:
            write_json(run / "data.json", data | shared(engine.problems.problems, held_out))
        trackers.open(run, start)
        if held_out and start == 0:
            trackers.log(0, evaluate_now(engine, held_out, run, "before"))
        steps = recipe.train.steps
        with progress(f"train {recipe.method.name}", steps, done=start) as advance:
            for step in range(start + 1, steps + 1):
                metrics, groups = take_step(engine, run, step)
                if held_out and step % recipe.train.eval_every == 0 and step < steps:
                    metrics |= evaluate_now(engine, held_out, run, f"step-{step:06d}")
                append_jsonl(run / "metrics.jsonl", [{"step": step, **metrics}])
                trackers.log(step, metrics)
                append_jsonl(
                    run / "rollouts.jsonl", [shown(step, group, engine.chat) for group in groups[:SHOWN_GROUPS]]
                )
                if step % recipe.train.checkpoint_every == 0 or step == steps or stopped():
                    save(engine, run, step)
                advance(1, f"accuracy {metrics['accuracy']:.2f}, thinking tokens {metrics['thought_tokens']:.0f}")
                if stopped() and step < steps:
                    raise Interrupted(f"stopped after step {step}; continue with: laconic train --resume {run}")
        if held_out:
            trackers.log(steps, evaluate_now(engine, held_out, run, "after"))
            write_json(run / "comparison.json", compare_ends(run))
    return step_folder(run, steps)


def take_step(engine: Engine, run: Path, step: int) -> tuple[dict[str, float], list[Group]]:
    """One step of the engine.

    Raises:
        NonFiniteError: no update was made; the groups whose gradient is not finite are in `non-finite.jsonl`.
        ModelError: memory ran out.
    """
    try:
        return engine.step(step)
    except NonFiniteError as error:
        path = run / "non-finite.jsonl"
        write_jsonl(path, [shown(step, group, engine.chat) for group in error.groups])
        raise NonFiniteError(f"step {step}: {error} (whose it is: {path})") from None
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "DefaultCPUAllocator" not in str(error):
            raise
        cache, batch = engine.recipe.rollout.cache_gb, engine.recipe.train.micro_batch_tokens
        raise ModelError(
            f"step {step} ran out of memory; if it was sampling, lower rollout.cache_gb (now {cache:g}), if updating, "
            f"train.micro_batch_tokens (now {batch}) or set model.gradient_checkpointing; laconic doctor "
            f"{run / 'recipe.toml'} estimates both; then resume"
        ) from error


def forget_after(run: Path, step: int) -> None:
    """Drop the log lines of steps that a resumed run will do again."""
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        if (run / name).exists():
            write_jsonl(run / name, [line for line in read_jsonl(run / name) if line["step"] <= step])


def compare_ends(run: Path) -> dict[str, Any]:
    """After minus before, sampled (the primary figure) and greedy."""
    ends = [read_evaluation(run / "evaluations" / label) for label in ("before", "after")]
    greedy = [read_evaluation(run / "evaluations" / f"{label}-greedy") for label in ("before", "after")]
    return compare(*ends) | {"greedy": compare(*greedy)}


def evaluate_now(engine: Engine, problems: Sequence[Problem], run: Path, label: str) -> dict[str, float]:
    """The recipe's evaluation, sampled and greedy, written to `evaluations/<label>` and `<label>-greedy`."""
    sampled = Protocol.of(engine.recipe.eval, cache_gb=engine.recipe.rollout.cache_gb)
    engine.model.eval()
    found: dict[str, float] = {}
    for name, protocol in ((label, sampled), (f"{label}-greedy", replace(sampled, temperature=0.0, samples=1))):
        with engine.precision():
            evaluation = evaluate(LocalSource(name, engine.model, engine.chat), problems, protocol, engine.grader)
        write_evaluation(run / "evaluations" / name, evaluation)
        prefix = "eval_greedy" if name.endswith("greedy") else "eval"
        found |= {
            f"{prefix}_{key}": evaluation.summary["metrics"][key]["mean"] for key in ("accuracy", "thought_tokens")
        }
    return found


def save(engine: Engine, run: Path, step: int) -> None:
    state = {"drawn": engine.problems.drawn, "method": engine.method.state_dict()}
    save_checkpoint(run, step, engine.model, engine.chat.tokenizer, engine.optimizer, state)
