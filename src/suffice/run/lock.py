"""One process at a time: whoever works in a run directory holds it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suffice.errors import RunError
from suffice.run.files import ASIDE, disk_errors
from suffice.run.layout import LOCK


@contextmanager
def locked(run: Path) -> Iterator[int]:
    """Holds a run directory for this process alone. The lock goes with the process, however it ends; what a process
    that was killed left half-written is removed.

    Yields the descriptor that holds the lock. Children do not inherit it, unless it is passed on to one that must hold
    the directory beyond its parent's end.

    Raises:
        RunError: another process works in it.
    """
    with disk_errors(run):
        handle = (run / LOCK).open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process works in {run}; wait for it, end it (fuser {run / LOCK}), or choose another directory"
            ) from None
        _sweep(run)
        yield handle.fileno()


def is_remnant(name: str) -> bool:
    """Whether a file of this name is what a killed process may leave behind."""
    return name == LOCK or ASIDE.fullmatch(name) is not None


def _sweep(run: Path) -> None:
    """Remove what was prepared aside and never took its place; put back what had made room for it."""
    for path in [*run.rglob(".*")]:
        found = ASIDE.fullmatch(path.name)
        if found is None or not path.exists():
            continue
        target = path.with_name(found["name"])
        if found["former"] and not target.exists():
            os.replace(path, target)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
