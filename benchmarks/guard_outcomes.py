"""What acting on the guard's alarms saves: runs that collapse, trained with the guard off, stopping and rolling back.

Final weights and chosen checkpoints are evaluated on 2,000 problems that neither training nor the guard has seen, and
paired with the base. Run it by `python -m benchmarks.guard --outcomes FOLDER`; what a folder holds already stands.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.performance import table
from benchmarks.record import RESULTS
from suffice.config import load_recipe
from suffice.evaluation.compare import compare
from suffice.model.checkpoint import latest_checkpoint
from suffice.numbers import number
from suffice.run.directory import Evaluation, Run
from suffice.run.layout import RECIPE, REQUEST

PLACE = re.compile(r"(?<=<!-- )(foresight|outcomes)( -->\n).*?(?=<!-- /\1 -->)", re.DOTALL)
ACTIONS = ("off", "stop", "roll back")
PROBLEMS = 2000


class Cell(NamedTuple):
    """A recipe that collapses, what is set in it, and the split it is evaluated on."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    split: str


AT_3E_3 = ("train.steps=60", "train.learning_rate=3e-3")
CELLS = (
    Cell("ballots, length-penalty", "lab-ballots-length-penalty", ("train.steps=100",), "final"),
    Cell("ballots, grpo-lambda", "lab-ballots-grpo-lambda", ("train.steps=100",), "final"),
    Cell("arithmetic, grpo-lambda at 3e-3", "lab-grpo-lambda", AT_3E_3, "test"),
    Cell("sums, length-penalty at 3e-3", "lab-sums-length-penalty", AT_3E_3, "final"),
    Cell(
        "arithmetic, s-grpo with its inducer trained, mean per sequence",
        "lab-s-grpo",
        ("train.steps=60", 'objective.train_on="all"', 'objective.aggregate="sequence"'),
        "test",
    ),
)


def rows(folder: Path, seeds: Iterable[int]) -> Iterator[dict[str, Any]]:
    """One row a run and kind of checkpoint: the base, the last weights, the chosen ones."""
    for cell in CELLS:
        base = load_recipe(cell.recipe).model.path
        reference = evaluated(cell, base, folder / cell.recipe / "base")
        for seed in seeds:
            for action in ACTIONS:
                run = trained(cell, action, seed, folder / cell.recipe / f"{action.replace(' ', '-')}-{seed}")
                last = latest_checkpoint(run)
                chosen = Run(run).chosen()
                kept = {"last": str(last)} | ({"chosen": str(Run(run).chosen_checkpoint())} if chosen else {})
                steps = Run(run).metrics()
                for which, path in kept.items():
                    found = reference if path == base else evaluated(cell, path, run / f"eval-{which}")
                    accuracy = compare(reference, found).accuracy
                    base_metrics, metrics = reference.summary.metrics, found.summary.metrics
                    yield {
                        "case": f"{cell.name}, seed {seed}, {action}, {which}",
                        "cell": cell.name,
                        "seed": seed,
                        "action": action,
                        "which": which,
                        "step": chosen.step if chosen and which == "chosen" else steps[-1].step,
                        "rollbacks": sum(step.rolled_back_to is not None for step in steps),
                        "base_accuracy": base_metrics.accuracy.mean,
                        "base_thought_tokens": base_metrics.thought_tokens.mean,
                        "accuracy": metrics.accuracy.mean,
                        "thought_tokens": metrics.thought_tokens.mean,
                        "change": accuracy.mean,
                        "change_low": accuracy.low,
                        "change_high": accuracy.high,
                        "probe_share": sum(step.tokens_guard for step in steps)
                        / sum(step.tokens_prefill + step.tokens_decode for step in steps),
                    }


def trained(cell: Cell, action: str, seed: int, run: Path) -> Path:
    """The run of a cell, gone on with if it was cut short."""
    if (run / RECIPE).exists():
        suffice("train", "--resume", str(run))
    else:
        settings = (*cell.settings, f"run.seed={seed}", f'guard.action="{action}"', "train.eval_every=0")
        suffice("train", cell.recipe, *(part for each in settings for part in ("--set", each)), "--out", str(run))
    return run


def evaluated(cell: Cell, model: str, folder: Path) -> Evaluation:
    """One sample a problem at the temperature and the budgets of training."""
    recipe = load_recipe(cell.recipe)
    label = recipe.task.name
    if not Run(folder).is_evaluated(label):
        asked = {
            "--task": label,
            "--split": cell.split,
            "--problems": PROBLEMS,
            "--samples": 1,
            "--temperature": recipe.rollout.temperature,
            "--top-p": recipe.rollout.top_p,
            "--max-thought-tokens": recipe.rollout.max_thought_tokens,
            "--max-answer-tokens": recipe.rollout.max_answer_tokens,
        }
        resumes = (folder / REQUEST).exists()
        options = ["--resume", str(folder)] if resumes else [model, "--out", str(folder)]
        suffice("eval", *options, *([] if resumes else [str(each) for pair in asked.items() for each in pair]))
    return Run(folder).evaluation(label, texts=False)


def suffice(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "suffice", *arguments], check=True)


# ---------------------------------------------------------------------------------------------------- docs/guard.md


def rendered(page: str) -> str:
    """The page with every table as the results give it; a place whose results are not there stays as it is."""

    def fill(found: re.Match[str]) -> str:
        path = RESULTS / {"foresight": "guard.json", "outcomes": "guard-outcomes.json"}[found[1]]
        return f"{found[1]}{found[2]}{TABLES[found[1]](json.loads(path.read_text()))}" if path.exists() else found[0]

    return PLACE.sub(fill, page)


def foresight(result: dict[str, Any]) -> str:
    heads = ["rule", "which", "runs", "collapsed", "foreseen", "earlier", "missed", "healthy runs alarmed", "precision"]
    heads += ["recall", "steps ahead, median (range)", "false alarms per 100 steps"]
    return table(
        heads,
        [
            [
                {"score": "the score", "drop": "accuracy 5 points down"}[row["rule"]],
                row["which"],
                *(str(row[name]) for name in ("runs", "collapsed", "hits", "early", "missed", "false")),
                *(f"{row[name]:.2f}" for name in ("precision", "recall")),
                f"{row['lead']:g} ({row['lead_least']}–{row['lead_most']})" if row["lead"] is not None else "–",
                f"{row['false_per_100_steps']:.2f}",
            ]
            for row in result["rows"]
        ],
    )


def outcomes(result: dict[str, Any]) -> str:
    """A line a cell: the change of accuracy in points, seed by seed, and the mean change of thinking tokens."""
    kinds = {
        "off": ("off", "last"),
        "stop": ("stop", "last"),
        "stop: chosen": ("stop", "chosen"),
        "roll back": ("roll back", "last"),
        "roll back: chosen": ("roll back", "chosen"),
    }
    found: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for row in result["rows"]:
        found.setdefault(row["cell"], {}).setdefault((row["action"], row["which"]), []).append(row)
    return table(
        ["run", *kinds], [[cell, *(by_seed(of[kind]) for kind in kinds.values())] for cell, of in found.items()]
    )


def by_seed(rows: Sequence[dict[str, Any]]) -> str:
    """`−28.3, −32.3, −29.6; −87 %`."""
    points = ", ".join(number(100 * row["change"], signed=True) for row in rows)
    shorter = fmean(row["thought_tokens"] / row["base_thought_tokens"] - 1 for row in rows)
    return f"{points}; {number(100 * shorter, 0, signed=True)} %"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"foresight": foresight, "outcomes": outcomes}
