"""Progress of long work: a rich bar on a terminal, a plain line now and then elsewhere. Always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0
Advance = Callable[..., None]


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Yields `advance(n=1, note="")`, to be told of n more units done (0: work only goes on), and of what may be said
    beside the bar."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"), console=Console(stderr=True)
        ) as bar:
            task = bar.add_task(description, total=total, completed=done, note="")
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)
        return
    started = said = time.monotonic()

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, said
        done += n
        now = time.monotonic()
        if (n and done >= total) or now - said >= SECONDS_BETWEEN_LINES:
            said = now
            print(f"{description}: {done}/{total}, {now - started:.0f} s{'  ' + note if note else ''}", file=sys.stderr)

    yield advance
