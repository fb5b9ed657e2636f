"""What a base learns from: one problem, thought about and answered by the task's own writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation to imitate.

    Args:
        prompt: the question.
        thought: what stands between `<think>` and `</think>`, without the line breaks beside them.
        answer: what follows.
        answer_at: what to answer instead where the thought was cut, given its words so far.
    """

    prompt: str
    thought: str
    answer: str
    answer_at: Callable[[Sequence[str]], str]
