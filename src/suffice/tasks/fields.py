"""The fields of a problem, the columns they are known by, and the paths that a user gives for others.

A path names a column, or a part of it: `reward_model.ground_truth`, `prompt.0.content`. Several joined by `+` make one
field: `passage+question`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from suffice.errors import DataError
from suffice.tasks.text import opened

FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem"),
    "gold": ("gold", "answer", "ground_truth", "reward_model.ground_truth", "answerKey"),
    "choices": ("choices", "options"),
    "id": ("id",),
    "difficulty": ("difficulty", "level"),
    "kind": ("kind",),
}
"""The fields of a problem, each with the columns it is known by, in whatever case."""

OPTIONAL = ("id", "difficulty", "kind")
"""Fields that a record need not have; the first column that is filled counts."""

SECOND = {"prompt": ("messages", "conversations"), "gold": ("solution",)}
"""Columns that count where none of the first is there: beside a question, a chat repeats it; beside an answer, a
solution leads to it."""

Mapped = Mapping[str, str]
"""Our names → paths, as the user gives them."""


def our_names(fields: Mapping[str, str]) -> dict[str, str]:
    """Fields by our names alone: `question` is `prompt`, `answer` is `gold`.

    Raises:
        DataError: a name that no field has, or a field named twice.
    """
    known = {alias.casefold(): name for name, aliases in FIELDS.items() for alias in (name, *aliases)}
    found: dict[str, str] = {}
    for given, path in fields.items():
        name = known.get(given.casefold())
        if name is None:
            raise DataError(
                f"fields has the unknown name {given!r}; it maps {', '.join(FIELDS)} to a file's own columns"
            )
        if name in found:
            raise DataError(f"fields names {name} twice, as {found[name]!r} and {path!r}; leave one out")
        found[name] = path
    return found


def advice(*ways: Mapping[str, str]) -> str:
    """How to say on the command line, or in a recipe, which columns hold what."""
    said = [",".join(f"{name}={path}" for name, path in fields.items() if path) for fields in ways]
    return f"{' or '.join(f'--fields {shlex.quote(each)}' for each in said)} (in a recipe: task.fields)"


def at(value: Any, path: str) -> Any:
    """What stands at a path; a name that holds dots is found too.

    Raises:
        LookupError: nothing does.
    """
    value = opened(value)
    if isinstance(value, Mapping):
        if path in value:
            return value[path]
        for i, character in enumerate(path):
            if character == "." and path[:i] in value:
                return at(value[path[:i]], path[i + 1 :])
    elif isinstance(value, list):
        index, _, rest = path.partition(".")
        if re.fullmatch("-?[0-9]{1,9}", index) and -len(value) <= int(index) < len(value):
            return at(value[int(index)], rest) if rest else value[int(index)]
    raise LookupError(path)


def joined(data: Mapping[str, Any], path: str) -> list[Any]:
    """What stands at each of the paths that `+` joins.

    Raises:
        LookupError: nothing stands at one of them.
    """
    try:
        return [at(data, path)]
    except LookupError:
        if "+" not in path:
            raise
        return [at(data, part) for part in path.split("+")]
