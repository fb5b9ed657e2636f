"""One update of a serial group, by rows and by spine: seconds, the ratio that FLOPs allow, and the gradients' distance.

    python -m benchmarks.spine [--json] [--quick] [--threads 1] [--thought 2048] [--record]

Rows run one by one, without padding, or in padded batches: the faster way counts. Both layouts take turns, and the
median of each is reported. The distance is ‖g_spine − g_rows‖ / Σᵢ‖gᵢ‖, gᵢ the gradient of member i alone, the largest
over the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.flops import rows_work, spine_work
from benchmarks.models import random_model, rows, serial_group, spines, update
from benchmarks.record import Json, Record, publish, timed
from suffice.groups import Group

THREADS, THOUGHTS = [1, 2], [512, 1024, 2048, 4096]
ROUNDS = 5


def main(
    as_json: Json = False,
    record: Record = False,
    quick: Annotated[bool, typer.Option("--quick", help="One thread, few rounds, rows one by one only.")] = False,
    threads: Annotated[list[int], typer.Option("--threads", help="Torch threads; may be repeated.")] = THREADS,
    thought: Annotated[list[int], typer.Option("--thought", help="Tokens of thought; may be repeated.")] = THOUGHTS,
) -> None:
    for count in [1] if quick else threads:
        torch.set_num_threads(count)
        publish(f"spine-{count}", cases(random_model(), count, thought, quick), as_json=as_json, record=record)


def cases(model: Any, threads: int, thoughts: Sequence[int], quick: bool) -> Iterator[dict[str, Any]]:
    for thought in thoughts:
        rounds = max(1, 1024 // thought) if quick else ROUNDS
        yield (
            {"case": f"thought-{thought}-threads-{threads}", "thought": thought}
            | compare(model, serial_group(thought), rounds, batched=not quick)
            | {"threads": threads}
        )


def compare(model: Any, group: Group, rounds: int, *, batched: bool) -> dict[str, Any]:
    """Seconds of both layouts over some rounds; padded rows are left out after a first round that they lose."""
    seconds: dict[str, list[float]] = {"spine": [], "one": [], "batched": []}
    update(model, spines(group))  # the first of its size pays for memory
    for _ in range(rounds):
        seconds["spine"].append(timed(lambda: update(model, spines(group))))
        spine = gradients(model)
        one, together, alone = one_by_one(model, group)
        seconds["one"].append(one)
        if batched:
            seconds["batched"].append(timed(lambda: update(model, rows(group))))
            batched = seconds["batched"][0] < seconds["one"][0]
    fastest = min(median(found) for found in (seconds["one"], seconds["batched"]) if found)
    ratio = fastest / median(seconds["spine"])
    flop_ratio = rows_work(rows(group)).flops(model) / spine_work(spines(group)).flops(model)
    errors = [float((ours - theirs).norm()) / scale for ours, theirs, scale in zip(spine, together, alone, strict=True)]
    return {
        "ratio": ratio,
        "flop_ratio": flop_ratio,
        "reached": ratio / flop_ratio,
        "grad_rel_err": max(errors),
        "seconds_rows": fastest,
        "seconds_rows_padded": min(seconds["batched"], default=None),
        "seconds_spine": median(seconds["spine"]),
        "rounds": rounds,
    }


def one_by_one(model: Any, group: Group) -> tuple[float, list[Tensor], list[float]]:
    """Rows without padding: seconds, their gradient, and per parameter Σᵢ‖gᵢ‖; sums and norms are off the clock."""
    seconds = 0.0
    together = [torch.zeros_like(p) for p in model.parameters()]
    alone = [0.0] * len(together)
    for batch in rows(group, 1):
        seconds += timed(lambda batch=batch: update(model, [batch]))
        for i, found in enumerate(gradients(model)):
            together[i] += found
            alone[i] += float(found.norm())
    return seconds, together, alone


def gradients(model: Any) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters()]


if __name__ == "__main__":
    typer.run(main)
