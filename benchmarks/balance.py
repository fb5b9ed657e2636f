"""A simulation, not a measurement: how rollout and update share a step of S-GRPO, GRPO and GRPO-λ on many GPUs.

    python -m benchmarks.balance [--json] [--record]      with --record also docs/pictures/balance.png

Lengths are drawn, a server's decoding passes are timed by `suffice.estimate.pass_seconds`, the update by the operations
of `benchmarks.flops`. Every other number stands in `Setting`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import typer
from matplotlib import pyplot as plt
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.flops import Work, causal_pairs
from benchmarks.record import Json, Record, publish
from suffice.config import load_recipe
from suffice.estimate import DEVICES, GIB, SPEEDS, memory_of, pass_seconds
from suffice.estimate import Assumptions as Means
from suffice.model.shape import KNOWN

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "balance.png"
SHAPE, DEVICE, SPEED = KNOWN["Qwen/Qwen3-8B"], DEVICES["H100"], SPEEDS["verl"]
RECIPE = load_recipe("qwen3-8b-s-grpo")
RECOMPUTED = 4 / 3  # checkpointing runs forward twice
GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
DRAWS = 5  # batches that a figure is the mean of


@dataclass(frozen=True, slots=True)
class Setting:
    """What is assumed: the papers' batch, lengths of the size they publish, a server's cache, a step's weight transfer.

    Thoughts are log-normal and cut at the budget, which gives a mean of about 8,300 tokens; answers are equally long.
    """

    method: str
    spines: int
    exits: int
    problems: int = 128
    gpus: int = 8
    median_thought: float = 7500
    spread: float = 0.6
    budget: int = 16384
    prompt: int = 256
    answer: int = 480
    inducer: int = 13
    cache_gib: float = 30
    server_cache_gib: float = 50  # of a GPU that samples only
    transfer_seconds: float = 5

    def thoughts(self, draw: int) -> np.ndarray:
        """Tokens of every spine's thought in a step, [problems · spines]."""
        lengths = np.random.default_rng(draw).lognormal(
            np.log(self.median_thought), self.spread, self.problems * self.spines
        )
        return np.clip(lengths, 16, self.budget).astype(int)


S_GRPO = Setting("S-GRPO, 8 exits", spines=1, exits=8)
GRPO = Setting("GRPO, 8 rollouts", spines=8, exits=0)
LAMBDA = Setting("GRPO-λ, 16 rollouts", spines=16, exits=0)
CASES = {
    "s-grpo": S_GRPO,
    "grpo": GRPO,
    "grpo-lambda": LAMBDA,
    "s-grpo-half": replace(S_GRPO, method="S-GRPO, thoughts halved", median_thought=3750),
    "grpo-lambda-half": replace(LAMBDA, method="GRPO-λ, thoughts halved", median_thought=3750),
    "s-grpo-64": replace(S_GRPO, gpus=64),
    "grpo-lambda-64": replace(LAMBDA, gpus=64),
    "s-grpo-1024": replace(S_GRPO, gpus=1024),
    "grpo-lambda-1024": replace(LAMBDA, gpus=1024),
    "s-grpo-1024-wide": replace(S_GRPO, gpus=1024, problems=8192),
    "grpo-lambda-1024-wide": replace(LAMBDA, gpus=1024, problems=8192),
}


