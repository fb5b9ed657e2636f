"""What a column holds, as text: a prompt or a chat, an answer. What cannot be used is refused with a ValueError."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from suffice.grading.exact import normalise
from suffice.grading.extract import gold_expression

LONGEST = 1_000_000
"""Characters that a field may have: more than any model reads, and few enough to be tokenized in a moment."""

LONGEST_ANSWER = 12
"""Words of an answer that is compared as an expression; what has more is a solution or a sentence."""

USER, SYSTEM, ASSISTANT = ("user", "human"), ("system", "developer"), ("assistant", "gpt", "model")

_HALF = re.compile("[\ud800-\udfff]")

Turn = tuple[str, str, Any]
"""Role, name of the part that holds the content, content."""


class UnclearError(ValueError):
    """A record that can be read in one way if the user says so: `fields` are our names → the columns to name."""

    def __init__(self, message: str, **fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def opened(value: Any) -> Any:
    """A list or an object that is written as JSON in a text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if isinstance(found, list | dict) else value
    return value


def is_blank(value: Any) -> bool:
    """Whether nothing is in it: null, a blank text, an empty list or object."""
    return (
        value is None
        or (isinstance(value, list | dict) and not value)
        or (isinstance(value, str) and not value.strip())
    )


def plain(value: Any, name: str) -> str:
    """Text as it is, a number as plain text: 27.0 is `27`.

    Args:
        name: of the field, for the message.

    Raises:
        ValueError: neither text nor a finite number, or a text that no model can read.
    """
    if isinstance(value, str):
        if _HALF.search(value):
            raise ValueError(f"{name} holds half of a surrogate pair, which is no text; correct it")
        if len(value) > LONGEST:
            raise ValueError(f"{name} has {len(value):,} characters; shorten it to {LONGEST:,} or fewer")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(int(value)) if value == int(value) else format(Decimal(str(value)), "f")
    raise ValueError(f"{name} must be text or a finite number, not {value!r:.40}; correct it")


def turns(value: Any) -> list[Turn] | None:
    """The turns of a chat; None if it is none."""
    value = opened(value)
    if not isinstance(value, list) or not value:
        return None
    found = []
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        role = next((turn[key] for key in ("role", "from") if isinstance(turn.get(key), str)), None)
        part = next((key for key in ("content", "value") if key in turn), None)
        if role is None or part is None:
            return None
        found.append((role.casefold(), part, turn[part]))
    return found


def prompt_text(value: Any, column: str) -> str:
    """A prompt: a text, or a chat of a single user turn.

    Args:
        column: where the value stands in its record.

    Raises:
        ValueError: no text, or a chat of other turns, which a problem cannot carry.
    """
    chat = turns(value)
    content = value if chat is None else _user_turn(chat, column)
    if isinstance(content, list) and content and all(isinstance(part, Mapping) and "type" in part for part in content):
        return _text_parts(content)
    if isinstance(content, Mapping) and (inner := _inside(content, column)):
        raise UnclearError(f"prompt is an object with {_keys(content)}; name the part that is the question", **inner)
    if not isinstance(content, str):
        raise ValueError(f"prompt must be text or one user turn, not {content!r:.40}; correct it")
    return plain(content, "prompt")


def _inside(value: Mapping[str, Any], column: str) -> dict[str, str]:
    """Paths of a question, and of its options, that stand in an object."""
    texts = [key for key, part in value.items() if isinstance(part, str) and not is_blank(part)]
    choices = [key for key in ("choices", "options") if value.get(key)]
    return {name: f"{column}.{keys[0]}" for name, keys in (("prompt", texts), ("choices", choices)) if keys and texts}


def _keys(value: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in value if not is_blank(value[key]))[:60]


def _user_turn(chat: Sequence[Turn], column: str) -> Any:
    roles = [role for role, _, _ in chat]
    users = [n for n, role in enumerate(roles) if role in USER]
    told = f"{column} is a chat of {len(roles)} turn{'s' * (len(roles) > 1)} ({', '.join(roles):.60})"
    if len(users) != 1:
        raise ValueError(f"{told}, and a problem is a single user turn; write the question as one")
    if len(roles) == 1:
        return chat[0][2]
    fields = {"prompt": f"{column}.{users[0]}.{chat[users[0]][1]}"}
    if roles[-1] in ASSISTANT:
        fields["gold"] = f"{column}.{len(chat) - 1}.{chat[-1][1]}"
    what = "a system turn is not carried" if set(roles) <= {*USER, *SYSTEM} else "a problem is a single user turn"
    raise UnclearError(f"{told}, and {what}; to take the user's alone", **fields)


def _text_parts(parts: Sequence[Mapping[str, Any]]) -> str:
    for part in parts:
        if not isinstance(part.get("text"), str):
            raise ValueError(f"prompt holds a part of type {part['type']!r:.40}, which is not shown; leave it out")
    return plain("\n".join(part["text"] for part in parts), "prompt")


def gold_text(value: Any, column: str) -> str:
    """An answer: a text, a number, or a list of one.

    Raises:
        ValueError: something else, or several answers.
    """
    inner = opened(value)
    if isinstance(inner, dict):
        keys = [key for key in inner if not is_blank(inner[key])]
        told = f"gold is an object{' with ' * bool(keys)}{_keys(inner)}, not an answer"
        if isinstance(value, dict) and keys:
            raise UnclearError(f"{told}; name the part that is", gold=f"{column}.{keys[0]}")
        raise ValueError(f"{told}; correct it")
    if isinstance(inner, list) and (inner is value or all(isinstance(each, str) for each in inner)):
        texts = {normalise(gold_expression(text)): text for text in (plain(each, "gold") for each in inner)}
        if len(texts) > 1:
            raise ValueError(
                f"gold holds {len(texts)} answers ({', '.join(texts.values()):.60}), and one is compared; give that "
                "one, or one text with all of them"
            )
        return next(iter(texts.values()))
    return plain(value, "gold")


def is_answer(gold: str) -> bool:
    """Whether a final answer could equal a text: it is not so long that it must be a solution or a sentence."""
    words = gold_expression(gold).split()
    return len(words) <= LONGEST_ANSWER or sum(word.isalpha() and len(word) > 1 for word in words) <= LONGEST_ANSWER
