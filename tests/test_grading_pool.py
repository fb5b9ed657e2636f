"""Deadlines and workers: what takes long is compared where it can be killed, and holds up nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running import PATIENCE
from suffice.grading import Grader, Verdict
from suffice.grading.kinds import Job

pytestmark = pytest.mark.slow

CORRECT, WRONG, TIMEOUT = Verdict.CORRECT, Verdict.WRONG, Verdict.TIMEOUT

TOWER = r"\boxed{5^{5^{5^{5}}}}"  # late whatever the deadline
LATE = 5.0  # seconds, hundreds of times what the others take
HANGING: list[Job] = [(rf"\boxed{{5^{{5^{{5^{{5}}}}}} + {i}}}", "5", "math") for i in range(6)]


def long_job(i: int, gold: int) -> Job:
    """7^20000 has 56,147 bits: exact, and more than is computed without a worker."""
    return rf"\boxed{{7^{{20000}} + {i} - 7^{{20000}}}}", str(gold), "math"


LONG = long_job(2, 2)


@pytest.fixture
def patient() -> Iterator[Grader]:
    """For answers that must not be late, however busy the machine."""
    with Grader(deadline=PATIENCE, workers=1) as grader:
        yield grader


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it becomes true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def gone(pid: int) -> bool:
    """Whether the process ends (as a zombie has)."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    return eventually(ended)


def in_threads(ask: Callable[[int], None], numbers: range) -> list[threading.Thread]:
    threads = [threading.Thread(target=ask, args=(i,)) for i in numbers]
    for thread in threads:
        thread.start()
    return threads


# -- what hangs costs only itself


def test_a_tower_of_powers_times_out_and_the_next_answer_is_graded():
    with Grader(deadline=1.0, workers=1) as grader:
        assert grader.grade(TOWER, "5", "math") == TIMEOUT
        grader.deadline = PATIENCE
        assert grader.grade(*LONG) == CORRECT


def test_answers_that_hang_hold_up_no_other():
    """Six hang on two workers, four of them in line, while twenty others are graded one after the other."""
    done = list[Verdict]()
    with Grader(deadline=600, workers=2) as grader:
        hanging = in_threads(lambda i: done.append(grader.grade(*HANGING[i])), range(6))
        assert eventually(lambda: sum(worker.pair is not None for worker in grader._pool) == 2)
        verdicts = [grader.grade(rf"\boxed{{\sqrt{{{i * i}}} + x}}", "x + 7", "math") for i in range(20)]
        assert verdicts == [CORRECT if i == 7 else WRONG for i in range(20)]
        assert done == []
    for thread in hanging:
        thread.join()
    assert done == [TIMEOUT] * 6


def test_a_worker_that_is_left_serves_what_takes_long():
    done = list[Verdict]()
    with Grader(deadline=600, workers=3) as grader:
        hanging = in_threads(lambda i: done.append(grader.grade(*HANGING[i])), range(2))
        assert eventually(lambda: sum(worker.pair is not None for worker in grader._pool) == 2)
        assert grader.grade_many([LONG, long_job(3, 2)]) == [CORRECT, WRONG]
        assert done == []
    for thread in hanging:
        thread.join()
    assert done == [TIMEOUT, TIMEOUT]


def test_there_are_no_more_workers_than_asked_for():
    with Grader(deadline=LATE, workers=2) as grader:
        assert grader.grade_many([*HANGING[:3], LONG]) == [TIMEOUT] * 3 + [CORRECT]
        assert len(grader._pool) <= 2


@pytest.mark.parametrize("workers", [1, 3])
def test_many_jobs_keep_their_order_even_past_a_timeout(workers: int):
    jobs = [long_job(i, 3) for i in range(1, 7)]
    jobs.insert(2, (TOWER, "5", "math"))
    jobs.append(("Answer: C", "C", "choice"))
    with Grader(deadline=LATE, workers=workers) as grader:
        assert grader.grade_many(jobs) == [WRONG, WRONG, TIMEOUT, CORRECT, WRONG, WRONG, WRONG, CORRECT]
        assert grader.grade_many([]) == []


def test_threads_share_a_grader_and_get_their_own_verdicts():
    verdicts: dict[int, Verdict] = {}
    with Grader(deadline=PATIENCE, workers=2) as grader:

        def ask(i: int) -> None:
            jobs = [long_job(i, i if i % 2 else i + 1), (rf"\boxed{{\sqrt{{{i * i}}}}}", str(i), "math")]
            verdicts[i], other = grader.grade_many(jobs)
            assert other == CORRECT

        for thread in in_threads(ask, range(2, 12)):
            thread.join()
    assert verdicts == {i: CORRECT if i % 2 else WRONG for i in range(2, 12)}


