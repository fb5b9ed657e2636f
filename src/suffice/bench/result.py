"""The figures of a bench: computed again from the records of its cells whenever they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from suffice.bench.cell import finished, label, wanted
from suffice.bench.found import ArmFound, AtStep, BenchFound, Budget, CellFound, ChangeToBase, Curve, Evaluated
from suffice.bench.plan import Bench, Cell
from suffice.evaluation.compare import compare, compression, on_front
from suffice.evaluation.summary import metrics_of
from suffice.interval import Interval
from suffice.run.directory import Evaluation
from suffice.run.files import write_json
from suffice.run.layout import RUNS
from suffice.run.records import Figures, Record, Step
from suffice.run.start import manifest
from suffice.statistics import over_seeds

SPENT = {
    "tokens_decode": "generated tokens",
    "tokens_train": "trained tokens",
    "seconds": "seconds of training",
}
"""What an arm spends, as `metrics.jsonl` counts it and as tables call it."""

R = TypeVar("R", bound=Record)

WINDOW, FALL = 10, 0.1
"""A collapse: the mean accuracy of so many steps lies so far below its best."""


def write_result(bench: Bench, out: Path, failed: Mapping[str, str]) -> BenchFound:
    """Compute what the cells in OUT say, and write it to `bench.json`."""
    bases = evaluations_of(bench.base, out)
    base, base_greedily = bases.get((0, False)), bases.get((0, True))
    cells: list[CellFound] = []
    done: dict[str, list[tuple[CellFound, Evaluations]]] = {}
    for arm in bench.plan.arm:
        for cell in (each for each in bench.cells if each.arm == arm.name):
            evaluations = evaluations_of(cell, out) if bases else {}
            cells.append(cell_found(cell, out, failed.get(cell.folder), bases, evaluations))
            if evaluations:
                done.setdefault(arm.name, []).append((cells[-1], evaluations))
    arms = arms_found(bases, cells, done) if bases else []
    found = BenchFound(
        plan=bench.plan.model_dump(exclude_none=True),
        model=bench.base.recipe.model.path,
        protocol=bench.base.recipe.eval.model_dump(exclude_none=True),
        manifest=manifest(),
        questions=None if base is None else len({record.problem for record in base.records}),
        base=None if base is None else metrics_of(base.records),
        base_greedy=None if base_greedily is None else metrics_of(base_greedily.records),
        cells=cells,
        arms=arms,
        budgets=budgets(arms),
    )
    write_json(out / found.FILE, found.as_dict())
    return found


Evaluations = dict[tuple[int, bool], Evaluation]
"""Of one cell, by step and whether it is greedy."""


def evaluations_of(cell: Cell, out: Path) -> Evaluations:
    """Those of a finished cell, without their texts; none of one that is not."""
    run = cell.run(out)
    if not finished(cell, run):
        return {}
    return {each: run.evaluation(label(*each), texts=False) for each in wanted(cell.at, cell.greedy)}


def cell_found(cell: Cell, out: Path, failed: str | None, bases: Evaluations, evaluations: Evaluations) -> CellFound:
    """What a cell's training says of itself, however far it came, and its evaluations if it is finished."""
    lines = cell.run(out).metrics()
    accuracy = [line.accuracy for line in lines]
    return CellFound(
        arm=cell.arm or "",
        seed=cell.seed,
        run=f"{RUNS}/{cell.folder}",
        failed=failed,
        collapsed=collapse(accuracy),
        steps=[
            AtStep(step=step, **measured(bases[0, False], [evaluations[step, False]]), **cost)
            for step, cost in zip(cell.at, spending(lines, cell.at), strict=True)
            if evaluations
        ],
        greedy=Evaluated(step=cell.at[-1], **measured(bases[0, True], [evaluations[cell.at[-1], True]]))
        if evaluations and cell.greedy
        else None,
        curve=Curve(
            step=[line.step for line in lines],
            accuracy=accuracy,
            thought_tokens=[line.thought_tokens for line in lines],
        ),
    )


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


def spending(lines: Sequence[Step], at: Sequence[int]) -> list[dict[str, float]]:
    """What a run spent up to each step, of every kind in SPENT; a guard's probes are generated tokens too."""
    return [
        {
            kind: sum(
                getattr(line, kind) + (line.tokens_guard if kind == "tokens_decode" else 0)
                for line in lines
                if line.step <= step
            )
            for kind in SPENT
        }
        for step in at
    ]


