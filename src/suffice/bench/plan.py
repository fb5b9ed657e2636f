"""A plan: which arms are trained with which seeds, and how all of them are evaluated.

A plan is a TOML file; `resolve` turns it into cells, one an arm and seed, each a complete recipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import gcd
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from suffice.config import (
    Recipe,
    Section,
    Table,
    explain,
    load_recipe,
    make_recipe,
    packaged,
    parse_override,
    read_table,
    recipe_names,
    recipe_table,
    with_keys,
)
from suffice.errors import RecipeError
from suffice.methods import get_method, registry
from suffice.run.directory import Run
from suffice.run.layout import RUNS

OWN = {
    "run.seed": "seeds",
    "run.dir": "--out",
    "train.eval_every": "evaluate.at",
    "train.checkpoint_every": "evaluate.at",
    "train.threads": "--jobs",
}
"""Recipe keys that the bench itself sets, and what decides them."""

PLANS = files("suffice") / "bench" / "plans"


class EvaluateSection(Section):
    """How every checkpoint is sampled; what is left out is the recipe's, temperature and top_p are 1."""

    task: str | None = None
    path: str | None = None
    split: str | None = None
    problems: int | None = Field(None, ge=2)
    samples: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_thought_tokens: int | None = Field(None, ge=1)
    max_answer_tokens: int | None = Field(None, ge=1)
    seed: int | None = None
    at: list[int] | None = Field(
        None, min_length=1, description="Steps to evaluate after, beside the last; default: the recipe's checkpoints."
    )

    greedy: bool = Field(False, description="Also the base and the last step with one greedy sample a problem.")

    @field_validator("at")
    @classmethod
    def _at_are_steps(cls, at: list[int] | None) -> list[int] | None:
        if at is not None and (min(at) < 1 or at != sorted(set(at))):
            raise ValueError("steps from 1 on, each once and in order")
        return at


def check_seeds(seeds: list[int]) -> list[int]:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError("different numbers from 0 on, at least one")
    return seeds


class Arm(Section):
    """One way to train. `method` alone takes the packaged recipe of that method for the plan's model and task."""

    name: str = Field(min_length=1)
    method: str | None = None
    recipe: str | None = None
    seeds: list[int] | None = Field(None, description="Default: the plan's.")
    set: Table = Field({})

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int] | None) -> list[int] | None:
        return None if seeds is None else check_seeds(seeds)


