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
from suffice.evaluation.source import Sampling
from suffice.grading import Grader
from suffice.model.device import set_threads
from suffice.model.load import load
from suffice.report import write_report
from suffice.run.directory import Run
from suffice.run.layout import AFTER, BEFORE, greedy
from suffice.run.records import DiagnosisSummary
from suffice.run.start import start_run
from suffice.tasks import load_task

DIAGNOSED = 300


def run_demo(out: Path, seed: int) -> dict[str, Any]:
    """Diagnose, train, evaluate and report; the result holds what the command line prints."""
    started = time.perf_counter()
    recipe = load_recipe("lab-s-grpo", [f"run.seed={seed}"])
    run = Run(start_run(out, recipe.dump()))
    before = diagnose_label(recipe, run, BEFORE, recipe.model.path)
    after = diagnose_label(recipe, run, AFTER, str(train(recipe, run.path)))
    page, change = write_report(run.path), run.comparison()
    assert change is not None
    metrics = {label: summary.metrics for label, summary in run.evaluations().items()}
    return {
        "thinking_tokens_change": change.thought_tokens_change.mean,
        "accuracy_before": metrics[BEFORE].accuracy.mean,
        "accuracy_after": metrics[AFTER].accuracy.mean,
        "seconds": time.perf_counter() - started,
        "run": str(run.path),
        "report": str(page),
        "diagnosis_before": before.conclusion,
        "diagnosis_after": after.conclusion,
        **{
            kind: {
                "before": metrics[first].as_dict(),
                "after": metrics[last].as_dict(),
                "change": each.as_dict(),
            }
            for kind, first, last, each in (
                ("sampled", BEFORE, AFTER, change),
                ("greedy", greedy(BEFORE), greedy(AFTER), change.greedy),
            )
        },
    }


def diagnose_label(recipe: Recipe, run: Run, label: str, path: str) -> DiagnosisSummary:
    """Diagnose a model on held-out problems by the recipe's evaluation protocol, into `diagnosis/<label>`."""
    model, chat = load(recipe.model.model_copy(update={"path": path}), recipe.rollout.inducer)
    set_threads(model, recipe.train.threads)
    problems = load_task(
        recipe.eval.task or recipe.task.name, split=recipe.eval.split, limit=DIAGNOSED, seed=recipe.eval.seed
    )
    protocol = replace(Sampling.of(recipe.eval), samples=1, temperature=0.6, top_p=0.95)  # as `suffice diagnose` does
    with Grader() as grader:
        found = diagnose(LocalSource(label, model, chat), problems, protocol, grader)
    run.write_diagnosis(label, found)
    return found.summary
