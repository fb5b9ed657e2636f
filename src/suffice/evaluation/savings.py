"""How much of its thought tokens a model could save by stopping alone: of all, of right thoughts, by kind of problem.

All of it knows the right answer, and is an upper bound. *Saveable* is what comes after the answer is settled. What
comes after the first right answer is more, by answers that were hit upon and lost again: by luck, most of all where an
answer is one of four.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from suffice.evaluation.summary import Measure, average, by_question, rate
from suffice.groups import Verdict
from suffice.interval import UNKNOWN, Interval
from suffice.run.records import CutThought, Part
from suffice.statistics import part_interval

PASS_RATES = {"at least 95 %": 0.95, "50 to 95 %": 0.5, "5 to 50 %": 0.05, "below 5 %": 0.0}
"""Bands of a question's pass rate, each with the least that belongs to it. GRPO-λ (arXiv 2505.18086) shortens the
groups with the highest rates."""


def saving_of(records: Sequence[CutThought]) -> dict[str, Any]:
    """The fields of `Saving`."""
    return {
        "saveable_right": part_of(records, saveable, of_right),
        "first_right": part_of(records, after_first_right, of_all),
        "first_right_right": part_of(records, after_first_right, of_right),
        "luck": rate(records, by_luck),
    }


def parts_of(records: Sequence[CutThought]) -> dict[str, dict[str, Part]]:
    """By pass rate where every question was sampled more than once; by level and subject where records have them."""
    kinds: dict[str, Callable[[CutThought], str | None]] = {
        "level": lambda r: r.difficulty,
        "subject": lambda r: r.subject,
    }
    found: dict[str, dict[str, Part]] = {}
    outcomes = by_question(records, right_in_full)
    if all(len(own) > 1 for own in outcomes.values()):
        bands = {question: band(sum(own) / len(own)) for question, own in outcomes.items()}
        found["pass rate"] = _by(records, lambda r: bands[r.problem], list(PASS_RATES))
    for name, kind in kinds.items():
        there = sorted({own for r in records if (own := kind(r)) is not None})
        if there:
            found[name] = _by(records, kind, there)
    return found


def band(rate: float) -> str:
    """Of a pass rate in 0…1."""
    return next(name for name, least in PASS_RATES.items() if rate >= least)


def part_of(records: Sequence[CutThought], part: Measure[CutThought], whole: Measure[CutThought]) -> Interval:
    """A quantity as a part of another, each question counting by its means; questions without the other left out."""
    wholes = {question: own for question, own in by_question(records, whole).items() if any(own)}
    parts = {question: own for question, own in by_question(records, part).items() if question in wholes}
    if not wholes:
        return UNKNOWN
    if len(wholes) == 1:
        return UNKNOWN._replace(mean=sum(*parts.values()) / sum(*wholes.values()))
    return part_interval(parts, wholes)


def right_in_full(r: CutThought) -> bool:
    return r.full_verdict is Verdict.CORRECT


def of_all(r: CutThought) -> float:
    return r.thought_tokens


def of_right(r: CutThought) -> float:
    return r.thought_tokens if right_in_full(r) else 0


def saveable(r: CutThought) -> float:
    return r.saveable_tokens


def after_first_right(r: CutThought) -> float:
    """Thought tokens after the first right forced answer; 0 if the thought ended wrong, or had none."""
    if not right_in_full(r):
        return 0
    first = next((each.exit for each in r.exits if each.verdict is Verdict.CORRECT), r.thought_tokens)
    return r.thought_tokens - first


def by_luck(r: CutThought) -> bool:
    """Whether a right forced answer was followed by a wrong one; no answer is no wrong one."""
    said = [each.verdict for each in r.exits]
    return Verdict.CORRECT in said and Verdict.WRONG in said[said.index(Verdict.CORRECT) :]


def _by(
    records: Sequence[CutThought], kind: Callable[[CutThought], str | None], names: Sequence[str]
) -> dict[str, Part]:
    groups = {name: [r for r in records if kind(r) == name] for name in names}
    return {
        name: Part(
            problems=len({r.problem for r in own}),
            accuracy=rate(own, right_in_full),
            thought_tokens=average(own, of_all),
            saveable_fraction=part_of(own, saveable, of_all),
            **saving_of(own),
        )
        for name, own in groups.items()
        if own
    }