def measured(base: Evaluation, seeds: Sequence[Evaluation]) -> dict[str, Any]:
    """`metrics`, `change` to the base and `compression` of one or several seeds' evaluations, pooled by question."""
    records = [record for each in seeds for record in each.records]
    change = compare(base, Evaluation(records, seeds[0].summary))
    metrics = metrics_of(records)
    return {
        "metrics": Figures(**{name: getattr(metrics, name) for name in Figures.model_fields}),
        "change": ChangeToBase(**{name: getattr(change, name) for name in ChangeToBase.model_fields}),
        "compression": compression(change),
    }


def arms_found(
    bases: Evaluations, cells: Sequence[CellFound], done: Mapping[str, Sequence[tuple[CellFound, Evaluations]]]
) -> list[ArmFound]:
    """The arms of which a seed has finished."""
    steps = {arm: [at_step(bases, each, i) for i in range(len(each[0][0].steps))] for arm, each in done.items()}
    ends = [place(each[-1].metrics) for each in steps.values()]
    front = on_front([*ends, place(metrics_of(bases[0, False].records))])
    found = []
    for (arm, at), pareto in zip(steps.items(), front, strict=False):
        own = [cell for cell in cells if cell.arm == arm]
        found.append(
            ArmFound(
                arm=arm,
                seeds=[cell.seed for cell in own if cell.steps],
                unfinished=[cell.seed for cell in own if not cell.steps],
                collapsed={str(cell.seed): cell.collapsed for cell in own if cell.collapsed},
                steps=at,
                greedy=greedy_end(bases, done[arm]),
                pareto=pareto,
            )
        )
    return found


def place(metrics: Figures) -> tuple[float, float]:
    return metrics.thought_tokens.mean, metrics.accuracy.mean


def at_step(bases: Evaluations, done: Sequence[tuple[CellFound, Evaluations]], i: int) -> AtStep:
    """The i-th evaluation of an arm over its finished seeds; spending as means."""
    single = [cell.steps[i] for cell, _ in done]
    spent = {kind: sum(getattr(each, kind) for each in single) / len(single) for kind in SPENT}
    return AtStep(**over(bases[0, False], single, [each[single[0].step, False] for _, each in done]), **spent)


def greedy_end(bases: Evaluations, done: Sequence[tuple[CellFound, Evaluations]]) -> Evaluated | None:
    """The greedy evaluation of an arm over its finished seeds, where the plan asks for it."""
    single = [cell.greedy for cell, _ in done if cell.greedy]
    if not single:
        return None
    return Evaluated(**over(bases[0, True], single, [each[single[0].step, True] for _, each in done]))


def over(base: Evaluation, single: Sequence[Evaluated], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """One evaluation of several seeds, pooled, with intervals by `over_seeds`."""
    pooled = measured(base, evaluations)
    return {
        "step": single[0].step,
        "metrics": all_widened(pooled["metrics"], [each.metrics for each in single]),
        "change": all_widened(pooled["change"], [each.change for each in single]),
        "compression": widened(pooled["compression"], [each.compression for each in single]),
    }


def all_widened(pooled: R, single: Sequence[R]) -> R:
    """Every figure of a record widened."""
    names = type(pooled).model_fields
    return type(pooled)(
        **{name: widened(getattr(pooled, name), [getattr(each, name) for each in single]) for name in names}
    )


def widened(pooled: Interval, single: Sequence[Interval]) -> Interval:
    """A figure of pooled seeds with the interval over seeds and questions."""
    if not pooled.bounded or not all(each.known for each in single):
        return pooled
    return over_seeds(pooled, [each.mean for each in single])


def budgets(arms: Sequence[ArmFound]) -> dict[str, Budget]:
    """For every kind of spending the least budget that brings every arm to an evaluation, and where each arm stands."""
    return {
        kind: within({arm.arm: {each.step: getattr(each, kind) for each in arm.steps} for arm in arms})
        for kind in SPENT
        if arms
    }


def within(spent: Mapping[str, Mapping[int, float]]) -> Budget:
    """The dearest first evaluation, and by arm the last evaluated step that spent no more.

    Args:
        spent: by arm what it had spent at each evaluated step.
    """
    budget = max(min(each.values()) for each in spent.values())
    return Budget(
        budget=budget,
        steps={arm: max(step for step, cost in each.items() if cost <= budget) for arm, each in spent.items()},
    )
