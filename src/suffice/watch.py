"""A training run as it grows, in the terminal: read from the run directory alone, so it may be another machine's."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pydantic import ValidationError
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from suffice.config import Recipe, explain
from suffice.errors import RunError
from suffice.guard.foresight import foresee
from suffice.numbers import interval
from suffice.run.files import read_json, read_jsonl

SECONDS_BETWEEN_LOOKS = 1.0
RECENT = 10  # steps that the time per step is the median of
WIDTH, HEIGHT = 56, 3  # of a plot, in characters
BLOCKS = " ▁▂▃▄▅▆▇█"
EVALUATIONS_SHOWN = 4

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """What a run directory says now: `rows` of metrics.jsonl by step, evaluations by step (0: before training).

    `age` is the time in seconds since the last row; `complete` whether nothing more will come.
    """

    rows: list[Row]
    evaluations: list[tuple[int, dict[str, Any]]]
    age: float
    complete: bool

    @property
    def step(self) -> int:
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def seconds_per_step(self) -> float | None:
        recent = series(self.rows[-RECENT:], "seconds")
        return median(recent) if recent else None


def watch(run: Path, console: Console, *, once: bool = False) -> None:
    """Show a run until it is complete or Ctrl-C: a panel on a terminal, a line a step elsewhere; `once`: as it is now.

    Raises:
        RunError: not a training run, or a file of it is malformed.
    """
    recipe = read_recipe(run)
    if once:
        console.print(panel(run, recipe, read_state(run, recipe)))
        return
    try:
        (follow_panel if console.is_terminal else follow_lines)(run, recipe, console)
    except KeyboardInterrupt:
        return


def follow_panel(run: Path, recipe: Recipe, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            state = read_state(run, recipe)
            live.update(panel(run, recipe, state), refresh=True)
            if state.complete:
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


def follow_lines(run: Path, recipe: Recipe, console: Console) -> None:
    """The last step there is, then every new one."""
    said: int | None = None
    while True:
        state = read_state(run, recipe)
        new = state.rows[-1:] if said is None else [row for row in state.rows if row["step"] > said]
        for row in new:
            console.print(line(recipe, state, row), markup=False, highlight=False, soft_wrap=True)
        said = state.step
        if state.complete:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


# ---------------------------------------------------------------------------------------------------- reading


def read_recipe(run: Path) -> Recipe:
    """The recipe of a run, which was resolved when the run was made."""
    path = run / "recipe.toml"
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(f"{run} is not a training run: it holds no recipe.toml; give what suffice train wrote") from None
    except ValidationError as error:
        raise RunError(f"{path}: {explain(error, Recipe)}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not readable TOML ({error}); restore the recipe that made the run") from None


def read_state(run: Path, recipe: Recipe) -> State:
    """A row that is still being written is left for the next look."""
    log = run / "metrics.jsonl"
    rows = read_jsonl(log) if log.exists() else []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise RunError(f"{log} has a line without a step; remove that line")
    steps = recipe.train.steps
    said = read_jsonl(run / "guard.jsonl")[-1:] if (run / "guard.jsonl").exists() else []
    if any(each.get("action") == "stop" for each in said):
        steps = int(said[0]["step"])
    ended = bool(rows) and rows[-1]["step"] >= steps and (run / "checkpoints" / f"step-{steps:06d}").exists()
    return State(
        rows,
        read_evaluations(run / "evaluations", steps),
        age=time.time() - log.stat().st_mtime if rows else 0.0,
        complete=ended and (not recipe.train.eval_every or (run / "comparison.json").exists()),
    )


def read_evaluations(folder: Path, steps: int) -> list[tuple[int, dict[str, Any]]]:
    """(step, metrics) of the sampled evaluations, in order."""
    at = {"before": 0, "after": steps}
    found = []
    for path in folder.glob("*/summary.json"):
        label = path.parent.name
        number = label.removeprefix("step-")
        if label in at or number.isdecimal():
            summary = read_json(path)
            if not isinstance(summary, dict) or not isinstance(summary.get("metrics"), dict):
                raise RunError(f"{path} has no metrics; remove {path.parent}")
            found.append((at[label] if label in at else int(number), summary["metrics"]))
    return sorted(found, key=lambda each: each[0])


def series(rows: Sequence[Row], name: str) -> list[float]:
    """The finite values of a metric, in order of step."""
    values = (row.get(name) for row in rows)
    return [float(value) for value in values if isinstance(value, int | float) and isfinite(value)]


# ---------------------------------------------------------------------------------------------------- showing


def panel(run: Path, recipe: Recipe, state: State) -> Panel:
    steps = recipe.train.steps
    head = Table.grid(padding=(0, 2))
    head.add_row(ProgressBar(steps, state.step, width=WIDTH - 16), f"step {state.step} of {steps}")
    parts: list[Any] = [head, Text(pace(recipe, state), style="dim")]
    if state.rows:
        parts.append(numbers(state.rows))
    for name, words, scale in (("accuracy", "accuracy, %", 100.0), ("thought_tokens", "thinking tokens", 1.0)):
        values = [scale * value for value in series(state.rows, name)]
        if len(values) > 1:
            parts += [Text(f"\n{words}", style="bold"), Text(plot(values), style="cyan", no_wrap=True)]
    if state.evaluations:
        parts += [Text(), evaluations(state.evaluations[-EVALUATIONS_SHOWN:])]
    return Panel(Group(*parts), title=Text(f"{recipe.method.name}: {run}"), title_align="left", expand=False)


def pace(recipe: Recipe, state: State) -> str:
    """Time per step, what is left, and how long nothing came."""
    if state.complete:
        return "complete"
    seconds = state.seconds_per_step
    if seconds is None:
        return "no step yet"
    left = (recipe.train.steps - state.step) * seconds
    ahead = f"about {duration(left)} left" if left else "last evaluation and checkpoint"
    return f"{duration(seconds)} a step, {ahead}; last step {duration(state.age)} ago"


def numbers(rows: Sequence[Row]) -> Table:
    """The last step beside the mean of the last ones."""
    table = Table("", "last step", f"mean of {min(RECENT, len(rows))}", box=None, padding=(0, 2, 0, 0))
    for name, words, scale, digits in (
        ("accuracy", "accuracy, %", 100, 1),
        ("thought_tokens", "thinking tokens", 1, 1),
        ("reward", "reward", 1, 3),
    ):
        recent = series(rows[-RECENT:], name)
        if recent:
            table.add_row(words, *(f"{scale * value:.{digits}f}" for value in (recent[-1], fmean(recent))))
    if risk := [score for score in foresee(rows)[-RECENT:] if score is not None]:
        table.add_row("risk of collapse, %", *(f"{100 * value:.0f}" for value in (risk[-1], fmean(risk))))
    return table


def evaluations(found: Sequence[tuple[int, dict[str, Any]]]) -> Table:
    table = Table("evaluated at step", "accuracy, %", "thinking tokens", box=None, padding=(0, 2, 0, 0))
    for step, metrics in found:
        table.add_row(str(step), figure(metrics.get("accuracy"), 100), figure(metrics.get("thought_tokens"), 1))
    return table


def figure(found: Any, scale: float) -> str:
    mean, low, high = ((found or {}).get(key) for key in ("mean", "low", "high"))
    return interval(mean, low, high, scale)


def plot(values: Sequence[float]) -> str:
    """Finite values as rows of blocks, oldest left, lowest and highest written beside; many are averaged to columns."""
    count = min(WIDTH, len(values))
    edges = [i * len(values) // count for i in range(count + 1)]
    columns = [fmean(values[start:end]) for start, end in pairwise(edges)]
    low, high = min(columns), max(columns)
    span, top = high - low, 8 * HEIGHT - 1
    levels = [1 + round(top * (value - low) / span) if span else 1 for value in columns]
    rows = ["".join(BLOCKS[min(8, max(0, level - 8 * row))] for level in levels) for row in reversed(range(HEIGHT))]
    rows[0] += f" {high:.1f}"
    rows[-1] += f" {low:.1f}"
    return "\n".join(rows)


def line(recipe: Recipe, state: State, row: Row) -> str:
    """One step as plain text."""
    parts = [f"step {row['step']}/{recipe.train.steps}"]
    for name, words, digits in (
        ("accuracy", "accuracy", 2),
        ("thought_tokens", "thinking tokens", 0),
        ("reward", "reward", 2),
        ("seconds", "seconds", 2),
    ):
        parts += [f"{words} {value:.{digits}f}" for value in series([row], name)]
    left = (recipe.train.steps - row["step"]) * (state.seconds_per_step or 0)
    return ", ".join([*parts, f"about {duration(left)} left"])


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
