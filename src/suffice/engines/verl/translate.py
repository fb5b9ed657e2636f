"""A recipe as verl's configuration.

verl's names: a *session* is one of our members, `train_batch_size` counts problems, and the loss modes are
seq-mean-token-mean = our `sequence`, seq-mean-token-sum-norm = `constant`, token-mean = `token`. What they divide by
is mended by the trainer (`suffice.engines.verl.trainer`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suffice.config import MICRO_BATCH, Recipe
from suffice.engines.policy import MARKS, training_dtype
from suffice.errors import RecipeError
from suffice.run.layout import TRAINING_PROBLEMS, VALIDATION_PROBLEMS, VERL

LOSS = {"sequence": "seq-mean-token-mean", "constant": "seq-mean-token-sum-norm", "token": "token-mean"}
NO_DUAL_CLIP = 1e9  # a ratio that verl's bound for negative advantages never meets: the papers have no such bound
WORKING_GB = 2.0  # a server's activations and graphs

Settings = dict[str, Any]


def translate(recipe: Recipe, run: Path, *, model: str, prompt_tokens: int, inducer_tokens: int, gpus: int) -> Settings:
    """verl's settings by dotted name, to be laid over its own defaults.

    Args:
        model: folder or hub id that verl can load.
        prompt_tokens, inducer_tokens: the longest prompt and the inducer, in tokens.
        gpus: of each machine.

    Raises:
        RecipeError: the recipe asks for what this engine does not do.
    """
    if recipe.model.lora:
        raise RecipeError("model.lora is not carried over to verl; set model.lora = 0, or train with --engine local")
    if recipe.guard.action == "roll back":
        raise RecipeError(
            "verl's weights and optimizer are not rolled back from here; set guard.action to warn or stop, "
            "or train with --engine local"
        )
    if recipe.model.revision and not Path(model).exists():
        raise RecipeError(
            f"verl would load {model} without model.revision; set model.path to a local folder of that revision"
        )
    group, rollout, objective, train = recipe.group, recipe.rollout, recipe.objective, recipe.train
    response = rollout.max_thought_tokens + inducer_tokens + rollout.max_answer_tokens + MARKS
    actor, sampler, data, trainer = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "data", "trainer"
    half = training_dtype(recipe.model) == "bfloat16"
    budget = max(train.micro_batch_tokens or MICRO_BATCH, prompt_tokens + response)
    return {
        "suffice.recipe": recipe.dump(),
        "suffice.run": str(run.resolve()),
        f"{data}.train_files": str(run.resolve() / TRAINING_PROBLEMS),
        f"{data}.val_files": str(run.resolve() / VALIDATION_PROBLEMS),
        f"{data}.train_batch_size": train.problems_per_step,
        f"{data}.max_prompt_length": prompt_tokens,
        f"{data}.max_response_length": response,
        f"{data}.shuffle": False,  # the file is in the order of drawing
        f"{data}.dataloader_num_workers": 0,
        "actor_rollout_ref.model.path": model,
        "actor_rollout_ref.model.enable_gradient_checkpointing": recipe.model.gradient_checkpointing,
        "actor_rollout_ref.model.use_remove_padding": True,
        f"{actor}.strategy": "fsdp2",
        f"{actor}.fsdp_config.strategy": "fsdp2",
        f"{actor}.fsdp_config.model_dtype": "fp32",
        f"{actor}.fsdp_config.dtype": "bfloat16" if half else "float32",
        f"{actor}.fsdp_config.mixed_precision": {  # without it FSDP computes in bfloat16 whatever dtype says
            "param_dtype": "bf16" if half else "fp32",
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
        f"{actor}.fsdp_config.use_torch_compile": True,
        f"{actor}.fsdp_config.seed": recipe.run.seed,
        f"{actor}.use_torch_compile": True,
        f"{actor}.ppo_mini_batch_size": train.problems_per_step,
        f"{actor}.ppo_epochs": train.updates_per_batch,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": budget,
        f"{actor}.loss_agg_mode": LOSS[objective.aggregate or "sequence"],
        f"{actor}.loss_scale_factor": objective.constant_length if objective.aggregate == "constant" else None,
        f"{actor}.clip_ratio_low": objective.clip_low,
        f"{actor}.clip_ratio_high": objective.clip_high,
        f"{actor}.clip_ratio_c": NO_DUAL_CLIP,
        f"{actor}.entropy_coeff": 0,
        f"{actor}.use_kl_loss": False,
        f"{actor}.optim.lr": train.learning_rate,
        f"{actor}.optim.lr_warmup_steps": train.warmup_steps,
        f"{actor}.optim.weight_decay": train.weight_decay,
        f"{actor}.optim.clip_grad": train.max_grad_norm,
        f"{actor}.grad_clip": train.max_grad_norm,
        f"{actor}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        f"{actor}.checkpoint.load_contents": ["model", "optimizer", "extra"],
        f"{sampler}.name": "vllm",
        f"{sampler}.n": group.members,
        f"{sampler}.dtype": "bfloat16" if half else "float32",
        f"{sampler}.temperature": rollout.temperature,
        f"{sampler}.top_p": rollout.top_p,
        f"{sampler}.tensor_model_parallel_size": 1,
        f"{sampler}.calculate_log_probs": True,
        f"{sampler}.log_prob_use_dynamic_bsz": True,
        f"{sampler}.log_prob_max_token_len_per_gpu": budget,
        f"{sampler}.agent.default_agent_loop": "suffice",
        "algorithm.adv_estimator": f"suffice-{recipe.method.name}",
        "algorithm.norm_adv_by_std_in_grpo": False,
        "algorithm.rollout_correction": None,  # the trainer weighs off-policy tokens itself, as the local engine
        "algorithm.use_kl_in_reward": False,
        f"{trainer}.v1.trainer_mode": "suffice",
        f"{trainer}.device": "cuda",
        f"{trainer}.nnodes": recipe.cluster.nodes,
        f"{trainer}.n_gpus_per_node": gpus,
        f"{trainer}.total_epochs": 1,
        f"{trainer}.total_training_steps": train.steps,
        f"{trainer}.save_freq": train.checkpoint_every,
        f"{trainer}.test_freq": -1,
        f"{trainer}.val_before_train": False,
        f"{trainer}.resume_mode": "auto",
        f"{trainer}.default_local_dir": str(run.resolve() / VERL),
        f"{trainer}.max_actor_ckpt_to_keep": 2,
        f"{trainer}.logger": ["console"],
        f"{trainer}.project_name": "suffice",
        f"{trainer}.experiment_name": run.name,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    }


def memory_share(parameters: int, cache_gb: float, total_bytes: int) -> float:
    """The part of a GPU that a rollout server may take: its weights in bfloat16, `cache_gb` of keys and values, room to
    work in; 0.9 at most."""
    return min(0.9, (2 * parameters + (cache_gb + WORKING_GB) * 2**30) / total_bytes)


def check(config: Any, recipe: Recipe) -> None:
    """Refuse settings of verl's own under which the loss would not be the recipe's.

    Raises:
        RecipeError: a method would see, or an update use, a part of the batch only; or the loss is another.
    """
    actor, rollout, group = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, recipe.group
    batch, mode = config.data.train_batch_size, config.trainer.v1.trainer_mode
    whole, loss = "a method scores, and an update uses, the whole batch at once", "the recipe says what the loss is"
    for name, found, wanted, why in (
        ("trainer.v1.trainer_mode", mode, "suffice", whole),
        ("trainer.use_v1", config.trainer.use_v1, True, whole),
        ("data.train_batch_size", batch, recipe.train.problems_per_step, "the recipe says problems_per_step"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", actor.ppo_mini_batch_size, batch, whole),
        ("actor_rollout_ref.rollout.n", rollout.n, group.members, "a session is a member"),
        ("algorithm.adv_estimator", config.algorithm.adv_estimator, f"suffice-{recipe.method.name}", whole),
        ("algorithm.filter_groups.enable", config.algorithm.filter_groups.enable, False, "the method drops groups"),
        ("algorithm.use_kl_in_reward", config.algorithm.use_kl_in_reward, False, loss),
        ("actor_rollout_ref.actor.use_kl_loss", actor.use_kl_loss, False, loss),
        ("actor_rollout_ref.actor.entropy_coeff", actor.entropy_coeff, 0, loss),
        ("actor_rollout_ref.actor.loss_agg_mode", actor.loss_agg_mode, LOSS[recipe.objective.aggregate or ""], loss),
        ("actor_rollout_ref.actor.policy_loss.loss_mode", actor.policy_loss.loss_mode, "vanilla", loss),
    ):
        if found != wanted:
            raise RecipeError(f"verl.{name} is {found} but must be {wanted}: {why}; leave it out of --set")
    step = config.trainer.v1.get("suffice", {}).get("parameter_sync_step", 1)
    if step != 1:
        raise RecipeError(f"verl.trainer.v1.suffice.parameter_sync_step is {step} but must be 1: {whole}; leave it out")