# -- workers that start, stay, die and end


def test_what_takes_a_moment_needs_no_worker():
    with Grader() as grader:
        grader.grade("\\boxed{5}", "5", "math")
        grader.grade("C", "C", "choice")
        grader.grade("\\boxed{x^2+2x+1}", "(x+1)^2", "math")
        grader.grade("\\boxed{\\sin^2 x}", "1-\\cos^2 x", "math")
        assert grader._pool == []


def test_a_worker_is_kept_between_jobs_and_replaced_when_killed(patient: Grader):
    def pid() -> int:
        assert patient.grade(*LONG) == CORRECT
        return patient._pool[0].process.pid

    first = pid()
    assert pid() == first
    os.kill(first, signal.SIGKILL)
    assert pid() != first
    assert gone(first)


def test_a_worker_killed_in_the_middle_of_a_job_is_replaced_and_the_job_tried_again():
    with Grader(deadline=LATE, workers=1) as grader:
        grader.grade(*LONG)
        first = grader._pool[0].process.pid
        killer = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
        killer.start()
        verdicts = grader.grade_many([(TOWER, "5", "math"), LONG])
        killer.join()
        assert verdicts == [TIMEOUT, CORRECT]


def test_workers_that_die_change_no_verdict():
    jobs: list[Job] = [(TOWER, "5", "math"), *(long_job(i, 3) for i in range(1, 7))]
    with Grader(deadline=LATE, workers=2) as grader:
        grader.grade_many(jobs[1:])
        pids = [worker.process.pid for worker in grader._pool]
        killers = [threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)) for pid in pids]
        for killer in killers:
            killer.start()
        verdicts = grader.grade_many(jobs)
        for killer in killers:
            killer.join()
        assert verdicts == [TIMEOUT, WRONG, WRONG, CORRECT, WRONG, WRONG, WRONG]
        assert all(map(gone, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux is a worker's memory bounded")
def test_a_workers_memory_is_bounded():
    with Grader() as grader:
        assert grader.grade(*LONG) == CORRECT
        limits = Path(f"/proc/{grader._pool[0].process.pid}/limits").read_text().splitlines()
    limit = next(line for line in limits if "address space" in line)
    assert limit.split()[3] == str(2 << 30)


def test_a_worker_outlives_the_thread_that_asked_for_it(patient: Grader):
    verdicts: list[Verdict] = []
    pids = set[int]()
    for _ in range(3):
        (thread,) = in_threads(lambda _: verdicts.append(patient.grade(*LONG)), range(1))
        thread.join()
        pids |= {worker.process.pid for worker in patient._pool}
    assert verdicts == [CORRECT] * 3
    assert len(pids) == 1


def test_close_ends_the_workers_and_a_later_job_starts_new_ones(patient: Grader):
    patient.grade(*LONG)
    first = patient._pool[0].process.pid
    patient.close()
    assert gone(first)
    assert patient.grade(*LONG) == CORRECT


def test_a_forked_process_has_workers_of_its_own(patient: Grader):
    assert patient.grade(*LONG) == CORRECT
    child = os.fork()
    if not child:
        os._exit(patient.grade(*LONG) != CORRECT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert patient.grade(*LONG) == CORRECT


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a busy child that its parent died")
@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_dies_with_its_parent(busy: bool):
    script = (
        "from suffice.grading import Grader\n"
        f"grader = Grader(deadline={PATIENCE})\n"
        f"grader.grade(*{LONG!r})\n"
        "print(grader._pool[0].process.pid, flush=True)\n"
        + (f"grader.grade(r'{TOWER}', '5', 'math')" if busy else "input()")
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        time.sleep(0.5 if busy else 0)
        parent.kill()
    assert gone(worker)


def test_a_file_in_the_current_folder_does_not_shadow_the_workers_modules(tmp_path: Path):
    (tmp_path / "mpmath.py").write_text("raise SystemExit")
    (tmp_path / "script.py").write_text(f"from suffice.grading import grade_answer; print(grade_answer(*{LONG!r}))")
    command = [sys.executable, "-P", "script.py"]
    assert subprocess.check_output(command, text=True, cwd=tmp_path).strip() == "CORRECT"
