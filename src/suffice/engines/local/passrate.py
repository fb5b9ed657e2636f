"""Training problems by how often the model solves them before training.

GRPO-λ's paper (arXiv 2505.18086) trains on problems that the model to be trained solves in 2 to 6 of 8 samples: what is
always or never solved teaches little, and what is too easy lets lengths collapse. Sampling a large set takes hours, so
what is found is kept, a line a problem, in `$SUFFICE_CACHE/pass-rates/` (default `~/.cache/suffice/pass-rates/`). For a
large model sample them on a server instead (`suffice eval --base-url … --split train --samples 8`) and name the records
in `task.solved_from`: what would take this sampler more than an hour is refused.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from suffice.config import ModelSection, Recipe, RolloutSection, TaskSection
from suffice.devices import Device, device_for, gpus_here
from suffice.engines.policy import training_dtype
from suffice.errors import Interrupted, ModelError, RecipeError
from suffice.estimate import estimate
from suffice.grading import Grader
from suffice.groups import Group, Problem, Verdict
from suffice.model.resolve import resolve_path
from suffice.model.shape import Shape, shape_of
from suffice.rollout import Sampler, grade_groups
from suffice.run.files import read_jsonl
from suffice.run.journal import Journal
from suffice.run.progress import progress

Stopped = Callable[[], bool]
"""Whether the user asked to stop."""

PATIENCE = 1.0  # hours, as they are estimated, of sampling before the first step
LOT = 32  # problems sampled between two writes
SHAPING = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Endings of the files of a checkpoint that decide what it says."""


def place_of(section: ModelSection) -> tuple[Shape, Device] | None:
    """A model's shape, and the device that it would run on here; None for a kind of model that is not estimated."""
    try:
        shape = shape_of(resolve_path(section.path), section.revision)
    except ModelError:
        return None
    return shape, device_for(gpus_here(), shape)


def check_patience(recipe: Recipe, file: Path, problems: Sequence[Problem]) -> None:
    """
    Args:
        file: `cache_file`, whose problems are known already.

    Raises:
        RecipeError: what is left to sample would take hours, by the estimate.
    """
    known = sum(1 for _ in read_jsonl(file)) if file.exists() else 0
    left, of = len(problems) - known, recipe.task.solved_of
    if (place := place_of(recipe.model)) is None:
        return
    (shape, device), asked = place, recipe.model_copy(deep=True)

    def hours(limit: int) -> float:
        asked.task.limit = limit
        return estimate(asked, shape, device).hours_pass_rates or 0.0

    if left and hours(left) > PATIENCE:
        fewer = bisect_right(range(1, left), PATIENCE, key=hours)
        lower = f", or set task.limit to {fewer:,} or fewer" if fewer >= recipe.train.problems_per_step else ""
        raise RecipeError(
            f"task.solved would first sample {left:,} problems {of} times here, about {hours(left):,.0f} hours on one "
            f"{device.name}: sample them on a server and name the records in task.solved_from (suffice eval --base-url "
            f"… --split train --samples {of}){lower}"
        )


def keep_solved(problems: Sequence[Problem], solved: Mapping[str, int], task: TaskSection, least: int) -> list[Problem]:
    """The problems that are solved as often as `task.solved` says, in order.

    Args:
        solved: how many of `task.solved_of` samples are right, by problem id.
        least: problems that a step takes.

    Raises:
        RecipeError: fewer are left.
    """
    assert task.solved is not None
    low, high = task.solved
    kept = [problem for problem in problems if low <= solved[problem.id] <= high]
    if len(kept) < least:
        rarer = sum(count < low for count in solved.values())
        raise RecipeError(
            f"task.solved = [{low}, {high}] of {task.solved_of} keeps {len(kept)} of {len(problems)} problems "
            f"({rarer} are solved less often, {len(problems) - len(kept) - rarer} more often), but "
            f"train.problems_per_step is {least}; widen task.solved or give more data"
        )
    return kept


