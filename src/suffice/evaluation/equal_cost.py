"""Arms that were trained here, at equal cost: an arm that sampled more may be better for that alone.

The control of an arm is its model at the last evaluated step up to which it had sampled no more rollouts, or generated
no more tokens, than the cheapest arm in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal, get_args

from suffice.evaluation.compared import Trained
from suffice.evaluation.sides import Side
from suffice.run import layout
from suffice.run.directory import Run

Cost = Literal["rollouts", "tokens"]


def trained(sides: Sequence[Side]) -> dict[str, list[Trained]]:
    """What each side that was trained here had spent after every step."""
    return {side.name: spending(side.run) for side in sides if side.run and side.run.metrics()}


def spending(run: Run) -> list[Trained]:
    """Full rollouts sampled and tokens generated up to each step, those of dropped groups and of the guard too."""
    lines, spines = run.metrics(), run.recipe().group.spines
    rollouts = accumulate(spines * (line.groups + line.dropped) for line in lines)
    tokens = accumulate(line.tokens_decode + line.tokens_guard for line in lines)
    return [Trained(step=line.step, rollouts=r, tokens=t) for line, r, t in zip(lines, rollouts, tokens, strict=True)]


def with_controls(sides: Sequence[Side], spent: dict[str, list[Trained]]) -> list[Side]:
    """The sides, each dearer arm with its model at equal cost as variants `step 60, equal tokens`."""
    return [_with_controls(side, spent) if side.name in spent else side for side in sides]


def _with_controls(side: Side, spent: dict[str, list[Trained]]) -> Side:
    assert side.run
    steps = [step for label in side.run.evaluated() if (step := layout.step_of(label))]
    found: dict[int, list[str]] = {}
    for cost in get_args(Cost):
        least = min(getattr(each[-1], cost) for each in spent.values())
        own = {each.step: getattr(each, cost) for each in spent[side.name]}
        within = [step for step in steps if own.get(step, least + 1) <= least]
        if getattr(spent[side.name][-1], cost) > least and within:
            found.setdefault(max(within), []).append(cost)
    (task, variants), *_ = side.evaluations.items()
    controls = {
        f"step {step}, equal {' and '.join(costs)}": side.run.evaluation(layout.step_name(step))
        for step, costs in sorted(found.items())
    }
    return replace(side, evaluations=side.evaluations | {task: variants | controls})
