"""Rollout throughput: our decode loop against transformers' `model.generate`.

The lab's base on its own problems, and a random model of 21M parameters on random prompts: the same prompts,
temperature 1, the same limit of new tokens, one thread. A token
counts if it belongs to a row up to and including its end: what `generate` pads finished rows with does not. Repeats are
interleaved, so that a busy machine slows both alike; figures are medians.

    python -m benchmarks.decode [--json] [--record]
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import typer

from benchmarks.models import PROMPT, VOCABULARY, random_model
from benchmarks.record import Json, Record, publish
from suffice.config import DEFAULT_INDUCER as INDUCER
from suffice.model.load import load_chat, load_model
from suffice.model.resolve import SHIPPED
from suffice.rollout import Ask, Count, Decoder
from suffice.rollout.streams import PromptStream
from suffice.tasks import load_task

REPEATS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what it is asked: prompts of token ids, the ids that end a row, and new tokens at most."""

    name: str
    load: Callable[[], Any]
    prompts: list[list[int]]
    ends: frozenset[int]
    pad: int
    limit: int


def lab(batch: int) -> Case:
    chat = load_chat(SHIPPED, INDUCER)
    prompts = [chat.render(problem.prompt) for problem in load_task("arithmetic", split="test", limit=batch)]
    return Case(
        f"lab-batch-{batch}", lambda: load_model(SHIPPED, device="cpu"), prompts, chat.end_ids, chat.pad_id, 256
    )


def larger(batch: int) -> Case:
    """The 21M model ends a row at any of 128 ids of 8,192: with an even chance after 44 tokens."""
    draw = random.Random(0)
    prompts = [[draw.randrange(VOCABULARY) for _ in range(draw.randint(64, PROMPT))] for _ in range(batch)]
    return Case(f"21M-batch-{batch}", lambda: random_model().eval(), prompts, frozenset(range(128)), 0, 128)


CASES = [*(lambda b=b: lab(b) for b in (16, 64, 128, 256)), lambda: larger(128)]


def ours(model: Any, case: Case, repeat: int) -> int:
    asks = [Ask(prompt, f"{repeat}/{i}", answer=case.limit - 1) for i, prompt in enumerate(case.prompts)]
    decoder = Decoder(open_id=-1, close_id=-1, end_ids=case.ends, temperature=1.0, top_p=1.0)
    return sum(len(s.tokens) + s.truncated for s in decoder.run(PromptStream(model, asks, case.pad), asks, Count()))


def generate(model: Any, case: Case, repeat: int) -> int:
    torch.manual_seed(repeat)
    width, ends = max(map(len, case.prompts)), torch.tensor(sorted(case.ends))
    ids = torch.tensor([[case.pad] * (width - len(prompt)) + prompt for prompt in case.prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in case.prompts])
    with torch.inference_mode():
        tokens = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=case.limit,
            eos_token_id=ends.tolist(),
            pad_token_id=case.pad,
        )[:, width:]
    ended = torch.isin(tokens, ends).long()
    return int((ended.cumsum(-1) - ended == 0).sum())


def measure(cases: Sequence[Callable[[], Case]]) -> Iterator[dict[str, Any]]:
    """One row a case: median tokens a second of each side, and their ratio (ours / theirs)."""
    torch.set_num_threads(1)
    for make in cases:
        case = make()
        sides = {"ours": (ours, case.load()), "generate": (generate, case.load())}
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(REPEATS + 1):
            for name, (side, model) in sides.items():
                started = time.perf_counter()
                tokens = side(model, case, repeat)
                if repeat:  # the first warms up
                    speeds[name].append(tokens / (time.perf_counter() - started))
        median = {name: statistics.median(found) for name, found in speeds.items()}
        yield {
            "case": case.name,
            "tokens_per_second_ours": median["ours"],
            "tokens_per_second_generate": median["generate"],
            "ratio": median["ours"] / median["generate"],
            "repeats": REPEATS,
            "max_new_tokens": case.limit,
        }


def main(as_json: Json = False, record: Record = False) -> None:
    publish("decode", measure(CASES), as_json=as_json, record=record)


if __name__ == "__main__":
    typer.run(main)
