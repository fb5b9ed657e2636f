"""The local engine in a session: its steps one after the other, each judged by the guard, logged and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from suffice.config import ModelSection, Recipe
from suffice.engines.local.build import build_engine
from suffice.engines.local.engine import Engine
from suffice.engines.local.keeper import Keeper
from suffice.engines.policy import Policy, weights_dtype
from suffice.engines.session import Figures, Saved, Session, Steps, Stopped
from suffice.errors import ModelError, NonFiniteError
from suffice.grading import Grader
from suffice.groups import Group, Problem
from suffice.guard.rules import Guard
from suffice.model.checkpoint import latest_checkpoint
from suffice.model.load import load_model
from suffice.rollout.metrics import KEPT_GROUPS, rollout_line
from suffice.run.directory import Run
from suffice.run.files import read_json, write_jsonl
from suffice.run.layout import CHOSEN, NON_FINITE, RECIPE, TRAINER, step_name
from suffice.run.records import Step


def find(recipe: Recipe, run: Path) -> Saved:
    """The newest good checkpoint of a run. Over is what reached the last step, or, where the guard probes, what it has
    chosen from."""
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        return Saved()
    last = checkpoint == Run(run).checkpoint(recipe.train.steps) and not recipe.guard.probes
    return Saved(checkpoint, read_json(checkpoint / TRAINER)["step"], last or (run / CHOSEN).exists())


@dataclass
class LocalTraining:
    """An engine under its guard. `done` steps are saved, the whole run takes `steps`; `evaluate_every` may be 0."""

    engine: Engine
    keeper: Keeper
    section: ModelSection
    done: int
    evaluate_every: int

    @classmethod
    def load(cls, recipe: Recipe, run: Path, saved: Saved, grader: Grader, stopped: Stopped) -> Self:
        engine, done = build_engine(recipe, grader, saved.checkpoint, stopped)
        train = recipe.train
        keeper = Keeper(engine, run, Guard(recipe.guard), train.checkpoint_every, train.steps, recipe.model.path)
        if saved.checkpoint and (state := read_json(saved.checkpoint / TRAINER).get("guard")):
            keeper.load_state_dict(state)
        return cls(engine, keeper, recipe.model, done, train.eval_every)

    @property
    def problems(self) -> Sequence[Problem]:
        return self.engine.problems.problems

    @property
    def stopped(self) -> bool:
        return bool(self.keeper.guard.stopped)

    def policy(self, checkpoint: Path | None = None) -> Policy:
        """The last step's model is the one in memory."""
        policy, keeper = self.engine.policy, self.keeper
        if checkpoint is None or checkpoint == Run(keeper.run).checkpoint(self.done):
            return policy
        section = self.section
        model = load_model(
            str(checkpoint), device=section.device, dtype=weights_dtype(section), revision=section.revision
        )
        return replace(policy, model=model)

    def prepare(self, held_out: Sequence[Problem]) -> None:
        """All that this engine needs is in memory."""

    def steps(self, session: Session) -> Steps:
        engine, keeper, run = self.engine, self.keeper, self.keeper.run
        if self.stopped:  # before the run was resumed
            return
        if self.done == 0:
            keeper.begin()
        engine.follow(session.tell)
        for step in range(self.done + 1, keeper.steps + 1):
            metrics, groups = take_step(engine, run, step)
            if self.evaluate_every and step % self.evaluate_every == 0 and step < keeper.steps:
                metrics |= session.evaluate(engine.policy, step_name(step))
            metrics |= keeper.look(step, metrics)
            Run(run).append([Step.model_validate({"step": step, **metrics})])
            Run(run).append([rollout_line(step, group, engine.chat) for group in groups[:KEPT_GROUPS]])
            yield step, metrics
            ends = step == keeper.steps or session.stopped() or self.stopped
            if ends or step % keeper.every == 0 or keeper.due(step):
                keeper.save(step)
                self.done = step
            if ends:
                return

    def keep(self, step: int) -> Path:
        return self.keeper.choose(step)


def take_step(engine: Engine, run: Path, step: int) -> tuple[Figures, list[Group]]:
    """One step of the engine.

    Raises:
        NonFiniteError: no update was made; the groups whose gradient is not finite are in `non-finite.jsonl`.
        ModelError: memory ran out.
    """
    try:
        return engine.step(step)
    except NonFiniteError as error:
        path = run / NON_FINITE
        write_jsonl(path, [rollout_line(step, group, engine.chat).as_dict() for group in error.groups])
        raise NonFiniteError(f"step {step}: {error} (whose it is: {path})") from None
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "DefaultCPUAllocator" not in str(error):
            raise
        raise ModelError(
            f"step {step} ran out of memory; if it was sampling, lower rollout.cache_gb (now "
            f"{engine.sampler.cache_gb:g}), if updating, train.micro_batch_tokens (now "
            f"{engine.train.micro_batch_tokens}) or set model.gradient_checkpointing; suffice doctor "
            f"{run / RECIPE} estimates both; then resume"
        ) from error
