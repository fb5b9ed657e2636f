"""Evaluations and trainings killed at any moment go on and end as ones that were never disturbed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from benchmarks.kills import contents, half_written

from suffice.engines.local import train
from test_checkpoint import recipe

EVAL = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "400", "--samples", "2"]
BUDGETS = ["--max-thought-tokens", "256", "--max-answer-tokens", "8"]


def records(run: Path) -> bytes:
    return (run / "evaluations" / "arithmetic" / "records.jsonl").read_bytes()


def test_an_evaluation_killed_in_the_middle_ends_with_the_records_of_an_undisturbed_one(tmp_path: Path):
    suffice = [sys.executable, "-m", "suffice"]
    subprocess.run([*suffice, *EVAL, *BUDGETS, "--out", "straight"], cwd=tmp_path, check=True)
    journal = tmp_path / "run" / "journal" / "arithmetic.jsonl"
    with subprocess.Popen([*suffice, *EVAL, *BUDGETS, "--out", "run"], cwd=tmp_path) as process:
        while not (journal.exists() and journal.stat().st_size):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    journal.write_bytes(journal.read_bytes() + b'{"problem": "torn')
    subprocess.run([*suffice, "eval", "--resume", "run"], cwd=tmp_path, check=True)
    assert records(tmp_path / "run") == records(tmp_path / "straight")
    assert not journal.exists()


def test_a_training_killed_as_it_saves_ends_with_the_files_of_an_undisturbed_one(tmp_path: Path):
    torch.set_num_threads(1)
    straight, run = tmp_path / "straight", tmp_path / "run"
    train(recipe(), straight)
    (tmp_path / "recipe.toml").write_text((straight / "recipe.toml").read_text())
    suffice = [sys.executable, "-m", "suffice", "train"]
    with subprocess.Popen([*suffice, "recipe.toml", "--out", "run"], cwd=tmp_path) as process:
        while not [*run.glob("checkpoints/.step-*")]:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    subprocess.run([*suffice, "--resume", "run"], cwd=tmp_path, check=True)
    assert contents(run) == contents(straight)
    assert not half_written(run)
