"""verl in a session: its own process takes and saves the steps, and is followed by the lines it logs."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from suffice.config import GuardSection, ModelSection, Recipe, RolloutSection, TrainSection
from suffice.engines.local.build import chat_and_problems
from suffice.engines.local.engine import Problems
from suffice.engines.local.passrate import PATIENCE, place_of
from suffice.engines.policy import Policy, precision
from suffice.engines.session import Saved, Session, Steps, Stopped
from suffice.engines.verl.data import write_problems
from suffice.engines.verl.installed import check_installed, check_runnable
from suffice.engines.verl.launch import check_gpus, check_ray, configuration, model_folder
from suffice.engines.verl.main import FAILED
from suffice.engines.verl.translate import OURS
from suffice.errors import RecipeError, RunError
from suffice.estimate import estimate
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.guard.log import tell
from suffice.guard.rules import Guard
from suffice.model.device import set_threads
from suffice.model.load import load_model, skeleton
from suffice.model.positions import check_positions
from suffice.model.vocabulary import chat_ids, check_ids
from suffice.objective.spine import check_config, fitting
from suffice.rollout import Chat
from suffice.run.directory import Run
from suffice.run.files import write_text
from suffice.run.layout import (
    TRAINING_PROBLEMS,
    VALIDATION_PROBLEMS,
    VERL,
    VERL_CONFIGURATION,
    VERL_LOG,
    VERL_STOP,
)
from suffice.run.records import Step

PLUGIN = "suffice.engines.verl.plugin"  # named, besides its entry point: verl is silent where that fails to load
MODULES = "VERL_USE_EXTERNAL_MODULES"
ENDING = 30.0  # seconds that verl has to end in good order


def find(recipe: Recipe, run: Path) -> Saved:
    """verl's last whole checkpoint. Over is what reached the last step, or where the guard stopped it."""
    marker = run / VERL / "latest_checkpointed_iteration.txt"
    if not marker.exists():
        return Saved()
    steps = int(marker.read_text())
    folder = Run(run).checkpoint(steps)
    ends = steps == recipe.train.steps or bool(replayed(recipe.guard, run, steps).stopped)
    return Saved(folder, steps, ends and folder.exists())


def replayed(section: GuardSection, run: Path, steps: int) -> Guard:
    """A guard that has seen the first steps of a run: verl's checkpoints do not hold its state."""
    guard = Guard(section)
    for line in Run(run).metrics() if steps else []:
        if line.step <= steps:
            guard.observe(line.step, line.figures())
    return guard


@dataclass
class VerlTraining:
    """A run that verl's process will work in. No weight is loaded here but to evaluate, where the recipe asks."""

    run: Path
    section: ModelSection
    train: TrainSection
    chat: Chat
    order: Problems
    guard: Guard
    done: int
    configuration: str

    @property
    def problems(self) -> Sequence[Problem]:
        return self.order.problems

    @property
    def stopped(self) -> bool:
        return bool(self.guard.stopped)

    def policy(self, checkpoint: Path | None = None) -> Policy:
        section = self.section
        source, revision = (str(checkpoint), None) if checkpoint else (section.path, section.revision)
        model = load_model(source, device=section.device, dtype="float32", revision=revision)
        set_threads(model, self.train.threads)
        return Policy(model, self.chat, lambda: precision(section))

    def prepare(self, held_out: Sequence[Problem]) -> None:
        """verl's configuration, by which a run is known to be verl's, and its data set."""
        train, run = self.train, self.run
        if not (run / VERL_CONFIGURATION).exists():
            write_text(run / VERL_CONFIGURATION, self.configuration)
        if not (run / VALIDATION_PROBLEMS).exists():
            drawn = self.order.draw(train.steps * train.problems_per_step)
            write_problems(run / TRAINING_PROBLEMS, drawn, "suffice")
            validation = held_out or drawn[: train.problems_per_step]
            write_problems(run / VALIDATION_PROBLEMS, validation, "suffice-plain")

    def steps(self, session: Session) -> Steps:
        """verl's process holds the run's lock too, should it outlive this one. The guard looks at the metrics of every
        step, and may ask verl to stop."""
        gc.collect()
        torch.cuda.empty_cache()  # of what was evaluated
        if self.stopped:  # before the run was resumed
            return
        stop, log, asked = self.run / VERL_STOP, self.run / VERL_LOG, False
        stop.unlink(missing_ok=True)
        command = [sys.executable, "-m", "suffice.engines.verl.main", str(self.run)]
        with log.open("a") as output:
            child = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=environment(),
                start_new_session=True,
                pass_fds=[session.lock],
            )
            try:
                while True:
                    ended = child.poll() is not None
                    for line in self.fresh_lines():
                        self.done, figures = line.step, line.figures()
                        tell(self.run, self.done, self.guard.observe(self.done, figures), {})
                        yield self.done, figures
                    if ended:
                        break
                    if (session.stopped() or self.stopped) and not asked:
                        asked = True
                        stop.touch()
                    time.sleep(0.5)
            finally:
                end(child)
                stop.unlink(missing_ok=True)
        if child.returncode:
            raise RunError(
                f"verl failed after step {self.done}: {last_words(log)}; see {log}, "
                f"then continue with: suffice train --resume {self.run}"
            )

    def fresh_lines(self) -> list[Step]:
        """The lines of metrics.jsonl after the last step that was seen."""
        return [line for line in Run(self.run).metrics() if line.step > self.done]

    def keep(self, step: int) -> Path:
        """The last one: nothing probes a model on verl."""
        return Run(self.run).checkpoint(step)


