"""The figures of a bench: how arms train, and where they end on the plane of thinking tokens and accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from suffice.bench.found import BenchFound
from suffice.bench.result import place
from suffice.evaluation.compare import on_front
from suffice.interval import Interval
from suffice.report.plots import BEFORE, INK, MUTED, STYLE, cut, percent_label, smooth
from suffice.run.files import whole_file
from suffice.run.layout import DYNAMICS, DYNAMICS_SVG, PARETO
from suffice.run.records import Figures

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d4a9c")
"""Okabe and Ito's colours without black and yellow, and a violet; then again, dashed and dotted."""
DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.4)))


def write_figures(found: BenchFound, out: Path) -> None:
    """`dynamics.png`, `dynamics.svg` and `pareto.png`, those that there is something to draw for."""
    if any(len(cell.curve.step) > 1 for cell in found.cells):
        figure = dynamics_figure(found)
        save(figure, out / DYNAMICS)
        save(figure, out / DYNAMICS_SVG)
    if found.arms and found.base:
        save(pareto_figure(found, found.base), out / PARETO)


def save(figure: Figure, path: Path) -> None:
    """A file whole or not at all, of the kind that its suffix names."""
    with whole_file(path) as aside, rc_context({**STYLE, "svg.hashsalt": path.name}):
        undated = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(aside, format=path.suffix[1:], dpi=200, metadata=undated)


