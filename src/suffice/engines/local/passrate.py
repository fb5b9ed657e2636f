"""Training problems by how often the model solves them before training.

GRPO-λ's paper (arXiv 2505.18086) trains on problems that the model to be trained solves in 2 to 6 of 8 samples: what is
always or never solved teaches little, and what is too easy lets lengths collapse. Sampling a large set takes hours, so
what is found is kept, a line a problem, in `$SUFFICE_CACHE/pass-rates/` (default `~/.cache/suffice/pass-rates/`). For a
large model sample them on a server instead (`suffice eval --base-url … --split train --samples 8`) and name the records
in `task.solved_from`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

from suffice.config import Recipe
from suffice.engines.local.engine import training_dtype
from suffice.errors import Interrupted, RecipeError
from suffice.grading import Grader
from suffice.groups import Group, Problem, Verdict
from suffice.model.load import check_positions, load_model, resolve_path, set_threads
from suffice.rollout import Chat, Sampler, grade_groups
from suffice.run.files import Journal, read_jsonl
from suffice.run.progress import progress

Stopped = Callable[[], bool]
"""Whether the user asked to stop."""

LOT = 32  # problems sampled between two writes
SHAPING = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Endings of the files of a checkpoint that decide what it says."""


def keep_solved(
    recipe: Recipe, problems: Sequence[Problem], chat: Chat, grader: Grader, stopped: Stopped = lambda: False
) -> list[Problem]:
    """The problems of which `[model]`, untrained, solves `task.solved` of `task.solved_of` samples, in order.

    Samples follow `[rollout]`. They do not depend on `run.seed`: runs that differ in it train on the same problems.

    Raises:
        RecipeError: fewer are left than a step takes, or `task.solved_from` does not count all problems.
        Interrupted: `stopped()` after a lot of problems; what was sampled is kept.
    """
    assert recipe.task.solved is not None
    low, high = recipe.task.solved
    if recipe.task.solved_from:
        solved = recorded_rates(Path(recipe.task.solved_from), problems, recipe.task.solved_of)
    else:
        solved = pass_rates(recipe, problems, chat, grader, stopped)
    kept = [problem for problem in problems if low <= solved[problem.id] <= high]
    if len(kept) < recipe.train.problems_per_step:
        rarer = sum(count < low for count in solved.values())
        raise RecipeError(
            f"task.solved = [{low}, {high}] of {recipe.task.solved_of} keeps {len(kept)} of {len(problems)} problems "
            f"({rarer} are solved less often, {len(problems) - len(kept) - rarer} more often), but "
            f"train.problems_per_step is {recipe.train.problems_per_step}; widen task.solved or give more data"
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
    recipe: Recipe, problems: Sequence[Problem], chat: Chat, grader: Grader, stopped: Stopped = lambda: False
) -> dict[str, int]:
    """How many of `task.solved_of` samples the model solves, by problem id; only what is not known yet is sampled."""
    file = cache_file(recipe, problems)
    solved = {record["id"]: record["solved"] for record in read_jsonl(file)} if file.exists() else {}
    if len(solved) == len(problems):
        return solved
    of = recipe.task.solved_of
    with Journal(file) as journal:
        solved = {record["id"]: record["solved"] for record in journal.records}
        sampler = _sampler(recipe, problems, chat)
        with progress("pass rates", len(problems) * of, done=len(solved) * of) as advance:
            for start in range(0, len(problems), LOT):
                lot = problems[start : start + LOT]
                if all(problem.id in solved for problem in lot):
                    continue
                # a lot that was cut short is sampled whole: it comes out as it would have
                groups = sampler.groups(lot, of, "pass-rate", advance=advance)
                grade_groups(groups, chat, grader)
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


def _sampler(recipe: Recipe, problems: Sequence[Problem], chat: Chat) -> Sampler:
    """A model of its own: the engine's may already be a checkpoint's."""
    section, rollout = recipe.model, recipe.rollout
    model = load_model(section.path, device=section.device, dtype=training_dtype(recipe), revision=section.revision)
    check_positions(model, chat, problems, rollout.max_thought_tokens, rollout.max_answer_tokens)
    set_threads(model, recipe.train.threads)
    return Sampler(
        model,
        chat,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        max_thought_tokens=rollout.max_thought_tokens,
        max_answer_tokens=rollout.max_answer_tokens,
        cache_gb=rollout.cache_gb,
    )


def cache_file(recipe: Recipe, problems: Sequence[Problem]) -> Path:
    """Where the pass rates of a recipe's model on these problems are kept: named by all that they depend on."""
    rollout = recipe.rollout
    decides = {
        "model": model_identity(recipe.model.path, recipe.model.revision),
        "dtype": training_dtype(recipe),
        "samples": recipe.task.solved_of,
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
