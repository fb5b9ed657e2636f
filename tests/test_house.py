"""docs/design.md shows the house as it is, and no floor of it imports from a floor above."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "suffice"
FACE = {"__init__", "__main__"}
"""What stands before the house: names for others to import, and the way in."""


@cache
def shown() -> dict[str, set[str]]:
    """Floor → its modules, from the top; a floor that is one module has itself."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = page.partition("## The house")[2].partition("```text\n")[2].partition("```")[0]
    floors: dict[str, set[str]] = {}
    above = ""
    for line in block.splitlines()[1:]:
        indent = len(line) - len(line.lstrip())
        for name in re.findall(r"(?<!\S)([\w/]+(?:\.py|/))(?!\S)", line):
            if indent == 2:
                above = name.removesuffix(".py").removesuffix("/")
                floors[above] = {above} if name.endswith(".py") else set()
            else:
                floors[above].add(name.removesuffix(".py"))
    return floors


def modules() -> Iterator[tuple[str, Path]]:
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).with_suffix("").as_posix()
        if name not in FACE:
            yield name.removesuffix("/__init__"), path


def imported(path: Path, *, lazily: bool) -> Iterator[str]:
    """Our modules that a file imports, as paths; `lazily` counts also what functions and type checkers import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {name for name, _ in modules()}
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("suffice."):
            for alias in node.names:
                module = (node.module or "").removeprefix("suffice.").replace(".", "/")
                yield f"{module}/{alias.name}" if f"{module}/{alias.name}" in known else module


def test_the_page_shows_every_module_and_none_that_is_not_there():
    there: dict[str, set[str]] = {}
    for name, path in modules():
        floor, _, inner = name.partition("/")
        own = there.setdefault(floor, {floor} if path.parent.name != floor else set())
        if inner and path.name != "__init__.py":
            own.add(inner)
    assert shown() == there


def test_no_floor_imports_from_a_floor_above():
    order = list(shown())
    upward = {
        f"{name} → {target}"
        for name, path in modules()
        for target in imported(path, lazily=True)
        if order.index(target.partition("/")[0]) < order.index(name.partition("/")[0])
    }
    assert not upward


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: set(imported(path, lazily=False)) - {name} for name, path in modules()}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, "a circle, and what leads into it"
