"""Carrying out a plan: one process a cell, so many at a time; what is done stands, what was interrupted goes on.

OUT/runs/<arm>-seed-<n>-<digest>/   a cell: a training run with an evaluation at every step of the plan
OUT/runs/base-<digest>/             the base's evaluation, as step 0
OUT/logs/<cell>.log                 what a cell's process said
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suffice.bench.cell import STOPPED, finished, label, wanted
from suffice.bench.plan import Bench, Cell
from suffice.errors import Interrupted, RunError
from suffice.run.directory import Run
from suffice.run.files import disk_errors
from suffice.run.layout import LOGS, METRICS, RUNS
from suffice.run.lock import locked
from suffice.run.progress import progress
from suffice.run.signals import stop_requests

POLL = 0.2  # seconds


def run_bench(bench: Bench, out: Path, jobs: int) -> dict[str, str]:
    """Do what is not done yet; returns why cells failed, by folder.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; every cell saved its step.
        RunError: a cell's folder is of another recipe, nothing can be written, or the base cannot be evaluated.
    """
    with disk_errors(out):
        for name in (RUNS, LOGS):
            (out / name).mkdir(parents=True, exist_ok=True)
    with locked(out):
        cells = [bench.base, *bench.cells]
        waiting = [cell for cell in cells if not finished(cell, cell.run(out))]
        failed = work_off(waiting, out, jobs) if waiting else {}
    if bench.base.folder in failed:
        raise RunError(f"the base cannot be evaluated, so there is nothing to compare: {failed[bench.base.folder]}")
    return failed


def work_off(waiting: Sequence[Cell], out: Path, jobs: int) -> dict[str, str]:
    """Run cells, `jobs` at a time."""
    todo = list(waiting)
    tracks = {cell.folder: Track(cell, cell.run(out)) for cell in todo}
    running: list[Process] = []
    failed: dict[str, str] = {}
    total = sum(track.total for track in tracks.values())
    done = sum(track.done() for track in tracks.values())
    with stop_requests() as stopped, progress("bench", total, done) as advance:
        told = False
        try:
            while running or (todo and not stopped()):
                while todo and len(running) < jobs and not stopped():
                    running.append(Process(todo.pop(0), out))
                if stopped() and not told:
                    told = True
                    for process in running:
                        process.handle.terminate()
                time.sleep(POLL)
                for process in [each for each in running if each.handle.poll() is not None]:
                    running.remove(process)
                    if reason := process.failed():
                        failed[process.cell.folder] = reason
                        print(f"bench: {process.cell.folder} failed: {reason}", file=sys.stderr)
                now = sum(track.done() for track in tracks.values())
                if now != done:
                    advance(now - done, f"{len(running)} cells running, {len(todo)} to come, {len(failed)} failed")
                    done = now
        finally:
            for process in running:
                process.handle.kill()
        if stopped():
            raise Interrupted("stopped, every cell saved; the same command goes on")
    return failed


@dataclass
class Process:
    """A cell's process. It leads a session of its own: Ctrl-C reaches the bench alone, which asks its cells to stop."""

    cell: Cell
    out: Path
    handle: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        job = {
            "recipe": self.cell.recipe.dump(),
            "at": list(self.cell.at),
            "greedy": self.cell.greedy,
            "run": str(self.cell.run(self.out).path),
            "parent": os.getpid(),
        }
        with disk_errors(self.log), self.log.open("a", encoding="utf-8") as log:
            self.handle = subprocess.Popen(
                [sys.executable, "-P", "-m", "suffice.bench.cell"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        assert self.handle.stdin is not None
        self.handle.stdin.write(json.dumps(job))
        self.handle.stdin.close()

    @property
    def log(self) -> Path:
        return self.out / LOGS / f"{self.cell.folder}.log"

    def failed(self) -> str | None:
        """Why it failed, once it has ended."""
        code = self.handle.returncode
        if code in (0, STOPPED):
            return None
        if code < 0:
            return f"killed by signal {-code}{' (out of memory?)' if code == -9 else ''}; see {self.log}"
        assert self.handle.stdout is not None
        try:
            reason: str = json.loads(self.handle.stdout.read().splitlines()[-1])["failed"]
        except (IndexError, ValueError):
            return f"its process ended with code {code}; see {self.log}"
        return reason


@dataclass(frozen=True)
class Track:
    """How far a cell is, as its folder shows it: in steps, an evaluation counting as many as make progress smooth."""

    cell: Cell
    run: Run
    worth: int = 10

    @property
    def total(self) -> int:
        return self.cell.at[-1] + self.worth * len(self.wanted)

    @property
    def wanted(self) -> list[tuple[int, bool]]:
        return wanted(self.cell.at, self.cell.greedy)

    def done(self) -> int:
        evaluated = sum(self.run.is_evaluated(label(*each)) for each in self.wanted)
        metrics = self.run.path / METRICS
        steps = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        return steps + self.worth * evaluated
