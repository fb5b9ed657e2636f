"""What a bench found: `bench.json`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from suffice.evaluation.compared import MeanChange
from suffice.run import layout
from suffice.run.records import Estimate, Figures, Manifest, Metrics, Number, Record


class ChangeToBase(MeanChange):
    """Paired by question."""

    tokens_change: Estimate


class Evaluated(Record):
    """An evaluation after a step."""

    step: NonNegativeInt
    metrics: Figures
    change: ChangeToBase
    compression: Estimate = Field(description="Generated tokens as a part of the base's, the papers' CR.")


class AtStep(Evaluated):
    """And what was spent up to it; of an arm over its seeds, spending as means."""

    tokens_decode: Number = Field(description="Generated, by the guard's probes too.")
    tokens_train: Number
    seconds: Number


class Curve(Record):
    """In-batch figures, one a step."""

    step: list[PositiveInt]
    accuracy: list[Number]
    thought_tokens: list[Number]


class CellFound(Record):
    """An arm with one seed, however far it came."""

    arm: str
    seed: int
    run: str = Field(description="Its folder in that of the bench.")
    failed: str | None = Field(description="Why.")
    collapsed: PositiveInt | None = Field(description="The step at which accuracy in training had.")
    steps: list[AtStep]
    greedy: Evaluated | None = Field(None, description="The last step's, where the plan asks for it.")
    curve: Curve


class ArmFound(Record):
    """An arm over the seeds that finished, with intervals over seeds and questions."""

    arm: str
    seeds: list[int]
    unfinished: list[int]
    collapsed: dict[str, PositiveInt] = Field(description="By seed the step at which it had.")
    steps: list[AtStep]
    greedy: Evaluated | None = Field(None, description="The last step's, where the plan asks for it.")
    pareto: bool = Field(description="Whether at the last step neither another arm nor the base beats it.")


class Budget(Record):
    """The least spending that brings every arm to an evaluation, and by arm the last evaluated step within it."""

    budget: Number
    steps: dict[str, PositiveInt]


class BenchFound(Record):
    """Computed again from the records of the cells whenever it is asked for."""

    FILE = layout.BENCH

    plan: dict[str, Any]
    model: str
    protocol: dict[str, Any] = Field(description="The recipes' `[eval]`.")
    manifest: Manifest
    questions: PositiveInt | None
    base: Metrics | None = Field(description="Of the untrained model.")
    base_greedy: Metrics | None = Field(None, description="Of the untrained model, where the plan asks for it.")
    cells: list[CellFound] = Field(description="By arm and seed.")
    arms: list[ArmFound]
    budgets: dict[str, Budget] = Field(description="By kind of spending.")
