"""What the guard's foresight is worth, on recorded runs: its coefficients, its alarms, and what acting on them saves.

python -m benchmarks.guard --collect RUNS     add the metrics of all runs below a folder to results/guard-runs.jsonl
python -m benchmarks.guard --fit              the coefficients of suffice.guard.foresight, by the calibrating runs
python -m benchmarks.guard --record           alarms on the testing runs, in results/guard.json
python -m benchmarks.guard --outcomes RUNS    train what collapses, with and without the guard, and evaluate it
python -m benchmarks.guard --render           the tables of docs/guard.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from scipy.optimize import minimize

from benchmarks import guard_outcomes
from benchmarks.record import RESULTS, Json, publish, round_to
from suffice.bench.result import collapse as onset
from suffice.config import GuardSection
from suffice.guard.foresight import ASKED, COEFFICIENTS, COLUMNS, HORIZON, WINDOW, Trail, foresee
from suffice.run.directory import Run
from suffice.run.files import read_jsonl, write_jsonl
from suffice.run.layout import METRICS

PAGE = Path(__file__).parent.parent / "docs" / "guard.md"
CORPUS = RESULTS / "guard-runs.jsonl"
KEPT = (*COLUMNS, "groups", "dropped")
NAIVE = 0.05  # below the best window: an alarm of the rule to compare with
AFTER = "after/"  # begins the name of a run that came once features were chosen and coefficients fitted
RIDGE = 30.0  # steps of a run within a horizon of each other are nearly one observation
EITHER_WAY = ("gained", "entropy", "entropy_rising", "gradient")  # the other features may only raise the score

Recorded = dict[str, Any]
"""A run of the corpus: `run`, `task`, `method`, `learning_rate`, `seed`, `floored` if its method holds accuracy above a
floor itself, and a list by step for each of `KEPT`."""


def main(
    collect: Annotated[Path | None, typer.Option(help="Folder of runs to keep the metrics of.")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Print the coefficients.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Measure the alarms and keep the figures.")] = False,
    outcomes: Annotated[Path | None, typer.Option(help="Folder for the runs; what is done there stands.")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds --outcomes takes: 1, 3, …, which do not calibrate.")] = 3,
    render: Annotated[bool, typer.Option("--render", help="Write the tables into docs/guard.md.")] = False,
    as_json: Json = False,
) -> None:
    if collect:
        runs = {run["run"]: run for run in (*corpus(), *gather(collect))}
        write_jsonl(CORPUS, sorted(runs.values(), key=lambda run: run["run"]))
    if fit:
        intercept, found = fitted([run for run in corpus() if calibrates(run)])
        print(f"INTERCEPT = {intercept:.2f}\nCOEFFICIENTS = {json.dumps(found, indent=4)}")
    if record:
        publish("guard", figures(corpus()), as_json=as_json, record=True)
    if outcomes:
        publish("guard-outcomes", guard_outcomes.rows(outcomes, range(1, 2 * seeds, 2)), as_json=as_json, record=True)
    if render:
        PAGE.write_text(guard_outcomes.rendered(PAGE.read_text()))


# ---------------------------------------------------------------------------------------------------- the corpus


def gather(folder: Path) -> Iterable[Recorded]:
    """Every run below a folder that trained for two windows at least and was not rolled back."""
    for path in sorted(folder.glob(f"**/{METRICS}")):
        run = Run(path.parent)
        recipe, lines = run.recipe(), [step.figures() for step in run.metrics()]
        if len(lines) < 2 * WINDOW or any("rolled_back_to" in line for line in lines):
            continue
        yield {
            "run": str(path.parent.relative_to(folder)),
            "task": recipe.task.name,
            "method": recipe.method.name,
            "learning_rate": recipe.train.learning_rate,
            "seed": recipe.run.seed,
            **({"floored": True} if any(ASKED in line for line in lines) else {}),
            **{name: [round_to(line.get(name), 4) for line in lines] for name in KEPT},
        }


def corpus() -> list[Recorded]:
    return read_jsonl(CORPUS)


def lines_of(run: Recorded) -> list[dict[str, Any]]:
    """The run's metrics as metrics.jsonl had them, as far as foresight reads them."""
    floored = {ASKED: None} if run.get("floored") else {}
    columns = zip(*(run[name] for name in KEPT), strict=True)
    return [dict(zip(KEPT, values, strict=True)) | floored for values in columns]


def calibrates(run: Recorded) -> bool:
    """Runs of even seeds calibrate, those of odd seeds test; runs that came after the fit test alone."""
    return bool(run["seed"] % 2 == 0) and not came_after(run)


def came_after(run: Recorded) -> bool:
    return bool(run["run"].startswith(AFTER))


# ---------------------------------------------------------------------------------------------------- collapses


def drops(accuracy: Sequence[float]) -> list[float]:
    """How far the mean of `WINDOW` steps lies below the best such mean so far; from step `WINDOW` on."""
    means = np.convolve(accuracy, np.full(WINDOW, 1 / WINDOW), "valid")
    return list(np.maximum.accumulate(means) - means)


# ---------------------------------------------------------------------------------------------------- fitting


