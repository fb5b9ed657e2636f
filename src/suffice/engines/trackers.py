"""Trackers: the figures of metrics.jsonl sent on, step by step, to what a recipe's `run.track` names.

Names are those of metrics.jsonl; evaluation figures stand under `eval/`. Nothing is tracked unless it is asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, Self

from suffice.errors import RecipeError
from suffice.extras import install_command
from suffice.run.layout import MANIFEST, TENSORBOARD, TRACKIO

PROJECT = "suffice"
Figures = Mapping[str, float]


class Tracker(Protocol):
    """One tool that takes the figures of a step, 0 being before training."""

    def log(self, step: int, figures: Figures) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `tensorboard` of the run. Steps that a resumed run does again replace what they were."""

    def __init__(self, run: Path, recipe: Mapping[str, Any], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run / TENSORBOARD), purge_step=done + 1 if done else 0)

    def log(self, step: int, figures: Figures) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Trackio:
    """A local database in `trackio` of the process's first run, unless TRACKIO_DIR names another place.

    Look at it with `TRACKIO_DIR=RUN/trackio trackio show`. Steps that a resumed run does again stand there twice.
    """

    def __init__(self, run: Path, recipe: Mapping[str, Any], done: int) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(run.resolve() / TRACKIO))  # read when trackio is imported
        import trackio

        self.run = trackio.init(PROJECT, name=run.resolve().name, config=dict(recipe), resume="allow")

    def log(self, step: int, figures: Figures) -> None:
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        self.run.finish()


class WandB:
    """A Weights & Biases run with its files in `wandb` of the run; WANDB_MODE, WANDB_PROJECT and so on hold.

    Of steps that a resumed run does again, what came first stays.
    """

    def __init__(self, run: Path, recipe: Mapping[str, Any], done: int) -> None:
        import wandb

        # the manifest says when and by which command the run was made, so it names the run, resumed or not
        identity = sha256((run / MANIFEST).read_bytes()).hexdigest()[:16]
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=run.resolve().name,
                id=identity,
                resume="allow",
                dir=str(run),
                config=dict(recipe),
            )
        except wandb.Error as error:
            cause = str(error).strip().partition("\n")[0].rstrip(".")
            raise RecipeError(
                f"wandb does not start: {cause}; mend that or set WANDB_MODE=offline, "
                f"then continue with: suffice train --resume {run}"
            ) from None

    def log(self, step: int, figures: Figures) -> None:
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        self.run.finish()


KNOWN: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WandB,
}


class Trackers:
    """Trackers by name (`run.track`), told the recipe as it is dumped; a context that closes them.

    Raises:
        RecipeError: a tracker's package is not installed.
    """

    def __init__(self, names: Sequence[str], recipe: Mapping[str, Any]) -> None:
        self.names, self.recipe = names, recipe
        self.opened: list[Tracker] = []
        for name in names:
            try:
                version(name)
            except PackageNotFoundError:
                raise RecipeError(
                    f"run.track names {name}, which is not installed; {install_command(name)}, or leave it out"
                ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for tracker in self.opened:
            tracker.close()

    def open(self, run: Path, done: int) -> None:
        """Begin in a run directory that exists, or go on after `done` steps."""
        for name in self.names:
            self.opened.append(KNOWN[name](run, self.recipe, done))

    def log(self, step: int, metrics: Figures) -> None:
        """Figures of a step, or of an evaluation at it."""
        figures = {re.sub("^eval_", "eval/", name): value for name, value in metrics.items()}
        for tracker in self.opened:
            tracker.log(step, figures)
