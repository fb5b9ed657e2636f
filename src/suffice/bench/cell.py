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
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from suffice.config import Recipe, load_recipe, make_recipe
from suffice.errors import Interrupted, RunError, SufficeError
from suffice.run.directory import Run
from suffice.run.layout import RECIPE, greedy, step_name

if TYPE_CHECKING:
    from suffice.bench.plan import Cell
    from suffice.grading import Grader

STOPPED = 130
"""Exit code of a cell that was asked to stop; what it did is saved."""


def label(step: int, greedily: bool = False) -> str:
    """Of the evaluation after a step."""
    return greedy(step_name(step)) if greedily else step_name(step)


def wanted(at: Sequence[int], greedily: bool) -> list[tuple[int, bool]]:
    """The evaluations of a cell: each a step, and whether it is greedy, as the last may be beside the sampled one."""
    return [(step, False) for step in at] + [(at[-1], True)] * greedily


def finished(cell: Cell, run: Run) -> bool:
    """Whether a cell's folder holds all that it is to hold.

    Raises:
        RunError: the folder is of a recipe that differs in something the folder's name does not show.
    """
    if (run.path / RECIPE).exists():
        check_same(cell.recipe, run.path)
    return all(run.is_evaluated(label(*each)) for each in wanted(cell.at, cell.greedy))


def check_same(recipe: Recipe, run: Path) -> None:
    try:
        stored = load_recipe(str(run / RECIPE))
    except SufficeError as error:
        raise RunError(f"{run} was begun by another version ({error}); remove it or choose another --out") from None
    found = {"task": {"revision"}, "eval": {"revision"}}  # commits that a run finds itself
    if stored.model_dump(exclude=found) != recipe.model_dump(exclude=found):
        raise RunError(f"{run} is a run of another recipe; remove it or choose another --out")


def train_and_evaluate(recipe: Recipe, at: Sequence[int], greedily: bool, run: Run) -> None:
    """Train, unless step 0 (the base) is all that is asked for, then evaluate; each from where it was left."""
    from suffice.engines.local import train
    from suffice.grading import Grader

    if tuple(at) != (0,) and not run.checkpoint(at[-1]).exists() and run.chosen() is None:
        train(recipe, run.path, resume=(run.path / RECIPE).exists())
    with Grader() as grader:
        for each in wanted(at, greedily):
            if not run.is_evaluated(label(*each)):
                evaluate_step(recipe, model_at(recipe.model.path, run, each[0], at[-1]), run, *each, grader)


def model_at(base: str, run: Run, step: int, last: int) -> str:
    """What a cell has to show after a step: its checkpoint.

    Where a guard chose one it stands for the last step, and for those that a stopped run did not reach.
    """
    if last == 0:
        return base
    own, chosen = run.checkpoint(step), run.chosen_checkpoint()
    return str(own if chosen is None or (step < last and own.exists()) else chosen)


def evaluate_step(recipe: Recipe, path: str, run: Run, step: int, greedily: bool, grader: Grader) -> None:
    """Evaluate the model that a cell shows after a step by the recipe's `[eval]`, or greedily once a problem."""
    from suffice.engines.session import held_out_problems
    from suffice.evaluation.evaluate import evaluate
    from suffice.evaluation.local import LocalSource
    from suffice.evaluation.source import Sampling
    from suffice.model.device import set_threads
    from suffice.model.load import load

    place: dict[str, Any] = {"path": path} if path == recipe.model.path else {"path": path, "revision": None}
    model, chat = load(recipe.model.model_copy(update=place), recipe.rollout.inducer)
    set_threads(model, 1)
    problems = held_out_problems(recipe.eval, recipe.task, model, chat)
    changes = {"temperature": 0.0, "samples": 1} if greedily else {}
    protocol = Sampling.of(recipe.eval, cache_gb=recipe.rollout.cache_gb, **changes)
    evaluate(LocalSource(path, model, chat), problems, protocol, grader, run, label(step, greedily))


def main() -> None:
    job = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=stop_without, args=(job["parent"],), daemon=True).start()
    try:
        train_and_evaluate(make_recipe(tomllib.loads(job["recipe"])), job["at"], job["greedy"], Run(Path(job["run"])))
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
