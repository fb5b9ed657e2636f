"""What a chat template says: whether it keeps what it is given, what ends a turn, the marks of a thought, its options.

A template is a program of the model's makers. It is asked by rendering turns and looking at what comes out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from suffice.errors import ModelError, one_line
from suffice.model.marks import FAMILIES, Marks

USER, ASSISTANT = 'Is "7 < 8" & 2 ≠ 3?\nSay so.', "Seven it is"
"""What is rendered to look at; nothing of it is asked of a model."""
STRENGTHS = ("high", "enabled", "on")
"""Values with which templates that do not take `true` turn thinking on."""


def turns(prompt: str, system: str | None) -> list[dict[str, str]]:
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": prompt}]


def source(tokenizer: Any) -> str:
    """The template's text; of several the one for a plain conversation."""
    found = tokenizer.chat_template or ""
    return str(found.get("default", "")) if isinstance(found, dict) else str(found)


def render(tokenizer: Any, conversation: list[dict[str, str]], options: Mapping[str, Any], *, ask: bool = True) -> str:
    """A conversation as text, ready for the assistant if `ask`.

    Raises:
        ModelError: there is no template, or it fails.
    """
    name = tokenizer.name_or_path
    if not source(tokenizer):
        raise ModelError(
            f"{name} has no chat template, as base models have none; take its instruction-tuned or reasoning variant, "
            "or add a chat_template.jinja"
        )
    try:
        return str(tokenizer.apply_chat_template(conversation, add_generation_prompt=ask, tokenize=False, **options))
    except Exception as error:  # a template is a program, which may fail in any way
        raise ModelError(
            f"the chat template of {name} cannot be rendered ({one_line(error)}); mend its chat_template.jinja"
        ) from error


def check(tokenizer: Any, options: Mapping[str, Any], system: str | None) -> None:
    """That a template keeps the user's text and the system's, and knows the options it is given.

    Raises:
        ModelError: it does not.
    """
    text, name = render(tokenizer, turns(USER, system), options), tokenizer.name_or_path
    for what, given in (("user's", USER), ("system", system)):
        if given and given.strip() not in text:
            raise ModelError(f"the chat template of {name} leaves the {what} turn out; mend its chat_template.jinja")
    for option in options:
        if not re.search(rf"\b{re.escape(option)}\b", source(tokenizer)):
            known = ", ".join(thinking_options(tokenizer)) or "none"
            raise ModelError(f"the chat template of {name} knows no option {option}; about thinking it has: {known}")


def end_of_turn(tokenizer: Any, options: Mapping[str, Any]) -> frozenset[int]:
    """The token with which a template ends an assistant's turn: the first special one after its text, or, where nothing
    follows the last turn, the first of the next turn. Empty for a template that shows none."""
    conversation = [*turns(USER, None), {"role": "assistant", "content": ASSISTANT}]
    for following in ([], turns(USER, None)):
        try:
            text = render(tokenizer, [*conversation, *following], options, ask=False)
        except ModelError:  # it knows how to ask and nothing else
            return frozenset()
        ids = tokenizer.encode(text.partition(ASSISTANT)[2], add_special_tokens=False)
        if special := [i for i in ids if i in tokenizer.added_tokens_decoder]:
            return frozenset(special[:1])
    return frozenset()


def marks_of(tokenizer: Any) -> Marks | None:
    """The marks of the thought that a template speaks of; else those that are one token each; else none."""
    written, known = source(tokenizer).replace("\\n", "\n"), tokenizer.get_vocab()
    for quoted in (all, any):
        for marks in FAMILIES:
            if quoted(mark in written for mark in (marks.open, marks.close)):
                return marks
    return next((marks for marks in FAMILIES if marks.open in known and marks.close in known), None)


def thinking_options(tokenizer: Any) -> list[str]:
    """The options of a template that sound as if they switched thinking."""
    text = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", source(tokenizer))  # a tag of transformers' own
    try:
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except TemplateSyntaxError:
        return []
    return sorted(name for name in find_undeclared_variables(parsed) if re.search("think|reason|effort", name))


def thinks_not(tokenizer: Any, marks: Marks, options: Mapping[str, Any]) -> ModelError:
    """Of a template that closes an empty thought: with the option that turns thinking on, if it has one."""
    said = f"the chat template of {tokenizer.name_or_path} closes an empty thought, so there is nothing to shorten"
    for option in thinking_options(tokenizer):
        for value in (True, *STRENGTHS):
            try:
                text = render(tokenizer, turns(USER, None), {**options, option: value})
            except ModelError:
                continue
            if not text.rstrip().endswith(marks.close.rstrip()):
                return ModelError(
                    f"{said}; turn thinking on with model.chat_template_kwargs.{option} = {json.dumps(value)}, "
                    f"or --chat-template-kwargs '{json.dumps({option: value})}'"
                )
    return ModelError(f"{said}; use the thinking variant of the model or its template")
