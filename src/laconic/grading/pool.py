"""The grader: verdicts within a deadline, whatever a model wrote."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from laconic.errors import GraderError
from laconic.grading.exact import normalise, same
from laconic.grading.extract import MAX_EXPRESSION, choice_letter, gold_expression, math_expression
from laconic.groups import Kind, Verdict

Job = tuple[str, str, Kind]
"""A model's answer (text after the thought), the gold answer, and how to compare them."""

_START = 120.0  # seconds a worker may take to import sympy on a busy machine


class _Worker:
    """One child process and the job it has, if any: (index, deadline on the monotonic clock, tries so far)."""

    def __init__(self) -> None:
        # -P: a file in the current folder must not shadow a module of the worker
        command = [sys.executable, "-P", "-m", "laconic.grading.worker", str(os.getpid())]
        try:
            # in a process group of its own, Ctrl-C does not even reach a worker that has only begun to start
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            raise GraderError(f"cannot start the grading worker ({error}); free some memory or processes") from error
        self.job: tuple[int, float, int] | None = None
        said = self._first_line()
        if said != "ready":
            self.kill()
            raise GraderError(f"the grading worker did not start ({said}); check `python -c 'import math_verify'`")

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _first_line(self) -> object:
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            if not selector.select(_START):
                return f"silent for {_START:.0f} s"
        return self.receive() or "it ended at once"

    def send(self, gold: str, answer: str) -> None:
        # The worker is idle and reads at once, so this does not block.
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"gold": gold, "answer": answer}).encode("ascii") + b"\n")
        self.process.stdin.flush()

    def receive(self) -> object:
        """The line that is waiting, or None if the worker is gone. A line is far shorter than an atomic pipe write."""
        line = self.stdout.readline()
        return json.loads(line) if line else None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # closing flushes a job that found no reader
            self.process.stdin.close()


