"""The main job from end to end on the embedded micro reasoner, every figure measured in the run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from suffice.config import Recipe, load_recipe
from suffice.engines.local import train
from suffice.evaluation.diagnose import diagnose
from suffice.evaluation.local import LocalSource
from suffice.evaluation.protocol import write_evaluation
from suffice.evaluation.source import Sampling
from suffice.grading import Grader
from suffice.model.device import set_threads
from suffice.model.load import load
from suffice.report import write_report
from suffice.run.files import read_json, start_run
from suffice.tasks import load_task

DIAGNOSED = 300


def run_demo(out: Path, seed: int) -> dict[str, Any]:
    """Diagnose, train, evaluate and report; the result holds what the command line prints."""
    started = time.perf_counter()
    recipe = load_recipe("lab-s-grpo", [f"run.seed={seed}"])
    run = start_run(out, recipe.dump())
    diagnosed = {"before": diagnose_label(recipe, run, "before", recipe.model.path)}
    checkpoint = train(recipe, run)
    diagnosed["after"] = diagnose_label(recipe, run, "after", str(checkpoint))
    page = write_report(run)
    result: dict[str, Any] = {
        kind: {
            end: read_json(run / "evaluations" / f"{end}{suffix}" / "summary.json")["metrics"]
            for end in ("before", "after")
        }
        for kind, suffix in (("sampled", ""), ("greedy", "-greedy"))
    }
    change = read_json(run / "comparison.json")
    result["sampled"]["change"], result["greedy"]["change"] = change, change["greedy"]
    return {
        "thinking_tokens_change": change["thought_tokens_change"]["mean"],
        "accuracy_before": result["sampled"]["before"]["accuracy"]["mean"],
        "accuracy_after": result["sampled"]["after"]["accuracy"]["mean"],
        "seconds": time.perf_counter() - started,
        "run": str(run),
        "report": str(page),
        **{f"diagnosis_{label}": summary["verdict"] for label, summary in diagnosed.items()},
        **result,
    }


def diagnose_label(recipe: Recipe, run: Path, label: str, path: str) -> dict[str, Any]:
    """Diagnose a model on held-out problems by the recipe's evaluation protocol, into `diagnosis/<label>`."""
    model, chat = load(recipe.model.model_copy(update={"path": path}), recipe.rollout.inducer)
    set_threads(model, recipe.train.threads)
    problems = load_task(
        recipe.eval.task or recipe.task.name, split=recipe.eval.split, limit=DIAGNOSED, seed=recipe.eval.seed
    )
    protocol = replace(Sampling.of(recipe.eval), samples=1, temperature=0.6, top_p=0.95)  # as `suffice diagnose` does
    with Grader() as grader:
        found = diagnose(LocalSource(label, model, chat), problems, protocol, grader)
    write_evaluation(run / "diagnosis" / label, found)
    return found.summary