def styles(found: BenchFound) -> dict[str, tuple[str, Any]]:
    """Colour and dashes of each arm, in the plan's order."""
    names = list(dict.fromkeys(cell.arm for cell in found.cells))
    n = len(PALETTE)
    return {name: (PALETTE[i % n], DASHES[i // n % len(DASHES)]) for i, name in enumerate(names)}


@rc_context(STYLE)
def dynamics_figure(found: BenchFound) -> Figure:
    """In-batch accuracy and thinking tokens over the steps: an arm's mean over its seeds thick, the seeds thin, all
    smoothed; held-out evaluations as dots, the base dashed, a collapsed seed crossed out."""
    figure = Figure(figsize=(7.6, 6.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, key, name in zip(panels, ("accuracy", "thought_tokens"), ("accuracy", "thinking tokens"), strict=True):
        ends = []
        for arm, (colour, dash) in styles(found).items():
            cells = [cell for cell in found.cells if cell.arm == arm and len(cell.curve.step) > 1]
            if not cells:
                continue
            length = min(len(cell.curve.step) for cell in cells)
            steps = cells[0].curve.step[:length]
            for cell in cells:
                own = smooth(getattr(cell.curve, key))
                axes.plot(cell.curve.step, own, color=colour, linewidth=0.7, alpha=0.3, zorder=2)
                if cell.collapsed:
                    at = cell.curve.step.index(cell.collapsed)
                    axes.plot(cell.collapsed, own[at], "x", color=colour, markersize=7, markeredgewidth=1.8, zorder=5)
            mean = smooth(np.mean([getattr(cell.curve, key)[:length] for cell in cells], axis=0).tolist())
            axes.plot(steps, mean, color=colour, linestyle=dash, linewidth=2.2, zorder=3)
            ends.append((cut(arm), colour, (steps[-1], mean[-1])))
        for trained in found.arms:
            places = [(each.step, getattr(each.metrics, key).mean) for each in trained.steps]
            axes.plot(
                *zip(*places, strict=True), "o", color=styles(found)[trained.arm][0], markersize=5,
                markeredgecolor="white", markeredgewidth=0.8, zorder=4, clip_on=False,
            )  # fmt: skip
        axes.margins(x=0, y=0.08)
        axes.set_xlim(left=0)
        if found.base:
            level = getattr(found.base, key).mean
            axes.axhline(level, color=BEFORE, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1)
            ends.append(("base", MUTED, (axes.get_xlim()[1], level)))
        axes.set_ylabel(name)
        axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        if key == "thought_tokens":
            axes.set_ylim(bottom=0)
        label_ends(axes, ends)
    panels[0].yaxis.set_major_formatter(percent_label)
    panels[1].set_xlabel("step")
    panels[1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    legend: dict[str, dict[str, Any]] = {
        "mean over seeds, in training": {"linewidth": 2.2},
        "one seed": {"linewidth": 0.7, "alpha": 0.5},
        "held out": {"marker": "o", "linestyle": "none", "markersize": 5},
        "collapsed": {"marker": "x", "linestyle": "none", "markeredgewidth": 1.8},
    }
    if not any(cell.collapsed for cell in found.cells):
        del legend["collapsed"]
    for label, style in legend.items():
        panels[0].plot([], [], color=MUTED, label=label, **style)
    figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, columnspacing=1.4, borderpad=0)
    return figure


def label_ends(axes: Axes, ends: Sequence[tuple[str, str, tuple[float, float]]]) -> None:
    """Names to the right of their lines' ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.062 * (high - low)
    ordered = sorted(ends, key=lambda end: end[2][1])
    top = (high - gap * i for i in reversed(range(len(ordered))))  # none above the panel, where the legend is
    at = map(min, spread([y for _, _, (_, y) in ordered], gap), top)
    for (name, colour, end), y in zip(ordered, at, strict=True):
        axes.annotate(
            name, end, xytext=(1.03, (y - low) / (high - low)), textcoords="axes fraction", va="center",
            color=colour, fontsize=9.5, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5), "shrinkB": 0},
        )  # fmt: skip


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Rising values moved as little as needs be to lie at least `gap` apart: neighbours too near share their mean."""
    groups: list[list[float]] = []
    for value in values:
        groups.append([value])
        while len(groups) > 1 and bottom(groups[-1], gap) < bottom(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [bottom(group, gap) + gap * i for group in groups for i in range(len(group))]


def bottom(group: Sequence[float], gap: float) -> float:
    """Where the lowest of a group lies when it is spread around its mean."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


@rc_context(STYLE)
def pareto_figure(found: BenchFound, base: Figures) -> Figure:
    """Accuracy against thinking tokens: an arm's evaluated checkpoints small and joined from the base on, its last one
    big with intervals; the Pareto front of last checkpoints and base as steps."""
    figure = Figure(figsize=(7.2, 5), layout="constrained")
    axes = figure.add_subplot()
    start = place(base)
    final = {arm.arm: place(arm.steps[-1].metrics) for arm in found.arms}
    points = [start, *final.values()]
    front = sorted(point for point, on in zip(points, on_front(points), strict=True) if on)
    axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=6, alpha=0.2, zorder=1)
    axes.plot([], [], color=MUTED, linewidth=6, alpha=0.2, label="Pareto front")
    errorbar(axes, base, BEFORE)
    for arm in found.arms:
        colour, dash = styles(found)[arm.arm]
        path = [start, *(place(each.metrics) for each in arm.steps)]
        axes.plot(*zip(*path, strict=True), color=colour, linestyle=dash, linewidth=0.9, alpha=0.45, zorder=2)
        axes.plot(*zip(*path[1:-1], strict=True) if path[1:-1] else ((), ()), "o", color=colour, markersize=3, zorder=3)
        errorbar(axes, arm.steps[-1].metrics, colour)
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("thinking tokens")
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(percent_label)
    axes.plot([], [], "o", color=MUTED, markersize=3, label="earlier checkpoint")
    axes.plot([], [], "o", color=MUTED, markersize=8, label="last, with 95 % intervals within the scale")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.4, borderpad=0)
    colours = {name: colour for name, (colour, _) in styles(found).items()}
    label_points(figure, axes, [("base", INK, start), *((cut(name), colours[name], at) for name, at in final.items())])
    return figure


def errorbar(axes: Axes, metrics: Figures, colour: str) -> None:
    """A big point with its intervals."""
    x, y = place(metrics)
    across, along = whisker(metrics.thought_tokens, inf), whisker(metrics.accuracy, 1.0)
    axes.errorbar(
        [x], [y], xerr=across, yerr=along, color=colour, marker="o", markersize=9, markeredgecolor="white",
        markeredgewidth=1, elinewidth=1.3, zorder=4,
    )  # fmt: skip


def whisker(each: Interval, most: float) -> list[list[float]] | None:
    """Below and above a point. None where the interval leaves the scale from 0 to `most`: seeds that differ so much say
    little of others."""
    return [[each.mean - each.low], [each.high - each.mean]] if each.low >= 0 and each.high <= most else None


def label_points(figure: Figure, axes: Axes, named: Iterable[tuple[str, str, tuple[float, float]]]) -> None:
    """A name beside each point, at the first place around it where it covers no other name and no point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    named = list(named)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, unit = canvas.get_renderer(), figure.dpi / 72
    spots = [axes.transData.transform(at) for _, _, at in named]
    taken: list[Any] = []
    for name, colour, at in named:
        placed = None
        for far in (8, 14, 22, 32):
            for dx, dy, ha in ((1, 1, "left"), (1, -1, "left"), (-1, 1, "right"), (-1, -1, "right"), (0, 1.4, "center"),
                               (0, -1.4, "center")):  # fmt: skip
                text = axes.annotate(
                    name, at, xytext=(dx * far, dy * far), textcoords="offset points", ha=ha, va="center", color=colour,
                    fontweight="bold", zorder=6, path_effects=[withStroke(linewidth=2.5, foreground="white")],
                )  # fmt: skip
                box = text.get_window_extent(renderer).padded(1.5 * unit)
                inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
                free = not any(box.overlaps(other) for other in taken)
                clear = not any(box.padded(4 * unit).contains(*spot) for spot in spots)
                if inside and free and clear:
                    placed = box
                    break
                text.remove()
            if placed is not None:
                break
        if placed is None:
            axes.annotate(name, at, xytext=(8, 8), textcoords="offset points", color=colour, zorder=6)
        else:
            taken.append(placed)
