"""Whether prompts and budgets fit the positions a model has."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from suffice.errors import RecipeError
from suffice.groups import Problem
from suffice.model.chat import Chat


def suitable_budgets(
    model: Any, chat: Chat, problems: Sequence[Problem], thought: int | None, answer: int | None
) -> tuple[int, int]:
    """(thought, answer) budgets in tokens: as asked; else 8192 and 1024, or what the model's positions hold."""
    positions = positions_of(model)
    if answer is None:
        answer = min(1024, positions // 4)
    if thought is None:
        thought = max(1, min(8192, positions - longest_prompt(chat, problems) - len(chat.inducer) - answer))
    return thought, answer


def check_positions(model: Any, chat: Chat, problems: Sequence[Problem], thought: int, answer: int) -> int:
    """Refuse budgets that the model's positions cannot hold; returns how many are needed at most.

    Raises:
        RecipeError: prompt, thought, inducer and answer together are longer than the model's positions.
    """
    prompt, positions = longest_prompt(chat, problems), positions_of(model)
    needed = prompt + thought + len(chat.inducer) + answer
    if needed > positions:
        raise RecipeError(
            f"a prompt of {prompt} tokens, max_thought_tokens = {thought} and max_answer_tokens = {answer} need "
            f"{needed} positions with the inducer, but the model has {positions}; lower the budgets"
        )
    return needed


def positions_of(model: Any) -> int:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def longest_prompt(chat: Chat, problems: Sequence[Problem]) -> int:
    """Tokens of the longest prompt, judged by the longest of the longest texts."""
    longest = sorted(problems, key=lambda problem: len(problem.prompt))[-64:]
    return max(len(chat.render(problem.prompt)) for problem in longest)


def mean_prompt(chat: Chat, problems: Sequence[Problem]) -> float:
    """Mean tokens of a prompt, judged by 64 that lie evenly among texts in the order of their lengths."""
    ordered = sorted(problems, key=lambda problem: len(problem.prompt))
    count = min(64, len(ordered))
    some = [ordered[int((place + 0.5) * len(ordered) / count)] for place in range(count)]
    return sum(len(chat.render(problem.prompt)) for problem in some) / count
