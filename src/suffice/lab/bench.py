"""The lab's result: one recipe, several seeds, all of them shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suffice.config import Recipe, load_recipe
from suffice.engines.local import train
from suffice.errors import RecipeError, RunError
from suffice.run.files import free_run, manifest, read_json, read_jsonl, write_json


def bench(recipe: str, seeds: Sequence[int], overrides: Sequence[str], out: Path) -> dict[str, Any]:
    """Train `recipe` once per seed in `out/seed-<n>` and record every seed's paired result in `out/bench.json`.

    Seeds that are finished there stand, one that was interrupted goes on.

    Raises:
        RunError: `out` holds something else, or runs of another recipe.
    """
    rows = []
    resolved = [load_recipe(recipe, [*overrides, f"run.seed={seed}"]) for seed in seeds]
    if not resolved[0].train.eval_every:
        raise RecipeError("the bench compares evaluations before and after; set train.eval_every to 1 or more")
    runs = [out / f"seed-{seed}" for seed in seeds]
    if not any(run.exists() for run in runs):
        free_run(out)
    for seed, run, one in zip(seeds, runs, resolved, strict=True):
        finish(one, run)
        ends = {
            end: read_json(run / "evaluations" / end / "summary.json")
            for end in ("before", "after", "before-greedy", "after-greedy")
        }
        steps = read_jsonl(run / "metrics.jsonl")
        seconds = sum(line["seconds"] for line in [*steps, *ends.values()])
        rows.append(
            {
                "seed": seed,
                "seconds": round(seconds, 1),
                "tokens_sampled": sum(line["tokens_decode"] for line in steps),
                "change": read_json(run / "comparison.json"),
                **{end: summary["metrics"] for end, summary in ends.items()},
            }
        )
    command = f"suffice lab bench --recipe {recipe} --seeds {','.join(map(str, seeds))}" + "".join(
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


def finish(recipe: Recipe, run: Path) -> None:
    """Train a recipe in `run`, from where an earlier attempt left it."""
    begun = (run / "recipe.toml").is_file()
    if begun and (run / "recipe.toml").read_text(encoding="utf-8") != recipe.dump():
        raise RunError(f"{run} is a run of another recipe; choose another directory with --out")
    if not (run / "comparison.json").exists():
        train(recipe, run if begun else free_run(run), resume=begun)
