r"""The sentence after a question that says where its answer goes: `\boxed{}` is what the grader looks for first."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from suffice.errors import DataError
from suffice.groups import Problem

PROMPTS = {
    "boxed": r"Please reason step by step, and put your final answer within \boxed{}.",
    "answer-boxed": r"Put your final answer within \boxed{}.",
    "plain": "",
}
"""Options of `[task] prompt`. `boxed` is what S-GRPO's evaluation asks (arXiv 2505.07686, Fig. 4)."""

CHOICE_PROMPTS = {
    "boxed": r"Please reason step by step, and put the letter of your final answer within \boxed{}.",
    "answer-boxed": r"Put the letter of your final answer within \boxed{}.",
    "plain": "",
}
"""The same options where the answer is a letter."""

_ASKED = re.compile(
    r"\b(?:put|answer|within|inside|in|using|with|as|write|enclosed?|return|format)\b[^\n]{0,40}\\boxed"
    r"|####|<answer>|\b(?:form|format|after|with|line)\b[^\n]{0,40}answer:",
    re.IGNORECASE,
)
"""A question that says itself where the answer goes."""


def check_prompt(name: str) -> None:
    """
    Raises:
        DataError: there is no such option.
    """
    if name not in PROMPTS:
        nearest = get_close_matches(name, PROMPTS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise DataError(f"unknown prompt {name!r}; {hint}known: {', '.join(PROMPTS)}")


def with_prompts(problems: Iterable[tuple[Problem, str]]) -> list[Problem]:
    """Problems, each with the sentence of an option on a line of its own after the question.

    A question that says itself where the answer goes gets no second sentence; how many do is said on standard error.

    Raises:
        DataError: a sentence is asked for, but the whole answer is compared and a box in it would make it wrong.
    """
    found, asked = [], 0
    for problem, option in problems:
        sentence = (CHOICE_PROMPTS if problem.kind == "choice" else PROMPTS)[option]
        if sentence and problem.kind == "exact":
            raise DataError(
                f"{problem.task} problem {problem.id!r} is of kind exact: its whole answer is compared, so prompt "
                f"{option!r} would make every answer wrong; leave prompt out"
            )
        if sentence and _ASKED.search(problem.prompt):
            asked, sentence = asked + 1, ""
        found.append(replace(problem, prompt=f"{problem.prompt}\n{sentence}") if sentence else problem)
    if asked:
        print(
            f"{found[0].task}: {asked} of {len(found)} questions say themselves where the answer goes; no second "
            "instruction was added to those",
            file=sys.stderr,
        )
    return found


def question(prompt: str) -> str:
    """The prompt without its sentence, whichever option it is of."""
    for sentence in (*CHOICE_PROMPTS.values(), *PROMPTS.values()):
        if sentence and prompt.endswith(sentence):
            return prompt.removesuffix(sentence)
    return prompt
