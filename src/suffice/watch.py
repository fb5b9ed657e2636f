"""A training run as it grows, in the terminal: read from the run directory alone, so it may be another machine's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from suffice.config import Recipe
from suffice.guard.foresight import foresee
from suffice.numbers import interval
from suffice.run.directory import Run
from suffice.run.layout import AFTER, BEFORE, COMPARISON, METRICS, step_of
from suffice.run.records import EvaluationSummary, Step

SECONDS_BETWEEN_LOOKS = 1.0
RECENT = 10  # steps that the time per step is the median of
WIDTH, HEIGHT = 56, 3  # of a plot, in characters
BLOCKS = " ▁▂▃▄▅▆▇█"
EVALUATIONS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class State:
    """What a run directory says now: the steps done, and sampled evaluations by step (0: before training).

    `age` is the time in seconds since the last step; `complete` whether nothing more will come.
    """

    steps: list[Step]
    evaluations: list[tuple[int, EvaluationSummary]]
    age: float
    complete: bool

    @property
    def step(self) -> int:
        return self.steps[-1].step if self.steps else 0

    @property
    def seconds_per_step(self) -> float | None:
        recent = series(self.steps[-RECENT:], "seconds")
        return median(recent) if recent else None


def watch(directory: Path, console: Console, *, once: bool = False) -> None:
    """Show a run until it is complete or Ctrl-C: a panel on a terminal, a line a step elsewhere; `once`: as it is now.

    Raises:
        RunError: not a training run, or a file of it is malformed.
    """
    run = Run(directory)
    recipe = run.recipe()
    if once:
        console.print(panel(run, recipe, read_state(run, recipe)))
        return
    try:
        (follow_panel if console.is_terminal else follow_lines)(run, recipe, console)
    except KeyboardInterrupt:
        return


def follow_panel(run: Run, recipe: Recipe, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            state = read_state(run, recipe)
            live.update(panel(run, recipe, state), refresh=True)
            if state.complete:
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


def follow_lines(run: Run, recipe: Recipe, console: Console) -> None:
    """The last step there is, then every new one."""
    said: int | None = None
    while True:
        state = read_state(run, recipe)
        new = state.steps[-1:] if said is None else [step for step in state.steps if step.step > said]
        for step in new:
            console.print(line(recipe, state, step), markup=False, highlight=False, soft_wrap=True)
        said = state.step
        if state.complete:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


# ---------------------------------------------------------------------------------------------------- reading


def read_state(run: Run, recipe: Recipe) -> State:
    """A step whose line is still being written is left for the next look."""
    done, last = run.metrics(), recipe.train.steps
    for said in run.guard()[-1:]:
        if said.action == "stop":
            last = said.step
    ended = bool(done) and done[-1].step >= last and run.checkpoint(last).exists()
    at = {BEFORE: 0, AFTER: last}
    evaluations = [
        (step, summary)
        for label, summary in run.evaluations().items()
        if (step := at.get(label, step_of(label))) is not None
    ]
    return State(
        done,
        sorted(evaluations, key=lambda each: each[0]),
        age=time.time() - (run.path / METRICS).stat().st_mtime if done else 0.0,
        complete=ended and (not recipe.train.eval_every or (run.path / COMPARISON).exists()),
    )


def series(steps: Sequence[Step], name: str) -> list[float]:
    """The finite values of a metric, in order of step."""
    return [value for step in steps if isfinite(value := getattr(step, name))]


# ---------------------------------------------------------------------------------------------------- showing


def panel(run: Run, recipe: Recipe, state: State) -> Panel:
    steps = recipe.train.steps
    head = Table.grid(padding=(0, 2))
    head.add_row(ProgressBar(steps, state.step, width=WIDTH - 16), f"step {state.step} of {steps}")
    parts: list[Any] = [head, Text(pace(recipe, state), style="dim")]
    if state.steps:
        parts.append(numbers(state.steps))
    for name, words, scale in (("accuracy", "accuracy, %", 100.0), ("thought_tokens", "thinking tokens", 1.0)):
        values = [scale * value for value in series(state.steps, name)]
        if len(values) > 1:
            parts += [Text(f"\n{words}", style="bold"), Text(plot(values), style="cyan", no_wrap=True)]
    if state.evaluations:
        parts += [Text(), evaluations(state.evaluations[-EVALUATIONS_SHOWN:])]
    return Panel(Group(*parts), title=Text(f"{recipe.method.name}: {run.path}"), title_align="left", expand=False)


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


def numbers(steps: Sequence[Step]) -> Table:
    """The last step beside the mean of the last ones."""
    table = Table("", "last step", f"mean of {min(RECENT, len(steps))}", box=None, padding=(0, 2, 0, 0))
    for name, words, scale, digits in (
        ("accuracy", "accuracy, %", 100, 1),
        ("thought_tokens", "thinking tokens", 1, 1),
        ("reward", "reward", 1, 3),
    ):
        recent = series(steps[-RECENT:], name)
        if recent:
            table.add_row(words, *(f"{scale * value:.{digits}f}" for value in (recent[-1], fmean(recent))))
    if risk := [score for score in foresee(step.as_dict() for step in steps)[-RECENT:] if score is not None]:
        table.add_row("risk of collapse, %", *(f"{100 * value:.0f}" for value in (risk[-1], fmean(risk))))
    return table


def evaluations(found: Sequence[tuple[int, EvaluationSummary]]) -> Table:
    table = Table("evaluated at step", "accuracy, %", "thinking tokens", box=None, padding=(0, 2, 0, 0))
    for step, summary in found:
        table.add_row(str(step), interval(*summary.metrics.accuracy, 100), interval(*summary.metrics.thought_tokens))
    return table


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


def line(recipe: Recipe, state: State, step: Step) -> str:
    """One step as plain text."""
    parts = [f"step {step.step}/{recipe.train.steps}"]
    for name, words, digits in (
        ("accuracy", "accuracy", 2),
        ("thought_tokens", "thinking tokens", 0),
        ("reward", "reward", 2),
        ("seconds", "seconds", 2),
    ):
        parts += [f"{words} {value:.{digits}f}" for value in series([step], name)]
    left = (recipe.train.steps - step.step) * (state.seconds_per_step or 0)
    return ", ".join([*parts, f"about {duration(left)} left"])


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
