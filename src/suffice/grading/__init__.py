"""Verdicts on answers. Model text is data: it is parsed, never evaluated, within a deadline, in a killable process."""

from __future__ import annotations

import atexit

from suffice.grading.extract import answer_part
from suffice.grading.pool import Grader
from suffice.groups import Kind, Verdict

__all__ = ["Grader", "Verdict", "answer_part", "grade", "grade_answer"]

_SHARED = Grader()
atexit.register(_SHARED.close)


def grade(response: str, gold: str, kind: Kind) -> Verdict:
    """The verdict on a whole response, of which only the text after the last `</think>` is read; WRONG if none is.

    Raises:
        GraderError: unknown kind, unusable gold answer, or no worker can be started.
    """
    answer = answer_part(response)
    if answer is None:
        grade_answer("", gold, kind)  # an unusable gold answer is refused all the same
        return Verdict.WRONG
    return grade_answer(answer, gold, kind)


def grade_answer(answer: str, gold: str, kind: Kind) -> Verdict:
    """The verdict on an answer already separated from its thought; errors as of `grade`."""
    return _SHARED.grade(answer, gold, kind)
