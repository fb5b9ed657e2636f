"""What verl needs before it can train: packages, GPUs, a cluster that answers, a configuration."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from suffice.config import ModelSection, Recipe
from suffice.engines.verl.installed import check_installed
from suffice.engines.verl.main import compose
from suffice.engines.verl.translate import (
    Settings,
    check,
    check_kept,
    check_recipe,
    fixed,
    free,
    memory_share,
    placed,
)
from suffice.errors import RecipeError
from suffice.groups import Problem
from suffice.model.advice import unloadable
from suffice.model.load import chat_of, skeleton
from suffice.model.positions import longest_prompt
from suffice.model.resolve import whole
from suffice.rollout import Chat
from suffice.tasks.provenance import training_problems

if TYPE_CHECKING:
    from omegaconf import DictConfig


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
    recipe: Recipe, run: Path, chat: Chat, problems: Sequence[Problem], overrides: Sequence[str], *, model: str
) -> DictConfig:
    """verl's full configuration of a recipe on this machine, the user's own settings last, checked.

    Args:
        model: what verl loads (`model_folder`).

    Raises:
        RecipeError: it would not do what the recipe says, or nobody says how many GPUs there are.
    """
    gpus = gpus_of(recipe)
    check_recipe(recipe, gpus)
    prompt, inducer = longest_prompt(chat, problems), len(chat.inducer)
    ours = placed(recipe, run, model=model, prompt_tokens=prompt, inducer_tokens=inducer)
    longest = prompt + ours["data.max_response_length"]
    settings = ours | free(recipe, longest=longest, gpus=gpus)
    for method in fixed(recipe).values():
        settings |= method
    if torch.cuda.is_available():
        parameters = skeleton(recipe.model.path, recipe.model.revision).num_parameters()
        total, cluster = torch.cuda.get_device_properties(0).total_memory, recipe.cluster
        share = memory_share(parameters, recipe.rollout.cache_gb, total, cluster.tensor_parallel)
        settings["actor_rollout_ref.rollout.gpu_memory_utilization"] = share
    if not os.environ.get("RAY_ADDRESS"):
        settings["ray_kwargs.ray_init.address"] = "local"  # never a cluster that some other program left
    config = compose(settings, flat(recipe.cluster.verl) | own_settings(overrides))
    check(config, recipe)
    check_kept(config, ours, "it is this run's")
    return config


def gpus_of(recipe: Recipe) -> int:
    """Of each machine.

    Raises:
        RecipeError: nobody says, and none is here to be counted.
    """
    gpus = recipe.cluster.gpus or torch.cuda.device_count()
    if not gpus:
        raise RecipeError("this machine has no GPU to count: set cluster.gpus to those of each node")
    return gpus


def model_folder(section: ModelSection, *, weights: bool) -> str:
    """What verl loads: a local folder as it is, of a hub model with a revision its snapshot, else the hub id.

    Args:
        weights: to be there, or only what says of what kind they are.

    Raises:
        ModelError: there is no such model or revision, or adapters alone.
    """
    path = whole(section.path)
    if section.revision is None or Path(path).exists():
        return path
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(
            path, revision=section.revision, allow_patterns=None if weights else ["*.json", "*.jinja", "*.txt"]
        )
    except Exception as error:  # of the hub, of HTTP, of the network: each layer has kinds of its own
        raise unloadable(path, path, error) from error


def flat(table: Mapping[str, Any], above: str = "") -> Settings:
    """Nested tables by dotted name."""
    found: Settings = {}
    for name, value in table.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return found


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
    model = model_folder(recipe.model, weights=False)
    return str(OmegaConf.to_yaml(configuration(recipe, run, chat, problems, overrides, model=model)))
