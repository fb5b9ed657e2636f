"""What verl needs before it can train: packages, GPUs, a cluster that answers, a configuration."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from packaging.version import Version

from suffice.config import Recipe
from suffice.engines.verl.main import compose
from suffice.engines.verl.translate import Settings, check, memory_share, translate
from suffice.errors import ModelError, RecipeError
from suffice.extras import install_command
from suffice.groups import Problem
from suffice.model.load import chat_of
from suffice.model.positions import longest_prompt
from suffice.model.resolve import resolve_path
from suffice.model.shape import shape_of
from suffice.rollout import Chat
from suffice.tasks.provenance import training_problems

if TYPE_CHECKING:
    from omegaconf import DictConfig

NEEDED = {"verl": ("0.9.1", "0.10"), "TransferQueue": ("0.1.10", "0.2")}


def check_installed() -> None:
    """
    Raises:
        RecipeError: verl is not there, or not a version that this engine is written for.
    """
    for package, (least, below) in NEEDED.items():
        try:
            found = Version(version(package))
        except PackageNotFoundError:
            raise RecipeError(
                f"--engine verl needs {package}, which is not installed: {install_command('verl')}"
            ) from None
        if not Version(least) <= found < Version(below):
            raise RecipeError(
                f"--engine verl needs {package} >= {least} and < {below}, not {found}: "
                f"pip install '{package}>={least},<{below}'"
            )


def cluster() -> str:
    """The address of the Ray cluster that is named; empty where Ray is started here."""
    address = os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def check_ray(nodes: int) -> None:
    """
    Raises:
        RecipeError: several nodes without a cluster, or `RAY_ADDRESS` names one that does not answer, for which Ray
            would wait for minutes.
    """
    address = cluster()
    if nodes > 1 and not address:
        raise RecipeError(
            f"cluster.nodes = {nodes} needs a Ray cluster: ray start --head on one machine, "
            "ray start --address=HEAD:6379 on the others, then set RAY_ADDRESS=HEAD:6379"
        )
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError as error:
        raise RecipeError(
            f"RAY_ADDRESS is {address}, where no Ray cluster answers ({error.strerror or error}); "
            "unset RAY_ADDRESS to start Ray here, or start that cluster: ray start --head"
        ) from None


def check_gpus() -> None:
    """
    Raises:
        RecipeError: no GPU is here, no cluster is named that may have some, and no other platform of verl's is.
    """
    if not (torch.cuda.is_available() or cluster() or os.environ.get("VERL_PLATFORM")):
        raise RecipeError(
            "--engine verl needs GPUs, and this machine has none: start a run without --engine verl, go to a machine "
            "with GPUs, or set RAY_ADDRESS=HEAD:6379 to a Ray cluster that has them"
        )


def configuration(
    recipe: Recipe, run: Path, chat: Chat, problems: Sequence[Problem], overrides: Sequence[str]
) -> DictConfig:
    """verl's full configuration of a recipe on this machine, the user's own settings last, checked.

    Raises:
        RecipeError: it would not do what the recipe says, or nobody says how many GPUs there are.
    """
    gpus = recipe.cluster.gpus or torch.cuda.device_count()
    if not gpus:
        raise RecipeError("this machine has no GPU to count: set cluster.gpus to those of each node")
    settings = translate(
        recipe,
        run,
        model=resolve_path(recipe.model.path),
        prompt_tokens=longest_prompt(chat, problems),
        inducer_tokens=len(chat.inducer),
        gpus=gpus,
    )
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        with suppress(ModelError):  # a hub model whose size is not known here is served in verl's half of the GPU
            parameters = shape_of(resolve_path(recipe.model.path)).parameters
            share = memory_share(parameters, recipe.rollout.cache_gb, total)
            settings["actor_rollout_ref.rollout.gpu_memory_utilization"] = share
    if not os.environ.get("RAY_ADDRESS"):
        settings["ray_kwargs.ray_init.address"] = "local"  # never a cluster that some other program left
    config = compose(settings, own_settings(overrides))
    check(config, recipe)
    return config


def own_settings(overrides: Sequence[str]) -> Settings:
    """`verl.key=value` as verl's own setting `key`; values read as TOML, a bare word is a string.

    Raises:
        RecipeError: no value.
    """
    found: Settings = {}
    for override in overrides:
        name, equals, raw = override.removeprefix("verl.").partition("=")
        if not equals or not name:
            raise RecipeError(
                f"--set {override!r} is not of the form verl.key=value, such as verl.trainer.n_gpus_per_node=8"
            )
        try:
            found[name] = tomllib.loads(f"value = {raw}")["value"]
        except (ValueError, RecursionError):
            found[name] = raw
    return found


def dry_run(recipe: Recipe, run: Path, overrides: Sequence[str]) -> str:
    """verl's full configuration of a recipe as YAML. Tokenizer and problems are loaded, the model is not."""
    check_installed()
    from omegaconf import OmegaConf

    chat = chat_of(recipe.model, recipe.rollout.inducer)
    problems = training_problems(recipe.task, recipe.run.seed)
    return str(OmegaConf.to_yaml(configuration(recipe, run, chat, problems, overrides)))
