"""Evaluations to compare: thoughts that come to know at some length and go on, and what stopping them early leaves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suffice.evaluation.summary import levels_of, metrics_of
from suffice.groups import Verdict
from suffice.run.directory import Evaluation, Run
from suffice.run.records import EvaluationSummary, Protocol, Sample, Stop

PROTOCOL = Protocol(
    problems=60,
    samples=2,
    temperature=0.6,
    top_p=0.95,
    max_thought_tokens=8192,
    max_answer_tokens=1024,
    seed=0,
    cache_gb=4.0,
)
BUDGETS = (256, 512, 1024, 2048)
SENTENCES = (
    "Let x be the number of apples; then 3x + 4 < 19 and x > 2.",
    "Wait, I should check the case x = 5 again.",
    "So the sum is 12, which divides 144 & leaves nothing.",
)


def sample(
    problem: str,
    verdict: str,
    thought: int = 10,
    answer: int = 2,
    *,
    trials: int = 0,
    number: int = 0,
    level: str | None = "1",
    text: str = "so it is 7",
    closed: bool = True,
    truncated: bool = False,
) -> Sample:
    return Sample(
        problem=problem, difficulty=level, sample=number, verdict=Verdict(verdict), thought_tokens=thought,
        answer_tokens=answer, trial_tokens=trials, closed=closed, truncated=truncated,
        prompt=f"What is {problem}?", gold="7", thought=text, answer="7" if verdict == "CORRECT" else "8",
    )  # fmt: skip


def evaluation(
    records: list[Sample], model: str = "m", task: str = "t", variant: Stop | None = None, protocol: Protocol = PROTOCOL
) -> Evaluation:
    figures = {"metrics": metrics_of(records), "levels": levels_of(records)} | ({"variant": variant} if variant else {})
    summary = EvaluationSummary(model=model, task=task, protocol=protocol, token_counts="tokenizer", **figures)
    return Evaluation(records, summary)


def write(folder: Path, records: list[Sample], **header: Any) -> Path:
    """An evaluation in `<run>/evaluations/<label>`."""
    Run(folder.parent.parent).write_evaluation(folder.name, evaluation(records, **header))
    return folder


def write_eval(
    directory: Path,
    model: str,
    tasks: Sequence[str],
    *,
    rechecks: float,
    skill: float = 0.8,
    stopped: bool = False,
    questions: int = 60,
    text: str = "",
) -> Path:
    """What `suffice eval` writes: thoughts know after some hundred tokens and go on for `rechecks` times as many."""
    for task in tasks:
        folder = directory / "evaluations" / task
        thoughts = []
        for i in range(questions):
            question = random.Random(f"{task}/{i}")
            needed = int(question.lognormvariate(6, 0.6))
            chance = min(0.98, max(0.02, skill + question.gauss(0, 0.3)))
            for number in range(2):
                own = random.Random(f"{model}/{task}/{i}/{number}")
                right = own.random() < chance
                length = int(needed * (1 + rechecks * own.uniform(0.5, 1.5)))
                thoughts.append((f"{task}-{i}", str(1 + i % 5), number, right, needed, length))
        said = f"{text}{' '.join(SENTENCES * 60)}"
        made = {"model": model, "task": task}
        shown = {"text": said}
        plain = [
            sample(problem, "CORRECT" if right else "WRONG", length, 300, number=number, level=level, **shown)
            for problem, level, number, right, _, length in thoughts
        ]
        write(folder, plain, **made)
        for kind in ("budget", "inducer") if stopped else ():
            for budget in BUDGETS:
                cut = [
                    sample(
                        problem, "CORRECT" if right and enough <= budget else "WRONG", min(length, budget), 300,
                        number=number, level=level,
                    )
                    for problem, level, number, right, needed, length in thoughts
                    for enough in [needed if kind == "inducer" else length]
                ]  # fmt: skip
                write(Path(f"{folder}@{kind}-{budget}"), cut, **made, variant=Stop(kind=kind, budget=budget))
        if stopped:
            sure = [
                sample(
                    problem, "CORRECT" if right else "WRONG", min(length, int(1.4 * needed)), 300, trials=200,
                    number=number, level=level,
                )
                for problem, level, number, right, needed, length in thoughts
            ]  # fmt: skip
            write(Path(f"{folder}@deer-0.95"), sure, **made, variant=Stop(kind="deer", threshold=0.95))
    return directory
