"""What a guard says: a line of guard.jsonl, and on the console what a person should know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from suffice.guard.rules import Decision
from suffice.run.directory import Run
from suffice.run.records import GuardLine


def tell(run: Path, step: int, decision: Decision, found: Mapping[str, float]) -> None:
    """A line of guard.jsonl for every alarm and whatever else was `found`; an alarm is also said."""
    if decision.action == "go" and not found:
        return
    Run(run).append([GuardLine.model_validate({"step": step, **decision._asdict(), **found})])
    match decision.action:
        case "warn":
            say(f"step {step}: {decision.reason}")
        case "stop":
            say(f"stopped after step {step}: {decision.reason}")
        case "roll back":
            back, rate = found["rolled_back_to"], found["learning_rate"]
            say(f"step {step}: {decision.reason}; rolled back to step {back:g}, learning rate now {rate:g}")


def say(what: str) -> None:
    print(f"guard: {what}", file=sys.stderr)
