"""TRL's GRPOTrainer as an engine: our groups, our advantages, its loop and its processes.

    GRPOTrainer(
        model,
        args=grpo_config(recipe, output_dir="out"),
        train_dataset=as_dataset(problems),
        rollout_func=GroupRollout(recipe, chat),
        reward_funcs=advantages(recipe, config, chat, grader),
        processing_class=chat.tokenizer,
    )

TRL subtracts the mean of a group from what a reward function returns. A function that returns *advantages* therefore
gets them through unchanged if they sum to zero in every group, and only then. What TRL's loss divides by is made ours
by one factor on all advantages of a batch (`_to_loss`). Gradients then equal the local engine's, in rows: TRL computes
a shared token once for every member.

TRL has no refill, so a recipe must not ask for one. Its hook for rollouts is marked as subject to change: this module
is written for one minor version and refuses others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from datasets import Dataset

from suffice.config import Recipe
from suffice.engines.local.engine import training_dtype
from suffice.errors import DataError, ModelError, RecipeError, SufficeError
from suffice.extras import install_command
from suffice.grading import Grader
from suffice.groups import Group, GroupBatch, Problem
from suffice.methods import get_method
from suffice.model.device import resolve_device
from suffice.model.positions import check_positions
from suffice.objective import Objective, to_batch, weigh
from suffice.objective.loss import IMPORTANCE_CAP
from suffice.objective.spine import check_model
from suffice.rollout import Chat, Sampler, grade_groups, random_exits
from suffice.rollout.metrics import rollout_metrics

INSTALL = f"install it with: {install_command('trl')}"
try:
    import trl
    from accelerate import PartialState
    from accelerate.utils import gather_object
except ImportError as error:
    raise SufficeError(f"trl is missing; {INSTALL}") from error

VERSION = "1.16"
LOSS = {"sequence": "grpo", "constant": "dr_grpo", "token": "dapo"}
"""`objective.aggregate` → TRL's `loss_type`."""
MARKS = 3  # the open and close of the thought and the end of turn, which no budget of ours counts

RewardFunction = Callable[..., list[float]]


def as_dataset(problems: Sequence[Problem]) -> Dataset:
    """The problems as TRL reads them: `prompt` as one user turn, `gold` and `kind` for the grader."""
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": p.prompt}], "gold": p.gold, "kind": p.kind} for p in problems]
    )


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
        raise SufficeError(f"trl {trl.__version__} is not {VERSION}, for which this is made; {INSTALL}")
    train, model = recipe.train, recipe.model
    decided = _decided(recipe)
    taken = sorted(overrides.keys() & (decided.keys() | {"per_device_train_batch_size"}))
    if taken:
        raise RecipeError(f"{taken[0]} follows from the recipe; change the recipe instead of overriding it")
    processes, accumulate = int(os.environ.get("WORLD_SIZE", "1")), overrides.get("gradient_accumulation_steps", 1)
    local, rest = divmod(train.problems_per_step, processes)
    if rest or local * _members(recipe) % accumulate:
        raise RecipeError(
            f"{train.problems_per_step} groups of {_members(recipe)} do not divide among {processes} processes and "
            f"{accumulate} batches each; change train.problems_per_step or gradient_accumulation_steps"
        )
    chosen = {
        "per_device_train_batch_size": local * _members(recipe) // accumulate,
        "max_steps": train.steps * train.updates_per_batch,
        "save_steps": train.checkpoint_every * train.updates_per_batch,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": train.warmup_steps * train.updates_per_batch,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "gradient_checkpointing": model.gradient_checkpointing,
        "bf16": training_dtype(recipe) == "bfloat16" and not model.lora,
        "use_cpu": resolve_device(model.device) == "cpu",
        "seed": recipe.run.seed,
        "logging_steps": 1,
        "report_to": [],
    }
    config = trl.GRPOConfig(**chosen | decided | overrides)
    check_config(recipe, config)
    return config


def check_config(recipe: Recipe, config: Any) -> None:
    """Refuse a GRPOConfig under which TRL would train something else than the recipe says.

    Raises:
        RecipeError: what differs.
    """
    if recipe.train.refill_cap:
        raise RecipeError("TRL cannot replace groups without signal; set train.refill_cap = 0")
    for name, value in _decided(recipe).items():
        if getattr(config, name) != value:
            raise RecipeError(f"GRPOConfig has {name} = {getattr(config, name)!r}, the recipe means {value!r}")
    members = recipe.train.problems_per_step * _members(recipe)
    if config.generation_batch_size != members or config.steps_per_generation != config.gradient_accumulation_steps:
        raise RecipeError(
            f"a step of this recipe is one generation batch of {members} members and one update or more on all of it; "
            f"GRPOConfig has generation_batch_size = {config.generation_batch_size}, steps_per_generation = "
            f"{config.steps_per_generation} and gradient_accumulation_steps = {config.gradient_accumulation_steps}"
        )


