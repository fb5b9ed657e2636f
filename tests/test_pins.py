"""What `make` installs is pinned, all of it, without asking any network. Known weaknesses of the pins: `make audit`."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from suffice import __version__

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [line for line in LINES if line and not line.startswith("#")]


def needed(name: str, extras: frozenset[str], python: str, seen: set[tuple[str, frozenset[str]]]) -> None:
    """Add a distribution, and all that what is installed here asks for on this machine with this Python."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    try:
        asked = distribution(name).requires or []
    except PackageNotFoundError:
        return  # it is not needed with the Python that is here
    for line in asked:
        one = Requirement(line)
        here = {"python_version": python, "python_full_version": f"{python}.0"}
        if one.marker is None or any(one.marker.evaluate(here | {"extra": extra}) for extra in extras | {""}):
            needed(canonicalize_name(one.name), frozenset(one.extras), python, seen)


def test_every_pin_is_one_exact_version_and_no_name_has_two():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", pin) for pin in PINS)
    names = [canonicalize_name(pin.partition("==")[0]) for pin in PINS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_everything_that_suffice_and_its_tests_ask_for_is_pinned(python: str):
    found = set[tuple[str, frozenset[str]]]()
    needed("suffice", frozenset({"dev"}), python, found)
    asked = {name for name, _ in found} - {"suffice"}
    assert asked >= {"torch", "transformers", "trl", "pytest"}
    assert asked - {canonicalize_name(pin.partition("==")[0]) for pin in PINS} == set()


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
