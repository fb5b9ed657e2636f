"""A whole S-GRPO step by TRL's GRPOTrainer against ours: same model, same problems, same sampled tokens.

    python -m benchmarks.trl_step [--json] [--record]

TRL gets its members from our sampler (`rollout_func`, the inducer masked by `env_mask`) and trains them row by row; the
two take turns, and neither changes the weights. The members' token ids are compared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
import typer
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback

from benchmarks.record import Json, Record, publish
from benchmarks.step import FIXED
from suffice.config import load_recipe
from suffice.engines.local.build import build_engine
from suffice.engines.local.engine import Engine
from suffice.errors import SufficeError
from suffice.grading import Grader
from suffice.groups import Branch, Group, Problem
from suffice.rollout import grade_groups, random_exits

EXITS, ROUNDS = 8, 9


def main(as_json: Json = False, record: Record = False) -> None:
    with Grader() as grader:
        recipe = load_recipe("lab-s-grpo", [*FIXED, f"group.exits={EXITS}"])
        ours, theirs = (build_engine(recipe, grader, None)[0] for _ in range(2))
        publish("trl_step", cases(ours, theirs), as_json=as_json, record=record)


class Turns(TrainerCallback):
    """Times TRL's steps, and after each of them does ours."""

    def __init__(self, ours: Engine, rollout: Rollout) -> None:
        self.ours, self.rollout = ours, rollout
        self.found: dict[str, list[dict[str, float]]] = {"trl": [], "suffice": []}

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        seconds = time.perf_counter() - self.started
        metrics = {"seconds": seconds, "seconds_rollout": self.rollout.seconds}
        self.found["trl"].append(
            metrics
            | {"seconds_update": seconds - self.rollout.seconds, "tokens_train": padded(self.rollout.groups)}
            | {"tokens_decode": self.rollout.engine.sampler.count.decode}
        )
        self.ours.problems.drawn = 0
        metrics, groups = self.ours.step(self.rollout.step)
        self.found["suffice"].append(metrics)
        if members(groups) != members(self.rollout.groups):
            raise SufficeError("the two sides sampled different tokens; run both from one version of the model")


class Rollout:
    """TRL's `rollout_func`: our sampler, members in columns' order with the reward of our method."""

    def __init__(self, engine: Engine, problems: Sequence[Problem]) -> None:
        self.engine, self.step = engine, 0
        self.problems = {problem.prompt: problem for problem in problems}
        self.groups: list[Group] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        started = time.perf_counter()
        self.sample(prompts[:: EXITS + 1])
        self.seconds = time.perf_counter() - started
        scores = self.engine.method.score(self.engine.batch(self.groups))
        found = members(self.groups)
        return {
            "prompt_ids": [prompt for prompt, _, _ in found],
            "completion_ids": [tokens for _, tokens, _ in found],
            "env_mask": [sampled for _, _, sampled in found],
            "logprobs": [[0.0] * len(tokens) for _, tokens, _ in found],
            "score": scores.reward.flatten().tolist(),
        }

    @torch.no_grad()
    def sample(self, prompts: list[str]) -> None:
        self.step += 1
        engine = self.engine
        engine.sampler.count.prefill = engine.sampler.count.decode = 0
        engine.model.eval()
        problems = [self.problems[prompt] for prompt in prompts]
        seed = f"{engine.seed}/{self.step}/0"
        self.groups = engine.sampler.groups(problems, 1, seed, random_exits(EXITS))
        grade_groups(self.groups, engine.chat, engine.grader)
        engine.model.train()


def members(groups: Sequence[Group]) -> list[tuple[list[int], list[int], list[int]]]:
    """(prompt, response, 1 where the policy sampled) of every member, exits in order, the full one last."""
    found = []
    for group in groups:
        for _, spine, member in group.members(EXITS):
            if isinstance(member, Branch):
                kept = spine.tokens[: spine.thought_start + member.exit]
                sampled = [1] * len(kept) + [0] * len(group.inducer) + [1] * len(member.answer)
                found.append((group.prompt, kept + group.inducer + member.answer, sampled))
            else:
                found.append((group.prompt, spine.tokens, [1] * len(spine.tokens)))
    return found


def padded(groups: Sequence[Group]) -> int:
    """Tokens that TRL pushes: every row as long as the longest prompt and the longest response."""
    found = members(groups)
    return len(found) * (max(len(prompt) for prompt, _, _ in found) + max(len(tokens) for _, tokens, _ in found))


def cases(ours: Engine, theirs: Engine) -> Iterator[dict[str, Any]]:
    try:
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        raise SufficeError("trl is missing; in another environment: pip install -e . 'trl==1.16.*'") from error
    problems = ours.problems.draw(ours.recipe.train.problems_per_step)
    rollout = Rollout(theirs, problems)
    turns = Turns(ours, rollout)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=theirs.model,
            processing_class=theirs.chat.tokenizer,
            train_dataset=Dataset.from_list([{"prompt": problem.prompt} for problem in problems]),
            reward_funcs=lambda score, **_: score,
            rollout_func=rollout,
            callbacks=[turns],
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=len(problems) * (EXITS + 1),
                num_generations=EXITS + 1,
                max_completion_length=ours.recipe.rollout.max_thought_tokens + ours.recipe.rollout.max_answer_tokens,
                max_steps=ROUNDS + 1,
                learning_rate=0.0,
                beta=0.0,
                loss_type="grpo",
                scale_rewards="none",
                shuffle_dataset=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                disable_tqdm=True,
            ),
        )
        trainer.remove_callback(PrinterCallback)  # it writes on standard output
        trainer.train()
    # the first turn warms up
    middle = {
        side: {key: median(metrics[key] for metrics in steps[1:]) for key in steps[0]}
        for side, steps in turns.found.items()
    }
    yield {"case": "lab-base", "ratio": middle["trl"]["seconds"] / middle["suffice"]["seconds"]} | {
        f"{part}_{side}": middle[side][part]
        for part in ("seconds", "seconds_rollout", "seconds_update", "tokens_decode", "tokens_train")
        for side in middle
    }


if __name__ == "__main__":
    typer.run(main)
