"""Rollout throughput: our `Decoder` against transformers' `model.generate`, on the lab's base.

The same prompts, temperature 1, the same limit of new tokens, one thread. A token counts if it belongs to a row up to
and including its end: what `generate` pads finished rows with does not. Repeats are interleaved, so that a busy
machine slows both alike; figures are medians.

    python -m benchmarks.decode [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from laconic.engines.local.model import SHIPPED, load_chat, load_model
from laconic.lab.tokenizer import INDUCER
from laconic.rollout import Ask, Chat, Decoder
from laconic.tasks import load_task

BATCHES = (16, 64, 128, 256)
MAX_NEW_TOKENS = 264  # the lab recipes' thought and answer
REPEATS = 5

Side = Callable[[Sequence[list[int]], int], int]
"""(prompts, repeat) → tokens that belong to a row; each repeat samples anew."""


def ours(model: Any, chat: Chat) -> Side:
    decoder = Decoder(
        model, chat.pad_id, chat.open_id, chat.close_id, chat.end_ids, temperature=1.0, top_p=1.0, cache_gb=4.0
    )

    def run(prompts: Sequence[list[int]], repeat: int) -> int:
        asks = [Ask(prompt, f"{repeat}/{i}", answer=MAX_NEW_TOKENS) for i, prompt in enumerate(prompts)]
        return sum(len(sampled.tokens) for sampled in decoder(asks))

    return run


def generate(model: Any, chat: Chat) -> Side:
    ends = torch.tensor(sorted(chat.end_ids))

    def run(prompts: Sequence[list[int]], repeat: int) -> int:
        torch.manual_seed(repeat)
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
                max_new_tokens=MAX_NEW_TOKENS,
                eos_token_id=ends.tolist(),
                pad_token_id=chat.pad_id,
            )[:, width:]
        ended = torch.isin(tokens, ends).cumsum(-1)
        return int((ended - torch.isin(tokens, ends).long() == 0).sum())

    return run


def measure() -> Iterator[dict[str, Any]]:
    """One row a batch size: tokens and seconds of each side, tokens a second, and their ratio (ours / theirs)."""
    torch.set_num_threads(1)
    model, chat = load_model(SHIPPED, device="cpu", dtype="float32"), load_chat(SHIPPED, INDUCER)
    sides = {"ours": ours(model, chat), "generate": generate(model, chat)}
    problems = load_task("arithmetic", split="test", limit=max(BATCHES))
    for batch in BATCHES:
        prompts = [chat.render(problem.prompt) for problem in problems[:batch]]
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        for repeat in range(REPEATS + 1):
            for side, run in sides.items():
                started = time.perf_counter()
                tokens = run(prompts, repeat)
                if repeat:  # the first warms up
                    speeds[side].append(tokens / (time.perf_counter() - started))
        median = {side: statistics.median(found) for side, found in speeds.items()}
        yield {
            "batch": batch,
            "tokens_per_second_ours": round(median["ours"]),
            "tokens_per_second_generate": round(median["generate"]),
            "ratio": round(median["ours"] / median["generate"], 3),
            "repeats": REPEATS,
            "max_new_tokens": MAX_NEW_TOKENS,
            "threads": 1,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rollout throughput against transformers' generate.")
    parser.add_argument("--json", action="store_true", help="one JSON object a row on standard output")
    as_json = parser.parse_args().json
    table = Table("batch", "ours, tokens/s", "generate, tokens/s", "ratio")
    for row in measure():
        if as_json:
            print(json.dumps(row), flush=True)
        table.add_row(*(str(row[key]) for key in ("batch", *(f"tokens_per_second_{s}" for s in ("ours", "generate")))), str(row["ratio"]))
    if not as_json:
        Console().print(table)


if __name__ == "__main__":
    main()
