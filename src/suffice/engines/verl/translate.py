"""A recipe as verl's configuration.

verl's names: a *session* is one of our members, `train_batch_size` counts problems, and the loss modes are
seq-mean-token-mean = our `sequence`, seq-mean-token-sum-norm = `constant`, token-mean = `token`. What they divide by
is mended by the trainer (`suffice.engines.verl.trainer`).

Some settings are the method (`fixed`), and nobody may change them on verl's side; the others are the machine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suffice.config import MICRO_BATCH, Recipe, local_only
from suffice.engines.policy import MARKS, training_dtype
from suffice.errors import RecipeError
from suffice.run.layout import TRAINING_PROBLEMS, VALIDATION_PROBLEMS, VERL

LOSS = {"sequence": "seq-mean-token-mean", "constant": "seq-mean-token-sum-norm", "token": "token-mean"}
WEIGHED = "token-sum"
"""verl's mode where the advantage is a token's whole weight, as in the spine layout."""
ON_POLICY = "suffice"
"""The loss of a batch's only update: old is the new one, so no pass comes before it (`suffice.engines.verl.loss`)."""
NO_DUAL_CLIP = 1e9  # a ratio that verl's bound for negative advantages never meets: the papers have no such bound
OURS = "SUFFICE_VERL"
"""A variable of the surroundings of all processes of our runs, on every machine."""
LAYOUT = "SUFFICE_VERL_LAYOUT"
"""Another, which says of what the update's rows are: in the layout `spine` the actor's engine is ours."""
WORKING_GB = 2.0  # a server's activations and graphs

ACTOR, ROLLOUT, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"

Settings = dict[str, Any]


def fixed(recipe: Recipe) -> dict[str, Settings]:
    """What makes a run the recipe's, by the reason why none of it is left to `--set verl.…`."""
    group, rollout, objective, train = recipe.group, recipe.rollout, recipe.objective, recipe.train
    spine = recipe.layout_on_verl == "spine"
    constant = objective.aggregate == "constant" and not spine
    found: dict[str, Settings] = {
        "a method scores, and an update uses, the whole batch at once": {
            "trainer.use_v1": True,
            "trainer.v1.trainer_mode": "suffice",
            "trainer.v1.suffice.parameter_sync_step": 1,
            "trainer.v1.sync.parameter_sync_step": 1,
            "trainer.v1.sampler.custom_sampler.path": None,
            "trainer.v1.sampler.sync_refill_failed_groups": False,
            "trainer.critic_warmup": 0,
            "data.train_batch_size": train.problems_per_step,
            "data.shuffle": False,  # the file is in the order of drawing
            f"{ACTOR}.ppo_mini_batch_size": train.problems_per_step,
            f"{ROLLOUT}.n": group.members,  # a session is a member
            f"{ROLLOUT}.over_sample_rate": 0,
            "algorithm.adv_estimator": f"suffice-{recipe.method.name}",
            "algorithm.filter_groups.enable": False,
            "algorithm.use_pf_ppo": False,
            "skip.rollout.enable": False,
            "skip.rollout_tq.enable": False,
        },
        "the recipe says what the loss is": {
            f"{ACTOR}.ppo_epochs": train.updates_per_batch,
            f"{ACTOR}.shuffle": False,
            f"{ACTOR}.policy_loss.loss_mode": ON_POLICY if train.updates_per_batch == 1 else "vanilla",
            f"{ACTOR}.loss_agg_mode": WEIGHED if spine else LOSS[objective.aggregate or "sequence"],
            f"{ACTOR}.loss_scale_factor": objective.constant_length if constant else None,
            f"{ACTOR}.clip_ratio_low": objective.clip_low,
            f"{ACTOR}.clip_ratio_high": objective.clip_high,
            f"{ACTOR}.clip_ratio_c": NO_DUAL_CLIP,
            f"{ACTOR}.entropy_coeff": 0,
            f"{ACTOR}.use_kl_loss": False,
            f"{ACTOR}.use_prefix_grouper": False,
            "algorithm.use_kl_in_reward": False,
            "algorithm.rollout_correction": None,  # the trainer weighs off-policy tokens itself, as the local engine
            "distillation.enabled": False,
            "reward.reward_model.enable": False,
            "critic.enable": None,
        },
        "the recipe says how it is trained, and for how long": {
            f"{ACTOR}.optim.optimizer": "AdamW",
            f"{ACTOR}.optim.betas": [0.9, 0.999],
            f"{ACTOR}.optim.override_optimizer_config": None,
            f"{ACTOR}.optim.lr": train.learning_rate,
            f"{ACTOR}.optim.lr_scheduler_type": "constant",
            f"{ACTOR}.optim.lr_warmup_steps": train.warmup_steps,
            f"{ACTOR}.optim.lr_warmup_steps_ratio": 0.0,
            f"{ACTOR}.optim.weight_decay": train.weight_decay,
            f"{ACTOR}.optim.clip_grad": train.max_grad_norm,
            f"{ACTOR}.grad_clip": train.max_grad_norm,
            f"{MODEL}.lora_rank": recipe.model.lora,
            f"{MODEL}.lora_alpha": 2 * recipe.model.lora,
            f"{MODEL}.target_modules": "all-linear",
            f"{MODEL}.lora.merge": recipe.model.lora
            > 0,  # the server samples whole weights: no adapters at every token
            "trainer.total_epochs": 1,
            "trainer.total_training_steps": train.steps,
            "trainer.save_freq": train.checkpoint_every,
            "trainer.resume_mode": "auto",
        },
        "the recipe says what is sampled": {
            f"{ROLLOUT}.mode": "async",
            f"{ROLLOUT}.temperature": rollout.temperature,
            f"{ROLLOUT}.top_p": rollout.top_p,
            f"{ROLLOUT}.top_k": -1,
            f"{ROLLOUT}.do_sample": True,
            f"{ROLLOUT}.ignore_eos": False,
            f"{ROLLOUT}.logprobs_mode": "processed_logprobs",
            f"{ROLLOUT}.calculate_log_probs": True,
            f"{ROLLOUT}.agent.default_agent_loop": "suffice",
        },
    }
    if spine:
        found['objective.layout = "spine" asks for it, and "rows" does not'] = {
            f"{ACTOR}.strategy": "fsdp2",
            f"{ACTOR}.ulysses_sequence_parallel_size": 1,
            f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size": 1,
            f"{ACTOR}.fsdp_config.pad_to_length": False,
            f"{ACTOR}.pad_to_length": False,
            f"{ACTOR}.use_dynamic_bsz": True,
            f"{ACTOR}.calculate_entropy": False,
            f"{MODEL}.use_fused_kernels": False,
        }
    return found