@dataclass
class GroupRollout:
    """What to pass as `rollout_func`: whole groups from our sampler, on the trainer's model.

    Serial methods need it; parallel ones may leave the sampling to TRL.
    Randomness is keyed on the step and the problem's text, so that a resumed run samples what the first would have,
    and so do more processes. A member that does not exist (a thought shorter than its exits) is one masked pad token.
    """

    recipe: Recipe
    chat: Chat
    sampler: Sampler | None = field(default=None, init=False)

    @torch.no_grad()
    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        """Token ids, log-probs, `env_mask` (1 where `train_on` trains) and the `group` of every prompt, in order.

        Raises:
            SufficeError: the prompts are not whole groups, or the trainer's model cannot be sampled from.
        """
        recipe = self.recipe
        check_config(recipe, trainer.args)
        texts = _texts(prompts, _members(recipe))
        everyone = gather_object(texts)
        elsewhere = everyone[: PartialState().process_index * len(texts)]  # a text twice in a batch is sampled anew
        problems = [Problem(f"{text}/{elsewhere.count(text)}", "", text, "") for text in texts]
        if self.sampler is None:
            self.sampler = self._sampler(trainer)
        model, rollout = self.sampler.model, recipe.rollout
        check_positions(model, self.chat, problems, rollout.max_thought_tokens, rollout.max_answer_tokens)
        step = trainer.state.global_step // recipe.train.updates_per_batch + 1
        exits = random_exits(recipe.group.exits) if recipe.group.exits else None
        training = model.training
        model.eval()
        with trainer.accelerator.autocast():
            groups = self.sampler.groups(problems, recipe.group.spines, f"{recipe.run.seed}/{step}/0", exits)
        model.train(training)
        return self.rows(groups)

    def rows(self, groups: Sequence[Group]) -> dict[str, list[Any]]:
        """Every column of every group as TRL's row."""
        exits, size = self.recipe.group.exits, _members(self.recipe)
        objective = Objective("sequence", self.recipe.objective.train_on, self.chat.close_id, exits)
        weighed = weigh(groups, torch.zeros(len(groups), size), objective)
        found: dict[str, list[Any]] = {"completion_ids": [], "logprobs": [], "env_mask": []}
        for group, of_group in zip(groups, weighed, strict=True):
            columns = [([self.chat.pad_id], [0.0], [0])] * size
            for (g, spine, _), w in zip(group.members(exits), of_group, strict=True):
                trained = [1] * w.kept + [int(trained) for trained in w.own_trained]
                columns[g] = (spine.tokens[: w.kept] + w.own, spine.logprobs[: w.kept] + w.own_logprobs, trained)
            for values, column in zip(found.values(), zip(*columns, strict=True), strict=True):
                values.extend(column)
        of_member = [group for group in groups for _ in range(size)]
        return {"prompt_ids": [group.prompt for group in of_member], "group": of_member, **found}

    def _sampler(self, trainer: Any) -> Sampler:
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise SufficeError("our sampler needs a whole model in each process; use plain data parallelism (torchrun)")
        model = trainer.accelerator.unwrap_model(trainer.model)
        rollout, reuse = self.recipe.rollout, self.recipe.objective.layout == "spine"
        if reuse:
            try:
                check_model(model)
            except ValueError as reason:
                raise ModelError(f'the cache cannot be reused: {reason}; set objective.layout = "rows"') from None
        return Sampler(
            model,
            self.chat,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            max_thought_tokens=rollout.max_thought_tokens,
            max_answer_tokens=rollout.max_answer_tokens,
            cache_gb=rollout.cache_gb,
            reuse=reuse,
        )


