"""Two evaluations of the same questions, paired: after minus before, with question-clustered 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laconic.errors import DataError
from laconic.evaluation.protocol import LENGTHS, OUTCOMES, Evaluation, Measure, Record, check_questions
from laconic.evaluation.statistics import paired_difference, proportion_difference, ratio_change


def compare(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """`accuracy` and `thought_tokens` as {difference, low, high}, `thought_tokens_change` as a fraction of before.

    Raises:
        DataError: the two did not answer the same questions, or fewer than two.
    """
    questions = [{record["problem"] for record in evaluation.records} for evaluation in (before, after)]
    if questions[0] != questions[1]:
        missing = len(questions[0] ^ questions[1])
        raise DataError(
            f"{before.summary['model']} and {after.summary['model']} differ in {missing} questions; "
            "evaluate both on the same task, split, number of problems and seed"
        )
    check_questions(questions[0])
    old, new = before.records, after.records
    difference = {
        "accuracy": proportion_difference(samples(new, OUTCOMES["accuracy"]), samples(old, OUTCOMES["accuracy"])),
        **{name: paired_difference(samples(new, measure), samples(old, measure)) for name, measure in LENGTHS.items()},
    }
    thought = LENGTHS["thought_tokens"]
    return {
        **{name: {"difference": d.mean, "low": d.low, "high": d.high} for name, d in difference.items()},
        "thought_tokens_change": ratio_change(samples(new, thought), samples(old, thought)).as_dict(),
    }


def samples(records: Sequence[Record], measure: Measure) -> dict[str, list[float]]:
    """A measure's values by question."""
    values: dict[str, list[float]] = {}
    for record in records:
        values.setdefault(record["problem"], []).append(float(measure(record)))
    return values
