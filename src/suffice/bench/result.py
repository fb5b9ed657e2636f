"""What a bench found: `bench.json`, computed again from the records of its cells whenever it is asked for.

plan, model, protocol, manifest
base       metrics of the untrained model; `base_greedy` where the plan asks for it
cells      by arm and seed: `failed` (why, or null), `collapsed` (step or null), `steps` (each evaluation with its
           metrics, change to the base, and what was spent up to it), `greedy` (the last step's, against the base's),
           `curve` (in-batch accuracy and thinking tokens)
arms       over the seeds that finished: `steps` and `greedy` with means and intervals over seeds and questions
budgets    by kind of spending: `budget`, and each arm's last evaluated step within it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from suffice.bench.cell import finished, label, wanted
from suffice.bench.plan import Bench, Cell
from suffice.evaluation.compare import compare, on_front
from suffice.evaluation.protocol import LENGTHS, OUTCOMES, Evaluation, Figure, summarise
from suffice.evaluation.sides import read_checked
from suffice.run.files import manifest, read_jsonl, write_json
from suffice.statistics import Interval, over_seeds

SPENT = {
    "tokens_decode": "generated tokens",
    "tokens_train": "trained tokens",
    "seconds": "seconds of training",
}
"""What an arm spends, as `metrics.jsonl` counts it and as tables call it."""

SHOWN = (*OUTCOMES, *LENGTHS)
CHANGES = {"accuracy": "difference", "thought_tokens_change": "mean", "tokens_change": "mean"}
"""Changes to the base that are shown, and the key of their centre."""

WINDOW, FALL = 10, 0.1
"""A collapse: the mean accuracy of so many steps lies so far below its best."""


def write_result(bench: Bench, out: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """Compute what the cells in OUT say, and write it to `bench.json`."""
    bases = read_evaluations(bench.base, out)
    by_arm: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in bench.plan.arm}
    arms = []
    for name, cells in by_arm.items():
        evaluations = {}
        for cell in [cell for cell in bench.cells if cell.arm == name]:
            found = read_cell(cell, out, failed.get(cell.folder))
            cells.append(found)
            if bases and (own := read_evaluations(cell, out)):
                evaluations[cell.seed] = own
                spent = spending(read_jsonl(out / "runs" / cell.folder / "metrics.jsonl"), cell.at)
                found["steps"] = [
                    {"step": step, **measured(bases[0, False], [own[step, False]])} | cost
                    for step, cost in zip(cell.at, spent, strict=True)
                ]
                if cell.greedy:
                    found["greedy"] = measured(bases[0, True], [own[cell.at[-1], True]])
        if evaluations:
            arms.append(arm_of(name, bases, evaluations, cells))
    base, greedy = bases.get((0, False)), bases.get((0, True))
    result = {
        "plan": bench.plan.model_dump(exclude_none=True),
        "model": bench.base.recipe.model.path,
        "protocol": bench.base.recipe.eval.model_dump(exclude_none=True),
        "manifest": manifest(),
        "questions": None if base is None else len({record["problem"] for record in base.records}),
        "base": None if base is None else summarise(base.records)["metrics"],
        "base_greedy": None if greedy is None else summarise(greedy.records)["metrics"],
        "cells": [cell for cells in by_arm.values() for cell in cells],
        "arms": arms,
        "budgets": budgets(arms),
    }
    mark_front(result)
    write_json(out / "bench.json", result)
    return result


Evaluations = dict[tuple[int, bool], Evaluation]
"""Of one cell, by step and whether it is greedy."""


def read_evaluations(cell: Cell, out: Path) -> Evaluations:
    """Those of a finished cell; none of one that is not."""
    run = out / "runs" / cell.folder
    if not finished(cell, run):
        return {}
    return {each: light(run / "evaluations" / label(*each)) for each in wanted(cell.at, cell.greedy)}


def light(folder: Path) -> Evaluation:
    """An evaluation without its texts."""
    evaluation = read_checked(folder)
    texts = {"prompt", "gold", "thought", "answer"}
    return replace(
        evaluation,
        records=[{key: value for key, value in r.items() if key not in texts} for r in evaluation.records],
    )


def read_cell(cell: Cell, out: Path, failed: str | None) -> dict[str, Any]:
    """What a cell's training says of itself, however far it came."""
    run = out / "runs" / cell.folder
    lines = read_jsonl(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    curve = {key: [line[key] for line in lines] for key in ("step", "accuracy", "thought_tokens")}
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "run": f"runs/{cell.folder}",
        "failed": failed,
        "collapsed": collapse(curve["accuracy"]),
        "steps": [],
        "greedy": None,
        "curve": curve,
    }


