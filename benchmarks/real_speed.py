"""The local engine on a real language model, beside what the machine allows: reading, decoding, updating, one step.

    python -m benchmarks.real_speed MODEL [--json] [--record]

MODEL is a checkpoint folder or a hub id. Limits are measured in the same run on the same threads: the rate of a matrix
product of the model's own width, at as many rows, and the rate at which memory is read. A pass of n tokens cannot take
less than its products at that rate, nor less than reading the weights once. The step is one of S-GRPO on the lab's
arithmetic with LoRA adapters, with a learning rate too small to change the model.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
import typer

from benchmarks.models import INDUCER, advantages, serial_group
from benchmarks.models import PROMPT as GROUP_PROMPT
from benchmarks.record import Json, Record, publish
from suffice.config import Recipe, load_recipe
from suffice.engines.local.build import build_engine
from suffice.engines.local.engine import Engine
from suffice.grading import Grader
from suffice.model.device import set_threads
from suffice.rollout import Ask, Count, Decoder
from suffice.rollout.streams import PromptStream

ROWS, PROMPT, TOKENS = 32, 64, 32  # of what is decoded
THOUGHT = 256  # of the groups that are trained on
GROUPS = 4


def seconds_of(work: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest of some repeats, the first left out."""
    found = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found[1:])


def product_rate(rows: int, width: int, depth: int) -> float:
    """Operations a second of a product [rows, width] · [width, depth]."""
    left, right = torch.randn(rows, width), torch.randn(depth, width)
    times = max(1, 2**31 // (rows * width * depth))
    return 2 * rows * width * depth * times / seconds_of(lambda: [left @ right.T for _ in range(times)])


def read_rate() -> float:
    """Bytes a second at which memory is read: a matrix far larger than any cache, times a vector."""
    matrix, vector = torch.randn(2**15, 2**13), torch.randn(2**13)
    return matrix.nbytes / seconds_of(lambda: matrix @ vector)


def decoded(model: Any) -> tuple[float, float]:
    """Seconds to read the prompts, and seconds of one pass of `ROWS` rows after that."""
    draw = random.Random(0)
    rows = len(model.get_input_embeddings().weight)
    prompts = [[draw.randrange(rows) for _ in range(PROMPT)] for _ in range(ROWS)]

    def run(tokens: int) -> None:
        asks = [Ask(prompt, str(i), tokens) for i, prompt in enumerate(prompts)]
        Decoder(-1, -1, frozenset(), 0.0, 1.0).run(PromptStream(model, asks, 0), asks, Count())

    short, long = (seconds_of(lambda n=n: run(n), 1) for n in (1, 1 + TOKENS))
    a_pass = (long - short) / TOKENS
    return short - 2 * a_pass, a_pass


def updated(engine: Engine) -> tuple[float, int]:
    """Seconds of an update, and the tokens that it pushes."""
    groups = [serial_group(THOUGHT) for _ in range(GROUPS)]
    advantage_P_G = advantages(8).expand(GROUPS, -1)
    engine.model.train()
    pushed = engine.update(engine.model, groups, advantage_P_G, 1)["tokens_train"]
    return seconds_of(lambda: engine.update(engine.model, groups, advantage_P_G, 1), 1), int(pushed)


def recipe_for(model: str) -> Recipe:
    changes = {
        "model.path": model,
        "model.lora": 16,
        "group.exits": 8,
        "rollout.max_thought_tokens": 128,
        "rollout.max_answer_tokens": 16,
        "train.problems_per_step": 16,
        "train.refill_cap": 0,
        "train.learning_rate": 1e-30,
        "train.threads": 0,
    }
    return load_recipe("lab-s-grpo", [f"{key}={value}" for key, value in changes.items()])


def cases(path: str) -> Iterator[dict[str, Any]]:
    with Grader() as grader:
        engine, _ = build_engine(recipe_for(path), grader, None)
        model = engine.model
        set_threads(model, 0)
        linear = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "embed_tokens" not in name)
        head = model.get_output_embeddings().weight
        weights = linear + (head.numel() if head is model.get_input_embeddings().weight else 0)
        text = model.config.get_text_config()
        rates = {rows: product_rate(rows, text.hidden_size, text.intermediate_size) for rows in (ROWS, 1024)}
        reading = read_rate()
        yield {"case": "machine", f"products_{ROWS}": rates[ROWS], "products_1024": rates[1024], "read": reading}

        prefill, a_pass = decoded(model.eval())
        limit = max(4 * weights / reading, 2 * weights * ROWS / rates[ROWS])
        yield {"case": "decode", "rows": ROWS, "tokens_per_second": ROWS / a_pass, "share_of_limit": limit / a_pass}
        work = 2 * (weights - head.numel()) * ROWS * PROMPT + 2 * head.numel() * ROWS
        share = work / rates[1024] / prefill
        yield {"case": "read", "tokens_per_second": ROWS * PROMPT / prefill, "share_of_limit": share}

        seconds, pushed = updated(engine)
        # forward, and backward to the inputs: frozen weights get no gradient of their own
        scored = pushed - GROUPS * (GROUP_PROMPT + 8 * INDUCER)
        work = 2 * 2 * ((weights - head.numel()) * pushed + head.numel() * scored)
        yield {
            "case": "update",
            "micro_batch_tokens": engine.train.micro_batch_tokens,
            "tokens_per_second": pushed / seconds,
            "share_of_limit": work / rates[1024] / seconds,
        }
        metrics, _ = engine.step(1)
        yield {"case": "step"} | {
            key: metrics[key]
            for key in (
                "seconds",
                "seconds_rollout",
                "seconds_update",
                "tokens_decode",
                "tokens_prefill",
                "tokens_train",
            )
        }


def main(
    model: Annotated[str, typer.Argument(help="A checkpoint folder or a hub id.")],
    as_json: Json = False,
    record: Record = False,
) -> None:
    publish("real_speed", cases(model), as_json=as_json, record=record)


if __name__ == "__main__":
    typer.run(main)
