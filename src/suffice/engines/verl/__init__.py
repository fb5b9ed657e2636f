"""The same recipe on verl: Ray, FSDP2 and a rollout server, for one node to many.

verl's own `main_ppo` runs; this package adds agent loops that sample groups, advantage estimators that call our
methods, and a trainer that hands them whole groups. Nothing here imports verl before it is asked to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from suffice.config import Recipe
from suffice.engines import session
from suffice.engines.verl.launch import dry_run
from suffice.engines.verl.training import find, load


def train(recipe: Recipe, run: Path, overrides: Sequence[str] = (), *, resume: bool = False) -> Path:
    """Train a recipe on verl, with settings of verl's own; as `suffice.engines.session.train`."""
    return session.train(recipe, run, find=find, load=partial(load, overrides), resume=resume)


__all__ = ["dry_run", "train"]
