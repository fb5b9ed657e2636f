"""A whole step, rollout to optimizer: S-GRPO with 8 exits against GRPO with 9 parallel rollouts.

    python -m benchmarks.step [--json] [--record]

Both train the shipped lab base on the same 16 problems, with a learning rate too small to change it, by their packaged
recipes. Steps take turns; each has random streams of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import typer

from benchmarks.record import Json, Record, publish
from suffice.config import load_recipe
from suffice.engines.local.build import build_engine
from suffice.grading import Grader

MEMBERS = 9
ROUNDS = 9
FIXED = ["train.learning_rate=1e-30", "train.problems_per_step=16", "train.refill_cap=0", "train.threads=1"]
SIDES = {
    "s-grpo": ("lab-s-grpo", [f"group.exits={MEMBERS - 1}"]),
    "grpo": ("lab-grpo", [f"group.spines={MEMBERS}"]),
}


def main(as_json: Json = False, record: Record = False) -> None:
    publish("step", cases(), as_json=as_json, record=record)


def cases() -> Iterator[dict[str, Any]]:
    with ExitStack() as open_graders:
        engines = {}
        for side, (recipe, overrides) in SIDES.items():
            grader = open_graders.enter_context(Grader())
            engines[side], _ = build_engine(load_recipe(recipe, [*FIXED, *overrides]), grader, None)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in engines}
        for step in range(ROUNDS + 1):
            for side, engine in engines.items():
                engine.problems.drawn = 0
                metrics, _ = engine.step(step + 1)
                if step:  # the first warms up
                    found[side].append(metrics)
    middle = {
        side: {key: median(metrics[key] for metrics in steps) for key in steps[0]} for side, steps in found.items()
    }
    ours, theirs = middle["s-grpo"], middle["grpo"]
    yield {"case": "lab-base", "ratio": ours["seconds"] / theirs["seconds"]} | {
        f"{part}_{side}": middle[side][part]
        for part in ("seconds", "seconds_rollout", "seconds_update", "tokens_decode", "tokens_train")
        for side in SIDES
    }


if __name__ == "__main__":
    typer.run(main)
