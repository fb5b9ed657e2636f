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
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from suffice.errors import GraderError
from suffice.grading.exact import normalise, same
from suffice.grading.extract import MAX_EXPRESSION, choice_letter, gold_expression, math_expression
from suffice.groups import Kind, Verdict

Job = tuple[str, str, Kind]
"""A model's answer (text after the thought), the gold answer, and how to compare them."""

Pair = tuple[str, str]
"""A gold answer's and an answer's normalised expression, for a worker to compare."""

_START = 120.0  # seconds a worker may take to import sympy on a busy machine
_LOT = 32  # pairs handed to a worker at once, so that it need not wait for the parent after each
_LOT_CHARACTERS = 2000  # and how long they may be together: any pipe holds their JSON, so that writing never blocks


class _Worker:
    """One child process, the pairs it still has to compare, and when the first must be done (monotonic clock)."""

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
        self.lot: deque[Pair] = deque()
        self.deadline = 0.0
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
        return next(iter(self.receive()), "it ended at once")

    def send(self, lot: Sequence[Pair]) -> None:
        self.lot.extend(lot)
        assert self.process.stdin is not None
        jobs = (json.dumps({"gold": gold, "answer": answer}) + "\n" for gold, answer in lot)
        self.process.stdin.write("".join(jobs).encode("ascii"))
        self.process.stdin.flush()

    def receive(self) -> list[object]:
        """What the lines that are waiting say; nothing if the worker is gone. Lines are so short that none is cut."""
        return [json.loads(line) for line in os.read(self.stdout.fileno(), 1 << 16).splitlines()]

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
    that dies too the verdict is TIMEOUT. Equal jobs of one call are compared once. Several threads may share a grader:
    their calls take turns. Unix only.

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
        quick = [without_algebra(*job) for job in jobs]
        pairs = dict.fromkeys(pair for pair in quick if not isinstance(pair, Verdict))
        with self._lock:
            found = self._run(list(pairs))
        return [first if isinstance(first, Verdict) else found[first] for first in quick]

    def _run(self, pairs: Sequence[Pair]) -> dict[Pair, Verdict]:
        """Spread different pairs over the workers, a lot at a time each."""
        if self._owner != os.getpid():  # forked: these workers are the parent's
            self._pool, self._owner = [], os.getpid()
        found: dict[Pair, Verdict] = {}
        waiting, fatal = list(reversed(pairs)), set[Pair]()
        try:
            while len(found) < len(pairs):
                self._hand_out(waiting)
                for worker, answers in self._collect():
                    if answers:
                        found.update((worker.lot.popleft(), _verdict(answer is True)) for answer in answers)
                        worker.deadline = time.monotonic() + self.deadline
                        continue
                    worker.kill()  # replaced when there is a lot for it
                    first, *others = worker.lot
                    worker.lot.clear()
                    waiting.extend(reversed(others))
                    if answers is None or first in fatal:
                        found[first] = Verdict.TIMEOUT
                    else:
                        fatal.add(first)
                        waiting.append(first)
        except BaseException:  # such as Ctrl-C: a late result must not be taken for the next job's
            while self._pool:
                self._pool.pop().kill()
            raise
        return found

    def _hand_out(self, waiting: list[Pair]) -> None:
        """Give each idle worker a lot from the end of `waiting`, small enough that all end at about one time."""
        for slot in range(self.workers):
            if not waiting:
                return
            if slot == len(self._pool):
                self._pool.append(_Worker())
            elif not self._pool[slot].lot and self._pool[slot].process.poll() is not None:
                self._pool[slot].kill()
                self._pool[slot] = _Worker()
            worker = self._pool[slot]
            if not worker.lot:
                worker.deadline = time.monotonic() + self.deadline
                with contextlib.suppress(BrokenPipeError):  # it died just now; `_collect` finds its pipe at an end
                    worker.send(_lot(waiting, min(_LOT, len(waiting) // (2 * self.workers))))

    def _collect(self) -> list[tuple[_Worker, list[object] | None]]:
        """Wait for answers or a deadline: workers with what they said, nothing if they died, None if they are late."""
        busy = [worker for worker in self._pool if worker.lot]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.stdout, selectors.EVENT_READ, worker)
            nearest = min(worker.deadline for worker in busy)
            ready = {key.data for key, _ in selector.select(max(0.0, nearest - time.monotonic()))}
        now = time.monotonic()
        return [
            (worker, worker.receive() if worker in ready else None)
            for worker in busy
            if worker in ready or now >= worker.deadline
        ]


def _lot(waiting: list[Pair], most: int) -> list[Pair]:
    """Take one pair from the end of `waiting`, and up to `most` as long as they are short."""
    lot = [waiting.pop()]
    room = _LOT_CHARACTERS - sum(map(len, lot[0]))
    while waiting and len(lot) < most and (room := room - sum(map(len, waiting[-1]))) >= 0:
        lot.append(waiting.pop())
    return lot


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


def without_algebra(answer: str, gold: str, kind: Kind) -> Verdict | Pair:
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