def advantages(recipe: Recipe, config: Any, chat: Chat, grader: Grader) -> RewardFunction:
    """What to pass as the only one of `reward_funcs`: it grades, and returns our advantages scaled to TRL's loss.

    A method sees the whole generation batch, gathered from all processes. TRL's log then shows advantages (mean 0) as
    `reward`; what they come from is under `suffice/`.

    Args:
        config: the trainer's, from `grpo_config`.
    """
    check_config(recipe, config)
    method = get_method(recipe.method.name, **recipe.method.parameters)
    if method.learns:
        raise SufficeError(f"{method.name} learns from step to step, which TRL does not keep; use another engine")
    spines, exits, size = recipe.group.spines, recipe.group.exits, _members(recipe)

    def advantage(prompts: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        if not {"gold", "kind"} <= columns.keys():
            raise DataError("the data set needs the columns gold and kind; make it with as_dataset")
        texts = _texts(prompts, size)
        if "group" in columns:
            groups = columns["group"][::size]
        elif exits:
            raise SufficeError(f"{method.name} samples serial groups; pass rollout_func=GroupRollout(recipe, chat)")
        else:
            groups = _read_groups(texts, completion_ids, size, chat)
        answers = zip(columns["gold"][::size], columns["kind"][::size], strict=True)
        for group, (gold, kind) in zip(groups, answers, strict=True):
            group.problem = replace(group.problem, gold=gold, kind=kind)
        grade_groups(groups, chat, grader)
        batch = _gather(to_batch(groups, spines, exits, chat.end_ids))
        scores = method.score(batch)
        if (left := float(scores.advantage.sum(-1).abs().max())) > 1e-5 * size:
            raise SufficeError(
                f"TRL takes each group's mean off its advantages, and those of {method.name} sum to {left:.2g} in a "
                "group, not to 0; train it with the local engine"
            )
        found = rollout_metrics(groups, chat) | {"reward": float(scores.reward[batch.valid].mean())}
        for name, value in found.items():
            columns["log_metric"](f"suffice/{name}", value)
        first = PartialState().process_index * len(groups)
        mine_P_G = scores.advantage[first : first + len(groups)] * _to_loss(recipe, batch)
        return mine_P_G.flatten().tolist()

    return advantage


def _members(recipe: Recipe) -> int:
    return recipe.group.spines * (recipe.group.exits + 1)


def _decided(recipe: Recipe) -> dict[str, Any]:
    """Arguments of GRPOConfig that a recipe decides."""
    rollout, objective = recipe.rollout, recipe.objective
    return {
        "num_generations": _members(recipe),
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


def _to_loss(recipe: Recipe, batch: GroupBatch) -> float:
    """The factor on advantages that turns what TRL's loss divides by into what ours does.

    `grpo` is a mean over all rows, masked ones included: ours is over valid members. `dr_grpo` also divides by
    `max_completion_length`, ours by `constant_length`. `dapo` divides by trained tokens, and masked rows have none.
    """
    absent = batch.valid.numel() / float(batch.valid.sum())
    budget = _decided(recipe)["max_completion_length"]
    return {
        "sequence": absent,
        "constant": absent * budget / (recipe.objective.constant_length or 1),
        "token": 1.0,
    }[recipe.objective.aggregate or "sequence"]


def _texts(prompts: Sequence[Any], size: int) -> list[str]:
    """The problem of each group of `size` prompts in a row.

    Raises:
        SufficeError: a group is split among processes; DataError: a prompt is not one user turn.
    """
    firsts = [prompts[i - i % size] for i in range(len(prompts))]
    if len(prompts) % size or list(prompts) != firsts:
        raise SufficeError(f"groups of {size} are split among processes; make the configuration with grpo_config")
    for prompt in prompts[::size]:
        if not isinstance(prompt, list) or [turn.get("role") for turn in prompt] != ["user"]:
            raise DataError("a prompt is not one user turn; make the data set with as_dataset")
    return [prompt[0]["content"] for prompt in prompts[::size]]


def _read_groups(texts: Sequence[str], responses: Sequence[list[int]], size: int, chat: Chat) -> list[Group]:
    """Parallel groups from responses that TRL sampled."""
    groups = []
    for i, text in enumerate(texts):
        prompt = chat.render(text)
        group = Group(Problem(text, "", text, ""), prompt, chat.inducer, [])
        for tokens in responses[i * size : (i + 1) * size]:
            group.spines.append(chat.read(prompt, tokens, [], truncated=tokens[-1] not in chat.end_ids))
        groups.append(group)
    return groups


def _gather(batch: GroupBatch) -> GroupBatch:
    """The groups of all processes, in the order of processes, which is the order of the problems."""
    names = ("correct", "length", "valid", "thought_length", "truncated")
    rows = gather_object(list(zip(*(getattr(batch, name).tolist() for name in names), strict=True)))
    columns = {name: torch.tensor(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return GroupBatch(spines=batch.spines, **columns)
