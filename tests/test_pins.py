"""What `make` installs is pinned, all of it, without asking any network. Known weaknesses of the pins: `make audit`."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINES = (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()
PINS = [line for line in LINES if line and not line.startswith("#")]


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Add a distribution, and all that it asks for on this machine, as installed here."""
    if (name, extras) in seen:
        return
    try:
        asked = distribution(name).requires or []
    except PackageNotFoundError:
        return  # an extra that is not installed here
    seen.add((name, extras))
    for line in asked:
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            needed(canonicalize_name(one.name), frozenset(one.extras), seen)


def test_every_pin_is_one_exact_version_and_no_name_has_two():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", pin) for pin in PINS)
    names = [canonicalize_name(pin.partition("==")[0]) for pin in PINS]
    assert len(names) == len(set(names))


def test_everything_that_suffice_and_its_tests_ask_for_is_pinned():
    found = set[tuple[str, frozenset[str]]]()
    needed("suffice", frozenset({"dev"}), found)
    asked = {name for name, _ in found} - {"suffice"}
    assert asked >= {"torch", "transformers", "verl", "pytest"}
    assert asked - {canonicalize_name(pin.partition("==")[0]) for pin in PINS} == set()
