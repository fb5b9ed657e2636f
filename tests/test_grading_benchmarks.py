"""The published benchmarks' gold answers, and the solutions that people (not models) wrote for two of them.

SUFFICE_BENCHMARKS names a folder with a file `NAME.jsonl` for each, its lines holding `answer` and, for GSM8K and
MATH-500, `solution`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from suffice.grading import Grader, Verdict
from suffice.grading.kinds import Job

pytestmark = pytest.mark.skipif("SUFFICE_BENCHMARKS" not in os.environ, reason="SUFFICE_BENCHMARKS names no folder")

CORRECT, WRONG = Verdict.CORRECT, Verdict.WRONG

PHRASINGS = [
    "%s",
    "#### %s",
    "So it is \\boxed{%s}.",
    "The answer is $%s$.",
    "The answer is $ %s $.",
    "The answer is %s.",
    "**Final answer:** \\(%s\\)",
    "I tried 3 and 17 first.\n\n**Answer:** $\\boxed{%s}$, which is what was asked for.",
]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2) as grader:
        yield grader


def records(name: str) -> list[dict[str, str]]:
    lines = (Path(os.environ["SUFFICE_BENCHMARKS"]) / f"{name}.jsonl").open(encoding="utf-8")
    with lines:
        return [{key: str(value) for key, value in json.loads(line).items()} for line in lines]


def changed(gold: str) -> str:
    """Another answer of the same form: the first digit is one more, 9 becomes 8; one more where there is no digit."""
    other = re.sub(r"\d", lambda digit: "1234567898"[int(digit.group())], gold, count=1)
    return other if other != gold else f"{gold}+1"


def share(verdicts: list[Verdict], wanted: Verdict) -> float:
    return verdicts.count(wanted) / len(verdicts)


def math(pairs: Iterator[tuple[str, str]]) -> list[Job]:
    return [(answer, gold, "math") for answer, gold in pairs]


def test_a_changed_answer_is_another_one():
    assert [changed(gold) for gold in ("18", r"\frac{9}{4}", ".05", r"\pi")] == ["28", r"\frac{8}{4}", ".15", r"\pi+1"]


@pytest.mark.parametrize("phrasing", PHRASINGS)
@pytest.mark.parametrize("name", ["gsm8k_test", "math500", "amc23", "aime24", "aime25"])
def test_gold_answers_are_right_against_themselves_and_wrong_against_others(grader: Grader, name: str, phrasing: str):
    golds = [record["answer"] for record in records(name)]
    assert share(grader.grade_many(math((phrasing % gold, gold) for gold in golds)), CORRECT) >= 0.995
    assert share(grader.grade_many(math((phrasing % changed(gold), gold) for gold in golds)), WRONG) >= 0.995
    others = ((phrasing % golds[i - 7], gold) for i, gold in enumerate(golds) if golds[i - 7] != gold)
    assert CORRECT not in grader.grade_many(math(others))


def worked(name: str) -> list[tuple[str, str]]:
    """Solution and gold answer. GSM8K's lose their calculator marks and end as its authors ask models to end."""
    if name == "math500":
        return [(record["solution"], record["answer"]) for record in records(name)]
    return [
        (re.sub("<<.*?>>", "", record["solution"]) + f"\nThe answer is {record['answer']}.", record["answer"])
        for record in records(name)
    ]


@pytest.mark.parametrize("name", ["gsm8k_train", "gsm8k_test", "math500"])
def test_worked_solutions_are_right_against_their_gold_and_wrong_against_another(grader: Grader, name: str):
    pairs = worked(name)
    assert share(grader.grade_many(math(iter(pairs))), CORRECT) >= 0.995
    assert share(grader.grade_many(math((text, changed(gold)) for text, gold in pairs)), WRONG) >= 0.995
