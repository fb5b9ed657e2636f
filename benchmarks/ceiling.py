"""How near the spine update comes to bare matrix products of its own shapes.

    python -m benchmarks.ceiling [--json] [--record]

The products: for every linear layer and the head x·Wᵀ, g·W and gᵀ·x; for attention, per head, q·kᵀ and p·v over the
whole spine, whose rate stands for its backward pass too. Their FLOP/s, weighted by the update's FLOPs, give the
seconds that products alone would take. Products and updates take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
import typer
from torch import nn

from benchmarks.flops import FORWARD_AND_BACKWARD, Work, spine_work
from benchmarks.models import random_model, serial_group, spines, update
from benchmarks.record import Json, Record, publish, timed
from suffice.objective.head import LOGITS_PER_CHUNK, backbone_and_head

THOUGHTS = (512, 1024, 2048, 4096)
ROUNDS = 5


def main(as_json: Json = False, record: Record = False) -> None:
    torch.set_num_threads(1)
    publish("ceiling", cases(random_model()), as_json=as_json, record=record)


def cases(model: Any) -> Iterator[dict[str, Any]]:
    update(model, spines(serial_group(64)))
    for thought in THOUGHTS:
        group = serial_group(thought)
        batches = spines(group)
        work, spine = spine_work(batches), batches[0].layout.strands[0].tokens
        ran = [
            (timed(lambda group=group: update(model, spines(group))), products_seconds(model, work, spine))
            for _ in range(ROUNDS)
        ]
        seconds, products = (median(column) for column in zip(*ran, strict=True))
        yield {
            "case": f"thought-{thought}",
            "thought": thought,
            "reached": products / seconds,
            "gflops_spine": work.flops(model) / seconds / 1e9,
            "gflops_products": work.flops(model) / products / 1e9,
            "seconds_spine": seconds,
            "seconds_products": products,
        }


@torch.no_grad()
def products_seconds(model: Any, work: Work, spine: int) -> float:
    """Seconds of the bare products that an update needs; each shape is timed once and counted as often as it occurs."""
    backbone, head = backbone_and_head(model)
    shapes = Counter(tuple(m.weight.shape) for m in backbone.modules() if isinstance(m, nn.Linear))
    seconds = sum(count * linear_seconds(work.tokens, *shape) for shape, count in shapes.items())
    scored = min(work.scored, LOGITS_PER_CHUNK // head.weight.shape[0])
    seconds += linear_seconds(scored, *head.weight.shape) * work.scored / scored
    heads, width = model.config.num_attention_heads, model.config.head_dim
    q, p = torch.randn(heads, spine, width), torch.randn(heads, spine, spine)
    square = warm(lambda: q @ q.mT) + warm(lambda: p @ q)
    layers = model.config.num_hidden_layers
    return seconds + FORWARD_AND_BACKWARD * layers * square * work.pairs / spine**2


def linear_seconds(tokens: int, outputs: int, inputs: int) -> float:
    """x·Wᵀ, g·W and gᵀ·x."""
    x, g, weight = torch.randn(tokens, inputs), torch.randn(tokens, outputs), torch.randn(outputs, inputs)
    return warm(lambda: x @ weight.T) + warm(lambda: g @ weight) + warm(lambda: g.T @ x)


def warm(work: Callable[[], Any]) -> float:
    work()
    return timed(work)


if __name__ == "__main__":
    typer.run(main)
