"""That long work never falls silent where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from suffice.run import progress as module
from suffice.run.progress import progress


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.02)
    monkeypatch.setattr(module, "GLANCE", 0.005)


def heard(capsys: pytest.CaptureFixture[str], enough: Callable[[list[str]], bool]) -> list[str]:
    """Lines on standard error, waited for while nothing is told."""
    lines: list[str] = []
    until = time.monotonic() + 60
    while not enough(lines):
        assert time.monotonic() < until, lines
        time.sleep(0.005)
        lines += capsys.readouterr().err.splitlines()
    return lines


def test_work_that_tells_nothing_still_says_where_it_is(capsys: pytest.CaptureFixture[str]):
    with progress("train", 5) as advance:
        advance(2, "1 of 3 micro-batches trained on")
        lines = heard(capsys, lambda lines: len(lines) >= 3)
    assert all(line.startswith("train: 2/5, ") for line in lines)
    assert all(line.endswith(" s  1 of 3 micro-batches trained on") for line in lines)


def test_of_works_within_works_the_innermost_speaks(capsys: pytest.CaptureFixture[str]):
    with progress("bench", 2):
        heard(capsys, bool)
        with progress("sample", 9) as advance:
            inner = heard(capsys, lambda lines: len(lines) >= 4)
            advance(9)
        capsys.readouterr()
        outer = heard(capsys, lambda lines: len(lines) >= 2)
    others = [line for line in inner if not line.startswith("sample: 0/9")]
    assert len(others) <= 1  # it may have been about to speak
    assert all(line.startswith("bench: 0/2") for line in outer)


def test_nothing_is_said_after_the_end(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ZeroDivisionError), progress("train", 1):
        raise ZeroDivisionError
    with progress("train", 1) as advance:
        advance(1)
    said = capsys.readouterr().err
    time.sleep(0.1)
    assert said.endswith("train: 1/1, 0 s\n")
    assert capsys.readouterr().err == ""
