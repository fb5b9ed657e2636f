"""One step of the local engine, read from top to bottom.

problems → rollout → verdicts → method.score over the whole batch → token weights → loss → optimizer → metrics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.config import LOOK_AT, LOOK_EVERY, GroupSection, TrainSection
from suffice.engines.local.update import Updater
from suffice.engines.policy import Policy
from suffice.grading import Grader
from suffice.groups import Group, GroupBatch, Problem, Verdict
from suffice.methods import Method
from suffice.model.checkpoint import restore, save_checkpoint
from suffice.model.load import load_model
from suffice.model.lora import merged
from suffice.objective import to_batch
from suffice.rollout import Chat, Sampler, grade_groups, random_exits
from suffice.rollout.decode import keyed
from suffice.rollout.metrics import rollout_metrics
from suffice.rollout.sampler import Exits
from suffice.rollout.stops import likely_exits, own_stop


class Problems:
    """An endless, seeded order of problems: every epoch a new permutation. `drawn` is all the state there is."""

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self.problems, self.seed, self.drawn = problems, seed, 0
        self._epoch = -1

    def draw(self, count: int) -> list[Problem]:
        found = []
        for _ in range(count):
            epoch, i = divmod(self.drawn, len(self.problems))
            found.append(self.problems[int(self._order(epoch)[i])])
            self.drawn += 1
        return found

    def _order(self, epoch: int) -> Any:
        if self._epoch != epoch:
            self._epoch = epoch
            self._permutation = keyed(f"{self.seed}/epoch/{epoch}").permutation(len(self.problems))
        return self._permutation


@dataclass
class Engine:
    """What a run holds in memory. `step` does one step of the recipe and returns its metrics.

    The sampler holds the model and its chat; what updates them holds the optimizer.
    """

    sampler: Sampler
    grader: Grader
    method: Method
    update: Updater
    problems: Problems
    group: GroupSection
    train: TrainSection
    seed: int
    aside: Sequence[Problem] = ()
    """Problems that the guard probes the model on; never trained on."""
    held_out: Sequence[Problem] = ()
    """Problems that the method's pressure goes by; never trained on."""
    fresh: tuple[float, int] = (0.0, 0)
    """Since the last look: right ones among full rollouts of problems that had not been trained on when they were
    sampled, and how many there were."""

    @property
    def model(self) -> Any:
        return self.sampler.model

    @property
    def chat(self) -> Chat:
        return self.sampler.chat

    @property
    def policy(self) -> Policy:
        return Policy(self.model, self.chat, self.update.precision)

    def follow(self, tell: Callable[[str], None]) -> None:
        """Have told what a step is at: tokens sampled, micro-batches trained on."""
        count = self.sampler.count
        count.told = lambda: tell(f"{count.decode:,} tokens sampled")
        self.update.told = lambda done, of: tell(f"{done} of {of} micro-batches trained on")

    def step(self, step: int) -> tuple[dict[str, float], list[Group]]:
        """Step number `step` (from 1): its metrics, and the groups it trained on."""
        started = time.perf_counter()
        self.sampler.count.prefill = self.sampler.count.decode = 0
        self.model.eval()
        with merged(self.model), self.update.precision():
            looked = self.look(step)
            groups, sampled = self.rollout(step)
        if self.problems.drawn <= len(self.problems.problems):  # none has come up twice
            right = sum(spine.verdict is Verdict.CORRECT for group in sampled for spine in group.spines)
            self.fresh = self.fresh[0] + right, self.fresh[1] + sum(len(group.spines) for group in sampled)
        rolled_out = time.perf_counter()
        metrics = rollout_metrics(sampled, self.chat)
        metrics |= {"groups": len(groups), "dropped": len(sampled) - len(groups), "reward": 0.0, "tokens_train": 0}
        self.model.train()
        if groups:
            batch = self.batch(groups)
            scores = self.method.score(batch)
            metrics["reward"] = float(scores.reward[batch.valid].mean())
            metrics["advantage"] = float(scores.advantage[batch.valid].abs().mean())
            metrics |= self.update(self.model, groups, scores.advantage, step)
        metrics |= self.method.observe(metrics["accuracy"], metrics["thought_tokens"]) | looked
        finished = time.perf_counter()
        return metrics | {
            "tokens_prefill": self.sampler.count.prefill,
            "tokens_decode": self.sampler.count.decode,
            "seconds_rollout": rolled_out - started,
            "seconds_update": finished - rolled_out,
            "seconds": finished - started,
        }, groups

    def rollout(self, step: int) -> tuple[list[Group], list[Group]]:
        """(groups to train on, all groups sampled): groups without signal are replaced, `refill_cap` rounds long."""
        train, group = self.train, self.group
        kept: list[Group] = []
        sampled: list[Group] = []
        for attempt in range(train.refill_cap + 1):
            drawn = self.problems.draw(train.problems_per_step - len(kept))
            groups = self.sampler.groups(drawn, group.spines, f"{self.seed}/{step}/{attempt}", self.exits)
            grade_groups(groups, self.chat, self.grader)
            sampled += groups
            signal_P = self.method.has_signal(self.batch(groups)).tolist()
            kept += [g for g, signal in zip(groups, signal_P, strict=True) if signal or train.refill_cap == 0]
            if len(kept) == train.problems_per_step:
                break
        return kept, sampled

    @property
    def exits(self) -> Exits | None:
        """Where spines are left."""
        group = self.group
        if not group.exits:
            return None
        return likely_exits(group.exits, self.sampler.inducer) if group.at == "stops" else random_exits(group.exits)

    def look(self, step: int) -> dict[str, float]:
        """Look at problems held out: with the base at all of them, then every `LOOK_EVERY` steps at some in turn, and
        at what was seen of others before they were trained on. The base's thoughts also tell how it stops, if that is
        asked for. What metrics should say of it."""
        first, stops = step == 1, self.group.at == "stops" or self.update.objective.train_on == "decision"
        if not (first and (stops or self.held_out)) and not (self.held_out and step % LOOK_EVERY == 0):
            return {}
        some, start = len(self.held_out), step // LOOK_EVERY * LOOK_AT
        turn = [self.held_out[(start + i) % some] for i in range(min(LOOK_AT, some))]
        others = self.problems.problems[: max(0, LOOK_AT - some)] if stops else []
        asked = [*self.held_out, *others] if first else turn
        groups = self.sampler.groups(asked, 1, f"{self.seed}/{step}/held out")
        if first and stops:
            self.take_stop(own_stop([spine for group in groups for spine in group.spines], self.chat))
            groups = groups[:some]
        if not self.held_out:
            return {}
        grade_groups(groups, self.chat, self.grader)
        found = rollout_metrics(groups, self.chat)
        right, looked = found["accuracy"] * len(groups) + self.fresh[0], len(groups) + self.fresh[1]
        self.method.look(right / looked, found["thought_tokens"], looked)
        self.fresh = 0.0, 0
        return {f"held_out_{name}": found[name] for name in ("accuracy", "thought_tokens")}

    def take_stop(self, stop: list[int]) -> None:
        """Branches are sent the model's own stop from now on, if it is known."""
        self.sampler.stop = stop
        if stop:
            self.update.decision = stop[0]

    def batch(self, groups: Sequence[Group]) -> GroupBatch:
        return to_batch(groups, self.group.spines, self.group.exits, self.chat.end_ids)

    def ease(self, factor: float) -> None:
        """Multiply the pressure on length and the learning rate by a factor in 0…1."""
        self.method = self.method.eased(factor)
        self.update.learning_rate *= factor

    def save(self, run: Path, step: int, guard: dict[str, Any]) -> None:
        """A checkpoint of a run, with the state of its guard."""
        state = {"drawn": self.problems.drawn, "method": self.method.state_dict(), "guard": guard}
        state |= {"stop": self.sampler.stop, "fresh": self.fresh}
        save_checkpoint(run, step, self.model, self.chat.tokenizer, self.update.optimizer, state)

    def return_to(self, checkpoint: Path) -> None:
        """Take weights, optimizer and method from a checkpoint of this run; the problems drawn stay drawn."""
        self.update.optimizer.state.clear()
        state = restore(checkpoint, self.model, self.update.optimizer)
        if not hasattr(self.model, "get_base_model"):  # adapters are restored already, and the rest never changes
            self.model.load_state_dict(load_model(str(checkpoint), device="cpu", dtype="float32").state_dict())
        self.method.load_state_dict(state["method"])
