"""The grader: verdicts within a deadline, whatever a model wrote, and none that waits for an answer that hangs."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import IO, Self

from suffice.errors import GraderError
from suffice.grading.kinds import Job, Pair, at_once, verdict
from suffice.groups import Kind, Verdict

_START = 120.0  # seconds a worker may take to start on a busy machine


class Worker:
    """One child process; `pair` is what it compares now."""

    def __init__(self) -> None:
        # -P: a file in the current folder must not shadow a module of the worker
        command = [sys.executable, "-P", "-m", "suffice.grading.worker", str(os.getpid())]
        try:
            # in a process group of its own, Ctrl-C does not even reach a worker that has only begun to start
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            raise GraderError(f"cannot start the grading worker ({error}); free some memory or processes") from error
        self.pair: Pair | None = None
        try:
            said = self._answer(_START) or "it ended at once"
        except TimeoutError:
            said = f"silent for {_START:.0f} s"
        if said != "ready":
            self.kill()
            raise GraderError(f"the grading worker did not start ({said}); check `python -c 'import mpmath'`")

    @property
    def _stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def _answer(self, seconds: float) -> object:
        """What the next line says, None if the process has ended. Lines are so short that none comes in pieces."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise TimeoutError
        line = os.read(self._stdout.fileno(), 1 << 16)
        return json.loads(line) if line else None

    def equal(self, pair: Pair, deadline: float) -> bool | None:
        """Whether gold and answer are equal; None if the process has ended.

        Raises:
            TimeoutError: it takes longer than `deadline` seconds.
        """
        self.pair = pair
        with contextlib.suppress(BrokenPipeError):  # it has ended just now: its other pipe says so
            self._stdin.write(json.dumps({"gold": pair[0], "answer": pair[1]}).encode("ascii") + b"\n")
            self._stdin.flush()
        said = self._answer(deadline)
        self.pair = None
        return None if said is None else said is True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stdout.close()
        with contextlib.suppress(BrokenPipeError):  # closing flushes a job that found no reader
            self._stdin.close()


class Grader:
    """Grades answers. What takes little arithmetic is settled at once; the rest goes to processes that can be killed.

    Every worker has a thread of its own that feeds it and watches the clock, so that a hanging answer holds up none but
    itself and those that need a worker too when there is none left. A worker starts when one is needed and none is
    idle, and lives until `close` (or the end of a `with` block); on Linux it dies with the process that made it. A job
    that passes its deadline gets TIMEOUT, and its worker is killed. A worker that dies by itself (its memory is bounded
    at 2 GiB) is replaced and the job tried once more; if that dies too the verdict is TIMEOUT. Equal jobs of one call
    are compared once. Several threads may share a grader. Unix only.

    Args:
        deadline: seconds of wall clock one job may take, > 0.
        workers: processes at most, at least 1.

    Raises:
        GraderError: an argument is out of range, a worker cannot be started, or (from the grading methods) a kind is
            unknown or a gold answer is empty or no letter.
    """

    def __init__(self, deadline: float = 5.0, workers: int = 4) -> None:
        if not deadline > 0:
            raise GraderError(f"a grading deadline of {deadline} s is not above 0; 5 is usual")
        if workers < 1:
            raise GraderError(f"{workers} grading workers cannot grade; use 1 or more")
        self.deadline = deadline
        self.workers = workers
        self._forget()

    def _forget(self) -> None:
        """Begin without workers; those of a process from which this one was forked are not its own."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._closing = False
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()  # a thread's worker
        self._pool: list[Worker] = []  # all of them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a later job starts new ones. What another thread still waits for gets TIMEOUT."""
        if self._owner == os.getpid() and self._threads:
            self._closing = True
            for worker in [*self._pool]:
                worker.process.kill()
            self._threads.shutdown()
            for worker in self._pool:
                worker.kill()
        self._forget()

    def grade(self, answer: str, gold: str, kind: Kind) -> Verdict:
        """The verdict on one answer (text after the thought)."""
        return self.grade_many([(answer, gold, kind)])[0]

    def grade_many(self, jobs: Sequence[Job]) -> list[Verdict]:
        """The verdicts on `jobs`, in their order. No job runs if one is refused."""
        quick = [at_once(*job) for job in jobs]
        hard = dict.fromkeys(pair for pair in quick if not isinstance(pair, Verdict))
        begun = dict(zip(hard, self._begin(list(hard)), strict=True))
        try:
            return [first if isinstance(first, Verdict) else begun[first].result() for first in quick]
        except BaseException:  # such as Ctrl-C
            for each in begun.values():
                each.cancel()
            raise

    def _begin(self, pairs: list[Pair]) -> list[Future[Verdict]]:
        if not pairs:
            return []
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.workers, "grader")
            return [self._threads.submit(self._compare, pair) for pair in pairs]

    def _compare(self, pair: Pair) -> Verdict:
        """What the worker of this thread says, or another one if it dies."""
        for _ in range(2):
            if self._closing:
                break
            worker = self._worker()
            try:
                equal = worker.equal(pair, self.deadline)
            except TimeoutError:
                self._end(worker)
                break
            if equal is not None:
                return verdict(equal)
            self._end(worker)
        return Verdict.TIMEOUT

    def _worker(self) -> Worker:
        kept: Worker | None = getattr(self._own, "worker", None)
        if kept and kept.process.poll() is None:
            return kept
        if kept:
            self._end(kept)
        self._own.worker = Worker()
        self._pool.append(self._own.worker)
        return self._own.worker

    def _end(self, worker: Worker) -> None:
        worker.kill()
        self._pool.remove(worker)
        self._own.worker = None
