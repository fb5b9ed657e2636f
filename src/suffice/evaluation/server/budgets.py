"""Token budgets that fit what a server says it holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from suffice.errors import ModelError, UnfitError
from suffice.groups import Problem
from suffice.model.chat import Chat
from suffice.model.positions import longest_prompt

TEMPLATE_TOKENS = 128  # of a chat template around a question, at most, where no tokenizer counts them


def fitting(
    positions: int | None, chat: Chat | None, problems: Sequence[Problem], thought: int | None, answer: int | None
) -> tuple[int, int]:
    """(thought, answer) budgets in tokens: as asked; else 8192 and 1024, or what `positions` hold beside the prompt.

    Raises:
        UnfitError: what was asked for does not fit.
    """
    if positions is None:
        return thought or 8192, answer or 1024
    counted, prompt = _longest(chat, problems)
    inducer = len(chat.inducer) if chat else 0
    answer = answer or min(1024, max(1, positions // 4))
    thought = thought or max(1, min(8192, positions - prompt - inducer - answer))
    needed = (prompt if counted else 1) + thought + inducer + answer
    if needed > positions:
        raise UnfitError(
            f"the longest prompt, {thought} thought and {answer} answer tokens need {needed} positions, but the server "
            f"holds {positions}; lower --max-thought-tokens or --max-answer-tokens, or serve the model with more"
        )
    return thought, answer


def _longest(chat: Chat | None, problems: Sequence[Problem]) -> tuple[bool, int]:
    """Whether they were counted, and the tokens of the longest prompt: no more than its bytes where they were not."""
    if chat:
        with suppress(ModelError):  # its template is the server's matter
            return True, longest_prompt(chat, problems)
    return False, max(len(problem.prompt.encode()) for problem in problems) + TEMPLATE_TOKENS
