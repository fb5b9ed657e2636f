"""The lab's result: one recipe, several seeds, all of them shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suffice.config import Recipe, load_recipe
from suffice.engines.local import train
from suffice.errors import RecipeError, RunError
from suffice.run.directory import Run
from suffice.run.files import write_json
from suffice.run.layout import AFTER, BEFORE, BENCH, COMPARISON, RECIPE, greedy
from suffice.run.start import free_run, manifest


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
        summaries, steps, change = Run(run).evaluations(), Run(run).metrics(), Run(run).comparison()
        assert change is not None
        ends = {label: summaries[label] for label in (BEFORE, AFTER, greedy(BEFORE), greedy(AFTER))}
        seconds = sum(line.seconds for line in steps) + sum(end.seconds or 0.0 for end in ends.values())
        rows.append(
            {
                "seed": seed,
                "seconds": round(seconds, 1),
                "tokens_sampled": sum(line.tokens_decode for line in steps),
                "change": change.as_dict(),
                **{end: summary.metrics.as_dict() for end, summary in ends.items()},
            }
        )
    command = f"suffice lab bench --recipe {recipe} --seeds {','.join(map(str, seeds))}" + "".join(
        f" --set {override}" for override in overrides
    )
    result = {
        "recipe": recipe,
        "command": command,
        "manifest": manifest().as_dict(),
        "record": str(out / BENCH),
        "seeds": rows,
    }
    write_json(out / BENCH, result)
    return result


def finish(recipe: Recipe, run: Path) -> None:
    """Train a recipe in `run`, from where an earlier attempt left it."""
    begun = (run / RECIPE).is_file()
    if begun and (run / RECIPE).read_text(encoding="utf-8") != recipe.dump():
        raise RunError(f"{run} is a run of another recipe; choose another directory with --out")
    if not (run / COMPARISON).exists():
        train(recipe, run if begun else free_run(run), resume=begun)