def placed(recipe: Recipe, run: Path, *, model: str, prompt_tokens: int, inducer_tokens: int) -> Settings:
    """What ties verl to this run: neither is left to `--set verl.…`.

    Args:
        model: folder or hub id that verl can load.
        prompt_tokens, inducer_tokens: the longest prompt and the inducer, in tokens.
    """
    rollout = recipe.rollout
    return {
        "suffice.recipe": recipe.dump(),
        "suffice.run": str(run.resolve()),
        "data.train_files": str(run.resolve() / TRAINING_PROBLEMS),
        "data.val_files": str(run.resolve() / VALIDATION_PROBLEMS),
        "data.max_prompt_length": prompt_tokens,
        "data.max_response_length": rollout.max_thought_tokens + inducer_tokens + rollout.max_answer_tokens + MARKS,
        f"{MODEL}.path": model,
        "trainer.default_local_dir": str(run.resolve() / VERL),
        "trainer.project_name": "suffice",
        "trainer.experiment_name": run.name,
        f"ray_kwargs.ray_init.runtime_env.env_vars.{OURS}": "1",
        f"ray_kwargs.ray_init.runtime_env.env_vars.{LAYOUT}": recipe.layout_on_verl,
    }


def free(recipe: Recipe, *, longest: int, gpus: int) -> Settings:
    """What suits the machine, from the recipe's sections; `--set verl.…` may say it better.

    Args:
        longest: tokens of a prompt and a response, at most.
        gpus: of each machine.
    """
    half = training_dtype(recipe.model) == "bfloat16"
    budget, cluster = max(recipe.train.micro_batch_tokens or MICRO_BATCH, longest), recipe.cluster
    return {
        "data.dataloader_num_workers": 0,
        f"{MODEL}.enable_gradient_checkpointing": recipe.model.gradient_checkpointing,
        f"{MODEL}.use_remove_padding": True,
        f"{ACTOR}.strategy": "fsdp2",
        f"{ACTOR}.fsdp_config.strategy": "fsdp2",
        f"{ACTOR}.fsdp_config.model_dtype": "fp32",
        f"{ACTOR}.fsdp_config.dtype": "bfloat16" if half else "float32",
        f"{ACTOR}.fsdp_config.mixed_precision": {  # without it FSDP computes in bfloat16 whatever dtype says
            "param_dtype": "bf16" if half else "fp32",
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
        # shards stay inside a machine, where links are fast; machines are copies of one another
        f"{ACTOR}.fsdp_config.fsdp_size": gpus if cluster.nodes > 1 else -1,
        f"{ACTOR}.fsdp_config.param_offload": cluster.offload == "rollout",
        f"{ACTOR}.fsdp_config.optimizer_offload": cluster.offload == "rollout",
        f"{ACTOR}.fsdp_config.offload_policy": cluster.offload == "always",
        f"{ACTOR}.fsdp_config.use_torch_compile": True,
        f"{ACTOR}.fsdp_config.seed": recipe.run.seed,
        f"{ACTOR}.data_loader_seed": recipe.run.seed,
        f"{ACTOR}.use_torch_compile": True,
        f"{ACTOR}.use_dynamic_bsz": True,
        f"{ACTOR}.ppo_max_token_len_per_gpu": budget,
        f"{ACTOR}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        f"{ACTOR}.checkpoint.load_contents": ["model", "optimizer", "extra"],
        f"{ROLLOUT}.name": "vllm",
        f"{ROLLOUT}.dtype": "bfloat16" if half else "float32",
        f"{ROLLOUT}.seed": recipe.run.seed,
        f"{ROLLOUT}.tensor_model_parallel_size": cluster.tensor_parallel,
        f"{ROLLOUT}.max_model_len": longest,
        f"{ROLLOUT}.enable_prefix_caching": True,
        f"{ROLLOUT}.free_cache_engine": True,  # the server's weights and cache leave the GPU while it trains
        f"{ROLLOUT}.log_prob_use_dynamic_bsz": True,
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu": budget,
        "algorithm.norm_adv_by_std_in_grpo": False,
        "trainer.device": "cuda",
        "trainer.nnodes": cluster.nodes,
        "trainer.n_gpus_per_node": gpus,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
        "trainer.max_actor_ckpt_to_keep": 2,
        "trainer.logger": ["console"],
    }


def check_recipe(recipe: Recipe, gpus: int) -> None:
    """
    Raises:
        RecipeError: the recipe asks for what this engine does not do, or its servers do not fit its machines.
    """
    if key := local_only(recipe):
        raise RecipeError(f"verl does not know {key}; train with --engine local")
    if recipe.guard.action == "roll back":
        raise RecipeError(
            "verl's weights and optimizer are not rolled back from here; set guard.action to warn or stop, "
            "or train with --engine local"
        )
    if gpus % recipe.cluster.tensor_parallel:
        raise RecipeError(
            f"cluster.tensor_parallel = {recipe.cluster.tensor_parallel} does not divide the {gpus} GPUs of a node: "
            "a server stands on one node; set it to a divisor"
        )


def memory_share(parameters: int, cache_gb: float, total_bytes: int, tensor_parallel: int = 1) -> float:
    """The part of a GPU that a rollout server may take: its weights in bfloat16, `cache_gb` of keys and values, room to
    work in; 0.9 at most."""
    return min(0.9, (2 * parameters / tensor_parallel + (cache_gb + WORKING_GB) * 2**30) / total_bytes)


def check(config: Any, recipe: Recipe) -> None:
    """Refuse settings of verl's own under which the run would not be the recipe's.

    Raises:
        RecipeError: a method would see a part of the batch only; the loss is another, the training, or the samples.
    """
    for why, settings in fixed(recipe).items():
        check_kept(config, settings, why)


def check_kept(config: Any, settings: Mapping[str, Any], why: str) -> None:
    """
    Raises:
        RecipeError: one of our settings is another by now.
    """
    from omegaconf import OmegaConf

    for name, wanted in settings.items():
        found = OmegaConf.select(config, name)
        if (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) != wanted:
            raise RecipeError(f"verl.{name} is {found} but must be {wanted}: {why}; leave it out of --set")
