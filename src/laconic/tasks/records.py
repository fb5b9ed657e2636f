"""Records of problem files, and the one way they become problems. Every error names the file and the record.

A `.jsonl` file holds one JSON object a line, a `.json` file one array of objects, a `.parquet` file one table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, get_args

from laconic.errors import DataError, GraderError
from laconic.grading.pool import read_gold
from laconic.groups import Kind, Problem

FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem"),
    "gold": ("gold", "answer"),
    "id": ("id",),
    "difficulty": ("difficulty",),
    "kind": ("kind",),
}
"""The fields of a problem, each with the names it goes by in a record; the first that is present counts."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `where` it stands, for error messages; its `number`, counted from 1; its fields as read."""

    where: str
    number: int
    data: Mapping[str, Any]


def read_records(path: Path) -> list[Record]:
    """All records of a `.jsonl`, `.json` or `.parquet` file, in order; blank lines of a `.jsonl` are skipped.

    Raises:
        DataError: missing, empty or malformed file, invalid UTF-8, or a record that is not an object.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.suffix not in readers:
        raise DataError(f"{path} is not a problem file; give a file that ends in {', '.join(readers)}")
    try:
        records = readers[path.suffix](path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check that it is a readable file"
        ) from error
    if not records:
        raise DataError(f"{path}: no problem in it; give a file with at least one")
    for record in records:
        if not isinstance(record.data, dict):
            raise DataError(f"{record.where}: not an object; write each problem as {{…}} with its fields")
    return records


def _read_jsonl(path: Path) -> list[Record]:
    # split on bytes: text mode would also break lines at characters that JSON strings may hold
    lines = enumerate(path.read_bytes().split(b"\n"), start=1)
    return [Record(f"{path}:{n}", n, _parse(line, f"{path}:{n}")) for n, line in lines if line.strip()]


def _read_json(path: Path) -> list[Record]:
    content = path.read_bytes()
    rows = _parse(content, str(path)) if content.strip() else []
    if not isinstance(rows, list):
        raise DataError(
            f"{path}: not an array; write [{{…}}, {{…}}], or name the file .jsonl if it has an object a line"
        )
    return [Record(f"{path} record {n}", n, row) for n, row in enumerate(rows, start=1)]


def _read_parquet(path: Path) -> list[Record]:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet  # type: ignore[import-untyped]

    try:
        rows = parquet.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a parquet file; write it again or give another") from error
    return [Record(f"{path} row {n}", n, row) for n, row in enumerate(rows, start=1)]


def _parse(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: invalid UTF-8 at byte {error.start + 1}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DataError(f"{where}: malformed JSON at {position} ({error.msg}); mend it") from error
    except (ValueError, RecursionError) as error:  # NaN, a number of thousands of digits, brackets nested without end
        raise DataError(f"{where}: malformed JSON ({error}); mend it") from error


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def to_problems(
    records: Iterable[Record], task: str, split: str | None, fields: Mapping[str, str] | None = None
) -> list[Problem]:
    """Problems of records, in order. A record without an id gets `<task>-<split>-<number>`.

    Args:
        fields: our field names → the records' own, for records that use other names than those of `FIELDS`. A field
            named here must be in every record; of the others `prompt` and `gold` must.

    Raises:
        DataError: an unknown field name, a record without prompt or gold, a field of the wrong type, an unknown kind,
            a gold answer that is not of its kind, or an id used twice.
    """
    mapped = dict(fields or {})
    for name in mapped:
        if name not in FIELDS:
            raise DataError(f"fields has the unknown name {name!r}; it maps {', '.join(FIELDS)} to a file's own names")
    prefix = f"{task}-{split}" if split else task
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for record in records:
        for name, source in mapped.items():
            if source not in record.data:
                raise DataError(f"{record.where}: no field {source!r}; correct the record, or what fields.{name} says")
        values = {name: _text(record, name, _aliases(name, mapped)) for name in FIELDS}
        for name in ("prompt", "gold"):
            if values[name] is None:
                expected = " or ".join(repr(alias) for alias in _aliases(name, mapped))
                raise DataError(
                    f"{record.where}: no {name} ({expected}); add it, or name the field that holds it: "
                    f'task jsonl, fields = {{ {name} = "..." }}'
                )
        identity = values["id"] or f"{prefix}-{record.number}"
        if identity in seen:
            raise DataError(f"{record.where}: id {identity!r} is taken by {seen[identity]}; give every problem its own")
        seen[identity] = record.where
        kind = values["kind"] or "math"
        if kind not in get_args(Kind):
            raise DataError(f"{record.where}: unknown kind {kind!r}; use one of {', '.join(get_args(Kind))}")
        prompt, gold = values["prompt"], values["gold"]
        try:
            read_gold(gold, kind)  # type: ignore[arg-type]
        except GraderError as error:  # better now than in the step that draws it
            raise DataError(f"{record.where}: {error}") from None
        problems.append(Problem(identity, task, prompt, gold, kind, values["difficulty"]))  # type: ignore[arg-type]
    return problems


def _aliases(name: str, mapped: Mapping[str, str]) -> tuple[str, ...]:
    return (mapped[name],) if name in mapped else FIELDS[name]


def _text(record: Record, name: str, aliases: tuple[str, ...]) -> str | None:
    """A field as text; None where it is absent, null or blank. Numbers become plain text: 27.0 is `27`."""
    value = next((record.data[alias] for alias in aliases if record.data.get(alias) is not None), None)
    numeric = name != "prompt"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{record.where}: {name} holds half of a surrogate pair, which is no text; correct it")
        return value
    if numeric and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if numeric and isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    wanted = "text or a finite number" if numeric else "text"
    raise DataError(f"{record.where}: {name} must be {wanted}, not {value!r:.40}; correct it")