def observations(run: Recorded) -> tuple[list[list[float]], list[bool]]:
    """Features of every step before the collapse, and whether it came within `HORIZON` steps; what is not known is left
    out, and so are the last steps of a run that did not collapse."""
    collapse, trail = onset(run["accuracy"]), Trail()
    features, soon = [], []
    last = collapse - 1 if collapse else len(run["accuracy"]) - HORIZON
    for step, line in enumerate(lines_of(run)[:last], 1):
        trail.add(line)
        if trail.full:
            found = trail.features()
            features.append([found[name] for name in COEFFICIENTS])
            soon.append(collapse is not None and collapse - step <= HORIZON)
    return features, soon


def fitted(runs: Sequence[Recorded]) -> tuple[float, dict[str, float]]:
    """Intercept and coefficients of the ridge-logistic fit, features scaled to unit deviation for the ridge."""
    pairs = [observations(run) for run in runs]
    x = np.array([row for features, _ in pairs for row in features])
    y = np.array([outcome for _, soon in pairs for outcome in soon], dtype=float)
    scale = np.where(x.std(0) > 1e-6, x.std(0), np.inf)  # a feature that never moves says nothing
    z = np.column_stack([np.ones(len(x)), x / scale])

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        margin, ridge = z @ b, RIDGE * np.r_[0, b[1:]]
        return (
            float(np.logaddexp(0, margin).sum() - y @ margin + ridge @ b / 2),
            z.T @ (1 / (1 + np.exp(-margin)) - y) + ridge,
        )

    bounds = [(None, None), *((None if name in EITHER_WAY else 0, None) for name in COEFFICIENTS)]
    b = minimize(loss, np.zeros(z.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return float(b[0]), dict(zip(COEFFICIENTS, (round(float(c), 2) + 0.0 for c in b[1:] / scale), strict=True))


# ---------------------------------------------------------------------------------------------------- measuring


def by_score(run: Recorded, *fit: Any) -> list[bool]:
    """At every step, whether foresight gives an alarm; with `fit`, an intercept and coefficients instead of its own."""
    threshold = GuardSection().threshold
    return [score is not None and score >= threshold for score in foresee(lines_of(run), *fit)]


def by_drop(run: Recorded) -> list[bool]:
    return [False] * (WINDOW - 1) + [drop >= NAIVE for drop in drops(run["accuracy"])]


def figures(runs: Sequence[Recorded]) -> list[dict[str, Any]]:
    """A row for foresight and one for the naive rule, on the testing, the calibrating and the later runs; then of the
    testing runs those of one kind of method, and those of a task by a score that was fitted without it. Runs of methods
    with a floor have a row of their own: what the score would say of them if it did not leave them out."""
    floored = [{**run, "floored": False} for run in runs if run.get("floored")]
    scored = [run for run in runs if not run.get("floored")]
    later = [run for run in scored if came_after(run)]
    known = [run for run in scored if not came_after(run)]
    testing, calibrating = ([run for run in known if calibrates(run) == which] for which in (False, True))

    def row(rule: str, which: str, chosen: list[Recorded], alarms: Callable[[Recorded], list[bool]]) -> dict[str, Any]:
        return {"case": f"{rule}, {which}", "rule": rule, "which": which, **measured(chosen, alarms)}

    found = [
        row(rule, which, chosen, alarms)
        for which, chosen in (("testing", testing), ("calibrating", calibrating), ("after the fit", later))
        for rule, alarms in (("score", by_score), ("drop", by_drop))
    ]
    for which, decides in (("`decide` at fixed prices", True), ("other methods", False)):
        own = [run for run in later if (run["method"] == "decide") == decides]
        found.append(row("score", f"after the fit, {which}", own, by_score))
    for method in sorted({run["method"] for run in testing}):
        own = [run for run in testing if run["method"] == method]
        found.append(row("score", f"testing, `{method}`", own, by_score))
    for task in sorted({run["task"] for run in testing}):
        own = [run for run in testing if run["task"] == task]
        fit = fitted([run for run in runs if calibrates(run) and run["task"] != task])
        found.append(row("score", f"testing, `{task}` left out", own, lambda run, fit=fit: by_score(run, *fit)))
    return [*found, row("score", "`decide` with its floor, were it scored", floored, by_score)]


def measured(runs: Sequence[Recorded], alarms: Callable[[Recorded], list[bool]]) -> dict[str, Any]:
    """Of the first alarm of every run: `hits` within `HORIZON` steps before the collapse, `early` before that, `missed`
    none before it, `false` in a run that does not collapse; of runs that do not, also how often alarms begin."""
    leads, early, missed, false, begun, steps = [], 0, 0, 0, 0, 0
    for run in runs:
        collapse, given = onset(run["accuracy"]), alarms(run)
        first = next((step for step, alarm in enumerate(given[: collapse and collapse - 1], 1) if alarm), None)
        if collapse is None:
            false += first is not None
            begun += sum(now and not before for before, now in pairwise([False, *given]))
            steps += len(given)
        elif first is None:
            missed += 1
        elif collapse - first > HORIZON:
            early += 1
        else:
            leads.append(collapse - first)
    hits = len(leads)
    return {
        "runs": len(runs),
        "collapsed": hits + early + missed,
        "hits": hits,
        "early": early,
        "missed": missed,
        "false": false,
        "precision": hits / max(1, hits + early + false),
        "recall": hits / max(1, hits + early + missed),
        "lead": median(leads) if leads else None,
        "lead_least": min(leads, default=None),
        "lead_most": max(leads, default=None),
        "false_per_100_steps": 100 * begun / max(1, steps),
    }


if __name__ == "__main__":
    typer.run(main)
