"""The local engine: one process, a CPU or one GPU, no set-up."""

from __future__ import annotations

from pathlib import Path

from suffice.config import Recipe
from suffice.engines import session
from suffice.engines.local.loop import LocalTraining, find


def train(recipe: Recipe, run: Path, *, resume: bool = False) -> Path:
    """Train a recipe in this process; as `suffice.engines.session.train`."""
    return session.train(recipe, run, find=find, load=LocalTraining.load, resume=resume)


__all__ = ["train"]
