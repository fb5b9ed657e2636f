"""A short GRPOTrainer run by a recipe, for the tests; as a script, what each process of a `torchrun` does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback

from making import exact
from suffice.config import Recipe, load_recipe
from suffice.engines import trl as engine
from suffice.grading import Grader
from suffice.model.load import load_chat, load_model
from suffice.tasks import load_task

SMALL = (
    *("train.refill_cap=0", "train.problems_per_step=4", "train.steps=2", "train.learning_rate=1e-3"),
    *("rollout.max_thought_tokens=128", "rollout.max_answer_tokens=4", "model.device=cpu"),
)
METHODS = {"s-grpo": ("lab-s-grpo", "group.exits=3"), "grpo-lambda": ("lab-grpo-lambda", "group.spines=4")}


def small(name: str, *overrides: str) -> Recipe:
    recipe, group = METHODS[name]
    return load_recipe(recipe, [*SMALL, group, *overrides])


class Run:
    """A trainer, and what its reward function was told and said at every call."""

    def __init__(self, recipe: Recipe, folder: Path, grader: Grader, *, ours: bool = True, **overrides: Any) -> None:
        from trl import GRPOTrainer

        torch.set_num_threads(1)
        self.recipe, self.chat = recipe, load_chat(recipe.model.path, recipe.rollout.inducer)
        self.calls: list[tuple[list[Any], list[float]]] = []
        quiet = {"save_strategy": "no", "shuffle_dataset": False, "disable_tqdm": True}
        config = engine.grpo_config(recipe, output_dir=str(folder), **quiet | overrides)
        self.trainer = GRPOTrainer(
            # members in other batches, and sums of gradients in another order, are then the same all the same
            model=exact(load_model(recipe.model.path, device="cpu")),
            processing_class=self.chat.tokenizer,
            args=config,
            train_dataset=engine.as_dataset(load_task("arithmetic", limit=16)),
            rollout_func=engine.GroupRollout(recipe, self.chat) if ours else None,
            reward_funcs=self.remembered(engine.advantages(recipe, config, self.chat, grader)),
        )
        self.trainer.remove_callback(PrinterCallback)

    def remembered(self, reward: engine.RewardFunction) -> engine.RewardFunction:
        def advantage(**columns: Any) -> list[float]:
            said = reward(**columns)
            self.calls.append((columns.get("group", columns["completion_ids"]), said))
            return said

        return advantage

    @property
    def weights(self) -> torch.Tensor:
        return flat(self.trainer.accelerator.unwrap_model(self.trainer.model))


def flat(model: Any) -> torch.Tensor:
    """Every parameter, end to end."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def main(name: str, folder: Path) -> None:
    with Grader() as grader:
        run = Run(small(name), folder, grader)
        run.trainer.train()
    rank = run.trainer.accelerator.process_index
    said = [([group.problem.prompt for group in groups], advantage) for groups, advantage in run.calls]
    (folder / f"{name}-{rank}.json").write_text(json.dumps(said))
    torch.save(run.weights, folder / f"{name}-{rank}.pt")


if __name__ == "__main__":
    for method in METHODS:
        main(method, Path(sys.argv[1]))
    # gloo's threads may abort a process whose peer is gone first, when nothing is left to be done
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)
