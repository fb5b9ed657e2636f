"""The figures of a report. Each function draws one matplotlib Figure; `svg` makes it part of a page.

Figures are small and carry no title: a page says the finding above them and sets as many side by side as fit. Colours
are Okabe and Ito's blue against grey, which differ in lightness too, so that they survive colour blindness and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from suffice.run import layout
from suffice.run.files import whole_file

if TYPE_CHECKING:
    from suffice.interval import Interval
    from suffice.run.records import DiagnosisSummary, EvaluationSummary, StopKind

INK, MUTED, GRID, BEFORE, AFTER = "#22272e", "#667080", "#e3e6ea", "#8b95a1", "#0072b2"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BEFORE: "before", AFTER: "accent"}

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels are data: a $ in them is a dollar sign
    "font.size": 9.5,
    "text.color": MUTED,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
_MARKERS = {"": "o", "budget": "v", "inducer": "s", "deer": "D"}
_LEGEND = {"handlelength": 1.2, "borderpad": 0, "columnspacing": 1.4}


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as inline SVG: ids prefixed with `name`, colours as the page's variables, read aloud as `description`.

    `name` must differ between the figures of a page.
    """
    buffer = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)


@rc_context(STYLE)
def movement_figure(paths: Mapping[str, Sequence[EvaluationSummary]]) -> Figure:
    """Accuracy against thought tokens: one path per name ("sampled", "greedy"), from before (grey) to after (blue)."""
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for (name, path), marker in zip(paths.items(), "os", strict=True):
        points = [(each.metrics.thought_tokens, each.metrics.accuracy) for each in path]
        points = [(tokens, accuracy) for tokens, accuracy in points if tokens.known and accuracy.known]
        if not points:
            continue
        xs, ys = ([pair[i].mean for pair in points] for i in (0, 1))
        if len(points) > 1:
            arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1, "shrinkA": 6, "shrinkB": 6}
            axes.annotate("", xy=(xs[-1], ys[-1]), xytext=(xs[-2], ys[-2]), arrowprops=arrow)
            axes.plot(xs[:-1], ys[:-1], color=MUTED, linewidth=1)
        for i, (tokens, accuracy) in enumerate(points):
            last = i == len(points) - 1
            axes.errorbar(
                tokens.mean, accuracy.mean, xerr=_whiskers([tokens]), yerr=_whiskers([accuracy]), elinewidth=1.4,
                color=AFTER if last else BEFORE, marker=marker, markersize=7 if last or i == 0 else 4, zorder=3,
            )  # fmt: skip
        axes.annotate(name, (xs[0], ys[0]), xytext=(0, 24), textcoords="offset points", ha="center", color=INK)
    for label in (layout.BEFORE, layout.AFTER):
        axes.plot([], [], "o", color=_colour(label, 0), label=label)
    figure.legend(loc="outside upper left", ncols=2, **_LEGEND)
    axes.margins(x=0.14, y=0.2)
    axes.set_xlim(left=0)
    axes.set_xlabel("thinking tokens")
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(percent_label)
    return figure


