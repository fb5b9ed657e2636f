"""The packed row under one dense mask, N×N, instead of the spine layout's attention: seconds and peak memory.

    python -m benchmarks.dense_mask [--json] [--record]

Packed tokens, positions and loss are the same; only attention differs. It is how a shared prefix is trained without a
kernel for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import typer
from torch import Tensor

from benchmarks.models import random_model, serial_group, spines, update
from benchmarks.record import Json, Record, publish, timed
from suffice.groups import Group
from suffice.objective import SpineBatch
from suffice.objective.head import backbone_and_head, head_logprobs

THOUGHTS = (512, 1024, 2048, 4096)
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class DenseBatch:
    """A packed batch whose attention is plain SDPA under a mask bool [1, 1, N, N]."""

    packed: SpineBatch
    mask: Tensor

    @property
    def plus(self) -> Tensor:
        return self.packed.plus

    @property
    def minus(self) -> Tensor:
        return self.packed.minus

    def logprobs(self, model: Any, temperature: float) -> tuple[Tensor, Tensor]:
        backbone, head = backbone_and_head(model)
        hidden_N_D = backbone(
            input_ids=self.packed.input_ids[None],
            position_ids=self.packed.positions[None],
            attention_mask=self.mask,
            use_cache=False,
        ).last_hidden_state[0]
        return head_logprobs(head, hidden_N_D[self.packed.predictor], self.packed.target, temperature)


def dense(group: Group) -> list[DenseBatch]:
    return [DenseBatch(batch, dense_mask(batch)) for batch in spines(group)]


def dense_mask(batch: SpineBatch) -> Tensor:
    """What each packed token sees of all packed tokens, bool [1, 1, N, N]."""
    mask = torch.zeros(batch.tokens, batch.tokens, dtype=torch.bool)
    columns = iter(batch.layout.attended.split(batch.layout.sizes))
    for strand in batch.layout.strands:
        spine = next(columns)
        mask[spine[:, None], spine] = torch.ones(strand.tokens, strand.tokens, dtype=torch.bool).tril()
        for call in strand.calls:
            own = next(columns)
            mask[own[:, None], torch.cat([spine[: call.kept], own])] = call.mask[0, 0]
    return mask[None, None]


def main(as_json: Json = False, record: Record = False) -> None:
    torch.set_num_threads(1)
    publish("dense_mask", cases(random_model()), as_json=as_json, record=record)


def cases(model: Any) -> Iterator[dict[str, Any]]:
    from benchmarks.probe import probe  # which knows this layout too

    update(model, spines(serial_group(64)))
    for thought in THOUGHTS:
        group = serial_group(thought)
        seconds: dict[str, list[float]] = {"dense": [], "spine": []}
        for _ in range(ROUNDS):
            seconds["dense"].append(timed(lambda group=group: update(model, dense(group))))
            seconds["spine"].append(timed(lambda group=group: update(model, spines(group))))
        dense_seconds, spine_seconds = median(seconds["dense"]), median(seconds["spine"])
        yield {
            "case": f"thought-{thought}",
            "thought": thought,
            "ratio": dense_seconds / spine_seconds,
            "seconds_dense": dense_seconds,
            "seconds_spine": spine_seconds,
            "mib_dense": probe("dense", thought)["mib"],
            "mib_spine": probe("spine", thought)["mib"],
        }


if __name__ == "__main__":
    typer.run(main)
