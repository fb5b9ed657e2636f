"""A recipe → an engine: everything is loaded and checked here, before anything is made or paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from suffice.config import Recipe
from suffice.engines.local.engine import Engine, Problems, training_dtype
from suffice.engines.local.keeper import set_aside
from suffice.engines.local.passrate import Stopped, keep_solved
from suffice.errors import RecipeError
from suffice.evaluation.protocol import check_questions
from suffice.evaluation.source import Sampling
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.methods import get_method
from suffice.model.checkpoint import restore, try_save
from suffice.model.device import set_threads
from suffice.model.load import chat_of, load_model
from suffice.model.lora import add_lora
from suffice.model.positions import check_positions
from suffice.objective.check import check_trainable
from suffice.rollout import Chat
from suffice.rollout.check import check_sampling, check_thinks
from suffice.tasks import load_task
from suffice.tasks.provenance import training_problems


def build_engine(
    recipe: Recipe, grader: Grader, checkpoint: Path | None, stopped: Stopped = lambda: False
) -> tuple[Engine, int]:
    """The engine of a recipe, at its start or where a checkpoint left it, and the steps already done."""
    section = recipe.model
    problems = training_problems(recipe)
    if len(problems) < recipe.train.problems_per_step:
        raise RecipeError(
            f"train.problems_per_step is {recipe.train.problems_per_step} but {recipe.task.name} has {len(problems)} "
            "problems; lower it or give more data"
        )
    chat = chat_of(section, recipe.rollout.inducer)
    if recipe.task.solved:
        problems = keep_solved(recipe, problems, chat, grader, stopped)
    problems, aside = set_aside(recipe, problems)
    dtype = training_dtype(recipe) if section.lora else "float32"
    source = str(checkpoint) if checkpoint and not section.lora else section.path
    model = load_model(source, device=section.device, dtype=dtype, revision=None if checkpoint else section.revision)
    longest = check_positions(
        model, chat, [*problems, *aside], recipe.rollout.max_thought_tokens, recipe.rollout.max_answer_tokens
    )
    set_threads(model, recipe.train.threads)
    check_sampling(model, chat, longest)
    check_trainable(model, section.path, recipe.objective.layout)
    try_save(model, chat.tokenizer)
    torch.manual_seed(recipe.run.seed)
    if section.lora:
        model = add_lora(model, section.lora)
    if section.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=recipe.train.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=recipe.train.weight_decay,
    )
    method = get_method(recipe.method.name, **recipe.method.parameters)
    engine = Engine(recipe, model, chat, Problems(problems, recipe.run.seed), grader, method, optimizer, aside)
    if checkpoint is None:
        with engine.precision():
            check_thinks(engine.sampler, problems)
        return engine, 0
    state = restore(checkpoint, model, optimizer)
    engine.problems.drawn = state["drawn"]
    method.load_state_dict(state["method"])
    return engine, state["step"]


def load_eval_problems(recipe: Recipe, model: Any, chat: Chat) -> list[Problem]:
    """The held-out problems of `[eval]`, checked against the model."""
    section, same_task = recipe.eval, recipe.eval.task == recipe.task.name
    problems = load_task(
        section.task or recipe.task.name,
        path=section.path,
        split=section.split,
        limit=section.problems,
        seed=section.seed,
        fields=recipe.task.fields if same_task else None,
        revision=section.revision,
        prompt=recipe.task.prompt if same_task else None,
    )
    check_questions(problems)
    budgets = Sampling.of(section)
    check_positions(model, chat, problems, budgets.max_thought_tokens, budgets.max_answer_tokens)
    return problems
