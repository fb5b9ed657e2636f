"""The names of all that a run directory and a bench's hold. `docs/design.md` says what each is for."""

from __future__ import annotations

import re

# what was asked, and of what
RECIPE = "recipe.toml"
REQUEST = "request.json"
MANIFEST = "manifest.json"
DATA = "data.json"

# training
METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"
NON_FINITE = "non-finite.jsonl"
GUARD = "guard.jsonl"
CHOSEN = "chosen.json"
CHECKPOINTS = "checkpoints"
TRAINER = "trainer.json"
TENSORS = "trainer.tensors"
FILES = "files.json"

# what was measured
EVALUATIONS = "evaluations"
DIAGNOSES = "diagnosis"
SUMMARY = "summary.json"
RECORDS = "records.jsonl"
COMPARISON = "comparison.json"
JOURNAL = "journal"

# what is made of it
REPORT = "report.html"
PICTURE = "diagnosis.png"
EXPORT = "export"

# while a process works in it
LOCK = ".lock"

# verl
VERL = "verl"
VERL_CONFIGURATION = "verl.yaml"
VERL_LOG = "verl.log"
VERL_STOP = "stop"
TRAINING_PROBLEMS = "problems.parquet"
VALIDATION_PROBLEMS = "validation.parquet"

# trackers; wandb makes its folder itself
TENSORBOARD = "tensorboard"
TRACKIO = "trackio"
WANDB = "wandb"

# a bench
BENCH = "bench.json"
TABLE = "table.md"
DYNAMICS = "dynamics.png"
DYNAMICS_SVG = "dynamics.svg"
PARETO = "pareto.png"
RUNS = "runs"
LOGS = "logs"

BEFORE, AFTER = "before", "after"
"""Labels of the evaluations at the two ends of training; those between are called by their step."""

_STEP = re.compile(r"step-(\d+)")


def step_name(step: int) -> str:
    """`step-000100`: the folder of a checkpoint, and the label of an evaluation at it."""
    return f"step-{step:06d}"


def step_of(name: str) -> int | None:
    """The step in a name, or None if it is of no step."""
    found = _STEP.fullmatch(name)
    return int(found[1]) if found else None


def greedy(label: str) -> str:
    """The label of the greedy evaluation beside a sampled one."""
    return f"{label}-greedy"


def is_greedy(label: str) -> bool:
    return label.endswith("-greedy")


def stopped(label: str, stop: str) -> str:
    """The label of an evaluation stopped early without training, `<label>@<stop>`."""
    return f"{label}@{stop}"


def stop_in(label: str) -> str:
    """The stop in a label; empty where nothing was stopped."""
    return label.partition("@")[2]
