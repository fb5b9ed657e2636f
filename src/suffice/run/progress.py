"""Progress of long work: a rich bar on a terminal, a plain line now and then elsewhere. Always on standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 9.0
GLANCE = 0.5  # seconds between looks at whether a line is due
Advance = Callable[..., None]
_under_way: list[threading.Event] = []  # works within works, the innermost last


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Yields `advance(n=1, note="")`, to be told of n more units done (0: work only goes on), and of what may be said
    beside the bar. Without a terminal the innermost work says a line every so often, also while nothing is told."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"), console=Console(stderr=True)
        ) as bar:
            task = bar.add_task(description, total=total, completed=done, note="")
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)
        return
    started = said = time.monotonic()
    told, over, one_line = "", threading.Event(), threading.Lock()

    def say_if_due(finished: bool = False) -> None:
        nonlocal said
        with one_line:
            now = time.monotonic()
            if finished or now - said >= SECONDS_BETWEEN_LINES:
                said = now
                note = f"  {told}" if told else ""
                print(f"{description}: {done}/{total}, {now - started:.0f} s{note}", file=sys.stderr)

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, told
        done, told = done + n, note
        say_if_due(finished=n > 0 and done >= total)

    def go_on() -> None:
        while not over.wait(GLANCE):
            if _under_way[-1] is over:
                say_if_due()

    _under_way.append(over)
    clock = threading.Thread(target=go_on, daemon=True)
    clock.start()
    try:
        yield advance
    finally:
        over.set()
        clock.join()
        _under_way.remove(over)