class Plan(Section):
    """What a plan file says. Recipes are named as `suffice train` takes them; `set` holds `section.key = value`."""

    recipe: str
    seeds: list[int] = Field([0])
    set: Table = Field({})
    evaluate: EvaluateSection = EvaluateSection()
    arm: list[Arm] = Field(min_length=1)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        return check_seeds(seeds)

    @field_validator("arm")
    @classmethod
    def _arms_differ(cls, arms: list[Arm]) -> list[Arm]:
        names = [arm.name for arm in arms]
        if len(set(names)) < len(names):
            raise ValueError("arms whose names differ")
        return arms


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm with one seed, trained and then evaluated `at` these steps, if `greedy` after the last greedily too;
    without an arm the base, evaluated alone."""

    arm: str | None
    recipe: Recipe
    at: tuple[int, ...]
    greedy: bool
    folder: str

    @property
    def seed(self) -> int:
        return self.recipe.run.seed

    def run(self, out: Path) -> Run:
        """Its run in the directory of the bench."""
        return Run(out / RUNS / self.folder)


@dataclass(frozen=True, slots=True)
class Bench:
    """A plan with every recipe resolved."""

    plan: Plan
    base: Cell
    cells: tuple[Cell, ...]


def plan_names() -> list[str]:
    """Plans that ship with the package."""
    return packaged(PLANS)


def load_plan(name_or_path: str) -> Plan:
    """A plan by path or packaged name.

    Raises:
        RecipeError: no such plan, malformed TOML, unknown key, or a value out of range.
    """
    if name_or_path in recipe_names() and not os.path.isfile(name_or_path):
        raise RecipeError(f"{name_or_path} is a recipe; say what to compare: suffice bench {name_or_path} --methods …")
    return make_plan(read_table(name_or_path, "plan", PLANS))


def methods_plan(recipe: str, methods: Sequence[str]) -> Plan:
    """The plan that compares methods on the model and task of one recipe.

    Raises:
        RecipeError: it is a plan's name.
    """
    if recipe in plan_names() and not os.path.isfile(recipe):
        raise RecipeError(f"{recipe} is a plan, which names its methods; leave --methods out, or give a recipe")
    return make_plan({"recipe": recipe, "arm": [{"name": method, "method": method} for method in methods]})


def make_plan(table: Table) -> Plan:
    """
    Raises:
        RecipeError: unknown key, or a value out of range.
    """
    try:
        return Plan.model_validate(table)
    except ValidationError as error:
        raise RecipeError(explain(error, Plan)) from None


def with_overrides(plan: Plan, overrides: Sequence[str]) -> Plan:
    """The plan with `section.key=value` put over what all arms share."""
    return plan.model_copy(update={"set": dict(flat(plan.set)) | dict(map(parse_override, overrides))})


def with_seeds(plan: Plan, seeds: list[int]) -> Plan:
    """The plan with these seeds for every arm."""
    arms = [arm.model_dump(exclude={"seeds"}, exclude_none=True) for arm in plan.arm]
    return make_plan(plan.model_dump(exclude_none=True) | {"seeds": seeds, "arm": arms})


def resolve(plan: Plan) -> Bench:
    """Every recipe of a plan, checked.

    Raises:
        RecipeError: of any recipe, naming its arm; arms that start from different models, or are the same.
    """
    common = with_set(recipe_table(plan.recipe), plan.set)
    common["eval"] = evaluation(common, plan.evaluate)
    base = make_recipe(common)
    cells, seen = [], dict[str, str]()
    longest = 0
    for arm in plan.arm:
        try:
            arm_cells = [cell_of(plan, arm, seed, base) for seed in arm.seeds or plan.seeds]
        except RecipeError as error:
            raise RecipeError(f"arm {arm.name}: {error}") from None
        same = seen.setdefault(digest(arm_cells[0].recipe), arm.name)
        if same != arm.name:
            raise RecipeError(f"arms {same} and {arm.name} train by the same recipe; change one or leave it out")
        longest = max(longest, arm_cells[0].recipe.train.steps)
        cells += arm_cells
    if plan.evaluate.at and plan.evaluate.at[-1] > longest:
        raise RecipeError(f"evaluate.at names step {plan.evaluate.at[-1]}, but the longest arm trains {longest} steps")
    described = base.model_dump_json(include={"model", "eval"}, exclude_defaults=True)
    folder = f"base-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
    return Bench(plan, Cell(None, base, (0,), plan.evaluate.greedy, folder), tuple(cells))


def cell_of(plan: Plan, arm: Arm, seed: int, base: Recipe) -> Cell:
    table = with_set(with_set(table_of(plan, arm), plan.set), arm.set)
    table["eval"] = base.eval.model_dump(exclude_none=True)
    recipe = make_recipe(table)
    if recipe.model != base.model:
        raise RecipeError(f"it trains {recipe.model.path}, the plan's recipe another model; a bench has one base")
    steps, train = recipe.train.steps, recipe.train
    at = plan.evaluate.at or range(train.checkpoint_every, steps, train.checkpoint_every)
    before = [step for step in at if step < steps]
    train.checkpoint_every, train.eval_every, train.threads = gcd(*before) or steps, 0, 1
    recipe.run.seed, recipe.run.dir, recipe.run.track = seed, None, []
    slug = re.sub(r"[^\w.]+", "-", arm.name.lower()).strip("-.")
    return Cell(arm.name, recipe, (*before, steps), plan.evaluate.greedy, f"{slug}-seed-{seed}-{digest(recipe)}")


def table_of(plan: Plan, arm: Arm) -> Table:
    """The recipe that an arm starts from, before anything is set: that of its method, else the plainest of its kind."""
    table = recipe_table(arm.recipe or plan.recipe)
    if arm.method is None:
        return table
    try:
        get_method(arm.method)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    of = make_recipe(table)
    near = [table] if arm.recipe else [table, *siblings(of)]
    named = {each["method"]["name"]: each for each in reversed(near)}
    if arm.method in named:
        return named[arm.method]
    serial = registry()[arm.method].serial
    alike = [each for name, each in named.items() if registry()[name].serial == serial]
    if not alike:
        kind = "serial" if serial else "parallel"
        raise RecipeError(f"no packaged recipe of {of.model.path} samples {kind} groups; give the arm a recipe")
    return named.get("s-grpo" if serial else "grpo", alike[-1]) | {"method": {"name": arm.method}}


def siblings(of: Recipe) -> Iterator[Table]:
    """Packaged recipes of the same model and task."""
    for name in recipe_names():
        other = load_recipe(name)
        if (other.model.path, other.task.name) == (of.model.path, of.task.name):
            yield recipe_table(name)


def evaluation(table: Table, section: EvaluateSection) -> Table:
    """The `[eval]` table of all recipes: the plan's evaluation over that of its recipe."""
    given = section.model_dump(exclude={"at", "greedy"}, exclude_none=True)
    return make_recipe(table | {"eval": table.get("eval", {}) | given}).eval.model_dump(exclude_none=True)


def with_set(table: Table, overrides: Table) -> Table:
    """A recipe's nested dictionaries with `overrides` put over them, keys dotted or nested."""
    keys = list(flat(overrides))
    for key, _ in keys:
        if key in OWN:
            raise RecipeError(f"set {key}: a bench sets it itself; {OWN[key]} decides it")
        if key.startswith("eval."):
            raise RecipeError(f"set {key}: all arms are evaluated alike; it belongs into [evaluate]")
    return with_keys(table, keys)


def flat(overrides: Table, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"train": {"steps": 9}}` and `{"train.steps": 9}` alike as (`train.steps`, 9)."""
    for key, value in overrides.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def digest(recipe: Recipe) -> str:
    """Eight hex digits of what a recipe says beside the defaults, its seed left out.

    A key that later versions add does not change it; that a default did not change is checked where a cell is reused.
    """
    said = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"run", "method"})
    fields = registry()[recipe.method.name].model_fields
    said["method"] = {"name": recipe.method.name} | {
        key: value for key, value in recipe.method.parameters.items() if value != fields[key].default
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
