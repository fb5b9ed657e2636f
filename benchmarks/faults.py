"""A training on a failing machine: no space, no right to write, signals, a jumping clock, a rival, killed graders.

    python -m benchmarks.faults [--times 20] [--json] [--record]

What is asked each time: the command ends with one line and the exit code that is meant, what was saved before is as it
was, and once the fault is mended `suffice train --resume` ends, file for file, as a run that met no fault. Disks that
are full or read-only are small ones mounted for the purpose, which takes the right to mount.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.fuzz import Ended, within
from benchmarks.kills import contents
from benchmarks.record import Json, Record, publish
from suffice.grading import Grader
from suffice.model.checkpoint import damage
from suffice.run.directory import Run

SMALL = {
    "train.steps": 4,
    "train.checkpoint_every": 1,
    "train.eval_every": 2,
    "train.problems_per_step": 4,
    "group.spines": 4,
    "method.lam": "adaptive",
    "rollout.max_thought_tokens": 96,
    "eval.problems": 4,
    "eval.samples": 1,
}
BEGIN = ["train", "lab-grpo-lambda", *(word for key, value in SMALL.items() for word in ("--set", f"{key}={value}"))]
RESUME = ["train", "--resume", "run"]
ROOM = 16 << 20  # bytes of a small disk

# Every look at the wall clock is up to a day away from the last; clocks that only go forward are left alone.
JUMPING = """
import random, time
true, draw = time.time, random.Random(0)
time.time = lambda: true() + draw.uniform(-86400, 86400)
"""


def main(times: int = 20, as_json: Json = False, record: Record = False) -> None:
    publish("faults", cases(times), as_json=as_json, record=record)


def cases(times: int) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        assert within(folder, [*BEGIN, "--out", "run"]).code == 0
        whole = folder / "run"
        size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        yield {"case": "disk full"} | full_disk(times, whole, size)
        yield {"case": "disk read-only"} | read_only(whole)
        for number in (signal.SIGINT, signal.SIGTERM):
            yield {"case": number.name} | signalled(times, whole, number)
        yield {"case": "clock jumps"} | jumping(whole)
        yield {"case": "two processes"} | rivals(whole)
    yield {"case": "grader killed"} | graders_killed(times)


def told(times: int, met: int, one_line: int, intact: int, exact: int) -> dict[str, Any]:
    """`met`: how often the fault came before the command had ended."""
    return {"times": times, "met": met, "one_line_and_code": one_line, "saved_before_intact": intact, "exact": exact}


@contextmanager
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


def intact(run: Path) -> bool:
    """Every checkpoint that is there is good."""
    return all(damage(path) is None for path in run.glob("checkpoints/step-*"))


def full_disk(times: int, whole: Path, size: int) -> dict[str, Any]:
    """Ballast leaves a random part of what a run needs."""
    draw, counts = random.Random(0), [0, 0, 0, 0]
    for _ in range(times):
        with small_disk() as disk:
            (disk / "ballast").write_bytes(b"\1" * (ROOM - draw.randrange(size)))
            ended = within(disk, [*BEGIN, "--out", "run"])
            counts[0] += ended.code != 0
            counts[1] += ended.refused and "free space" in ended.error
            counts[2] += intact(disk / "run")
            (disk / "ballast").unlink()
            begun = (disk / "run" / "recipe.toml").exists()
            again = within(disk, RESUME if begun else [*BEGIN, "--out", "run"])
            counts[3] += again.code == 0 and contents(disk / "run") == contents(whole)
    return told(times, *counts)


def read_only(whole: Path) -> dict[str, Any]:
    with small_disk() as disk:
        begin_until(disk, signal.SIGKILL, lines=2)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ended = within(disk, RESUME)
        saved = intact(disk / "run")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        again = within(disk, RESUME)
        exact = again.code == 0 and contents(disk / "run") == contents(whole)
    return told(1, 1, int(ended.refused), int(saved), int(exact))


def begin_until(folder: Path, number: signal.Signals, lines: int, delay: float = 0.0) -> Ended:
    """A run that gets a signal once its log has so many lines, and a little later."""
    command = [sys.executable, "-m", "suffice", *BEGIN, "--out", "run"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(Run(folder / "run").metrics()) < lines:
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(number)
        _, said = process.communicate()
    return Ended("train", process.returncode, said)


def signalled(times: int, whole: Path, number: signal.Signals) -> dict[str, Any]:
    draw, counts = random.Random(int(number)), [0, 0, 0, 0]
    for _ in range(times):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            ended = begin_until(folder, number, lines=draw.randrange(1, 4), delay=draw.uniform(0, 0.2))
            counts[0] += ended.code != 0
            said = ended.error.splitlines()[-1]
            stopped = ended.code == 130 and "suffice train --resume run" in said
            counts[1] += (stopped or ended.code == 0) and "Traceback" not in ended.error
            counts[2] += intact(folder / "run")
            # a step that ended the run early was saved beside those that the recipe saves; it saves every one
            again = within(folder, RESUME)
            counts[3] += again.code == 0 and contents(folder / "run") == contents(whole)
    return told(times, *counts)


def jumping(whole: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "sitecustomize.py").write_text(JUMPING)
        command = [sys.executable, "-m", "suffice", *BEGIN, "--out", "run"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([place, os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False)
        run = Path(place) / "run"
        return told(1, 1, int(done.returncode == 0), int(intact(run)), int(contents(run) == contents(whole)))


def rivals(whole: Path) -> dict[str, Any]:
    """Two processes resume one run at the same moment: one does, the other says that it may not."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        begin_until(folder, signal.SIGKILL, lines=1)
        command = [sys.executable, "-m", "suffice", *RESUME]
        both = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        ended = [Ended("train", process.returncode, said) for process in both for said in [process.communicate()[1]]]
        refused = [each for each in ended if each.refused and "another process works in run" in each.error]
        one_each = len(refused) == 1 and sorted(each.code for each in ended) == [0, 2]
        run = folder / "run"
        return told(1, len(refused), int(one_each), int(intact(run)), int(contents(run) == contents(whole)))


def graders_killed(times: int) -> dict[str, Any]:
    """A worker killed up to three times while it compares: the verdicts are those of one left in peace."""
    jobs = [(f"\\boxed{{7^{{20000}} + {i % 97}}}", f"7^{{20000}} + {i % 89}", "math") for i in range(400)]
    with Grader() as grader:
        expected = grader.grade_many(jobs)
    exact = met = 0
    for _ in range(times):
        with Grader() as grader:
            ended = threading.Event()
            killed: list[int] = []
            killer = threading.Thread(target=kill_workers, args=(grader, ended, killed))
            killer.start()
            exact += grader.grade_many(jobs) == expected
            ended.set()
            killer.join()
        met += len(killed) == 3
    return told(times, met, exact, exact, exact)


def kill_workers(grader: Grader, ended: threading.Event, killed: list[int]) -> None:
    """No answer is struck twice: one that two workers died of is taken for the cause, and is a TIMEOUT."""
    struck = set[Any]()
    while len(killed) < 3 and not ended.wait(0.1):
        for worker in [*grader._pool]:
            with suppress(ProcessLookupError):  # it moves on while we look
                pair = worker.pair
                if pair and pair not in struck:
                    os.kill(worker.process.pid, signal.SIGKILL)
                    killed.append(worker.process.pid)
                    struck.add(pair)


if __name__ == "__main__":
    typer.run(main)
