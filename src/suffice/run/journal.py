"""A log of work in progress that loses nothing written, whenever the process is killed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from suffice.errors import RunError
from suffice.run.files import disk_errors, read_jsonl


class Journal:
    """`lines` are what it holds when it is opened. Use it as a context.

    A line that a killed process left unfinished is cut off before more is appended; appended lines are on the disk when
    `append` returns; a second process that opens the same journal is refused.

    Raises:
        RunError: another process has it open, or it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> Journal:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise RunError(f"another process is writing {self.path}; wait for it, or choose another --out") from None
        self.lines = read_jsonl(self.path)
        self.file.seek(0)
        self.file.truncate(self.file.read().rfind(b"\n") + 1)
        return self

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        with disk_errors(self.path):
            self.file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
            self.file.flush()
            os.fsync(self.file.fileno())

    def __exit__(self, *error: object) -> None:
        self.file.close()
