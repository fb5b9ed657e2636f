"""What a page says of the thinking budget to serve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from suffice.evaluation.budgets import overall, worth
from suffice.evaluation.serving import serve_lines
from suffice.report.findings import ranged
from suffice.report.parts import Cell, Table
from suffice.run.records import BudgetAdvice, DiagnosisSummary, EvaluationSummary, Stopped


def serving(
    evaluations: Mapping[str, EvaluationSummary], diagnoses: Mapping[str, DiagnosisSummary]
) -> dict[str, Any] | None:
    """The budget of each evaluation and diagnosis that weighed some, and of all together; None where none did."""
    summaries: dict[str, EvaluationSummary | DiagnosisSummary] = {**evaluations, **diagnoses}
    found = {label: each.budget for label, each in summaries.items() if each.budget is not None}
    if not found:
        return None
    of_tasks = {summaries[label].task: advice for label, advice in found.items()}
    together = overall(of_tasks)
    every = found | ({"all tasks": together} if together else {})
    serve = (together or list(found.values())[-1]).recommended
    model = next(each.model if each.protocol else "MODEL" for each in summaries.values())
    return {
        "advices": [
            (label, each.sentence, worth(each, each.recommended) if each.recommended else [])
            for label, each in every.items()
        ],
        "tables": [budget_table(label, each) for label, each in every.items() if each.recommended or each.others],
        "lines": [
            (each.engine, each.start, json.dumps(each.request)) for each in serve_lines(serve.budget, model, None)
        ]
        if serve and serve.budget
        else [],
    }


def budget_table(label: str, advice: BudgetAdvice) -> Table:
    """The recommended budget and the other ways to shorten."""
    ways = [*([advice.recommended] if advice.recommended else []), *advice.others]
    return Table(label, ["accuracy, points", "thinking tokens", "saved"], [(each.rule, _cells(each)) for each in ways])


def _cells(each: Stopped) -> list[Cell]:
    return [
        [(*ranged(each.accuracy, "points"), each.accuracy.sign != 0)],
        [(f"{each.thought_tokens:,.1f}", "", False)],
        [(*ranged(each.saved_fraction, "percent"), False)],
    ]