def serve(thoughts: Sequence[int], setting: Setting, cache_gib: float) -> tuple[float, list[float]]:
    """One GPU samples spines and, as each ends, its branches: (seconds to the last row, seconds at which each ended).

    As many spines run as the cache holds at the mean context of a spine that runs. A branch reads its share of the
    thought, which takes no memory of its own; exits are even. Between two ends of rows all passes take as long.
    """
    spine_length = [n + setting.answer for n in thoughts]
    context = setting.prompt + np.square(spine_length).sum() / np.sum(spine_length) / 2
    slots = max(1, int(cache_gib * GIB / (context * SHAPE.cache_bytes)))
    waiting = list(range(len(thoughts)))[::-1]
    rows: list[tuple[float, float, int]] = []  # (passes done when it ends, context when none was done, spine or -1)
    done = clock = 0.0
    spines = 0
    ended: list[float] = []

    def admit() -> None:
        nonlocal spines
        while waiting and spines < slots:
            i = waiting.pop()
            heapq.heappush(rows, (done + spine_length[i], setting.prompt - done, i))
            spines += 1

    admit()
    while rows:
        end = rows[0][0]
        context = sum(row[1] for row in rows) / len(rows) + (done + end) / 2
        clock += (end - done) * pass_seconds(SHAPE, DEVICE, SPEED, len(rows), context)
        done = end
        while rows and rows[0][0] <= done:
            _, _, i = heapq.heappop(rows)
            ended.append(clock)
            if i < 0:
                continue
            spines -= 1
            for exit in range(1, setting.exits + 1):
                kept = setting.prompt + thoughts[i] * exit / (setting.exits + 1) + setting.inducer
                heapq.heappush(rows, (done + setting.answer, kept - done, -1))
        admit()
    return clock, ended


def rollout(thoughts: np.ndarray, setting: Setting, gpus: int, cache_gib: float) -> tuple[list[float], list[float]]:
    """(seconds that each busy GPU works, seconds at which each row ended): rows go round the GPUs in turn."""
    each = [serve(thoughts[gpu::gpus].tolist(), setting, cache_gib) for gpu in range(min(gpus, len(thoughts)))]
    return [clock for clock, _ in each], sorted(second for _, ended in each for second in ended)


def work(thoughts: np.ndarray, setting: Setting, layout: str) -> Work:
    """What the update of a step pushes, every member trained on what it sampled."""
    s, own, m = setting, setting.inducer + setting.answer, setting.exits
    tokens = pairs = scored = 0
    for n in thoughts.tolist():
        spine = s.prompt + n + s.answer
        exits = [n * i // (m + 1) for i in range(1, m + 1)]
        tokens, pairs, scored = tokens + spine, pairs + causal_pairs(spine), scored + n + s.answer
        for exit in exits:
            if layout == "spine":
                tokens += own
                pairs += own * (s.prompt + exit) + causal_pairs(own)
                scored += s.answer
            else:
                tokens += s.prompt + exit + own
                pairs += causal_pairs(s.prompt + exit + own)
                scored += exit + s.answer
    if layout == "spine":
        tokens -= s.problems * (s.spines - 1) * s.prompt
    return Work(tokens, pairs, scored)


@cache
def model() -> Any:
    """Qwen3-8B without its weights: shapes are all that operations depend on."""
    with torch.device("meta"):
        return Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=SHAPE.vocabulary,
                hidden_size=SHAPE.hidden,
                intermediate_size=SHAPE.feed_forward,
                num_hidden_layers=SHAPE.layers,
                num_attention_heads=SHAPE.heads,
                num_key_value_heads=SHAPE.kv_heads,
                head_dim=SHAPE.head_dim,
            )
        )


def update_seconds(done: Work, gpus: int) -> float:
    return RECOMPUTED * done.flops(model()) / (gpus * DEVICE.flops * SPEED.flops)


def fewest_trainers() -> int:
    """GPUs that hold the weights, gradients and moments of training, its activations and its logits."""
    gpus = 1
    while True:
        memory = memory_of(RECIPE, SHAPE, "verl", gpus, Means.of(RECIPE))
        if memory.needed - max(0, memory.sampler + memory.cache - memory.activations - memory.logits) <= DEVICE.memory:
            return gpus
        gpus += 1


def split_seconds(setting: Setting, samplers: int, draw: int = 0) -> float:
    """A step where `samplers` GPUs sample the next batch while the others train on the last."""
    thoughts = setting.thoughts(draw)
    busy, _ = rollout(thoughts, setting, samplers, setting.server_cache_gib)
    update = update_seconds(work(thoughts, setting, "rows"), setting.gpus - samplers)
    return max(*busy, update) + setting.transfer_seconds


