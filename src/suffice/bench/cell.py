"""The process of one cell: train it, evaluate its checkpoints, say why if that cannot be done.

Started by `suffice.bench.run` as `python -m suffice.bench.cell` with one JSON object on standard input. What it has to
say to people goes to standard error; standard output gets `{"failed": reason}` or nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import tomllib
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from suffice.config import Recipe, make_recipe
from suffice.errors import Interrupted, RunError, SufficeError
from suffice.run.files import read_json

if TYPE_CHECKING:
    from suffice.grading import Grader

STOPPED = 130
"""Exit code of a cell that was asked to stop; what it did is saved."""


def label(step: int) -> str:
    """The folder of a step's evaluation in `evaluations`."""
    return f"step-{step:06d}"


def finished(recipe: Recipe, at: tuple[int, ...], run: Path) -> bool:
    """Whether a cell's folder holds all that it is to hold.

    Raises:
        RunError: the folder is of a recipe that differs in something the folder's name does not show.
    """
    if (run / "recipe.toml").exists():
        check_same(recipe, run)
    return all((run / "evaluations" / label(step) / "summary.json").exists() for step in at)


def check_same(recipe: Recipe, run: Path) -> None:
    try:
        stored = make_recipe(tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8")))
    except (SufficeError, ValueError, OSError) as error:
        raise RunError(f"{run} was begun by another version ({error}); remove it or choose another --out") from None
    found = {"task": {"revision"}, "eval": {"revision"}}  # commits that a run finds itself
    if stored.model_dump(exclude=found) != recipe.model_dump(exclude=found):
        raise RunError(f"{run} is a run of another recipe; remove it or choose another --out")


def carry_out(recipe: Recipe, at: list[int], run: Path) -> None:
    """Train, unless step 0 (the base) is all that is asked for, then evaluate; each from where it was left."""
    from suffice.engines.local import train
    from suffice.grading import Grader
    from suffice.model.checkpoint import step_folder

    chosen = run / "chosen.json"
    if at != [0] and not (step_folder(run, at[-1]).exists() or chosen.exists()):
        train(recipe, run, resume=(run / "recipe.toml").exists())
    with Grader() as grader:
        for step in at:
            folder = run / "evaluations" / label(step)
            if not (folder / "summary.json").exists():
                evaluate_model(recipe, model_at(recipe, run, step, at[-1]), folder, grader)


def model_at(recipe: Recipe, run: Path, step: int, last: int) -> str:
    """What a cell has to show after a step: its checkpoint.

    Where a guard chose one it stands for the last step, and for those that a stopped run did not reach.
    """
    from suffice.model.checkpoint import step_folder

    if last == 0:
        return recipe.model.path
    folder, chosen = step_folder(run, step), run / "chosen.json"
    if not chosen.exists() or (step < last and folder.exists()):
        return str(folder)
    choice = read_json(chosen)
    return str(run / choice["path"]) if choice["step"] else str(choice["path"])


def evaluate_model(recipe: Recipe, path: str, folder: Path, grader: Grader) -> None:
    """Evaluate a model by the recipe's `[eval]` into a folder."""
    from suffice.engines.session import held_out_problems
    from suffice.evaluation.local import LocalSource
    from suffice.evaluation.protocol import evaluate, write_evaluation
    from suffice.evaluation.source import Sampling
    from suffice.model.load import load, set_threads

    changes: dict[str, Any] = {"path": path} if path == recipe.model.path else {"path": path, "revision": None}
    model, chat = load(recipe.model.model_copy(update=changes), recipe.rollout.inducer)
    set_threads(model, 1)
    problems = held_out_problems(recipe.eval, recipe.task, model, chat)
    protocol = Sampling.of(recipe.eval, cache_gb=recipe.rollout.cache_gb)
    found = evaluate(LocalSource(path, model, chat), problems, protocol, grader)
    write_evaluation(folder, found)
    print(f"evaluated {path}: {found.summary['seconds']:.1f} s", file=sys.stderr)


def main() -> None:
    job = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=stop_without, args=(job["parent"],), daemon=True).start()
    try:
        carry_out(make_recipe(tomllib.loads(job["recipe"])), job["at"], Path(job["run"]))
    except (Interrupted, KeyboardInterrupt):
        sys.exit(STOPPED)
    except Exception as error:  # the bench goes on without this cell and says why
        traceback.print_exc()
        reason = str(error) if isinstance(error, SufficeError) else f"{type(error).__name__}: {error}"
        print(json.dumps({"failed": reason}))
        sys.exit(1)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop_without(parent: int) -> None:
    """Ask this process to stop when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
