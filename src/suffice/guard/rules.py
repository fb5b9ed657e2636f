"""The guard: sees that training harms a model, or is about to, and chooses the checkpoint to keep.

Two kinds of evidence. *Harm* is what the numbers already show, beyond noise: accuracy below its best in training, or
below the base model's on problems set aside; thoughts that no longer close or go in circles, answers that cannot be
read. *Foresight* is a score (`suffice.guard.foresight`). What is done about either is the recipe's choice. Nothing here
knows an engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

from suffice.config import GuardSection
from suffice.guard.foresight import HORIZON, WINDOW, Line, Trail
from suffice.statistics import proportion_difference

LEVEL = 0.999  # of the interval of a probe's difference from the base: there are many looks in a run
NOISE = 5.0
"""Standard errors of a drop that noise may explain: the best of many windows is compared with the last, at every step,
and noise alone must not pass in a long run."""
ILL = 0.1  # rise of one of these shares that is harm
ILLS = {
    "unclosed": "thoughts that never close",
    "looping": "thoughts that end in a loop",
    "unparsed": "answers that cannot be read",
}

Action = Literal["go", "warn", "stop", "roll back"]


@dataclass(frozen=True, slots=True)
class Probe:
    """The model on the problems set aside: the 0/1 outcomes of each, and the mean length of a thought in tokens."""

    correct: Mapping[str, list[float]]
    thought_tokens: float

    @property
    def accuracy(self) -> float:
        """Mean over problems of their mean, in 0…1."""
        return sum(sum(each) / len(each) for each in self.correct.values()) / len(self.correct)


class Decision(NamedTuple):
    """What to do after a step, why in one sentence (empty: nothing speaks against going on), and the score in 0…1."""

    action: Action
    reason: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that may be chosen, by its probe: `change` is its accuracy less the base's, as a fraction, `low` to
    `high` its 95 % interval.

    `stretch` counts the roll backs before it: what is of another stretch did not grow out of it.
    """

    step: int
    accuracy: float
    thought_tokens: float
    change: float = 0.0
    stretch: int = 0
    low: float = 0.0
    high: float = 0.0


