"""A user's own problems, from one `.jsonl` (or `.json`, `.parquet`) file.

A record has a `prompt` (or `question`, `problem`) and a `gold` (or `answer`) answer, and may have an `id`, a
`difficulty` and a `kind` (`math` unless it says `choice` or `exact`). The prompt is used as written: where the model
should put its answer is for the prompt to say.
"""

from __future__ import annotations

from pathlib import Path

from laconic.errors import DataError
from laconic.groups import Problem
from laconic.tasks.records import read_records, to_problems


def load(path: str | None, split: str | None, fields: dict[str, str] | None, revision: str | None) -> list[Problem]:
    """The problems of the file at `path`; `split` only names those that have no id of their own."""
    if path is None:
        raise DataError("task jsonl needs the path of a problem file; set path")
    return to_problems(read_records(Path(path)), "jsonl", split, fields)
