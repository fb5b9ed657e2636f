"""What the pages share: figures and tables ready to set, and how a template is filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from suffice.interval import Interval
from suffice.report import findings, plots
from suffice.report.findings import Unit
from suffice.run.records import Level


@dataclass(frozen=True, slots=True)
class Shape:
    """A figure ready to set: a title that says the finding, and its SVG."""

    title: str
    svg: Markup


Cell = list[tuple[str, str, bool]]
"""Each a value, its range, and whether it is a clear change."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows under their names."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def fill(template: str, context: dict[str, Any]) -> str:
    """A page as text that UTF-8 can encode."""
    environment = Environment(
        loader=PackageLoader("suffice.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(context)
    return html.encode("utf-8", "replace").decode("utf-8")  # model text may hold lone surrogates


def shape(name: str, title: str, figure: Any) -> Shape:
    return Shape(title, Markup(plots.svg(figure, name, title)))


def difficulty(columns: Mapping[str, Mapping[str, Level]], ends: tuple[str, str], prefix: str = "") -> list[Shape]:
    """Accuracy and thinking tokens by difficulty, bars for each column; titles say what changed between the `ends`."""
    names = sorted({name for levels in columns.values() for name in levels}, key=_by_number)
    if len(names) < 2:
        return []
    shapes = []
    measures: list[tuple[str, str, Unit]] = [
        ("accuracy", "Accuracy", "points"),
        ("thought_tokens", "Thinking tokens", "relative"),
    ]
    for metric, words, unit in measures:
        levels: dict[str, dict[str, Interval]] = {
            name: {label: getattr(each[name], metric) for label, each in columns.items() if name in each}
            for name in names
        }
        title = findings.difficulty_title(words, levels, unit, ends)
        figure = plots.difficulty_figure(levels, percent=metric == "accuracy")
        shapes.append(shape(f"{prefix}difficulty-{metric.replace('_', '-')}", title, figure))
    return shapes


def _by_number(label: str) -> tuple[int, float, str]:
    return (0, float(label), label) if label.isdecimal() else (1, 0.0, label)
