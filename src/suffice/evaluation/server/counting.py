"""Tokens of a thought and of what follows it: by a tokenizer, else as the server tells or by a share of characters."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from suffice.errors import ServerError
from suffice.evaluation.server.replies import Usage
from suffice.model.marks import Turn

UNSEEN_TOKENS = 16  # marks of turn and thought that a server may count without showing them
LONGEST_TOKENS = 20  # bytes a token that no reply comes to in the mean

By = Literal["tokenizer", "server", "characters"]


class Counted(NamedTuple):
    thought: int
    rest: int
    by: By


class Told(NamedTuple):
    """Tokens that a server says it generated, those of the thought among them, if it tells, and whether they add up."""

    total: int
    thought: int | None
    sound: bool = True


def counted(turn: Turn, usage: Usage | None, tokenizer: Any) -> Counted:
    """Raises:
    ServerError: a thought is hidden, the server does not tell its tokens, or what it tells cannot be.
    """
    told = told_by(usage, answered=bool(turn.rest))
    if tokenizer is not None:
        thought, rest = (len(tokenizer.encode(text, add_special_tokens=False)) for text in turn[:2])
        if told and ((told.thought or 0) > 2 * thought + UNSEEN_TOKENS or _hides(turn, told)):
            raise ServerError(_hidden(turn, told))
        return Counted(thought, rest, "tokenizer")
    shown = len(turn.thought.encode()) + len(turn.rest.encode())
    if told is None or (shown and not told.total):
        raise ServerError("does not tell how many tokens it generates; give --tokenizer")
    if not told.sound:
        raise ServerError("tells prompt, completion, reasoning and total tokens that do not add up; give --tokenizer")
    if shown > told.total * LONGEST_TOKENS:
        raise ServerError(f"tells {told.total} tokens for {shown:,} bytes of text; give --tokenizer")
    if told.thought:
        return Counted(told.thought, told.total - told.thought, "server")
    if _hides(turn, told):
        raise ServerError(_hidden(turn, told))
    thought = round(told.total * len(turn.thought) / max(1, len(turn.thought) + len(turn.rest)))
    return Counted(thought, told.total - thought, "characters" if turn.thought and turn.rest else "server")


def told_by(usage: Usage | None, *, answered: bool) -> Told | None:
    """What a server says it generated, None if it says nothing.

    By OpenAI's API the thought is part of the completion, and the total is prompt and completion. xAI counts the
    thought beside the completion and into the total; Gemini tells it by the total alone.

    Args:
        answered: there is an answer, so that not all can be thought.
    """
    if usage is None or usage.completion_tokens is None:
        return None
    completion = usage.completion_tokens
    thought, beyond = usage.thought, 0
    if usage.total_tokens and usage.prompt_tokens is not None:
        beyond = usage.total_tokens - usage.prompt_tokens - completion
    if beyond > 0:
        if thought and thought != beyond:
            return Told(completion + beyond, None, sound=False)
        return Told(completion + beyond, beyond)
    if thought and (thought > completion or (thought == completion and answered)):
        return Told(completion + thought, thought)
    return Told(completion, thought)


def _hides(turn: Turn, told: Told) -> bool:
    return not turn.thought and told.total > len(turn.rest.encode()) + UNSEEN_TOKENS


def _hidden(turn: Turn, told: Told) -> str:
    shown = len(turn.thought) + len(turn.rest)
    return (
        f"keeps the thought, or part of it, to itself ({told.total} tokens generated, {shown} characters shown); "
        "have it return the thought, or switch off what separates it from the answer"
    )
