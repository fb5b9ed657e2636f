"""Configurations of verl's as recipes become them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suffice.config import Recipe, load_recipe
from suffice.engines.verl import launch, translate
from suffice.groups import Problem
from suffice.model.load import load_chat


def translated(name: str, *overrides: str, gpus: int = 2, model: str = "m") -> dict[str, Any]:
    """All settings of ours by dotted name."""
    recipe = load_recipe(name, overrides)
    translate.check_recipe(recipe, gpus)
    found = translate.placed(recipe, Path("run"), model=model, prompt_tokens=20, inducer_tokens=10)
    found |= translate.free(recipe, longest=20 + found["data.max_response_length"], gpus=gpus)
    for method in translate.fixed(recipe).values():
        found |= method
    return found


def configured(*overrides: str, own: tuple[str, ...] | list[str] = ()) -> tuple[Any, Recipe]:
    """verl's whole configuration of lab-s-grpo, as it would be run."""
    pytest.importorskip("verl", reason="verl is not installed: pip install '.[verl]'")
    recipe = load_recipe("lab-s-grpo", ["cluster.gpus=2", *overrides])
    chat = load_chat(recipe.model.path, recipe.rollout.inducer)
    problems = [Problem("one", "arithmetic", "1 + 1", "2", "exact")]
    return launch.configuration(recipe, Path("run"), chat, problems, own, model="m"), recipe
