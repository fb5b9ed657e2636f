"""Which column of a record holds a field, and which may where none is known to: a refusal names the likeliest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from suffice.errors import DataError
from suffice.grading.exact import normalise, same
from suffice.grading.extract import gold_expression
from suffice.tasks.choices import in_columns
from suffice.tasks.fields import FIELDS, OPTIONAL, SECOND, Mapped, advice, at, joined
from suffice.tasks.files import Record
from suffice.tasks.text import UnclearError, gold_text, is_blank, opened, prompt_text, turns

_SIGNS = {
    "prompt": ["question", "problem", "prompt", "quer", "instruct", "input", "ctx", "goal", "message", "stem", "text"],
    "gold": ["gold", "answer", "truth", "target", "correct", "label", "solution", "output", "response", "final"],
}
"""What a column that may hold a field has in its name, the likeliest first."""

_PASSAGES = ("context", "passage", "article", "body", "paragraph", "story", "document")


def find(record: Record, name: str, mapped: Mapped) -> tuple[str, Any] | None:
    """The column of a field and what it holds; None where it is absent or blank.

    Raises:
        DataError: the user's column is not there, or known columns contradict each other about what matters.
    """
    if name in mapped:
        return _named_by_user(record, name, mapped[name])
    found = _known(record, FIELDS[name]) or _known(record, SECOND.get(name, ()))
    filled = [(column, value) for column, value in found if not is_blank(value)]
    if len(filled) > 1 and name not in OPTIONAL and not _agree(name, filled):
        columns = [column for column, _ in filled]
        raise DataError(
            f"{record.where}: {' and '.join(map(repr, columns))} may each be the {name}, and they differ; name one: "
            f"{advice(*({**mapped, name: column} for column in columns))}"
        )
    return filled[0] if filled else None


def _named_by_user(record: Record, name: str, path: str) -> tuple[str, Any] | None:
    try:
        values = joined(record.data, path)
    except LookupError:
        raise DataError(
            f"{record.where}: no field {path!r} among its columns {_listed(record)}; correct the record, or what "
            f"fields.{name} says"
        ) from None
    if len(values) > 1 and name == "prompt":
        try:
            return path, "\n\n".join(prompt_text(value, path) for value in values if not is_blank(value))
        except ValueError as error:
            raise DataError(f"{record.where}: {error}") from None
    if len(values) > 1 and name != "choices":
        raise DataError(
            f"{record.where}: fields.{name} joins columns by '+', which only prompt and choices can be made of"
        )
    value = values if len(values) > 1 else values[0]
    return None if is_blank(value) else (path, value)


def _known(record: Record, names: Sequence[str]) -> list[tuple[str, Any]]:
    by_case = _by_case(tuple(record.data))
    found = []
    for name in names:
        column = name if name in record.data else by_case.get(name.casefold(), name)
        if column in record.data:
            found.append((column, record.data[column]))
        elif "." in column:
            with suppress(LookupError):
                found.append((column, at(record.data, column)))
    return found


@lru_cache(maxsize=64)  # most records of a file have the same columns
def _by_case(columns: tuple[str, ...]) -> dict[str, str]:
    return {column.casefold(): column for column in columns}


def _agree(name: str, found: Sequence[tuple[str, Any]]) -> bool:
    """Whether several columns say the same."""
    try:
        if name == "prompt":
            return len({prompt_text(value, column).strip() for column, value in found}) == 1
        if name == "gold":
            first, *others = (normalise(gold_expression(gold_text(value, column))) for column, value in found)
            return all(other == first or same(first, other) for other in others)
    except ValueError:
        return False
    return all(opened(value) == opened(found[0][1]) for _, value in found)


def missing(record: Record, name: str, mapped: Mapped, taken: Sequence[str] = ()) -> DataError:
    """The refusal of a record without a field it must have, with the columns that may hold it.

    Args:
        taken: columns that hold something else.
    """
    if name in mapped:
        return DataError(f"{record.where}: no {name}: {mapped[name]!r} is blank; add it, or leave the record out")
    blank = [column for column, _ in _known(record, FIELDS[name])]
    what = f"no {name}: {blank[0]!r} is blank," if blank else f"no {name}"
    fields = dict(mapped)
    for each in ("prompt", "gold"):
        if each == name or (each not in mapped and not _known(record, FIELDS[each] + SECOND[each])):
            fields[each] = _likely(record, each, {*taken, *fields.values()})
    if inner := next((column for column, value in record.data.items() if _holds_records(value)), None):
        return DataError(f"{record.where}: no {name}; {inner!r} holds a list of records: save that list as the file")
    mend = f"add it, or name the column that holds it: {advice(fields)}" if fields[name] else "add it"
    return DataError(f"{record.where}: {what} among its columns {_listed(record)}; {mend}")


def _holds_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and turns(value) is None


def _likely(record: Record, name: str, taken: set[str]) -> str:
    """The column whose name and contents are likeliest those of a field, COLUMN if nothing tells, '' if none could."""
    taken |= set(in_columns(record.data).values())
    paths = [path for path in _leaves(record, name) if path not in taken and path.isprintable()]
    for sign in _SIGNS[name]:
        for path in paths:
            if sign in path.casefold():
                return "+".join(_with_companions(record, path)) if name == "prompt" else path
    return (paths[0] if len(paths) == 1 else "COLUMN") if paths else ""


def _with_companions(record: Record, column: str) -> list[str]:
    """A question's column with those that belong to it: a passage before it, an instruction's input after it."""
    before = [name for name in passages(record) if isinstance(record.data[name], str) and name != column]
    after = [name for name in record.data if column.casefold() == "instruction" and name.casefold() == "input"]
    return [*before, column, *(name for name in after if not is_blank(record.data[name]))]


def passages(record: Record) -> list[str]:
    """Columns of a text that a question may be about."""
    return [name for name, value in record.data.items() if name.casefold() in _PASSAGES and not is_blank(value)]


def _leaves(record: Record, name: str) -> Iterator[str]:
    """Paths, at most one dot deep, of what could be a prompt (text, chat) or an answer (text, number)."""
    for column, value in record.data.items():
        parts = {column: value}
        if isinstance(value, Mapping):
            parts = {f"{column}.{key}": part for key, part in value.items()}
        for path, part in parts.items():
            number = name == "gold" and isinstance(part, int | float) and not isinstance(part, bool)
            chat = name == "prompt" and turns(part) is not None
            if number or chat or (isinstance(part, str) and not is_blank(part)):
                yield path


def _listed(record: Record) -> str:
    """The names of a record's columns, as many as one reads."""
    names = [repr(name)[:40] for name in record.data]
    return ", ".join(names[:12]) + ", …" * (len(names) > 12) if names else "(none)"


def refused(record: Record, error: ValueError, mapped: Mapped, known: Collection[str] = ()) -> DataError:
    """A refusal with the place, and with the advice that would settle what is unclear.

    Args:
        known: fields that were found and read, and need no advice.
    """
    if isinstance(error, UnclearError) and error.fields:
        fields = {name: path for name, path in error.fields.items() if name not in known}
        return DataError(f"{record.where}: {error}: {advice({**mapped, **fields})}")
    return DataError(f"{record.where}: {error}")


def unanswered(record: Record, gold: str, mapped: Mapped, taken: Collection[str]) -> DataError:
    """The refusal of a gold answer that no final answer can equal, with another column if its name tells.

    Args:
        taken: columns that hold something else.
    """
    told = (
        f"{record.where}: gold is a text of {len(gold.split())} words, which no final answer equals; write the answer "
    )
    told += r"alone, after '####' or in \boxed{}, or give the record the kind exact"
    path = _likely(record, "gold", set(taken))
    if any(sign in path.casefold() for sign in _SIGNS["gold"]):
        told += f", or name its column: {advice({**mapped, 'gold': path})}"
    return DataError(told)
