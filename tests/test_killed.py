"""An evaluation killed at any moment goes on and ends as one that was never disturbed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

EVAL = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "400", "--samples", "2"]
BUDGETS = ["--max-thought-tokens", "256", "--max-answer-tokens", "8"]


def records(run: Path) -> bytes:
    return (run / "evaluations" / "arithmetic" / "records.jsonl").read_bytes()


def test_an_evaluation_killed_in_the_middle_ends_with_the_records_of_an_undisturbed_one(tmp_path: Path):
    laconic = [sys.executable, "-m", "laconic"]
    subprocess.run([*laconic, *EVAL, *BUDGETS, "--out", "straight"], cwd=tmp_path, check=True)
    journal = tmp_path / "run" / "journal" / "arithmetic.jsonl"
    with subprocess.Popen([*laconic, *EVAL, *BUDGETS, "--out", "run"], cwd=tmp_path) as process:
        while not (journal.exists() and journal.stat().st_size):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    journal.write_bytes(journal.read_bytes() + b'{"problem": "torn')
    subprocess.run([*laconic, "eval", "--resume", "run"], cwd=tmp_path, check=True)
    assert records(tmp_path / "run") == records(tmp_path / "straight")
    assert not journal.exists()
