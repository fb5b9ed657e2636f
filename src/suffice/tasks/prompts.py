r"""The sentence after a question that says where its answer goes: `\boxed{}` is what the grader looks for first."""

from __future__ import annotations

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


def check_prompt(name: str) -> None:
    """
    Raises:
        DataError: there is no such option.
    """
    if name not in PROMPTS:
        nearest = get_close_matches(name, PROMPTS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise DataError(f"unknown prompt {name!r}; {hint}known: {', '.join(PROMPTS)}")


def with_prompt(problem: Problem, name: str) -> Problem:
    """The problem with the option's sentence on a line of its own after the question.

    Raises:
        DataError: a sentence is asked for, but the whole answer is compared and a box in it would make it wrong.
    """
    sentence = (CHOICE_PROMPTS if problem.kind == "choice" else PROMPTS)[name]
    if not sentence:
        return problem
    if problem.kind == "exact":
        raise DataError(
            f"{problem.task} problem {problem.id!r} is of kind exact: its whole answer is compared, so prompt {name!r} "
            "would make every answer wrong; leave prompt out"
        )
    return replace(problem, prompt=f"{problem.prompt}\n{sentence}")


def question(prompt: str) -> str:
    """The prompt without its sentence, whichever option it is of."""
    for sentence in (*CHOICE_PROMPTS.values(), *PROMPTS.values()):
        if sentence and prompt.endswith(sentence):
            return prompt.removesuffix(sentence)
    return prompt