@rc_context(STYLE)
def training_figure(
    steps: Sequence[int], values: Sequence[float], held_out: Sequence[tuple[int, Interval]], percent: bool
) -> Figure:
    """One metric over the steps: raw thin, smoothed thick, held-out evaluations as points with intervals.

    `values` may hold NaN where a step has none.
    """
    figure = Figure(figsize=(4.6, 2.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, values, color=AFTER, linewidth=0.8, alpha=0.35)
    axes.plot(steps, smooth(values), color=AFTER, linewidth=2.2, label="training batch")
    if held_out:
        at, intervals = zip(*held_out, strict=True)
        axes.errorbar(
            at, [each.mean for each in intervals], yerr=_whiskers(intervals),
            fmt="o", color=INK, markersize=4.5, elinewidth=1.2, label="held-out", zorder=3, clip_on=False,
        )  # fmt: skip
    figure.legend(loc="outside upper left", ncols=2, **_LEGEND)
    axes.set_xlabel("step")
    if percent:
        axes.yaxis.set_major_formatter(percent_label)
    low, high = axes.get_ylim()
    if percent and high < 0.05:
        axes.set_ylim(low if low > 0 else 0, 0.05)
    return figure


@rc_context(STYLE)
def difficulty_figure(levels: Mapping[str, Mapping[str, Interval]], percent: bool) -> Figure:
    """Bars with intervals: `levels` maps a difficulty to the metric of each label, such as before and after."""
    labels = list(dict.fromkeys(label for row in levels.values() for label in row))
    colours = side_colours(labels)
    figure = Figure(figsize=(4.6, 0.75 + len(levels) * 0.2 * (len(labels) + 0.6)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.76 / len(labels)
    places = np.arange(len(levels))
    for i, label in enumerate(labels):
        row = [each[label] if label in each and each[label].known else None for each in levels.values()]
        held = [j for j, each in enumerate(row) if each is not None]
        drawn = [each for each in row if each is not None]
        axes.barh(
            places[held] + (i - (len(labels) - 1) / 2) * height, [each.mean for each in drawn], height * 0.9,
            color=colours[label], xerr=_whiskers(drawn), error_kw={"ecolor": INK, "elinewidth": 1.1}, label=cut(label),
        )  # fmt: skip
    axes.set_yticks(places, [cut(name) for name in levels])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_ylabel("difficulty")
    if percent:
        axes.xaxis.set_major_formatter(percent_label)
    figure.legend(loc="outside upper left", ncols=_columns(labels), **_LEGEND)
    return figure


@dataclass(frozen=True, slots=True)
class Spot:
    """A side, or a training-free stop of it (`kind` and `parameter`), on the plane of thinking tokens and accuracy."""

    side: str
    kind: str
    parameter: str
    tokens: Interval
    accuracy: Interval
    front: bool


@rc_context(STYLE)
def frontier_figure(spots: Sequence[Spot], kinds: Mapping[StopKind, str]) -> Figure:
    """Accuracy against thinking tokens: sides filled, stops hollow and joined by kind, the Pareto front as steps.

    Args:
        kinds: what a legend calls each kind of stop.
    """
    colours = side_colours(list(dict.fromkeys(spot.side for spot in spots)))
    drawn = [kind for kind in kinds if any(spot.kind == kind for spot in spots)]
    rows = -(-(len(colours) + len(drawn) + 1) // 2)
    figure = Figure(figsize=(4.6, 2.9 + 0.2 * rows), layout="constrained")
    axes = figure.add_subplot()
    front = sorted((spot.tokens.mean, spot.accuracy.mean) for spot in spots if spot.front)
    axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=5, alpha=0.25, zorder=1)
    for side, colour in colours.items():
        own = [spot for spot in spots if spot.side == side]
        for kind in drawn:
            curve = sorted(
                (spot.tokens.mean, spot.accuracy.mean) for spot in own if spot.kind in {kind, ""} and kind != "deer"
            )
            if len(curve) > 1:
                axes.plot(*zip(*curve, strict=True), color=colour, linewidth=0.9, alpha=0.8, zorder=2)
        for spot in own:
            axes.errorbar(
                spot.tokens.mean, spot.accuracy.mean, xerr=_whiskers([spot.tokens]), yerr=_whiskers([spot.accuracy]),
                color=colour, marker=_MARKERS[spot.kind], markersize=5 if spot.kind else 8,
                markerfacecolor="none" if spot.kind else colour, elinewidth=0.7 if spot.kind else 1.4,
                alpha=0.8 if spot.kind else 1, zorder=3 if spot.kind else 4,
            )  # fmt: skip
        axes.plot([], [], "o", color=colour, markersize=7, label=cut(side))
    for spot in spots:
        if spot.kind and spot.side == spots[0].side:
            at = (spot.tokens.mean, spot.accuracy.mean)
            axes.annotate(
                spot.parameter, at, xytext=(4, -9), textcoords="offset points", fontsize=7.5, color=MUTED, zorder=5
            )
    for kind in drawn:
        axes.plot([], [], _MARKERS[kind], color=MUTED, markerfacecolor="none", label=cut(kinds[kind]))
    if len(front) > 1:
        axes.plot([], [], color=MUTED, linewidth=5, alpha=0.25, label="Pareto front")
    figure.legend(loc="outside upper left", ncols=2, **_LEGEND)
    axes.margins(x=0.08, y=0.14)
    axes.set_xlim(left=0)
    axes.set_xlabel("thinking tokens")
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(percent_label)
    return figure


@rc_context(STYLE)
def diagnosis_figure(diagnoses: Mapping[str, DiagnosisSummary]) -> Figure:
    """Accuracy against the fraction of the thought that is kept, with 95 % bands, a curve a label."""
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for i, (label, diagnosis) in enumerate(diagnoses.items()):
        kept = [point.fraction for point in diagnosis.curve]
        mean, low, high = np.array([point.accuracy for point in diagnosis.curve], dtype=float).T
        axes.fill_between(kept, low, high, color=_colour(label, i), alpha=0.2, linewidth=0)
        axes.plot(kept, mean, color=_colour(label, i), linewidth=2.2, marker="o", markersize=4, label=label)
    axes.set_xlabel("part of the thought that is kept")
    axes.set_ylabel("accuracy")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.1))
    axes.xaxis.set_major_formatter(percent_label)
    axes.yaxis.set_major_formatter(percent_label)
    if len(diagnoses) > 1:
        figure.legend(loc="outside upper left", ncols=len(diagnoses), **_LEGEND)
    return figure


def save_diagnosis_picture(diagnoses: Mapping[str, DiagnosisSummary], path: Path) -> Path:
    """Write `diagnosis_figure` as a PNG, whole or not at all, and return its path.

    Raises:
        RunError: it cannot be written.
    """
    with whole_file(path) as aside:
        diagnosis_figure(diagnoses).savefig(aside, format="png", dpi=200)
    return path


def smooth(values: Sequence[float]) -> list[float]:
    """Centred moving mean over about a tenth of the series, at least three steps; NaN counts in no mean."""
    half = max(1, len(values) // 20)
    array = np.asarray(values, dtype=float)
    windows = [array[max(0, i - half) : i + half + 1] for i in range(len(array))]
    return [float(np.nanmean(window)) if np.isfinite(window).any() else float("nan") for window in windows]


def side_colours(labels: Sequence[str]) -> dict[str, str]:
    """The first grey, the last blue, between them Okabe and Ito's other colours; a lone label is blue."""
    between = ("#e69f00", "#009e73", "#cc79a7", "#d55e00")
    colours = [BEFORE, *(between[i % len(between)] for i in range(len(labels) - 2)), AFTER]
    return dict(zip(labels, colours[-len(labels) :], strict=True))


def cut(name: str) -> str:
    """A name as short as a figure needs it."""
    return name if len(name) <= 24 else f"{name[:23]}…"


def _columns(labels: Sequence[str]) -> int:
    """Legend entries that fit side by side."""
    return max(1, min(len(labels), 48 // (4 + max(len(cut(label)) for label in labels))))


def _colour(label: str, place: int) -> str:
    return {layout.BEFORE: BEFORE, layout.AFTER: AFTER}.get(label, (AFTER, BEFORE, INK)[place % 3])


def _whiskers(intervals: Sequence[Interval]) -> np.ndarray[Any, Any]:
    """Distances below and above the means, [2, n]; 0 where an interval has no bounds."""
    bounds = [(each.low, each.mean, each.high) if each.bounded else (0, 0, 0) for each in intervals]
    low, mean, high = np.array(bounds, dtype=float).T
    return np.stack([mean - low, high - mean]).clip(min=0)


def percent_label(value: float, _: float) -> str:
    return f"{100 * value:.0f}\u202f%"
