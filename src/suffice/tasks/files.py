"""Problem files as records. Every error names the file, the place, and what the file seems to be instead.

A `.jsonl` file holds one JSON object a line, a `.json` file one array of objects, a `.parquet` file one table. JSON
under the other's name is read as what it is: an array, objects a line, or objects over several lines.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from suffice.errors import DataError, one_line

ENDINGS = (".jsonl", ".json", ".parquet")

_BOM = b"\xef\xbb\xbf"
_PARQUET = b"PAR1"
_BEGINNINGS = {
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; fetch that with `git lfs pull`",
    b"\x1f\x8b": "compressed; unpack it with gunzip",
    b"BZh": "compressed; unpack it with bunzip2",
    b"\xfd7zXZ": "compressed; unpack it with unxz",
    b"(\xb5/\xfd": "compressed; unpack it with unzstd",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export its rows as .jsonl",
    b"ARROW1": "an Arrow file; write its rows as .parquet or .jsonl",
    b"\xff\xff\xff\xff": "an Arrow stream; write its rows as .parquet or .jsonl",
    b"\x80\x04": "a Python pickle; write its rows as .jsonl",
    b"\x80\x05": "a Python pickle; write its rows as .jsonl",
    _PARQUET: "a parquet file; give it a name that ends in .parquet",
}
_PAGE = re.compile(rb"<(!doctype|html|head|body|script|meta|\?xml|!--)", re.IGNORECASE)
_BLANK = re.compile(r"[ \t\r\n]*")
_TABLE = re.compile(r'(?:"[^"]*"|[^",;]{1,40})[,;]\S|[^"]*\t')  # a first line of names or cells


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `where` it stands, for error messages; its `number`, counted from 1; its columns as read."""

    where: str
    number: int
    data: Mapping[str, Any]


def read_records(path: Path, columns: Collection[str] | None = None) -> list[Record]:
    """All records of a file, in order; blank lines of a `.jsonl` are skipped.

    Args:
        columns: of a `.parquet` file read these alone, where it has them; None reads all.

    Raises:
        DataError: missing, empty or malformed file, invalid UTF-8, or a record that is not an object.
    """
    _check_exists(path)
    ending = path.suffix.lower()
    try:
        if path.is_file():
            _check_contents(path, ending)
        if ending not in ENDINGS:
            raise DataError(f"{path} is not a problem file; give a file that ends in {', '.join(ENDINGS)}")
        records = _read_parquet(path, columns) if ending == ".parquet" else _read_json(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not records:
        raise DataError(f"{path}: no problem in it; give a file with at least one")
    if len(records) == 1 and _is_of_columns(records[0].data):
        raise DataError(f"{path}: an object of columns, not of rows; write one object a row")
    for record in records:
        if not isinstance(record.data, dict):
            raise DataError(f"{record.where}: not an object; write each problem as {{…}} with its fields")
    return records


def _is_of_columns(data: Any) -> bool:
    """Whether an object holds whole columns: lists of values, or values by row number."""
    if not isinstance(data, dict) or not data:
        return False
    numbered = all(isinstance(column, dict) and column and all(map(str.isdecimal, column)) for column in data.values())
    lists = all(
        isinstance(column, list) and not any(isinstance(each, dict) for each in column) for column in data.values()
    )
    return numbered or lists


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


def _check_contents(path: Path, ending: str) -> None:
    """
    Raises:
        DataError: the first bytes are those of another kind of file.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    if ending == ".parquet" and head.startswith(_PARQUET):
        return
    text = head.removeprefix(_BOM).lstrip()
    if ending == ".parquet" and text[:1] in (b"{", b"["):
        raise DataError(f"{path} is JSON, not parquet; give it a name that ends in .jsonl")
    if _PAGE.match(text):
        raise DataError(f"{path} is a web page, not data; download the file itself, not the page that shows it")
    for beginning, what in _BEGINNINGS.items():
        if head.startswith(beginning):
            raise DataError(f"{path} is {what}")


def _read_json(path: Path) -> list[Record]:
    content = path.read_bytes().removeprefix(_BOM)
    # split on bytes: text mode would also break lines at characters that JSON strings may hold
    lines = [(n, line) for n, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    if not lines:
        return []
    number, opening = lines[0]
    begins = opening.lstrip()[:1]
    try:
        first = _parse(opening, path, number)
    except DataError as error:
        if begins not in (b"{", b"["):
            raise (_not_json(path, number, opening) or error) from None
        by_line = len(lines) == 1 or (begins == b"{" != opening.strip() and lines[1][1].lstrip()[:1] == b"{")
        return _read_values(path, content, error, by_line=by_line)
    if isinstance(first, list) and len(lines) == 1 and (path.suffix.lower() == ".json" or _has_objects(first)):
        return _numbered(path, first)
    return [Record(f"{path}:{n}", n, _parse(line, path, n)) for n, line in lines]


def _has_objects(values: list[Any]) -> bool:
    return not values or any(isinstance(value, dict) for value in values)


def _numbered(path: Path, rows: Sequence[Any]) -> list[Record]:
    return [Record(f"{path} record {n}", n, row) for n, row in enumerate(rows, start=1)]


def _read_values(path: Path, content: bytes, of_first_line: DataError, *, by_line: bool) -> list[Record]:
    """An array, or objects one after the other, over any number of lines.

    Args:
        of_first_line: what was wrong with the first line alone.
        by_line: the file seems meant to hold an object a line: if the whole is wrong too, the first line is to blame.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    values: list[Any] = []
    try:
        text = content.decode()
        at = _blank_from(text, 0)
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            values.append(value)
            at = _blank_from(text, at)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, content, error.start) from error
    except (ValueError, RecursionError) as error:
        if by_line:
            raise of_first_line from None
        if isinstance(error, json.JSONDecodeError):
            raise _malformed(path, error.lineno, error) from error
        raise DataError(f"{path}: malformed JSON ({error}); mend it") from error
    return _numbered(path, values[0] if isinstance(values[0], list) and len(values) == 1 else values)


