"""What a comparison of several models found."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from suffice.evaluation.stops import Contest
from suffice.run.records import (
    AtBudgets,
    BudgetAdvice,
    Change,
    Difference,
    Estimate,
    Level,
    Metrics,
    Record,
    Scores,
    StopKind,
)


class Row(Record):
    """A side, or a `variant` of it: one of its training-free stops, of a `kind`, or its model earlier in training."""

    side: str
    variant: str | None
    kind: StopKind | None
    metrics: Metrics
    levels: dict[str, Level]
    change: Change | None = Field(description="Less the first row; null for that.")
    scores: Scores | None = Field(description="Against the first row; null for that, and for variants.")
    at_budgets: AtBudgets | None = Field(description="Up to the lowest limit of all sides; null for variants.")
    gap: Estimate | None = Field(
        description="From the best side at every budget, in accuracy (REG); null for variants."
    )
    compression: Estimate = Field(description="Generated tokens as a part of the first row's, the papers' CR.")
    pareto: bool = Field(description="Whether no row is as accurate with as few thinking tokens and better in one.")


class Trained(Record):
    """What the training of an arm had spent after a step."""

    step: PositiveInt
    rollouts: NonNegativeInt = Field(description="Full rollouts sampled, those of dropped groups too.")
    tokens: NonNegativeInt = Field(description="Generated, by the guard's probes too.")


class OnTask(Record):
    """All rows of a task, the first side's first."""

    questions: PositiveInt
    rows: list[Row]
    protocols: dict[str, dict[str, Any]] = Field(description="Settings in which sides differ: setting, side, value.")
    outcomes: dict[str, Contest] = Field(
        description="By side, where the first side's training-free stops were measured."
    )
    notes: list[str] = Field(description="What else a reader should know, one sentence each.")
    budget: BudgetAdvice | None = Field(None, description="What to serve of the first side, where that was measured.")


class MeanMetrics(Record):
    """Means over tasks, each counting the same."""

    accuracy: Estimate
    thought_tokens: Estimate
    tokens: Estimate


class MeanChange(Record):
    """As `MeanMetrics`."""

    accuracy: Difference
    thought_tokens_change: Estimate


class MeanRow(Record):
    """A side or stop that all tasks have."""

    side: str
    variant: str | None
    metrics: MeanMetrics
    compression: Estimate
    change: MeanChange | None


class Compared(Record):
    """Every side and each of its training-free stops against the first side."""

    sides: list[str]
    tasks: dict[str, OnTask] = Field(description="Those that all sides have.")
    overall: list[MeanRow] = Field(description="As the papers' last column; empty for a single task.")
    left_out: dict[str, list[str]] = Field(description="Other tasks, and the sides that have them.")
    trained: dict[str, Trained] = Field(description="By side, what its training spent in all, where its run was given.")
