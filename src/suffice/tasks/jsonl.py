"""A user's own problems, from one `.jsonl` (or `.json`, `.parquet`) file.

A record has a `prompt` (or `question`, `problem`) and a `gold` (or `answer`) answer, and may have an `id`, a
`difficulty` and a `kind` (`math` unless it says `choice` or `exact`). The prompt is used as written, unless a prompt
option is asked for: where the model should put its answer is for the prompt to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suffice.errors import DataError
from suffice.groups import Problem
from suffice.tasks.records import FIELDS, checksum, read_records, to_problems


def load(path: str | None, split: str | None, fields: dict[str, str] | None, revision: str | None) -> list[Problem]:
    """The problems of the file at `path`; `split` only names those that have no id of their own.

    Args:
        fields: our field names → the file's, for those that differ; a field named here must be in every record.
    """
    mapped = fields or {}
    for name in mapped:
        if name not in FIELDS:
            raise DataError(f"fields has the unknown name {name!r}; it maps {', '.join(FIELDS)} to a file's own names")
    records = read_records(_file(path))
    for record in records:
        for name, source in mapped.items():
            if source not in record.data:
                raise DataError(f"{record.where}: no field {source!r}; correct the record, or what fields.{name} says")
    return to_problems(records, "jsonl", split, FIELDS | {name: (source,) for name, source in mapped.items()})


def locate(path: str | None, split: str | None, revision: str | None) -> dict[str, Any]:
    file = _file(path)
    return {"split": split, "path": str(file), "sha256": checksum([file])}


def _file(path: str | None) -> Path:
    if path is None:
        raise DataError("task jsonl needs the path of a problem file; set path")
    return Path(path)
