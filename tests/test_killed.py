"""Evaluations and trainings killed at any moment go on and end as ones that were never disturbed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.kills import contents

from running import adaptive, half_written, struck
from suffice.engines.local import train

EVAL = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "400", "--samples", "2"]
BUDGETS = ["--max-thought-tokens", "256", "--max-answer-tokens", "8"]


def suffice(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "suffice", *arguments], cwd=folder, check=True)


def records(run: Path) -> bytes:
    return (run / "evaluations" / "arithmetic" / "records.jsonl").read_bytes()


def test_an_evaluation_killed_in_the_middle_ends_with_the_records_of_an_undisturbed_one(tmp_path: Path):
    suffice(tmp_path, *EVAL, *BUDGETS, "--out", "straight")
    code, _ = struck(tmp_path, signal.SIGKILL, r"/journal/", *EVAL, *BUDGETS, "--out", "run")
    assert code == -signal.SIGKILL
    journal = tmp_path / "run" / "journal" / "arithmetic.jsonl"
    kept = journal.read_bytes()
    assert 0 < kept.count(b"\n") < 800
    journal.write_bytes(kept + b'{"problem": "torn')
    suffice(tmp_path, "eval", "--resume", "run")
    assert records(tmp_path / "run") == records(tmp_path / "straight")
    assert not journal.exists()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("straight") / "run"
    train(adaptive(), run)
    return run


@pytest.mark.parametrize(
    "flushed",
    [
        r"/\.step-000002\.\w+/trainer\.json$",  # of a checkpoint that has not taken its place
        r"/\.step-000002\.\w+/summary\.json$",  # of an evaluation that has not, before the first checkpoint
    ],
)
def test_a_training_killed_as_it_writes_ends_with_the_files_of_an_undisturbed_one(
    straight: Path, tmp_path: Path, flushed: str
):
    (tmp_path / "recipe.toml").write_bytes((straight / "recipe.toml").read_bytes())
    code, _ = struck(tmp_path, signal.SIGKILL, flushed, "train", "recipe.toml", "--out", "run")
    assert code == -signal.SIGKILL
    assert half_written(tmp_path / "run") == ["step-000002"]
    suffice(tmp_path, "train", "--resume", "run")
    assert contents(tmp_path / "run") == contents(straight)
    assert half_written(tmp_path / "run") == []