def recorded_rates(path: Path, problems: Sequence[Problem], of: int) -> dict[str, int]:
    """How many of `of` samples an evaluation found CORRECT, by problem id.

    Raises:
        RecipeError: a problem was not sampled so often.
    """
    verdicts: dict[str, list[str]] = {}
    for record in read_jsonl(path):
        verdicts.setdefault(record["problem"], []).append(record["verdict"])
    short = [problem.id for problem in problems if len(verdicts.get(problem.id, [])) != of]
    if short:
        raise RecipeError(
            f"{path} does not hold {of} samples of {len(short)} of {len(problems)} problems, such as {short[0]}; "
            f"evaluate the same problems: suffice eval --split train --samples {of}, --problems as task.limit, "
            "--seed as run.seed"
        )
    return {problem.id: verdicts[problem.id].count(Verdict.CORRECT) for problem in problems}


def pass_rates(
    file: Path,
    problems: Sequence[Problem],
    of: int,
    sampler: Callable[[], Sampler],
    grader: Grader,
    stopped: Stopped = lambda: False,
) -> dict[str, int]:
    """How many of `of` samples are CORRECT, by problem id: what the file does not know yet is sampled, and kept there.

    Args:
        file: `cache_file`.
        sampler: called only where something is to be sampled. Samples do not depend on `run.seed`: runs that differ in
            it train on the same problems.

    Raises:
        Interrupted: `stopped()` after a lot of problems; what was sampled is kept.
    """
    solved = {record["id"]: record["solved"] for record in read_jsonl(file)} if file.exists() else {}
    if len(solved) == len(problems):
        return solved
    with Journal(file) as journal:
        solved = {record["id"]: record["solved"] for record in journal.lines}
        source = sampler()
        with progress("pass rates", len(problems) * of, done=len(solved) * of) as advance:
            source.count.told = lambda: advance(0, f"{source.count.decode:,} tokens sampled")
            for start in range(0, len(problems), LOT):
                lot = problems[start : start + LOT]
                if all(problem.id in solved for problem in lot):
                    continue
                # a lot that was cut short is sampled whole: it comes out as it would have
                groups = source.groups(lot, of, "pass-rate", advance=advance)
                grade_groups(groups, source.chat, grader)
                found = {g.problem.id: _solved(g) for g in groups if g.problem.id not in solved}
                journal.append({"id": name, "solved": count, "of": of} for name, count in found.items())
                solved |= found
                if stopped() and len(solved) < len(problems):
                    raise Interrupted(
                        f"stopped after the pass rates of {len(solved)} of {len(problems)} problems, which are kept; "
                        "give the same command again to go on"
                    )
    return solved


def _solved(group: Group) -> int:
    return sum(spine.verdict == Verdict.CORRECT for spine in group.spines)


def cache_file(model: ModelSection, rollout: RolloutSection, problems: Sequence[Problem], of: int) -> Path:
    """Where the pass rates of a model on these problems, by `of` samples, are kept: named by all they depend on."""
    decides = {
        "model": model_identity(model.path, model.revision),
        "dtype": training_dtype(model),
        "samples": of,
        **{
            name: getattr(rollout, name) for name in ("temperature", "top_p", "max_thought_tokens", "max_answer_tokens")
        },
        "problems": [(problem.id, problem.prompt, problem.gold, problem.kind) for problem in problems],
    }
    name = blake2b(json.dumps(decides).encode(), digest_size=16).hexdigest()
    folder = Path(os.environ.get("SUFFICE_CACHE") or Path.home() / ".cache" / "suffice")
    return folder / "pass-rates" / f"{name}.jsonl"


def model_identity(path: str, revision: str | None) -> str:
    """A digest of a checkpoint folder's files, or the hub id with the commit of its downloaded files."""
    folder = Path(resolve_path(path))
    if not folder.exists():
        from huggingface_hub import hf_hub_download

        snapshot = Path(hf_hub_download(path, "config.json", revision=revision)).parent
        return f"{path}@{snapshot.name}"
    digest = blake2b()
    for file in sorted(file for file in folder.iterdir() if file.suffix in SHAPING and file.is_file()):
        digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
