"""The guard at work in the local engine: it probes the model, rolls it back, and keeps the checkpoints it may need.

Kept are the recipe's own checkpoints, the newest, the last good one, and those that may still be chosen.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from suffice.config import GuardSection
from suffice.engines.local.engine import Engine
from suffice.errors import RecipeError
from suffice.groups import Problem, Verdict
from suffice.guard.log import say, tell
from suffice.guard.rules import RULE, Decision, Guard, Probe
from suffice.interval import Interval
from suffice.numbers import interval
from suffice.rollout import grade_groups
from suffice.rollout.decode import keyed
from suffice.run.directory import Run
from suffice.run.layout import GUARD
from suffice.run.records import Chosen

BASE_SAMPLES = 4  # a problem: every later probe is compared with the base


def set_aside(
    guard: GuardSection, problems: Sequence[Problem], least: int, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """(problems to train on, problems to probe on), by the run's seed; none to probe on unless the guard does.

    Raises:
        RecipeError: fewer than `least`, a step's, are left to train on.
    """
    if not guard.probes:
        return list(problems), []
    if len(problems) < guard.problems + least:
        raise RecipeError(
            f"guard.problems = {guard.problems} of {len(problems)} training problems leave fewer than "
            f"train.problems_per_step = {least}; lower guard.problems, give more data, or set guard.action = warn"
        )
    aside = set(keyed(f"{seed}/guard").permutation(len(problems))[: guard.problems].tolist())
    return (
        [problem for i, problem in enumerate(problems) if i not in aside],
        [problems[i] for i in sorted(aside)],
    )


@dataclass
class Keeper:
    """A run under its guard; where that is off, nothing of it does anything.

    Args:
        every: steps between the recipe's own checkpoints, which always stay.
        steps: of the whole run.
        base: path of the untrained model.
    """

    engine: Engine
    run: Path
    guard: Guard
    every: int
    steps: int
    base: str

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state in a checkpoint left the guard."""
        self.guard.load_state_dict(state)
        for _ in range(self.guard.rollbacks):
            self.engine.ease(self.guard.settings.ease)

    def begin(self) -> None:
        """Probe the base, and keep a checkpoint of it if it may be rolled back to."""
        settings = self.guard.settings
        (self.run / GUARD).unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
        if settings.probes:
            probe, tokens = self.probe(0, BASE_SAMPLES)
            self.record(0, self.guard.observe(0, {}, probe), probe, {"tokens_guard": tokens})
            if unseen := self.guard.unseen():
                say(unseen)
        if settings.action == "roll back":
            self.save(0)

    def due(self, step: int) -> bool:
        """Whether the model is probed, and saved, after a step."""
        settings = self.guard.settings
        return settings.probes and (step % settings.every == 0 or step == self.steps)

    def look(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Judge a step that was done, and roll back if need be; what its metrics should say of that."""
        if self.guard.settings.action == "off":
            return {}
        probe: Probe | None = None
        found: dict[str, float] = {}
        if self.due(step):
            probe, found["tokens_guard"] = self.probe(step, 1)
        decision = self.guard.observe(step, metrics, probe)
        if decision.action == "roll back":
            found["rolled_back_to"] = self.roll_back()
        self.record(step, decision, probe, found)
        return found

    def record(self, step: int, decision: Decision, probe: Probe | None, found: Mapping[str, float]) -> None:
        if probe is not None:
            found = {"accuracy": probe.accuracy, "thought_tokens": probe.thought_tokens, **found}
        if "rolled_back_to" in found:
            found = {**found, "learning_rate": self.engine.update.learning_rate}
        tell(self.run, step, decision, found)

    def probe(self, step: int, samples: int) -> tuple[Probe, int]:
        """The model after a step on the problems set aside, and the tokens that took. Each step has random numbers of
        its own: a checkpoint is judged by three probes, which shared luck would make one."""
        engine = self.engine
        count = engine.sampler.count
        before = count.prefill + count.decode
        engine.model.eval()
        with engine.update.precision():
            groups = engine.sampler.groups(engine.aside, samples, f"{engine.seed}/guard/{step}")
        grade_groups(groups, engine.chat, engine.grader)
        correct = {
            group.problem.id: [float(spine.verdict is Verdict.CORRECT) for spine in group.spines] for group in groups
        }
        thought = fmean(spine.thought_length for group in groups for spine in group.spines)
        return Probe(correct, thought), count.prefill + count.decode - before

    def roll_back(self) -> int:
        """To the weights, the optimizer and the method of the last good checkpoint, eased; its step."""
        self.engine.ease(self.guard.settings.ease)
        self.engine.return_to(Run(self.run).checkpoint(self.guard.good))
        return self.guard.good

    def save(self, step: int) -> None:
        """A checkpoint; those that will not be needed after it are removed."""
        self.engine.save(self.run, step, self.guard.state_dict())
        if self.guard.settings.probes and step:
            self.keep({step, *self.guard.needed()})

    def keep(self, needed: Set[int]) -> None:
        """Remove all checkpoints but the recipe's own and those of the steps `needed`."""
        for step, folder in Run(self.run).checkpoints().items():
            if step not in needed and (step % self.every or step == 0):
                shutil.rmtree(folder)

    def choose(self, step: int) -> Path:
        """The checkpoint to keep after the last step, in `chosen.json` if it was chosen: with a guard that probes the
        one that `choose` names, else the last."""
        settings, run = self.guard.settings, Run(self.run)
        if not settings.probes:
            return run.checkpoint(step)
        chosen = self.guard.chosen()
        self.keep({step, chosen.step})
        kept = run.checkpoint(chosen.step) if chosen.step else Path(self.base)
        path = str(kept.relative_to(self.run)) if chosen.step else self.base
        rule = RULE.format(tolerance=100 * settings.tolerance)
        change = Interval(chosen.change, chosen.low, chosen.high)
        run.write(
            Chosen(
                step=chosen.step,
                path=path,
                accuracy=chosen.accuracy,
                change=change,
                thought_tokens=chosen.thought_tokens,
                rule=rule,
            )
        )
        if chosen.step == 0:
            say(f"training did not help: no checkpoint is shorter and as accurate; keep the base, {self.base}")
            return kept
        say(
            f"chosen: step {chosen.step}, {interval(*change, 100, signed=True)} points of accuracy and "
            f"{chosen.thought_tokens:.1f} thinking tokens (base: {self.guard.candidates[0].thought_tokens:.1f}) on the "
            f"{len(self.engine.aside)} problems set aside; suffice eval and export take it"
        )
        return kept
