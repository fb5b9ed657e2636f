"""Trainings of seconds, and the command line in a process of its own that a signal meets at a known moment."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from suffice.config import Recipe, load_recipe

PATIENCE = 600  # seconds, after which something hangs, however busy the machine


def small(**changes: object) -> Recipe:
    """S-GRPO, two steps that are both saved; changes are written `train__steps=3`."""
    chosen = {
        "train.steps": 2,
        "train.checkpoint_every": 1,
        "train.problems_per_step": 2,
        "train.learning_rate": 1e-2,
        "group.exits": 2,
        "rollout.max_thought_tokens": 32,
        "rollout.max_answer_tokens": 4,
        "eval.problems": 8,
        "eval.samples": 2,
    } | {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe("lab-s-grpo", [f"{key}={value}" for key, value in chosen.items()])


def adaptive() -> Recipe:
    """GRPO-λ with a controller that keeps state, four steps, saved and evaluated after two and four."""
    chosen = {
        "train.steps": 4,
        "train.checkpoint_every": 2,
        "train.eval_every": 2,
        "train.problems_per_step": 4,
        "group.spines": 4,
        "method.lam": "adaptive",
        "rollout.max_thought_tokens": 96,
        "eval.problems": 4,
        "eval.samples": 1,
    }
    return load_recipe("lab-grpo-lambda", [f"{key}={value}" for key, value in chosen.items()])


# What a process does cannot be met by looking at its files from outside: on a busy machine it is over before the next
# look. So it sends the signal itself, as soon as what it wrote last is on the disk.
STRUCK = """
import os, re, sys
from suffice.cli import main

number, pattern, sys.argv[:] = int(sys.argv[1]), sys.argv[2], ["suffice", *sys.argv[3:]]
flush = os.fsync

def strike(handle):
    flush(handle)
    if re.search(pattern, os.readlink(f"/proc/self/fd/{handle}")):
        os.fsync = flush
        os.killpg(0, number)

os.fsync = strike
main()
"""


def struck(folder: Path, number: signal.Signals, pattern: str, *arguments: str, **options: Any) -> tuple[int, str]:
    """The command line in `folder`, in a process group that gets signal `number` as a terminal sends it, once the first
    file whose path matches `pattern` has been flushed to the disk. Returns exit code and standard error."""
    command = [sys.executable, "-c", STRUCK, str(int(number)), pattern, *arguments]
    done = subprocess.run(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True, check=False, **options
    )
    return done.returncode, done.stderr


def half_written(run: Path) -> list[str]:
    """What a run has prepared aside and not put into its place, without its random endings."""
    found = (re.fullmatch(r"\.(.+)\.[0-9a-f]{8}", path.name) for path in run.rglob(".*"))
    return sorted(each[1] for each in found if each)
