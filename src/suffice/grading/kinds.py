"""How each kind of gold answer is read and compared: a letter, words, or mathematics."""

from __future__ import annotations

from functools import lru_cache

from suffice.errors import GraderError
from suffice.grading.choice import LETTERS, choice_letter
from suffice.grading.exact import normalise, plain, same
from suffice.grading.extract import MAX_EXPRESSION, gold_expression, math_expression, statements
from suffice.groups import Kind, Verdict

Job = tuple[str, str, Kind]
"""A model's answer (text after the thought), the gold answer, and how to compare them."""

Pair = tuple[str, str]
"""A gold answer's and an answer's normalised expression, for a worker to compare."""


@lru_cache(512)
def read_gold(gold: str, kind: Kind) -> str:
    """What answers are compared with: words, a letter, or a normalised expression.

    Raises:
        GraderError: the kind is unknown, or the gold answer is not of it.
    """
    if not gold.strip():
        raise GraderError("a gold answer is empty; remove the problem or give its answer")
    if kind == "exact":
        return gold
    if kind == "choice":
        letter = choice_letter(gold)
        if letter is None or letter not in {*LETTERS}:
            raise GraderError(f"gold answer {gold[:40]!r} is not a letter from A to J; use another kind")
        return letter
    if kind != "math":
        raise GraderError(f"kind {kind!r} is unknown; use math, choice or exact")
    expression = normalise(gold_expression(gold))
    if not expression:
        raise GraderError(f"gold answer {gold[:40]!r} holds no expression; give its answer")
    if len(expression) > MAX_EXPRESSION:
        raise GraderError(f"gold answer {gold[:40]!r}… is longer than {MAX_EXPRESSION} characters; use kind exact")
    return expression


def at_once(answer: str, gold: str, kind: Kind) -> Verdict | Pair:
    """The verdict if texts and little arithmetic decide, else the gold's and the answer's normalised expression."""
    right = read_gold(gold, kind)
    if kind == "exact":
        words = answer.split()
        return verdict(words == right.split()) if words else Verdict.UNPARSED
    if kind == "choice":
        chosen = choice_letter(answer)
        return Verdict.UNPARSED if chosen is None else verdict(chosen == right)
    if any(_is_said(right, said) for said in statements(answer)):
        return Verdict.CORRECT
    expression = math_expression(answer)
    if expression is None or not (given := normalise(expression)):
        return Verdict.UNPARSED
    equal = same(right, given)
    return (right, given) if equal is None else verdict(equal)


def _is_said(right: str, said: str) -> bool:
    """Whether a text is the gold answer word by word; of one that is much longer we need not ask."""
    return len(said) <= 2 * len(right) + 20 and plain(normalise(said)) == plain(right)


def verdict(correct: bool) -> Verdict:
    return Verdict.CORRECT if correct else Verdict.WRONG
