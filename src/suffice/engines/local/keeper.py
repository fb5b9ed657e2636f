"""The guard at work in the local engine: it probes the model, rolls it back, and keeps the checkpoints it may need.

Kept are the recipe's own checkpoints, the newest, the last good one, and those that may still be chosen.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from suffice.config import Recipe
from suffice.engines.local.engine import Engine
from suffice.errors import RecipeError
from suffice.groups import Problem, Verdict
from suffice.guard.rules import RULE, Decision, Guard, Probe
from suffice.model.checkpoint import NAME, restore, step_folder
from suffice.model.load import load_model
from suffice.rollout import grade_groups
from suffice.rollout.decode import keyed
from suffice.run.chosen import Chosen
from suffice.run.files import append_jsonl, write_json

BASE_SAMPLES = 4  # a problem: every later probe is compared with the base


def set_aside(recipe: Recipe, problems: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """(problems to train on, problems to probe on), by the run's seed; none to probe on unless the guard does.

    Raises:
        RecipeError: too few are left to train on.
    """
    if not recipe.guard.probes:
        return list(problems), []
    count, least = recipe.guard.problems, recipe.train.problems_per_step
    if len(problems) < count + least:
        raise RecipeError(
            f"guard.problems = {count} of {len(problems)} training problems leave fewer than "
            f"train.problems_per_step = {least}; lower guard.problems, give more data, or set guard.action = warn"
        )
    aside = set(keyed(f"{recipe.run.seed}/guard").permutation(len(problems))[:count].tolist())
    return (
        [problem for i, problem in enumerate(problems) if i not in aside],
        [problems[i] for i in sorted(aside)],
    )


@dataclass
class Keeper:
    """A run under its guard; where that is off, nothing of it does anything."""

    engine: Engine
    run: Path
    guard: Guard

    @classmethod
    def of(cls, engine: Engine, run: Path, state: Mapping[str, Any] | None) -> Self:
        """The guard of a recipe at its start, or where the state in a checkpoint left it."""
        keeper = cls(engine, run, Guard(engine.recipe.guard))
        if state:
            keeper.guard.load_state_dict(state)
            for _ in range(keeper.guard.rollbacks):
                keeper.ease()
        return keeper

    def begin(self) -> bool:
        """Probe the base; whether a checkpoint of it is needed, to roll back to."""
        settings = self.guard.settings
        (self.run / "guard.jsonl").unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
        if settings.probes:
            probe, tokens = self.probe(BASE_SAMPLES)
            self.record(0, self.guard.observe(0, {}, probe), probe, {"tokens_guard": tokens})
        return settings.action == "roll back"

    def due(self, step: int) -> bool:
        """Whether the model is probed, and saved, after a step."""
        settings = self.guard.settings
        return settings.probes and (step % settings.every == 0 or step == self.engine.recipe.train.steps)

    def look(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Judge a step that was done, and roll back if need be; what its metrics should say of that."""
        if self.guard.settings.action == "off":
            return {}
        probe: Probe | None = None
        found: dict[str, float] = {}
        if self.due(step):
            probe, found["tokens_guard"] = self.probe(1)
        decision = self.guard.observe(step, metrics, probe)
        if decision.action == "roll back":
            found["rolled_back_to"] = self.roll_back()
        self.record(step, decision, probe, found)
        return found

    def record(self, step: int, decision: Decision, probe: Probe | None, found: Mapping[str, float]) -> None:
        if probe is not None:
            found = {"accuracy": probe.accuracy, "thought_tokens": probe.thought_tokens, **found}
        if "rolled_back_to" in found:
            found = {**found, "learning_rate": self.engine.update.train.learning_rate}
        tell(self.run, step, decision, found)

    def probe(self, samples: int) -> tuple[Probe, int]:
        """The model on the problems set aside, and the tokens that took. The random numbers are the same every time, so
        that two probes differ by the model alone as far as may be."""
        engine = self.engine
        count = engine.sampler.count
        before = count.prefill + count.decode
        engine.model.eval()
        with engine.precision():
            groups = engine.sampler.groups(engine.aside, samples, f"{engine.recipe.run.seed}/guard")
        grade_groups(groups, engine.chat, engine.grader)
        correct = {
            group.problem.id: [float(spine.verdict is Verdict.CORRECT) for spine in group.spines] for group in groups
        }
        thought = fmean(spine.thought_length for group in groups for spine in group.spines)
        return Probe(correct, thought), count.prefill + count.decode - before

    def roll_back(self) -> int:
        """To the weights, the optimizer and the method of the last good checkpoint, eased; its step."""
        engine, folder = self.engine, step_folder(self.run, self.guard.good)
        self.ease()
        engine.optimizer.state.clear()
        state = restore(folder, engine.model, engine.optimizer)
        if not engine.recipe.model.lora:  # adapters are restored with the optimizer, and the rest never changes
            engine.model.load_state_dict(load_model(str(folder), device="cpu", dtype="float32").state_dict())
        engine.method.load_state_dict(state["method"])
        return self.guard.good

    def ease(self) -> None:
        engine, factor = self.engine, self.guard.settings.ease
        engine.method = engine.method.eased(factor)
        rate = factor * engine.update.train.learning_rate
        engine.update.train = engine.update.train.model_copy(update={"learning_rate": rate})

    def tidy(self, step: int) -> None:
        """Remove the checkpoints that will not be needed after `step`."""
        if self.guard.settings.probes:
            self.keep({step, *self.guard.needed()})

    def keep(self, needed: Set[int]) -> None:
        """Remove all checkpoints but the recipe's own and those of the steps `needed`."""
        own = self.engine.recipe.train.checkpoint_every
        for folder in (self.run / "checkpoints").glob("step-*"):
            found = NAME.fullmatch(folder.name)
            if found and int(found[1]) not in needed and (int(found[1]) % own or found[1] == "000000"):
                shutil.rmtree(folder)

    def finish(self, step: int) -> Path:
        """The checkpoint to keep after the last step, in `chosen.json` if it was chosen: with a guard that probes the
        one that `choose` names, else the last."""
        settings, base = self.guard.settings, self.engine.recipe.model.path
        if not settings.probes:
            return step_folder(self.run, step)
        chosen = self.guard.chosen()
        self.keep({step, chosen.step})
        path = str(step_folder(self.run, chosen.step).relative_to(self.run)) if chosen.step else base
        rule = RULE.format(tolerance=100 * settings.tolerance)
        kept = Chosen(
            step=chosen.step, path=path, accuracy=chosen.accuracy, thought_tokens=chosen.thought_tokens, rule=rule
        )
        write_json(self.run / "chosen.json", kept.model_dump())
        if chosen.step == 0:
            say(f"training did not help: no checkpoint is shorter and as accurate; keep the base, {base}")
            return kept.checkpoint(self.run)
        say(
            f"chosen: step {chosen.step}, {100 * chosen.accuracy:.1f} % right at {chosen.thought_tokens:.1f} thinking "
            f"tokens on the {len(self.engine.aside)} problems set aside; suffice eval and export take it"
        )
        return kept.checkpoint(self.run)


def tell(run: Path, step: int, decision: Decision, found: Mapping[str, float]) -> None:
    """A line of guard.jsonl for every alarm and whatever else was `found`; an alarm is also said."""
    if decision.action == "go" and not found:
        return
    append_jsonl(run / "guard.jsonl", [{"step": step, **decision._asdict(), **found}])
    match decision.action:
        case "warn":
            say(f"step {step}: {decision.reason}")
        case "stop":
            say(f"stopped after step {step}: {decision.reason}")
        case "roll back":
            back, rate = found["rolled_back_to"], found["learning_rate"]
            say(f"step {step}: {decision.reason}; rolled back to step {back:g}, learning rate now {rate:g}")


def say(what: str) -> None:
    print(f"guard: {what}", file=sys.stderr)
