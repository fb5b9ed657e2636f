"""One step of the local engine, read from top to bottom.

problems → rollout → verdicts → method.score over the whole batch → token weights → loss → optimizer → metrics.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from suffice.config import Recipe
from suffice.engines.local.update import Updater
from suffice.grading import Grader
from suffice.groups import Group, GroupBatch, Problem
from suffice.methods import Method
from suffice.model.device import resolve_device
from suffice.objective import to_batch
from suffice.rollout import Chat, Sampler, grade_groups, random_exits
from suffice.rollout.decode import keyed
from suffice.rollout.metrics import rollout_metrics


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
    """What a run holds in memory. `step` does one step of the recipe and returns its metrics."""

    recipe: Recipe
    model: Any
    chat: Chat
    problems: Problems
    grader: Grader
    method: Method
    optimizer: torch.optim.Optimizer
    aside: Sequence[Problem] = ()
    """Problems that the guard probes the model on; never trained on."""
    sampler: Sampler = field(init=False)
    update: Updater = field(init=False)

    def __post_init__(self) -> None:
        rollout = self.recipe.rollout
        self.sampler = Sampler(
            self.model,
            self.chat,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            max_thought_tokens=rollout.max_thought_tokens,
            max_answer_tokens=rollout.max_answer_tokens,
            cache_gb=rollout.cache_gb,
            reuse=self.recipe.objective.layout == "spine",
        )
        self.update = Updater(
            self.model,
            self.optimizer,
            self.recipe.objective,
            self.recipe.train,
            close_id=self.chat.close_id,
            exits=self.recipe.group.exits,
            temperature=rollout.temperature,
            precision=self.precision,
        )

    def step(self, step: int) -> tuple[dict[str, float], list[Group]]:
        """Step number `step` (from 1): its metrics, and the groups it trained on."""
        started = time.perf_counter()
        self.sampler.count.prefill = self.sampler.count.decode = 0
        self.model.eval()
        with self.precision():
            groups, sampled = self.rollout(step)
        rolled_out = time.perf_counter()
        metrics = rollout_metrics(sampled, self.chat)
        metrics |= {"groups": len(groups), "dropped": len(sampled) - len(groups), "reward": 0.0, "tokens_train": 0}
        self.model.train()
        if groups:
            batch = self.batch(groups)
            scores = self.method.score(batch)
            metrics["reward"] = float(scores.reward[batch.valid].mean())
            metrics["advantage"] = float(scores.advantage[batch.valid].abs().mean())
            metrics |= self.update(groups, scores.advantage, step)
        metrics |= self.method.observe(metrics["accuracy"], metrics["thought_tokens"])
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
        train, group = self.recipe.train, self.recipe.group
        kept: list[Group] = []
        sampled: list[Group] = []
        for attempt in range(train.refill_cap + 1):
            drawn = self.problems.draw(train.problems_per_step - len(kept))
            seed = f"{self.recipe.run.seed}/{step}/{attempt}"
            exits = random_exits(group.exits) if group.exits else None
            groups = self.sampler.groups(drawn, group.spines, seed, exits)
            grade_groups(groups, self.chat, self.grader)
            sampled += groups
            signal_P = self.method.has_signal(self.batch(groups)).tolist()
            kept += [g for g, signal in zip(groups, signal_P, strict=True) if signal or train.refill_cap == 0]
            if len(kept) == train.problems_per_step:
                break
        return kept, sampled

    def batch(self, groups: Sequence[Group]) -> GroupBatch:
        return to_batch(groups, self.recipe.group.spines, self.recipe.group.exits, self.chat.end_ids)

    def precision(self) -> Any:
        """bfloat16 training keeps float32 weights and autocasts; LoRA keeps the frozen weights in bfloat16 itself."""
        mixed = training_dtype(self.recipe) == "bfloat16" and not self.recipe.model.lora
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=mixed)


def training_dtype(recipe: Recipe) -> str:
    if recipe.model.dtype != "auto":
        return recipe.model.dtype
    return "bfloat16" if resolve_device(recipe.model.device) == "cuda" else "float32"