def _blank_from(text: str, at: int) -> int:
    """Where text goes on after the blanks at `at`."""
    return _BLANK.match(text, at).end()  # type: ignore[union-attr] # it matches anywhere


def _parse(line: bytes, path: Path, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, line, error.start, number) from error
    except json.JSONDecodeError as error:
        raise _malformed(path, number, error) from error
    except (ValueError, RecursionError) as error:  # NaN, a number of thousands of digits, brackets nested without end
        raise DataError(f"{path}:{number}: malformed JSON ({error}); mend it") from error


def _not_utf8(path: Path, content: bytes, at: int, number: int = 1) -> DataError:
    """Of content that begins with line `number` of the file."""
    number += content.count(b"\n", 0, at)
    byte = at - content.rfind(b"\n", 0, at)
    return DataError(f"{path}:{number}: invalid UTF-8 at byte {byte}; save the file as UTF-8")


def _malformed(path: Path, number: int, error: json.JSONDecodeError) -> DataError:
    rest = error.doc[error.pos :].lstrip()
    mend = "mend it"
    if error.doc.lstrip()[1:].lstrip().startswith("'"):
        mend = "it is Python's notation: write it with json.dumps"
    elif error.msg == "Extra data" and rest.startswith(","):
        mend = "leave out the commas between objects, or put brackets around them all"
    return DataError(f"{path}:{number}: malformed JSON at column {error.colno} ({error.msg}); {mend}")


def _not_json(path: Path, number: int, line: bytes) -> DataError | None:
    """What a first line that does not even begin like JSON seems to be; None if it is no text."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    what, mend = "not JSON", "write each problem as {…} on a line of its own"
    if _TABLE.match(text):
        what, mend = "a table of cells, not JSON", "write each row as {…} with its fields"
    return DataError(f"{path}:{number}: {what} ({one_line(text)!r:.60}); {mend}")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _read_parquet(path: Path, columns: Collection[str] | None) -> list[Record]:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet  # type: ignore[import-untyped]

    try:
        wanted = None if columns is None else [name for name in parquet.read_schema(path).names if name in columns]
        rows = parquet.read_table(path, columns=wanted).to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a parquet file; write it again or give another") from error
    return [Record(f"{path} row {n}", n, row) for n, row in enumerate(rows, start=1)]
