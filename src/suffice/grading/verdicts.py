"""Verdicts onto what was sampled: what is graded, and what is WRONG whatever it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from suffice.grading.pool import Grader
from suffice.groups import Kind, Problem, Verdict


class Graded(Protocol):
    """What gets a verdict: whether a budget cut it, and whether its thought was closed."""

    truncated: bool
    verdict: Verdict | None

    @property
    def closed(self) -> bool: ...


G = TypeVar("G", bound=Graded)


def give_verdicts(sampled: Iterable[tuple[G, Problem]], answer: Callable[[G], str], grader: Grader) -> None:
    """Give each its verdict, in place, by the text of its answer. What was cut or never closed its thought is WRONG."""
    jobs: list[tuple[str, str, Kind]] = []
    owners: list[G] = []
    for member, problem in sampled:
        if member.truncated or not member.closed:
            member.verdict = Verdict.WRONG
        else:
            jobs.append((answer(member), problem.gold, problem.kind))
            owners.append(member)
    for member, verdict in zip(owners, grader.grade_many(jobs), strict=True):
        member.verdict = verdict
