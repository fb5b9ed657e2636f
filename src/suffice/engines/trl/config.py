"""A recipe as TRL's GRPOConfig, and what TRL's loss divides by as ours."""

from __future__ import annotations

import os
from typing import Any

import trl

from suffice.config import ObjectiveSection, Recipe, local_only
from suffice.engines.policy import MARKS, training_dtype, weights_dtype
from suffice.errors import RecipeError, SufficeError
from suffice.extras import install_command
from suffice.groups import GroupBatch
from suffice.model.device import resolve_device
from suffice.objective.loss import IMPORTANCE_CAP

VERSION = "1.16"
LOSS = {"sequence": "grpo", "constant": "dr_grpo", "token": "dapo"}
"""`objective.aggregate` → TRL's `loss_type`."""


def grpo_config(recipe: Recipe, **overrides: Any) -> Any:
    """The GRPOConfig that means what the recipe means, one generation batch a step.

    Args:
        overrides: other arguments of GRPOConfig, such as `output_dir` or `gradient_accumulation_steps` (which makes
            batches per device smaller, not the step larger). What the recipe decides cannot be overridden.

    Raises:
        SufficeError: TRL is of another minor version.
        RecipeError: an override contradicts the recipe, the recipe asks for refill, or its groups do not divide among
            the processes.
    """
    if not trl.__version__.startswith(f"{VERSION}."):
        install = install_command("trl")
        raise SufficeError(
            f"trl {trl.__version__} is not {VERSION}, for which this is made; install it with: {install}"
        )
    train, model, members, fixed = recipe.train, recipe.model, recipe.group.members, decided(recipe)
    taken = sorted(overrides.keys() & (fixed.keys() | {"per_device_train_batch_size"}))
    if taken:
        raise RecipeError(f"{taken[0]} follows from the recipe; change the recipe instead of overriding it")
    processes, accumulate = int(os.environ.get("WORLD_SIZE", "1")), overrides.get("gradient_accumulation_steps", 1)
    local, rest = divmod(train.problems_per_step, processes)
    if rest or local * members % accumulate:
        raise RecipeError(
            f"{train.problems_per_step} groups of {members} do not divide among {processes} processes and "
            f"{accumulate} batches each; change train.problems_per_step or gradient_accumulation_steps"
        )
    chosen = {
        "per_device_train_batch_size": local * members // accumulate,
        "max_steps": train.steps * train.updates_per_batch,
        "save_steps": train.checkpoint_every * train.updates_per_batch,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": train.warmup_steps * train.updates_per_batch,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "gradient_checkpointing": model.gradient_checkpointing,
        "bf16": training_dtype(model) != weights_dtype(model),
        "use_cpu": resolve_device(model.device) == "cpu",
        "seed": recipe.run.seed,
        "logging_steps": 1,
        "report_to": [],
    }
    config = trl.GRPOConfig(**chosen | fixed | overrides)
    check_config(recipe, config)
    return config


def check_config(recipe: Recipe, config: Any) -> None:
    """Refuse a GRPOConfig under which TRL would train something else than the recipe says.

    Raises:
        RecipeError: what differs.
    """
    if key := local_only(recipe):
        raise RecipeError(f"TRL does not know {key}; use the local engine")
    if recipe.train.refill_cap:
        raise RecipeError("TRL cannot replace groups without signal; set train.refill_cap = 0")
    for name, value in decided(recipe).items():
        if getattr(config, name) != value:
            raise RecipeError(f"GRPOConfig has {name} = {getattr(config, name)!r}, the recipe means {value!r}")
    members = recipe.train.problems_per_step * recipe.group.members
    if config.generation_batch_size != members or config.steps_per_generation != config.gradient_accumulation_steps:
        raise RecipeError(
            f"a step of this recipe is one generation batch of {members} members and one update or more on all of it; "
            f"GRPOConfig has generation_batch_size = {config.generation_batch_size}, steps_per_generation = "
            f"{config.steps_per_generation} and gradient_accumulation_steps = {config.gradient_accumulation_steps}"
        )


def decided(recipe: Recipe) -> dict[str, Any]:
    """Arguments of GRPOConfig that a recipe decides."""
    rollout, objective = recipe.rollout, recipe.objective
    return {
        "num_generations": recipe.group.members,
        "num_iterations": recipe.train.updates_per_batch,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "max_completion_length": rollout.max_thought_tokens + rollout.max_answer_tokens + MARKS,
        "loss_type": LOSS[objective.aggregate or "sequence"],
        "epsilon": objective.clip_low,
        "epsilon_high": objective.clip_high,
        "scale_rewards": "none",
        "beta": 0.0,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": IMPORTANCE_CAP,
        "eval_strategy": "no",  # it would log advantages, whose mean is 0 whatever the model can do
    }


def loss_factor(objective: ObjectiveSection, config: Any, batch: GroupBatch) -> float:
    """The factor on advantages that turns what TRL's loss divides by into what ours does.

    `grpo` is a mean over all rows, masked ones included: ours is over valid members. `dr_grpo` also divides by
    `max_completion_length`, ours by `constant_length`. `dapo` divides by trained tokens, and masked rows have none.
    """
    absent = batch.valid.numel() / float(batch.valid.sum())
    return {
        "sequence": absent,
        "constant": absent * config.max_completion_length / (objective.constant_length or 1),
        "token": 1.0,
    }[objective.aggregate or "sequence"]
