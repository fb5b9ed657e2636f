"""How thought and answer are told apart in a chat reply, whether the server separates them or not."""

from __future__ import annotations

from suffice.evaluation.server.replies import Message
from suffice.model.marks import FAMILIES, Turn, read_turn

ANSWERS = (
    ("<answer>", "</answer>"),  # Hunyuan, and R1-Zero's prompt
    ("<response>", "</response>"),  # Granite 3.3, ERNIE
    ("<|channel|>final<|message|>", "<|return|>"),  # gpt-oss
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),  # Kimi K3
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Command A Reasoning
    ("<|begin_of_solution|>", "<|end_of_solution|>"),  # OpenThinker
)
"""What some families wrap an answer in."""


_OPENS = tuple(marks.open.lstrip() for marks in FAMILIES)


def separated(message: Message, *, cut: bool, opened: bool | None) -> Turn:
    """Thought and answer of a reply.

    What the server has separated is taken so: a field of the thought that is there but empty is a thought that closed
    at once. Otherwise the marks decide. A turn that ended by itself without any is an answer: a server that separates
    thoughts may say nothing of one that closed at once, and a model may not think.

    Args:
        cut: a limit of tokens ended the reply.
        opened: whether the prompt opens the thought; None if that is not known. A reply that was cut before any mark is
            then taken for a thought.
    """
    said, thought = message.said, message.thought
    if thought is None or said.lstrip().startswith(_OPENS):
        turn = read_turn(said, begun=cut and opened is not False)
        if thought is None or turn.thought.strip() == thought.strip():  # said twice, with its marks and without
            return turn._replace(rest=unwrapped(turn.rest))
    return Turn(thought, unwrapped(said), bool(said) or not thought)


def unwrapped(rest: str) -> str:
    """What follows a thought, without the marks that a family puts around its answer."""
    for opening, closing in ANSWERS:
        wrapped = rest.lstrip().startswith(opening)
        if wrapped:
            rest = rest.lstrip().removeprefix(opening)
        if wrapped or closing.startswith("<|"):
            rest = rest.rstrip().removesuffix(closing) if rest.rstrip().endswith(closing) else rest
    return rest
