"""A recipe → an engine: everything is loaded and checked here, before anything is made or paid for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from suffice.config import ModelSection, Recipe, RolloutSection, TrainSection
from suffice.engines.local.engine import Engine, Problems
from suffice.engines.local.keeper import set_aside
from suffice.engines.local.passrate import (
    Stopped,
    cache_file,
    check_patience,
    keep_solved,
    pass_rates,
    recorded_rates,
)
from suffice.engines.local.update import Updater
from suffice.engines.policy import precision, training_dtype, weights_dtype
from suffice.errors import RecipeError
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.methods import get_method
from suffice.model.checkpoint import restore, try_save
from suffice.model.device import set_threads
from suffice.model.load import chat_of, load_model
from suffice.model.lora import add_lora
from suffice.model.positions import check_positions
from suffice.objective.check import check_trainable
from suffice.objective.memory import micro_batch_tokens
from suffice.rollout import Chat, Sampler
from suffice.rollout.check import check_sampling, check_thinks
from suffice.rollout.decode import keyed
from suffice.tasks.provenance import training_problems


def build_engine(
    recipe: Recipe, grader: Grader, checkpoint: Path | None, stopped: Stopped = lambda: False
) -> tuple[Engine, int]:
    """The engine of a recipe, at its start or where a checkpoint left it, and the steps already done."""
    section, rollout, train, seed = recipe.model, recipe.rollout, recipe.train, recipe.run.seed
    chat, problems = chat_and_problems(recipe, grader, stopped)
    problems, aside = set_aside(recipe.guard, problems, train.problems_per_step, seed)
    problems, held_out = hold_out(train, problems, seed)
    if rollout.answers == "gold":
        check_gold([*problems, *held_out], chat, rollout.max_answer_tokens)
    source = checkpoint if checkpoint and not section.lora else None
    model = load_checked(section, rollout, chat, [*problems, *aside, *held_out], train.threads, source)
    check_trainable(model, section.path, recipe.objective.layout)
    try_save(model, chat.tokenizer)
    torch.manual_seed(seed)
    if section.lora:
        model = add_lora(model, section.lora)
    if section.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if train.micro_batch_tokens is None:
        with precision(section):
            train = train.model_copy(update={"micro_batch_tokens": micro_batch_tokens(model.train())})
        model.eval()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=train.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=train.weight_decay,
        fused=model.device.type == "cuda",
    )
    engine = Engine(
        Sampler.of(model, chat, rollout, reuse=recipe.objective.layout == "spine", gold=rollout.answers == "gold"),
        grader,
        get_method(recipe.method.name, **recipe.method.parameters),
        Updater(
            optimizer,
            recipe.objective,
            train,
            base=base_of(recipe, model),
            close_id=chat.close_id,
            exits=recipe.group.exits,
            temperature=rollout.temperature,
            precision=lambda: precision(section),
        ),
        Problems(problems, seed),
        recipe.group,
        train,
        seed,
        aside,
        held_out,
    )
    if checkpoint is None:
        with engine.update.precision():
            check_thinks(engine.sampler, problems)
        return engine, 0
    state = restore(checkpoint, model, optimizer)
    engine.problems.drawn = state["drawn"]
    engine.method.load_state_dict(state["method"])
    engine.take_stop(state["stop"])
    engine.fresh = tuple(state["fresh"])
    return engine, state["step"]


def hold_out(train: TrainSection, problems: Sequence[Problem], seed: int) -> tuple[list[Problem], list[Problem]]:
    """(problems to train on, problems that the method's pressure goes by), by the run's seed.

    Raises:
        RecipeError: fewer than a step's are left to train on.
    """
    held = train.held_out or 0
    if len(problems) < held + train.problems_per_step:
        raise RecipeError(
            f"train.held_out = {held} of {len(problems)} training problems leave fewer than train.problems_per_step = "
            f"{train.problems_per_step}; lower train.held_out, or give more data"
        )
    out = set(keyed(f"{seed}/held out").permutation(len(problems))[:held].tolist())
    return [p for i, p in enumerate(problems) if i not in out], [problems[i] for i in sorted(out)]


def check_gold(problems: Sequence[Problem], chat: Chat, most: int) -> None:
    """
    Raises:
        RecipeError: a right answer may be written in other words than the gold one, or is too long to be written.
    """
    for problem in problems:
        if problem.kind != "exact":
            raise RecipeError(
                f'rollout.answers = "gold" takes the gold answer word for word, but {problem.id} is of kind '
                f'{problem.kind} and may be answered in others; set rollout.answers = "sampled"'
            )
        if len(chat.answer(problem.gold)) > most:
            raise RecipeError(
                f"the gold answer of {problem.id} has more than rollout.max_answer_tokens = {most} tokens; raise it"
            )


def base_of(recipe: Recipe, model: Any) -> Any:
    """The untrained model that thoughts are held to, beside the one that is trained; None where they are not."""
    if not recipe.objective.kl:
        return None
    section = recipe.model
    base = load_model(section.path, device=section.device, dtype=weights_dtype(section), revision=section.revision)
    set_threads(base, recipe.train.threads)
    return base.requires_grad_(False)


def chat_and_problems(recipe: Recipe, grader: Grader, stopped: Stopped) -> tuple[Chat, list[Problem]]:
    """The chat of `[model]`, and the problems of `[task]` that it solves as often as they ask.

    Raises:
        RecipeError: they are fewer than a step takes.
        Interrupted: `stopped()` while the untrained model was sampled; what was sampled is kept.
    """
    task, least = recipe.task, recipe.train.problems_per_step
    problems = training_problems(task, recipe.run.seed)
    if len(problems) < least:
        raise RecipeError(
            f"train.problems_per_step is {least} but {task.name} has {len(problems)} problems; "
            "lower it or give more data"
        )
    chat = chat_of(recipe.model, recipe.rollout.inducer)
    if task.solved is None:
        return chat, problems
    return chat, keep_solved(problems, solved_counts(recipe, problems, chat, grader, stopped), task, least)


def solved_counts(
    recipe: Recipe, problems: Sequence[Problem], chat: Chat, grader: Grader, stopped: Stopped
) -> dict[str, int]:
    """Of `task.solved_of` samples those that `[model]`, untrained, solves, by problem id: recorded, kept or sampled."""
    section, rollout, of = recipe.model, recipe.rollout, recipe.task.solved_of
    if recipe.task.solved_from:
        return recorded_rates(Path(recipe.task.solved_from), problems, of)

    file = cache_file(section, rollout, problems, of)

    def sampler() -> Sampler:
        """Of a model of its own: the engine's may be a checkpoint's."""
        check_patience(recipe, file, problems)
        model = load_model(
            section.path, device=section.device, dtype=training_dtype(section), revision=section.revision
        )
        longest = check_positions(model, chat, problems, rollout.max_thought_tokens, rollout.max_answer_tokens)
        set_threads(model, recipe.train.threads)
        check_sampling(model, chat, longest)
        return Sampler.of(model, chat, rollout)

    return pass_rates(file, problems, of, sampler, grader, stopped)


def load_checked(
    section: ModelSection,
    rollout: RolloutSection,
    chat: Chat,
    problems: Sequence[Problem],
    threads: int,
    checkpoint: Path | None = None,
) -> Any:
    """The model to train, or a checkpoint of it, which can be sampled; its positions hold every problem and budget."""
    source, revision = (str(checkpoint), None) if checkpoint else (section.path, section.revision)
    model = load_model(source, device=section.device, dtype=weights_dtype(section), revision=revision)
    longest = check_positions(model, chat, problems, rollout.max_thought_tokens, rollout.max_answer_tokens)
    set_threads(model, threads)
    check_sampling(model, chat, longest)
    return model
