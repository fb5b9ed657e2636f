"""What to do next: commands that work as they stand, or none."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.config import Recipe, load_recipe, recipe_names
from suffice.errors import RecipeError
from suffice.estimate import engine_of
from suffice.model.shape import KNOWN, read_shape

if TYPE_CHECKING:
    from suffice.evaluation.request import Request

METHOD = "s-grpo"
"""What a diagnosis speaks for: this method's groups are thoughts cut at exits too."""

NEAR = 3.0
"""A recipe fits models of up to so many times, and down to such a part of, the parameters of its own."""

MICRO = 1_000_000
"""Parameters below which a model is the lab's."""

FAMILIES = {"Qwen/Qwen3-": "qwen3", "deepseek-ai/DeepSeek-R1-Distill-Qwen-": "qwen2"}
"""How ids on the hub begin, and the `model_type` of these models."""


def after_evaluation(directory: Path, request: Request) -> str:
    """The report; and what a comparison lacks, unless the model was also stopped early."""
    here = shlex.quote(str(directory))
    if request.baselines:
        return f"Next: suffice compare {here}"
    return f"Next: suffice report {here}. To compare it, evaluate another model alike: suffice compare {here} ITS-RUN"


def after_diagnosis(request: Request, summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How to train the model on the task with most to save; nothing if none is worth it, or no recipe fits."""
    worth = {task: each["saveable_fraction"]["mean"] for task, each in summaries.items() if each["worth_training"]}
    model = trainable(request)
    if not worth or model is None:
        return []
    task = max(worth, key=lambda each: worth[each])
    words = fitting(model, request.checkpoint or model, task)
    if words is None:
        return []
    train = f"suffice train {words}{f'  # on {task}' if len(summaries) > 1 else ''}"
    if words.startswith("lab-"):
        return [f"Next: {train}"]
    return [f"Next: suffice doctor {words.replace(' --engine verl', '')}  # what it needs and costs", f"Then: {train}"]


def trainable(request: Request) -> str | None:
    """The model as `model.path` takes it; None where only its name on a server is known."""
    if request.server is None:
        return request.model
    path = request.server.tokenizer  # of the served model; but a folder may hold the tokenizer alone
    return path if path and (not Path(path).is_dir() or any(Path(path).glob("*.safetensors"))) else None


def fitting(model: str, checkpoint: str, task: str) -> str | None:
    """Name and options of the packaged recipe that fits a model, as `suffice train` takes them; None if none does.

    Args:
        model: as `model.path` takes it.
        checkpoint: what it stands for, a folder or a hub id.
        task: to train on, where that can be.
    """
    described = describe(checkpoint)
    recipes = {name: recipe for name in recipe_names() if (recipe := load_recipe(name)).method.name == METHOD}
    name = described and nearest(recipes, *described, task)
    if not name:
        return None
    recipe = recipes[name]
    settings = [] if recipe.model.path == model else [f"model.path={model}"]
    trained_on = {each.task.name for each in recipes.values() if is_lab(each) == is_lab(recipe)}
    if recipe.task.name != task and (task in trained_on or is_lab(recipe)):
        settings.append(f"task.name={task}")
    if not is_lab(recipe) and engine_of(recipe) == "local":
        settings.append("cluster.gpus=1")  # one GPU too samples with vLLM
    try:
        asked = load_recipe(name, settings)
    except RecipeError:  # a path that TOML reads as something else
        return None
    engine = ["--engine", "verl"] if engine_of(asked) == "verl" else []
    return shlex.join([name, *(word for each in settings for word in ("--set", each)), *engine])


def nearest(recipes: Mapping[str, Recipe], family: str, parameters: int, task: str) -> str | None:
    """For a model of the lab its recipe for the task. Else one for models about as large: rather on one GPU than on
    several, rather of the same family, then the nearest in size."""
    if parameters < MICRO:
        lab = {recipe.task.name: name for name, recipe in recipes.items() if is_lab(recipe)}
        return lab.get(task) or lab.get(task.partition("-")[0])  # ballots-4 is a kind of ballots
    fit = {}
    for name, recipe in recipes.items():
        own_family, own = ("", 0) if is_lab(recipe) else describe(recipe.model.path) or ("", 0)
        if max(own, parameters) <= NEAR * min(own, parameters):
            gpus = recipe.cluster.nodes * max(1, recipe.cluster.gpus)
            fit[name] = (gpus, own_family != family, max(own, parameters) / min(own, parameters))
    return min(fit, key=lambda name: fit[name], default=None)


def is_lab(recipe: Recipe) -> bool:
    return recipe.model.path.startswith("lab/")


def describe(checkpoint: str) -> tuple[str, int] | None:
    """Family and parameters of a checkpoint folder or a hub model; None where its config.json is not here, or is not
    that of a dense decoder."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if checkpoint in KNOWN:
        family = next((each for start, each in FAMILIES.items() if checkpoint.startswith(start)), "")
        return family, KNOWN[checkpoint].parameters
    try:
        folder = Path(checkpoint)
        file = str(folder / "config.json") if folder.is_dir() else try_to_load_from_cache(checkpoint, "config.json")
        if not isinstance(file, str):
            return None
        config = json.loads(Path(file).read_text(encoding="utf-8"))
        return str(config["model_type"]), read_shape(config).parameters
    except (OSError, ValueError, KeyError, TypeError, AttributeError, HFValidationError):
        return None
