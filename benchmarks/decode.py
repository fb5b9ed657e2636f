"""Rollout throughput: our `Sampler` against transformers' `model.generate`, on the lab's base.

The same problems, temperature 1, the same limit of new tokens, one thread. A token counts if it belongs to a row up to
and including its end: what `generate` pads finished rows with does not. Repeats are interleaved, so that a busy
machine slows both alike; figures are medians.

python -m benchmarks.decode [--json] [--record]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import typer

from benchmarks.record import Json, Record, publish
from laconic.engines.local.model import SHIPPED, load_chat, load_model
from laconic.groups import Problem
from laconic.lab.tokenizer import INDUCER
from laconic.rollout import Chat, Sampler
from laconic.tasks import load_task

BATCHES = (16, 64, 128, 256)
THOUGHT, ANSWER = 256, 8  # tokens: the budgets of the lab's recipes
REPEATS = 5

Side = Callable[[Sequence[Problem], int], int]
"""(problems, repeat) → tokens that belong to a row; each repeat samples anew."""


def ours(model: Any, chat: Chat) -> Side:
    sampler = Sampler(
        model, chat, temperature=1.0, top_p=1.0, max_thought_tokens=THOUGHT, max_answer_tokens=ANSWER, cache_gb=4.0
    )

    def run(problems: Sequence[Problem], repeat: int) -> int:
        return sum(len(group.spines[0].tokens) for group in sampler.groups(problems, 1, str(repeat)))

    return run


def generate(model: Any, chat: Chat) -> Side:
    ends = torch.tensor(sorted(chat.end_ids))

    def run(problems: Sequence[Problem], repeat: int) -> int:
        torch.manual_seed(repeat)
        prompts = [chat.render(problem.prompt) for problem in problems]
        width = max(map(len, prompts))
        ids = torch.tensor([[chat.pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            tokens = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=THOUGHT + ANSWER + 2,  # and the marks of the thought
                eos_token_id=ends.tolist(),
                pad_token_id=chat.pad_id,
            )[:, width:]
        ended = torch.isin(tokens, ends).long()
        return int((ended.cumsum(-1) - ended == 0).sum())

    return run


def measure() -> Iterator[dict[str, Any]]:
    """One row a batch size: median tokens a second of each side, and their ratio (ours / theirs)."""
    torch.set_num_threads(1)
    chat = load_chat(SHIPPED, INDUCER)
    # a model each: the sampler puts its own attention into the one it is given
    sides = {
        name: side(load_model(SHIPPED, device="cpu", dtype="float32"), chat)
        for name, side in {"ours": ours, "generate": generate}.items()
    }
    problems = load_task("arithmetic", split="test", limit=max(BATCHES))
    for batch in BATCHES:
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        for repeat in range(REPEATS + 1):
            for side, run in sides.items():
                started = time.perf_counter()
                tokens = run(problems[:batch], repeat)
                if repeat:  # the first warms up
                    speeds[side].append(tokens / (time.perf_counter() - started))
        median = {side: statistics.median(found) for side, found in speeds.items()}
        yield {
            "case": f"batch-{batch}",
            "batch": batch,
            "tokens_per_second_ours": median["ours"],
            "tokens_per_second_generate": median["generate"],
            "ratio": median["ours"] / median["generate"],
            "repeats": REPEATS,
            "max_thought_tokens": THOUGHT,
            "max_answer_tokens": ANSWER,
        }


def main(as_json: Json = False, record: Record = False) -> None:
    publish("decode", measure(), as_json=as_json, record=record)


if __name__ == "__main__":
    typer.run(main)