def load(
    overrides: Sequence[str], recipe: Recipe, run: Path, saved: Saved, grader: Grader, stopped: Stopped
) -> VerlTraining:
    """`overrides` are verl's own settings, of which a run that is resumed has its file."""
    check_installed()
    check_gpus()
    check_ray(recipe.cluster.nodes)
    from omegaconf import OmegaConf

    section, rollout = recipe.model, recipe.rollout
    check_evaluation(recipe)
    chat, problems = chat_and_problems(recipe, grader, stopped)
    model = skeleton(section.path, section.revision)
    check_fits(model, chat, problems, rollout)
    check_layout(model.config, recipe)
    begun = run / VERL_CONFIGURATION
    if begun.exists():
        config: Any = OmegaConf.load(begun)
    else:
        folder = model_folder(section, weights=True)
        config = configuration(recipe, run, chat, problems, overrides, model=folder)
    check_runnable(config)
    settings = str(OmegaConf.to_yaml(config))
    order, guard = Problems(problems, recipe.run.seed), replayed(recipe.guard, run, saved.steps)
    return VerlTraining(run, section, recipe.train, chat, order, guard, saved.steps, settings)


def check_evaluation(recipe: Recipe) -> None:
    """
    Raises:
        RecipeError: `[eval]` would take hours, by the estimate: one GPU evaluates here, with the local sampler.
    """
    if not recipe.train.eval_every:
        return
    if (place := place_of(recipe.model)) is None:
        return
    hours = estimate(recipe, *place).hours_evaluation
    if hours > PATIENCE:
        raise RecipeError(
            f"train.eval_every = {recipe.train.eval_every} would evaluate for about {hours:,.0f} hours with the local "
            "engine's sampler; set train.eval_every = 0, and evaluate the model before and the checkpoint after on a "
            "server: suffice eval --base-url …"
        )


def check_fits(model: Any, chat: Chat, problems: Sequence[Problem], rollout: RolloutSection) -> None:
    """
    Raises:
        ModelError, RecipeError: the vocabulary lacks a token of the chat, or the positions do not hold the longest
            member; what a config says of a model is enough to know.
    """
    check_ids(model, chat, chat_ids(chat))
    check_positions(model, chat, problems, rollout.max_thought_tokens, rollout.max_answer_tokens)


def check_layout(config: Any, recipe: Recipe) -> None:
    """What a model's config tells of it; the actor compares log-probs once it has the weights. Says where the update is
    in rows though the recipe does not ask for them.

    Raises:
        ModelError: the spine layout would be wrong for the model.
    """
    if recipe.layout_on_verl == "spine":
        with fitting(recipe.model.path):
            check_config(config)
    elif recipe.objective.layout == "spine" and recipe.group.exits:
        print(
            f"the update is in rows: train.updates_per_batch = {recipe.train.updates_per_batch}, and on verl the spine "
            "layout is right for one",
            file=sys.stderr,
        )


def environment() -> dict[str, str]:
    """Of verl's processes: this one's, with our plugin among the modules that verl loads."""
    modules = ",".join(filter(None, (os.environ.get(MODULES), PLUGIN)))
    return {**os.environ, "PYTHONUNBUFFERED": "1", "RAY_DEDUP_LOGS": "1", MODULES: modules, OURS: "1"}


def end(child: subprocess.Popen[bytes]) -> None:
    """End verl and, with it, the Ray it started."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(ENDING)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def last_words(log: Path) -> str:
    """Why verl failed, by the last line of its log."""
    for line in reversed(log.read_text(errors="replace").splitlines()[-200:]):
        if line.startswith(FAILED):
            return line.removeprefix(FAILED).rstrip(".")
    return "its process was killed"