@dataclass
class Guard:
    """One `observe` a step, and one before the first with the base's probe. Its state is plain JSON."""

    settings: GuardSection
    trail: Trail = field(default_factory=Trail)
    base: Probe | None = None
    candidates: list[Candidate] = field(default_factory=list)
    good: int = 0
    rollbacks: int = 0
    stopped: str = ""
    warned: bool = False

    def observe(self, step: int, metrics: Line, probe: Probe | None = None) -> Decision:
        """A step's line of metrics and, where the model was probed after it, the probe. Step 0 is the base's probe."""
        if step == 0:
            self.base = probe
            self.candidates = [Candidate(0, probe.accuracy, probe.thought_tokens)] if probe else []
            return Decision("go", "", None)
        self.trail.add(metrics)
        score = self.trail.score()
        reason = "; ".join([*self._harm(probe), *self._foreseen(score)])
        action = self._action(reason)
        self.warned = bool(reason) and action != "roll back"
        if action == "stop":
            self.stopped = reason
        if action == "roll back":
            self.rollbacks += 1
            self.trail = self.trail.restarted()
        elif probe is not None and self.base is not None:
            change, low, high = proportion_difference(probe.correct, self.base.correct)
            self.candidates.append(
                Candidate(step, probe.accuracy, probe.thought_tokens, change, self.rollbacks, low, high)
            )
            if not reason and change >= -self.settings.tolerance:
                self.good = step
        return Decision(action, reason, score)

    def _action(self, reason: str) -> Action:
        if not reason or self.settings.action == "off":
            return "go"
        if self.settings.action == "roll back":
            return "roll back" if self.rollbacks < self.settings.max_rollbacks else "stop"
        if self.settings.action == "stop":
            return "stop"
        return "go" if self.warned else "warn"  # said once, until it clears

    def _harm(self, probe: Probe | None) -> list[str]:
        found = []
        if self.trail.full:
            found += [*self._fallen(), *self._ill()]
        if probe is not None and self.base is not None:
            change = proportion_difference(probe.correct, self.base.correct, LEVEL)
            if change.high < -self.settings.tolerance:
                found.append(
                    f"accuracy on the {len(probe.correct)} problems set aside is {_points(-change.mean)} points below "
                    f"the base's, at least {_points(-change.high)}"
                )
        return found

    def _fallen(self) -> list[str]:
        for steps, best, now in self.trail.bests():
            noise = NOISE * math.sqrt(2) * self.trail.deviation(steps)
            if best - now - noise > self.settings.tolerance:
                return [
                    f"accuracy over the last {steps} steps is {_points(best - now)} points below its best "
                    f"({100 * best:.1f} %), of which noise explains at most {_points(noise)}"
                ]
        return []

    def _ill(self) -> list[str]:
        found = []
        count = WINDOW * self.trail.questions
        for name, words in ILLS.items():
            now, start = self.trail.mean(name), self.trail.start.get(name)
            if now is None or start is None:
                continue
            noise = NOISE * math.sqrt((_spread(now, count) + _spread(start, count)) / count)
            if now - start - noise > ILL:
                found.append(f"{words} rose from {100 * start:.0f} to {100 * now:.0f} %")
        return found

    def unseen(self) -> str:
        """Which loss a probe is too small to see, in a sentence; empty where it sees one of twice `tolerance`, or of a
        point more than that where it is less than a point.

        A loss L is an alarm where the upper end of its interval, about z·√(v/n) above −L, lies below −`tolerance`. v is
        the variance of one answer less the mean of the base's k to the same problem, by the base's own answers: the
        mean over problems of p·(1 − p)·(1 + 1/k), and p·(1 − p) without bias p̂·(1 − p̂)·k/(k − 1).
        """
        if self.base is None:
            return ""
        tolerance, problems = self.settings.tolerance, len(self.base.correct)
        shares = [(sum(each) / len(each), len(each)) for each in self.base.correct.values()]
        spread = sum(p * (1 - p) * (k + 1) / max(1, k - 1) for p, k in shares) / problems
        z = NormalDist().inv_cdf((1 + LEVEL) / 2)
        beyond = max(tolerance, 0.01)
        least, enough = tolerance + z * math.sqrt(spread / problems), math.ceil(spread * (z / beyond) ** 2)
        if problems >= enough:
            return ""
        return (
            f"{problems} problems set aside show a loss of {_points(least)} points of accuracy at once, none of "
            f"{_points(tolerance + beyond)}; guard.problems = {enough} would"
        )

    def _foreseen(self, score: float | None) -> list[str]:
        if score is None or score < self.settings.threshold:
            return []
        features = self.trail.features()
        length = 100 * math.exp(-features["shorter"])
        return [
            f"a collapse within {HORIZON} steps is likely (score {score:.2f}): thoughts of the last {WINDOW} steps "
            f"have {length:.0f} % of the length of the first {WINDOW}, and changed by "
            f"{100 * math.expm1(-features['shortening']):+.0f} % within them"
        ]

    def chosen(self) -> Candidate:
        """The checkpoint to keep once training is over."""
        return choose(self.candidates, self.settings.tolerance)

    def needed(self) -> set[int]:
        """Steps of the checkpoints that may still be rolled back to or chosen: what speaks for the last one is not yet
        complete, the others stand or fall already."""
        *known, last = self.candidates
        standing = choose(self.candidates, self.settings.tolerance, known) if known else last
        return {self.good, standing.step, last.step}

    def state_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "trail": self.trail.state_dict(),
            "base": self.base and asdict(self.base),
            "candidates": [asdict(each) for each in self.candidates],
            **{name: getattr(self, name) for name in ("good", "rollbacks", "stopped", "warned")},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.trail = Trail.of_state(state["trail"])
        self.base = Probe(**state["base"]) if state["base"] else None
        self.candidates = [Candidate(**each) for each in state["candidates"]]
        self.good, self.rollbacks = state["good"], state["rollbacks"]
        self.stopped, self.warned = state["stopped"], state["warned"]


RULE = (
    "fewest thinking tokens among those whose accuracy on the problems set aside, taken together with that of the "
    "probes before and after, is not more than {tolerance:g} points below the base's"
)


def choose(candidates: Sequence[Candidate], tolerance: float, among: Sequence[Candidate] | None = None) -> Candidate:
    """The shortest candidate that is not worse than the base by more than `tolerance`; the base is the first of them.

    One probe is too noisy to tell two points, so a checkpoint is judged by the mean change of its probe and of the two
    beside it in its stretch. Ties go to the more accurate, then to the earlier. `among` are those that may be chosen,
    all unless given.
    """
    base, *trained = candidates

    def change(at: Candidate) -> float:
        place = trained.index(at)
        beside = [each.change for each in trained[max(0, place - 1) : place + 2] if each.stretch == at.stretch]
        return sum(beside) / len(beside)

    allowed = candidates if among is None else among
    standing = [each for each in allowed if each is base or change(each) >= -tolerance - 1e-9]
    return min(standing, key=lambda each: (each.thought_tokens, -each.accuracy, each.step))


def _points(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _spread(share: float, count: float) -> float:
    """Variance of an outcome with this share, never 0 (half an outcome added to either side)."""
    adjusted = (share * count + 0.5) / (count + 1)
    return adjusted * (1 - adjusted)