def collapse(accuracy: Sequence[float]) -> int | None:
    """The first step (from 1) at which in-batch accuracy has collapsed, or None.

    There the mean of the last WINDOW steps lies at least FALL below the best such mean up to then, and stays so for
    WINDOW steps or to the end.
    """
    if len(accuracy) < WINDOW:
        return None
    means = np.convolve(accuracy, np.full(WINDOW, 1 / WINDOW), mode="valid")
    fallen = means <= np.maximum.accumulate(means) - FALL + 1e-9
    for i in range(len(means)):
        if fallen[i : i + WINDOW].all():
            return i + WINDOW
    return None


def spending(lines: Sequence[Mapping[str, float]], at: Sequence[int]) -> list[dict[str, float]]:
    """What a run spent up to each step, of every kind in SPENT; a guard's probes are generated tokens too."""
    costs = [
        {kind: line[kind] for kind in SPENT} | {"tokens_decode": line["tokens_decode"] + line.get("tokens_guard", 0)}
        for line in lines
    ]
    return [
        {
            kind: sum(cost[kind] for line, cost in zip(lines, costs, strict=True) if line["step"] <= step)
            for kind in SPENT
        }
        for step in at
    ]


def measured(base: Evaluation, seeds: Sequence[Evaluation]) -> dict[str, Any]:
    """`metrics`, `change` to the base and `compression` of one or several seeds' evaluations, pooled by question."""
    records = [record for each in seeds for record in each.records]
    change = compare(base, Evaluation(records, seeds[0].summary))
    metrics, tokens = summarise(records)["metrics"], change["tokens_change"]
    return {
        "metrics": {name: metrics[name] for name in SHOWN},
        "change": {name: change[name] for name in CHANGES},
        "compression": {key: None if value is None else 1 + value for key, value in tokens.items()},
    }


def arm_of(
    name: str, bases: Evaluations, evaluations: Mapping[int, Evaluations], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """An arm over its finished seeds: intervals by `over_seeds`, spending as means."""
    done = [cell for cell in cells if cell["seed"] in evaluations]

    def over(single: Sequence[Mapping[str, Any]], step: int, greedy: bool) -> dict[str, Any]:
        pooled = measured(bases[0, greedy], [evaluations[cell["seed"]][step, greedy] for cell in done])
        return {
            "step": step,
            "metrics": {key: widened(pooled["metrics"][key], [one["metrics"][key] for one in single]) for key in SHOWN},
            "change": {
                key: widened(pooled["change"][key], [one["change"][key] for one in single], centre)
                for key, centre in CHANGES.items()
            },
            "compression": widened(pooled["compression"], [one["compression"] for one in single]),
        }

    steps = []
    for i, step in enumerate(each["step"] for each in done[0]["steps"]):
        single = [cell["steps"][i] for cell in done]
        spent = {kind: sum(one[kind] for one in single) / len(single) for kind in SPENT}
        steps.append(over(single, step, greedy=False) | spent)
    greedy = [cell["greedy"] for cell in done if cell["greedy"]]
    return {
        "arm": name,
        "seeds": [cell["seed"] for cell in done],
        "unfinished": [cell["seed"] for cell in cells if cell["seed"] not in evaluations],
        "collapsed": {str(cell["seed"]): cell["collapsed"] for cell in cells if cell["collapsed"]},
        "steps": steps,
        "greedy": over(greedy, steps[-1]["step"], greedy=True) if greedy else None,
    }


def widened(pooled: Figure, single: Sequence[Figure], centre: str = "mean") -> Figure:
    """A figure of pooled seeds with the interval over seeds and questions."""
    means = [value for each in single if (value := each[centre]) is not None]
    mean, low, high = pooled[centre], pooled["low"], pooled["high"]
    if mean is None or low is None or high is None or len(means) < len(single):
        return pooled
    mean, low, high = over_seeds(Interval(mean, low, high), means)
    return {centre: mean, "low": low, "high": high}


def budgets(arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For every kind of spending the least budget that brings every arm to an evaluation, and where each arm stands."""
    return {
        kind: within({arm["arm"]: {each["step"]: each[kind] for each in arm["steps"]} for arm in arms})
        for kind in SPENT
        if arms
    }


def within(spent: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """`budget`, the dearest first evaluation, and by arm the last evaluated step that spent no more.

    Args:
        spent: by arm what it had spent at each evaluated step.
    """
    budget = max(min(each.values()) for each in spent.values())
    return {
        "budget": budget,
        "steps": {arm: max(step for step, cost in each.items() if cost <= budget) for arm, each in spent.items()},
    }


def mark_front(result: dict[str, Any]) -> None:
    """`pareto` on every arm: whether at its last step neither another arm nor the base beats it."""
    if not result["arms"]:
        return
    ends = [arm["steps"][-1]["metrics"] for arm in result["arms"]]
    places = [(m["thought_tokens"]["mean"], m["accuracy"]["mean"]) for m in [*ends, result["base"]]]
    for arm, front in zip(result["arms"], on_front(places), strict=False):
        arm["pareto"] = front
