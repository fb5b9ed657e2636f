"""One form for every measured figure, and one place that writes it."""

from __future__ import annotations

import re
from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import suffice
from suffice.numbers import interval, number, of, span


def test_an_interval_is_a_mean_and_its_ends():
    assert interval(61.24, 59.0, 63.41) == "61.2 (59.0 to 63.4)"
    assert interval(0.1475, 0.1334, 0.1621, 100, signed=True, unit=" points") == "+14.8 points (+13.3 to +16.2)"


def test_a_minus_is_no_hyphen_and_thousands_are_parted():
    assert interval(-1234.5, -2000, 3, signed=True) == "−1,234.5 (−2,000.0 to +3.0)"
    assert number(-0.04, signed=True) == "−0.0"
    assert span(-1.26, 1000, digits=0) == "−1 to 1,000"


@pytest.mark.parametrize("ends", [(None, None), (nan, nan), (1.0, None), (-inf, inf)])
def test_a_mean_without_an_interval_stands_alone(ends: tuple[float | None, float | None]):
    assert interval(0.5, *ends, 100, unit=" %") == "50.0 %"


@pytest.mark.parametrize("mean", [None, nan, inf])
def test_what_is_not_known_is_said(mean: float | None):
    assert interval(mean, 0.0, 1.0, unit=" %") == "n/a"


def test_a_figure_may_have_its_mean_under_another_name():
    assert of({"difference": 1.0, "low": 0.0, "high": None}, "difference") == (1.0, 0.0, None)


@given(st.floats(-1e9, 1e9), st.integers(0, 4), st.booleans())
def test_a_number_reads_back(value: float, digits: int, signed: bool):
    text = number(value, digits, signed)
    assert float(text.replace("−", "-").replace(",", "")) == pytest.approx(value, abs=0.5001 * 10**-digits)
    assert "-" not in text
    assert not signed or text[0] in "+−"


def test_nothing_else_writes_intervals():
    source = Path(suffice.__file__).parent
    # in brackets two formatted numbers with a dash, an ellipsis or "to" between them; a minus put for a hyphen
    own = re.compile(r"\(\{[^{}]+:[+,]*\.\d[f%]\} ?(?:to|…|–|-) ?\{|replace\(\"-\", \"−\"\)")
    found = [path.name for path in source.rglob("*.py") if own.search(path.read_text(encoding="utf-8"))]
    assert found == ["numbers.py"]