def best_split(setting: Setting) -> tuple[int, float]:
    """(GPUs that sample, seconds of a step) at the best of up to 16 splits."""
    most = setting.gpus - fewest_trainers()
    tried = sorted({int(x) for x in np.linspace(1, most, min(most, 16))})
    return min(((n, split_seconds(setting, n)) for n in tried), key=lambda found: (found[1], found[0]))


def cases() -> Iterator[dict[str, Any]]:
    for name, setting in CASES.items():
        yield {"case": name, **balance(setting)}


def balance(setting: Setting, draws: int = DRAWS) -> dict[str, Any]:
    """A step of a setting, GPUs sampling and training in turn; and the best split of them."""
    found = [one_step(setting, draw) for draw in range(draws)]
    samplers, seconds = best_split(setting)
    return {
        "method": setting.method,
        "gpus": setting.gpus,
        "problems": setting.problems,
        **{key: float(np.mean([step[key] for step in found])) for key in found[0]},
        "samplers": samplers,
        "seconds_split": seconds,
    }


def one_step(setting: Setting, draw: int) -> dict[str, float]:
    thoughts = setting.thoughts(draw)
    busy, ended = rollout(thoughts, setting, setting.gpus, setting.cache_gib)
    longest = max(busy)
    works = {layout: work(thoughts, setting, layout) for layout in ("rows", "spine")}
    updates = {layout: update_seconds(done, setting.gpus) for layout, done in works.items()}
    step = longest + updates["rows"] + setting.transfer_seconds
    waited = setting.gpus * longest - sum(busy)
    sampled = int(thoughts.sum()) + len(thoughts) * (setting.exits + 1) * setting.answer
    return {
        "thought": float(thoughts.mean()),
        "tokens_sampled": sampled,
        "tokens_rows": works["rows"].tokens,
        "tokens_spine": works["spine"].tokens,
        "seconds_rollout": longest,
        "seconds_update_rows": updates["rows"],
        "seconds_update_spine": updates["spine"],
        "seconds_step": step,
        "idle": waited / (setting.gpus * step),
        "tail": 1 - ended[int(0.9 * (len(ended) - 1))] / longest,
        "tokens_per_second": sampled / setting.gpus / longest,
    }


def draw() -> None:
    """Left, what share of a step's answers is still to come; right, a step by the number of GPUs."""
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for setting, colour in ((S_GRPO, "#2f6f4f"), (GRPO, "#9a9a9a"), (LAMBDA, "#b3541e")):
        _, ended = rollout(setting.thoughts(0), setting, setting.gpus, setting.cache_gib)
        shares = 1 - np.arange(1, len(ended) + 1) / len(ended)
        left.step([0, *ended], [1, *shares], where="post", color=colour, label=setting.method)
        sizes = [replace(setting, gpus=gpus) for gpus in GPUS]
        in_turn = [one_step(size, 0)["seconds_step"] for size in sizes]
        right.plot(GPUS, in_turn, "o-", color=colour, label=f"{setting.method}, in turn")
        right.plot(GPUS, [best_split(size)[1] for size in sizes], "o:", color=colour, mfc="white", label="best split")
    left.set_xlabel("seconds of rollout, 8 GPUs")
    left.set_ylabel("share of answers still to come")
    left.set_xlim(left=0)
    left.set_ylim(bottom=0)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(GPUS, map(str, GPUS))
    right.set_yticks((200, 500, 1000, 2000), ("200", "500", "1,000", "2,000"))
    right.minorticks_off()
    right.set_xlabel("GPUs")
    right.set_ylabel("seconds a step")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.suptitle("Simulated: Qwen3-8B on H100, 128 problems a step, thoughts of up to 16,384 tokens")
    figure.savefig(PICTURE, dpi=150)


def main(as_json: Json = False, record: Record = False) -> None:
    publish("balance", cases(), as_json=as_json, record=record)
    if record:
        draw()


if __name__ == "__main__":
    typer.run(main)