class Grader:
    """Grades answers; computer algebra runs in worker processes that are killed when they pass the deadline.

    Workers start at the first job that needs them and live until `close` (or the end of a `with` block); on Linux they
    die with the process that made them. A job that passes its deadline gets TIMEOUT, and its worker is killed and
    replaced. A worker that dies by itself (its memory is bounded at 2 GiB) is replaced and the job tried once more; if
    that dies too the verdict is TIMEOUT. Several threads may share a grader: their calls take turns. Unix only.

    Args:
        deadline: seconds of wall clock one job may take, > 0.
        workers: processes, at least 1.

    Raises:
        GraderError: an argument is out of range, a worker cannot be started, or (from the grading methods) a kind is
            unknown or a gold answer is empty or no letter.
    """

    def __init__(self, deadline: float = 5.0, workers: int = 1) -> None:
        if not deadline > 0:
            raise GraderError(f"a grading deadline of {deadline} s is not above 0; 5 is usual")
        if workers < 1:
            raise GraderError(f"{workers} grading workers cannot grade; use 1 or more")
        self.deadline = deadline
        self.workers = workers
        self._pool: list[_Worker] = []
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a later job starts new ones."""
        with self._lock:
            if self._owner == os.getpid():
                for worker in self._pool:
                    worker.kill()
            self._pool = []

    def grade(self, answer: str, gold: str, kind: Kind) -> Verdict:
        """The verdict on one answer (text after the thought)."""
        return self.grade_many([(answer, gold, kind)])[0]

    def grade_many(self, jobs: Sequence[Job]) -> list[Verdict]:
        """The verdicts on `jobs`, in their order. No job runs if one is refused."""
        quick = [_without_algebra(*job) for job in jobs]
        hard = {index: pair for index, pair in enumerate(quick) if not isinstance(pair, Verdict)}
        with self._lock:
            found = self._run(hard)
        return [first if isinstance(first, Verdict) else found[index] for index, first in enumerate(quick)]

    def _run(self, jobs: dict[int, tuple[str, str]]) -> dict[int, Verdict]:
        """Spread jobs (index → gold and answer expression) over the workers, one at a time each."""
        if self._owner != os.getpid():  # forked: these workers are the parent's
            self._pool, self._owner = [], os.getpid()
        found: dict[int, Verdict] = {}
        waiting = [(index, 0) for index in reversed(jobs)]
        try:
            while len(found) < len(jobs):
                self._hand_out(waiting, jobs)
                for index, tries, result in self._collect():
                    if result is None and tries == 0:
                        waiting.append((index, 1))
                    else:
                        found[index] = result or Verdict.TIMEOUT
        except BaseException:  # such as Ctrl-C: a late result must not be taken for the next job's
            while self._pool:
                self._pool.pop().kill()
            raise
        return found

    def _hand_out(self, waiting: list[tuple[int, int]], jobs: dict[int, tuple[str, str]]) -> None:
        for slot in range(self.workers):
            if not waiting:
                return
            if slot == len(self._pool):
                self._pool.append(_Worker())
            elif self._pool[slot].job is None and self._pool[slot].process.poll() is not None:
                self._pool[slot].kill()
                self._pool[slot] = _Worker()
            worker = self._pool[slot]
            if worker.job is None:
                index, tries = waiting.pop()
                worker.job = (index, time.monotonic() + self.deadline, tries)
                try:
                    worker.send(*jobs[index])
                except BrokenPipeError:
                    continue  # it died just now; `_collect` finds its pipe at an end

    def _collect(self) -> list[tuple[int, int, Verdict | None]]:
        """Wait for a result or a deadline: (index, tries so far, verdict or None if the worker died)."""
        results: list[tuple[int, int, Verdict | None]] = []
        busy = [(slot, *worker.job) for slot, worker in enumerate(self._pool) if worker.job is not None]
        with selectors.DefaultSelector() as selector:
            for slot, *_ in busy:
                selector.register(self._pool[slot].stdout, selectors.EVENT_READ, slot)
            nearest = min(deadline for _, _, deadline, _ in busy)
            ready = {key.data for key, _ in selector.select(max(0.0, nearest - time.monotonic()))}
        now = time.monotonic()
        for slot, index, deadline, tries in busy:
            worker = self._pool[slot]
            if slot in ready:
                said = worker.receive()
                results.append((index, tries, None if said is None else _verdict(said is True)))
            elif now >= deadline:
                said = None
                results.append((index, tries, Verdict.TIMEOUT))
            else:
                continue
            worker.job = None
            if said is None:
                worker.kill()  # replaced when there is a job for it
        return results


def _verdict(correct: bool) -> Verdict:
    return Verdict.CORRECT if correct else Verdict.WRONG


def read_gold(gold: str, kind: Kind) -> str:
    """What answers are compared with: words, a letter, or a normalised expression.

    Raises:
        GraderError: the kind is unknown, or the gold answer is not of it.
    """
    if not gold.strip():
        raise GraderError("a gold answer is empty; remove the problem or give its answer")
    if kind == "exact":
        return gold
    if kind == "choice":
        letter = choice_letter(gold)
        if letter is None or letter not in "ABCDEFGHIJ":
            raise GraderError(f"gold answer {gold[:40]!r} is not a letter from A to J; use another kind")
        return letter
    if kind != "math":
        raise GraderError(f"kind {kind!r} is unknown; use math, choice or exact")
    expression = normalise(gold_expression(gold))
    if not expression:
        raise GraderError(f"gold answer {gold[:40]!r} holds no expression; give its answer")
    if len(expression) > MAX_EXPRESSION:
        raise GraderError(f"gold answer {gold[:40]!r}… is longer than {MAX_EXPRESSION} characters; use kind exact")
    return expression


def _without_algebra(answer: str, gold: str, kind: Kind) -> Verdict | tuple[str, str]:
    """The verdict if strings and fractions decide, else the gold's and the answer's normalised expression."""
    right = read_gold(gold, kind)
    if kind == "exact":
        words = answer.split()
        return _verdict(words == right.split()) if words else Verdict.UNPARSED
    if kind == "choice":
        chosen = choice_letter(answer)
        return Verdict.UNPARSED if chosen is None else _verdict(chosen == right)
    expression = math_expression(answer)
    if expression is None or not (given := normalise(expression)):
        return Verdict.UNPARSED
    equal = same(right, given)
    return (right, given) if equal is None else _verdict(equal)
