"""Files of problems as a user has them, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suffice.errors import DataError
from suffice.groups import Problem
from suffice.tasks import load_task


def write(path: Path, records: Sequence[Any]) -> str:
    """A record a line; the path as text."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def refusal(*args: Any, **options: Any) -> str:
    """The one line in which `load_task` refuses."""
    with pytest.raises(DataError) as caught:
        load_task(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


class Folder:
    """One file at a time, read as task jsonl."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mine.jsonl"

    def load(self, *records: Any, fields: dict[str, str] | None = None, prompt: str | None = None) -> list[Problem]:
        return load_task("jsonl", path=write(self.file, records), fields=fields, prompt=prompt)

    def refusal(self, *records: Any, fields: dict[str, str] | None = None) -> str:
        """What is said of the records, after the name of the file."""
        return refusal("jsonl", path=write(self.file, records), fields=fields).removeprefix(str(self.file))
