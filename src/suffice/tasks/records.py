"""Records of problem files, and the one way they become problems. Every error names the file and the record.

A `.jsonl` file holds one JSON object a line, a `.json` file one array of objects, a `.parquet` file one table.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, get_args

from suffice.errors import DataError, GraderError
from suffice.grading.kinds import read_gold
from suffice.groups import Kind, Problem

FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem"),
    "gold": ("gold", "answer"),
    "id": ("id",),
    "difficulty": ("difficulty",),
    "kind": ("kind",),
}
"""The fields of a problem, each with the names it goes by in a record; the first that is present counts."""

OPTIONAL = ("id", "difficulty", "kind")

LONGEST = 1_000_000
"""Characters that a field may have: more than any model reads, and few enough to be tokenized in a moment."""

Values = dict[str, str]
"""The fields a record has, as text, by our names."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `where` it stands, for error messages; its `number`, counted from 1; its fields as read."""

    where: str
    number: int
    data: Mapping[str, Any]


def read_records(path: Path, columns: Collection[str] | None = None) -> list[Record]:
    """All records of a `.jsonl`, `.json` or `.parquet` file, in order; blank lines of a `.jsonl` are skipped.

    Args:
        columns: of a `.parquet` file read these alone, where it has them; None reads all.

    Raises:
        DataError: missing, empty or malformed file, invalid UTF-8, or a record that is not an object.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": lambda path: _read_parquet(path, columns)}
    _check_exists(path)
    if path.suffix not in readers:
        raise DataError(f"{path} is not a problem file; give a file that ends in {', '.join(readers)}")
    try:
        records = readers[path.suffix](path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not records:
        raise DataError(f"{path}: no problem in it; give a file with at least one")
    for record in records:
        if not isinstance(record.data, dict):
            raise DataError(f"{record.where}: not an object; write each problem as {{…}} with its fields")
    return records


def checksum(paths: Sequence[Path]) -> str:
    """SHA-256, in hex, of files one after the other.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        _check_exists(path)
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise _unreadable(path, error) from error
    return digest.hexdigest()


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")


def _unreadable(path: Path, error: OSError) -> DataError:
    reason = error.strerror or " ".join(str(error).split())  # pyarrow's own may have several lines
    return DataError(f"{path} cannot be read ({reason}); check that it is a readable file")


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


def _read_parquet(path: Path, columns: Collection[str] | None) -> list[Record]:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet  # type: ignore[import-untyped]

    try:
        wanted = None if columns is None else [name for name in parquet.read_schema(path).names if name in columns]
        rows = parquet.read_table(path, columns=wanted).to_pylist()
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
    records: Sequence[Record],
    task: str,
    split: str | None,
    aliases: Mapping[str, tuple[str, ...]] = FIELDS,
    shape: Callable[[Values], Values] = dict,
    *,
    tolerant: bool = False,
) -> list[Problem]:
    """Problems of records, in order. A record without an id gets `<task>-<split>-<number>`.

    Args:
        aliases: our field names → the records' own. All fields but `OPTIONAL` must be in every record.
        shape: makes a problem's fields of a record's; it raises ValueError for what it cannot use.
        tolerant: leave out records that make no problem, and say once on standard error how many.

    Raises:
        DataError: a record without a field it must have, a field of the wrong type, an unknown kind, a gold answer
            that is not of its kind, no problem at all, or an id used twice.
    """
    prefix = f"{task}-{split}" if split else task
    problems: list[Problem] = []
    refused: list[DataError] = []
    seen: dict[str, str] = {}
    for record in records:
        try:
            problem = _to_problem(record, task, prefix, aliases, shape)
        except DataError as error:
            if not tolerant:
                raise
            refused.append(error)
            continue
        if problem.id in seen:
            raise DataError(
                f"{record.where}: id {problem.id!r} is taken by {seen[problem.id]}; give every problem its own"
            )
        seen[problem.id] = record.where
        problems.append(problem)
    if refused:
        if not problems:
            raise refused[0]
        print(f"{task}: {len(refused)} of {len(records)} records left out; the first: {refused[0]}", file=sys.stderr)
    return problems


def _to_problem(
    record: Record,
    task: str,
    prefix: str,
    aliases: Mapping[str, tuple[str, ...]],
    shape: Callable[[Values], Values],
) -> Problem:
    found = {name: _text(record, name, names) for name, names in aliases.items()}
    values = {name: value for name, value in found.items() if value is not None}
    for name, names in aliases.items():
        if name not in values and name not in OPTIONAL:
            mend = f', or name the field that holds it: task jsonl, fields = {{ {name} = "..." }}' * (name in FIELDS)
            raise DataError(f"{record.where}: no {name} ({' or '.join(map(repr, names))}); add it{mend}")
    try:
        values = shape(values)
        kind = values.get("kind", "math")
        if kind not in get_args(Kind):
            raise ValueError(f"unknown kind {kind!r}; use one of {', '.join(get_args(Kind))}")
        read_gold(values["gold"], kind)  # type: ignore[arg-type] # better now than in the step that draws it
    except (ValueError, GraderError) as error:
        raise DataError(f"{record.where}: {error}") from None
    identity = values.get("id", f"{prefix}-{record.number}")
    return Problem(identity, task, values["prompt"], values["gold"], kind, values.get("difficulty"))  # type: ignore[arg-type]


def _text(record: Record, name: str, aliases: tuple[str, ...]) -> str | None:
    """A field as text; None where it is absent, null or blank. Numbers become plain text: 27.0 is `27`."""
    value = next((record.data[alias] for alias in aliases if record.data.get(alias) is not None), None)
    numeric = name != "prompt"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{record.where}: {name} holds half of a surrogate pair, which is no text; correct it")
        if len(value) > LONGEST:
            raise DataError(f"{record.where}: {name} has {len(value):,} characters; shorten it to {LONGEST:,} or fewer")
        return value
    if numeric and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if numeric and isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    wanted = "text or a finite number" if numeric else "text"
    raise DataError(f"{record.where}: {name} must be {wanted}, not {value!r:.40}; correct it")
