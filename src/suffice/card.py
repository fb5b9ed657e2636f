"""The model card of an exported checkpoint: every figure of it from the run's records."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors import SafetensorError, safe_open

from suffice.config import Recipe
from suffice.errors import RunError
from suffice.evaluation.compare import compare
from suffice.evaluation.serving import Served
from suffice.interval import Interval
from suffice.methods import registry
from suffice.model.resolve import BASES
from suffice.report.findings import Unit, movement, ranged
from suffice.run.directory import Run
from suffice.run.layout import AFTER, BEFORE, greedy, step_name
from suffice.run.records import BudgetAdvice, Change

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
ROWS: list[tuple[str, str, Unit]] = [
    ("accuracy", "accuracy", "percent"),
    ("thought_tokens", "thinking tokens", "tokens"),
    ("answer_tokens", "answer tokens", "tokens"),
    ("truncated", "cut at a limit", "percent"),
]


def render_card(run: Run, recipe: Recipe, step: int, serve: str, lines: Sequence[Served] = ()) -> str:
    """The README.md of the checkpoint of a step.

    Args:
        serve: the command that serves the folder it stands in.
        lines: those that serve it with the budget that its diagnosis recommends.

    Raises:
        RunError: the weights or what the run says of its data are missing or damaged.
    """
    environment = Environment(
        loader=PackageLoader("suffice", ""),
        autoescape=False,  # Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    base, method, temperature = recipe.model.path, registry()[recipe.method.name], recipe.eval.temperature
    parameters, dtype = weights_of(run.checkpoint(step))
    made = run.manifest()
    return environment.get_template("card.md.j2").render(
        recipe=recipe,
        data=run.data(),
        step=step,
        hub_id=hub_id(base),
        base=base if hub_id(base) or base in BASES else Path(base).name,
        parameters=f"{parameters:,}",
        dtype=dtype,
        paper=method.paper,
        formula=method.formula,
        sampling=f"temperature {temperature}, top-p {recipe.eval.top_p}",
        generation=f"do_sample=True, temperature={temperature}, top_p={recipe.eval.top_p}"
        if temperature
        else "do_sample=False",
        serve=serve,
        budget=budget_of(run, label_of(run, recipe, step)),
        base_budget=budget_of(run, BEFORE),
        lines=lines,
        version=made.suffice if made else "",
        **measured(run, recipe, step),
    )


def hub_id(path: str) -> str | None:
    """The base as the hub names it; None for a local folder and for the lab's bases, which the hub does not have."""
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", path) and path not in BASES and not Path(path).exists()
    return path if named else None


def weights_of(checkpoint: Path) -> tuple[int, str]:
    """(parameters stored, their types).

    Raises:
        RunError: the weights are missing or damaged.
    """
    files = sorted(checkpoint.glob("model*.safetensors"))
    if not files:
        raise RunError(f"{checkpoint} holds no model.safetensors; choose another --checkpoint")
    count, types = 0, set()
    for file in files:
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - a file handle, not a dictionary
                    weight = weights.get_slice(name)
                    count += math.prod(weight.get_shape())
                    types.add(weight.get_dtype())
        except SafetensorError as error:
            raise RunError(f"{file} is damaged ({error}); choose another --checkpoint") from None
    return count, " and ".join(sorted(DTYPES.get(each, each) for each in types))


def measured(run: Run, recipe: Recipe, step: int) -> dict[str, Any]:
    """What the card says of the evaluations before training and at a step; `rows` is empty if there are none."""
    label = label_of(run, recipe, step)
    if not all(map(run.is_evaluated, (BEFORE, label, greedy(BEFORE), greedy(label)))):
        return {"rows": []}
    pairs = {"sampled": (BEFORE, label), "greedy": (greedy(BEFORE), greedy(label))}
    ends = {kind: [run.evaluation(end, texts=False) for end in pair] for kind, pair in pairs.items()}
    changes = {kind: compare(*pair) for kind, pair in ends.items()}
    rows = [
        [
            f"{words}, {kind}",
            *(cell(getattr(end.summary.metrics, metric), unit) for end in ends[kind]),
            moved(metric, changes[kind]),
        ]
        for kind in pairs
        for metric, words, unit in ROWS
    ]
    after = ends["sampled"][1].summary
    return {
        "rows": rows,
        "headline": movement(changes["sampled"].thought_tokens_change, changes["sampled"].accuracy),
        "task": after.task,
        "problems": after.protocol.problems,
    }


def budget_of(run: Run, label: str) -> BudgetAdvice | None:
    """What to serve of a model that the run measured under this label, where its diagnosis is there."""
    found = run.diagnoses().get(label)
    return found.budget if found else None


def label_of(run: Run, recipe: Recipe, step: int) -> str:
    """Of what was measured of the checkpoint of a step."""
    chosen = run.chosen()
    return AFTER if step == (chosen.step if chosen else recipe.train.steps) else step_name(step)


def moved(metric: str, change: Change) -> str:
    match metric:
        case "accuracy":
            return cell(change.accuracy, "points", " points")
        case "thought_tokens":
            return cell(change.thought_tokens_change, "relative")
        case _:
            return ""


def cell(interval: Interval, unit: Unit, after: str = "") -> str:
    """A mean and, in brackets, its interval."""
    mean, between = ranged(interval, unit)
    return f"{mean}{after} ({between})" if between else mean + after
