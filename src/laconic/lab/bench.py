"""The lab's result: one recipe, several seeds, all of them shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from laconic.config import load_recipe
from laconic.engines.local import train
from laconic.errors import RecipeError
from laconic.runs import free_run, manifest, read_json, write_json


def bench(recipe: str, seeds: Sequence[int], overrides: Sequence[str], out: Path) -> dict[str, Any]:
    """Train `recipe` once per seed in `out/seed-<n>` and record every seed's paired result in `out/bench.json`."""
    rows = []
    resolved = [load_recipe(recipe, [*overrides, f"run.seed={seed}"]) for seed in seeds]
    if not resolved[0].train.eval_every:
        raise RecipeError("the bench compares evaluations before and after; set train.eval_every to 1 or more")
    free_run(out)
    for seed, one in zip(seeds, resolved, strict=True):
        run = free_run(out / f"seed-{seed}")
        started = time.perf_counter()
        train(one, run)
        ends = {
            end: read_json(run / "evaluations" / end / "summary.json")["metrics"]
            for end in ("before", "after", "before-greedy", "after-greedy")
        }
        rows.append(
            {
                "seed": seed,
                "seconds": round(time.perf_counter() - started, 1),
                "change": read_json(run / "comparison.json"),
                **ends,
            }
        )
    command = f"laconic lab bench --recipe {recipe} --seeds {','.join(map(str, seeds))}" + "".join(
        f" --set {override}" for override in overrides
    )
    result = {
        "recipe": recipe,
        "command": command,
        "manifest": manifest(),
        "record": str(out / "bench.json"),
        "seeds": rows,
    }
    write_json(out / "bench.json", result)
    return result
