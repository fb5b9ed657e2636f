"""Grading throughput: verdicts a second over a fixed mix of answers.

Each of thirteen kinds of gold answer comes with three answers: itself, an equal one in another form, and a wrong one
of the same form. No pair comes twice, and what was read in an earlier round is forgotten. Where SUFFICE_BENCHMARKS
names a folder, the gold answers of its MATH-500 follow, each against itself and against another problem's.

    python -m benchmarks.grading [--json] [--record]
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from benchmarks.record import Json, Record, publish
from suffice.grading import Grader, Verdict
from suffice.grading.algebra import read_once
from suffice.grading.kinds import Job, at_once, read_gold

ROUNDS = 5
NUMBERS = range(11, 41)  # of each kind of gold answer
WARM_UP = range(101, 111)


def forms(n: int) -> list[tuple[str, str, str]]:
    """A gold answer of each kind, an equal one in another form, and a wrong one."""
    return [
        (f"{n}", rf"\frac{{{2 * n}}}{{2}}", f"{n + 1}"),
        (f"{n},000", rf"\${n}000", f"{n},001"),
        (rf"\frac{{{n}}}{{7}}", rf"\dfrac{{{2 * n}}}{{14}}", rf"\frac{{{n}}}{{9}}"),
        (f"{n}.5", rf"\frac{{{2 * n + 1}}}{{2}}", f"{n}.4"),
        (rf"{n}\%", f"0.{n}", rf"{n + 1}\%"),
        (rf"{n}\sqrt{{3}}", rf"\sqrt{{{3 * n * n}}}", rf"\sqrt{{{3 * n * n + 1}}}"),
        (rf"\frac{{{n}\pi}}{{6}}", rf"\frac{{{2 * n}\pi}}{{12}}", rf"\frac{{{n + 1}\pi}}{{6}}"),
        (f"(x+{n})^2", f"x^2+{2 * n}x+{n * n}", f"x^2+{2 * n}x-{n * n}"),
        (f"{n}+3i", f"3i+{n}", f"{n}-3i"),
        (rf"[{n}, \infty)", rf"x \ge {n}", rf"({n}, \infty)"),
        (rf"\{{{n}, 4, 2\}}", rf"\{{2, 4, {n}\}}", rf"\{{{n}, 4, 3\}}"),
        (rf"{n} \pm \sqrt{{2}}", rf"{n} - \sqrt{{2}}, {n} + \sqrt{{2}}", rf"{n} \pm \sqrt{{3}}"),
        (rf"\left({n}, \frac{{1}}{{2}}\right)", f"({n}, 0.5)", rf"\left({n}, \frac{{1}}{{3}}\right)"),
    ]


def thirds(numbers: Sequence[int]) -> dict[str, list[Job]]:
    """Pairs of answer and gold, by what the answer is."""
    found = [triple for n in numbers for triple in forms(n)]
    names = ("identical", "equal in another form", "wrong")
    return {name: [(rf"\boxed{{{triple[i]}}}", triple[0], "math") for triple in found] for i, name in enumerate(names)}


def mixed(parts: dict[str, list[Job]]) -> list[Job]:
    jobs = [job for part in parts.values() for job in part]
    random.Random(0).shuffle(jobs)
    return jobs


def published() -> list[Job]:
    """MATH-500's gold answers, each boxed against itself and against the one before."""
    with (Path(os.environ["SUFFICE_BENCHMARKS"]) / "math500.jsonl").open(encoding="utf-8") as lines:
        golds = [json.loads(line)["answer"] for line in lines]
    return [(rf"\boxed{{{golds[i - j]}}}", gold, "math") for i, gold in enumerate(golds) for j in (0, 1)]


def measure() -> Iterator[dict[str, Any]]:
    """One row a set of pairs: medians over rounds of one process, and how many pairs were left to a worker."""
    parts = thirds(NUMBERS)
    cases = {**parts, "the mix": mixed(parts)}
    if "SUFFICE_BENCHMARKS" in os.environ:
        cases["MATH-500"] = published()
    with Grader() as grader:
        grader.grade_many(mixed(thirds(WARM_UP)))
        for name, jobs in cases.items():
            rates = []
            for _ in range(ROUNDS):
                read_gold.cache_clear()
                read_once.cache_clear()
                spent = time.process_time()
                verdicts = grader.grade_many(jobs)
                rates.append(len(jobs) / (time.process_time() - spent))
            yield {
                "case": name,
                "verdicts_per_cpu_second": statistics.median(rates),
                "pairs": len(jobs),
                "left_to_a_worker": sum(not isinstance(at_once(*job), Verdict) for job in jobs),
                "correct": verdicts.count(Verdict.CORRECT),
            }


def main(as_json: Json = False, record: Record = False) -> None:
    publish("grading", measure(), as_json=as_json, record=record)


if __name__ == "__main__":
    typer.run(main)
