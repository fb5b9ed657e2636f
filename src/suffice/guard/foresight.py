"""An early warning: how likely accuracy collapses within the next steps, told from a run's metrics alone.

Few features, all relative to the run's own start and therefore without a scale, go through a logistic function. The
coefficients are the table below; `benchmarks/guard.py` fits them to recorded runs and measures what they are worth
(docs/guard.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeGuard

WINDOW = 10  # steps that a mean or a slope is taken over
LONG = 40  # steps of a second mean of accuracy, which sees a slow loss that the short one cannot tell from noise
HORIZON = 30  # steps that the warning looks ahead
LIMIT = 3.0  # what a feature counts at most, either way: nothing is known beyond what was seen
CHANCE = 3.5  # standard errors by which the last mean of accuracy may lie below what is expected, without a meaning

COLUMNS = ("accuracy", "thought_tokens", "entropy", "grad_norm")
"""The metrics that the score reads; a step that lacks one, or whose value is not finite, says nothing of it."""
WATCHED = (*COLUMNS, "unclosed", "unparsed", "looping")
"""What is remembered of a step, the last three for the rules of harm alone."""
ASKED = "asked"
"""The metric of a method that asks for shorter thoughts only while accuracy on problems held out is above a floor. Of
its runs the score was wrong more often than right (docs/guard.md)."""

INTERCEPT = -2.16
COEFFICIENTS = {
    "shorter": 2.77,
    "shortening": 4.57,
    "gained": -3.49,
    "drop": 12.21,
    "entropy": 1.29,
    "entropy_rising": 1.11,
    "gradient": -1.77,
}

Line = Mapping[str, Any]


def foresee(
    lines: Iterable[Line], intercept: float = INTERCEPT, coefficients: Mapping[str, float] = COEFFICIENTS
) -> list[float | None]:
    """P(collapse within `HORIZON` steps), in 0…1, at every line of a run's metrics.jsonl; None for its first steps.

    Works on the metrics of any engine. Where a guard rolled the run back, the windows begin anew. A run whose method
    holds accuracy above a floor itself has no score.
    """
    trail, found = Trail(), []
    for line in lines:
        trail.add(line)
        found.append(trail.score(intercept, coefficients))
        if "rolled_back_to" in line:
            trail = trail.restarted()
    return found


@dataclass
class Trail:
    """What is remembered of a run: its first window, its last steps, its best, and how much accuracy scatters.

    Args:
        start: means of the first `WINDOW` steps by column; rolling back does not change them.
        recent: the last `LONG` steps since the start, or since the model was last rolled back.
        best: highest mean accuracy of `WINDOW` steps in a row, `best_long` of `LONG`; −1 before there is one.
        squares: sum of squared differences of the accuracies of neighbouring steps, and `pairs`, their number.
        questions: problems of a step, by its `groups` and `dropped`.
        floored: whether the method itself holds accuracy above a floor, of which foresight says nothing.
    """

    start: dict[str, float] = field(default_factory=dict)
    recent: list[dict[str, float]] = field(default_factory=list)
    best: float = -1.0
    best_long: float = -1.0
    squares: float = 0.0
    pairs: int = 0
    questions: float = 1.0
    floored: bool = False

    def add(self, line: Line) -> None:
        """The next line of metrics.jsonl."""
        row = {name: float(line[name]) for name in WATCHED if _finite(line.get(name))}
        if self.recent and {"accuracy"} <= row.keys() & self.recent[-1].keys():
            self.squares += (row["accuracy"] - self.recent[-1]["accuracy"]) ** 2
            self.pairs += 1
        counts = [line.get(name) for name in ("groups", "dropped")]
        self.questions = max(1.0, sum(float(count) for count in counts if _finite(count)))
        self.floored = self.floored or ASKED in line
        self.recent = [*self.recent, row][-LONG:]
        if self.full:
            self.start = self.start or {name: value for name in WATCHED if (value := self.mean(name)) is not None}
            self.best = max(self.best, self.mean("accuracy") or 0.0)
        if len(self.recent) == LONG:
            self.best_long = max(self.best_long, self.mean("accuracy", LONG) or 0.0)

    @property
    def full(self) -> bool:
        """Whether there is a whole window."""
        return len(self.recent) >= WINDOW

    def restarted(self) -> Trail:
        """The trail of a model that was rolled back: only where the run began is still known."""
        return Trail(start=self.start, floored=self.floored)

    def mean(self, name: str, steps: int = WINDOW) -> float | None:
        """Over the last steps; None where none of them has the metric."""
        values = [row[name] for row in self.recent[-steps:] if name in row]
        return sum(values) / len(values) if values else None

    def deviation(self, steps: int = WINDOW) -> float:
        """Standard error of the mean accuracy of so many steps, by how much neighbouring steps differ (von Neumann).

        A trend does not inflate it. It is never below that of steps of which half an answer to one question would be
        wrong, so that steps that are all right, or all wrong, do not claim to know everything.
        """
        scatter = self.squares / (2 * self.pairs * steps) if self.pairs else 0.25 / steps
        questions = steps * self.questions
        return math.sqrt(max(scatter, 0.5 / (questions * (questions + 1))))

    def dropped(self) -> float:
        """How far accuracy is below its best, over `WINDOW` or `LONG` steps, beyond what chance explains.

        The best of n means lies about √(2 ln n) standard errors above what is expected, and the last `CHANCE` below.
        """
        errors = math.sqrt(2 * math.log(max(1, self.pairs))) + CHANCE
        lost = (best - now - errors * self.deviation(steps) for steps, best, now in self.bests())
        return max([0.0, *lost])

    def bests(self) -> list[tuple[int, float, float]]:
        """(steps, best, now): the best mean accuracy over `WINDOW` and over `LONG` steps, and the last; a best of −1 is
        none yet, and what is not told is left out."""
        pairs = ((WINDOW, self.best), (LONG, self.best_long))
        return [(steps, best, now) for steps, best in pairs if (now := self.mean("accuracy", steps)) is not None]

    def features(self) -> dict[str, float]:
        """By name, each within ±`LIMIT`; 0 where a metric is missing. Accuracy counts in tenths, the others as
        logarithms."""
        found = {
            "shorter": -self.log_ratio("thought_tokens"),
            "shortening": -self.trend("thought_tokens"),
            "gained": 10 * max(0.0, self.rise("accuracy")),
            "drop": 10 * self.dropped(),
            "entropy": self.log_ratio("entropy"),
            "entropy_rising": self.trend("entropy"),
            "gradient": self.log_ratio("grad_norm"),
        }
        return {name: max(-LIMIT, min(LIMIT, value)) for name, value in found.items()}

    def score(self, intercept: float = INTERCEPT, coefficients: Mapping[str, float] = COEFFICIENTS) -> float | None:
        """P(collapse within `HORIZON` steps); None before the first window is full, and of a method with a floor."""
        if self.floored or not self.full:
            return None
        features = self.features()
        return 1 / (1 + math.exp(-intercept - sum(weight * features[name] for name, weight in coefficients.items())))

    def log_ratio(self, name: str) -> float:
        """ln(last window / start)."""
        now, start = self.mean(name), self.start.get(name)
        return 0.0 if now is None or start is None else math.log(_above_zero(now) / _above_zero(start))

    def rise(self, name: str) -> float:
        now, start = self.mean(name), self.start.get(name)
        return 0.0 if now is None or start is None else now - start

    def trend(self, name: str) -> float:
        """Change of the logarithm over a window, by the line of least squares through its steps."""
        points = [(x, row[name]) for x, row in enumerate(self.recent[-WINDOW:]) if name in row]
        if len(points) < 2:
            return 0.0
        values = [(x, math.log(_above_zero(y))) for x, y in points]
        mean_x, mean_y = (sum(column) / len(values) for column in zip(*values, strict=True))
        spread = sum((x - mean_x) ** 2 for x, _ in values)
        return WINDOW * sum((x - mean_x) * (y - mean_y) for x, y in values) / spread

    def state_dict(self) -> dict[str, Any]:
        """As JSON holds it; `of_state` gives the same trail back."""
        return dict(vars(self))

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(**state)


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _above_zero(value: float) -> float:
    """A length or entropy of nothing still has a logarithm."""
    return max(value, 1e-3)
