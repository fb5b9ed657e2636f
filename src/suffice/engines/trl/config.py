"""A recipe as TRL's GRPOConfig, and what TRL's loss divides by as ours."""

from __future__ import annotations

import os
import warnings
from typing import Any

import trl
from packaging.version import Version

from suffice.config import MICRO_BATCH, ObjectiveSection, Recipe, local_only
from suffice.engines.policy import MARKS, training_dtype, weights_dtype
from suffice.errors import RecipeError, SufficeError
from suffice.groups import GroupBatch
from suffice.model.device import resolve_device
from suffice.objective.loss import IMPORTANCE_CAP

TESTED = (1, 16)
"""The minor version of TRL that the tests hold to what is relied on, and the first that has it all."""
IDLE = (
    "with use_vllm = True a vLLM would stand idle: GroupRollout samples from the trainer's model; leave use_vllm out, "
    "or sample with vLLM by suffice train --engine verl"
)
LOSS = {"sequence": "grpo", "constant": "dr_grpo", "token": "dapo"}
"""`objective.aggregate` → TRL's `loss_type`."""


def grpo_config(recipe: Recipe, **overrides: Any) -> Any:
    """The GRPOConfig that means what the recipe means, one generation batch a step.

    Args:
        overrides: other arguments of GRPOConfig, such as `output_dir` or `gradient_accumulation_steps` (which makes
            batches per device smaller, not the step larger; by default as small as `train.micro_batch_tokens` asks,
            of members as long as may be). What the recipe decides cannot be overridden.

    Raises:
        SufficeError: TRL is older than what was tested, or lacks an argument that a recipe decides.
        RecipeError: an override contradicts the recipe, the recipe asks for refill, or its groups do not divide among
            the processes.
    """
    check_version(recipe)
    train, model, members, fixed = recipe.train, recipe.model, recipe.group.members, decided(recipe)
    taken = sorted(overrides.keys() & (fixed.keys() | {"per_device_train_batch_size"}))
    if taken:
        raise RecipeError(f"{taken[0]} follows from the recipe; change the recipe instead of overriding it")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    local, rest = divmod(train.problems_per_step, processes)
    accumulate = overrides.get("gradient_accumulation_steps") or batches(recipe, local * members)
    if rest or local * members % accumulate:
        raise RecipeError(
            f"{train.problems_per_step} groups of {members} do not divide among {processes} processes and "
            f"{accumulate} batches each; change train.problems_per_step or gradient_accumulation_steps"
        )
    chosen: dict[str, Any] = {
        "per_device_train_batch_size": local * members // accumulate,
        "gradient_accumulation_steps": accumulate,
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


def check_version(recipe: Recipe) -> None:
    """Warns of a TRL that is newer than what was tested.

    Raises:
        SufficeError: it is older, or lacks an argument that a recipe decides.
    """
    tested, found = ".".join(map(str, TESTED)), Version(trl.__version__).release[:2]
    lacking = sorted(decided(recipe).keys() - trl.GRPOConfig.__dataclass_fields__.keys())
    if found < TESTED or lacking:
        lack = f"has no {lacking[0]}" if lacking else f"is older than {tested}"
        raise SufficeError(f"trl {trl.__version__} {lack}; install what was tested: pip install 'trl~={tested}.0'")
    if found > TESTED:
        warnings.warn(
            f"trl {trl.__version__} was not tested, {tested} was: what rollout_func is given, or what the loss divides "
            "by, may have changed; see that the first step's reward and grad_norm are those of trl " + tested,
            stacklevel=3,
        )


def batches(recipe: Recipe, rows: int) -> int:
    """Into how many equal batches a process's rows go, so that each holds `train.micro_batch_tokens` where all members
    are as long as they may be; a batch of one row may be longer."""
    longest, room = decided(recipe)["max_completion_length"], recipe.train.micro_batch_tokens or MICRO_BATCH
    fitting = (n for n in range(1, rows + 1) if rows % n == 0 and rows // n * longest <= room)
    return next(fitting, max(rows, 1))


def check_config(recipe: Recipe, config: Any) -> None:
    """Refuse a GRPOConfig under which TRL would train something else than the recipe says.

    Raises:
        RecipeError: what differs.
    """
    if key := local_only(recipe):
        raise RecipeError(f"TRL does not know {key}; use the local engine")
    if recipe.train.refill_cap:
        raise RecipeError("TRL cannot replace groups without signal; set train.refill_cap = 0")
    if config.use_vllm and recipe.group.exits:
        raise RecipeError(IDLE)
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
