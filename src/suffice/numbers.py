"""How measured figures are written, everywhere: `61.2 (59.0 to 63.4)`; a change `−3.4 (−5.0 to +1.8)`."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

UNKNOWN = "n/a"

Known = float | None
"""A number; None and NaN where there is none."""


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """`1,234.5`; signed `+1.2`. A minus is a minus, not a hyphen."""
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−")


def span(low: float, high: float, digits: int = 1, signed: bool = False) -> str:
    """`59.0 to 63.4`."""
    return f"{number(low, digits, signed)} to {number(high, digits, signed)}"


def interval(
    mean: Known, low: Known, high: Known, scale: float = 1, digits: int = 1, signed: bool = False, unit: str = ""
) -> str:
    """A mean and its interval, `61.2 (59.0 to 63.4)`; the mean alone where it has none, `n/a` where there is no mean.

    Args:
        scale: what all three are multiplied by: 100 for fractions shown as percent or points.
        unit: written after the mean, such as ` %`.
    """
    if mean is None or not isfinite(mean):
        return UNKNOWN
    text = number(scale * mean, digits, signed) + unit
    if low is None or high is None or not (isfinite(low) and isfinite(high)):
        return text
    return f"{text} ({span(scale * low, scale * high, digits, signed)})"


def of(figure: Mapping[str, Known], centre: str = "mean") -> tuple[Known, Known, Known]:
    """The three numbers of a figure as JSON holds it; `centre` is the key of the mean."""
    return figure[centre], figure["low"], figure["high"]
