"""The pictures of docs/findings.md and of the READMEs, drawn from what `suffice bench` recorded.

`python -m benchmarks.findings` draws them. Each holds a digest of the figures in it, so that a test can tell a picture
that was not drawn again when its record changed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import taught
from benchmarks.claims import ARMS, Claim, claims
from benchmarks.readme import LANGUAGE_MODEL, ROOT
from suffice.bench.figures import PALETTE, label_points
from suffice.report.plots import GRID, INK, MUTED, STYLE

PICTURES = ROOT / "docs" / "pictures"
Load = Callable[[str], dict[str, Any]]
"""A bench's record by its name."""

BLIND = {"GRPO", "Dr. GRPO", "DAPO", "all one"}
"""Arms that no reward asks to be shorter."""


@dataclass(frozen=True, slots=True)
class Point:
    """An arm after a step: changes to the base, thinking tokens in %, accuracy in points with its interval."""

    arm: str
    step: int
    thought: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Plane:
    """Arms of several benches after one step, accuracy against thinking tokens."""

    step: int
    benches: dict[str, tuple[str, ...] | None]
    """Bench → its arms; None: all."""
    ours: str


@dataclass(frozen=True, slots=True)
class Course:
    """Arms of one bench over the steps."""

    bench: str
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tasks:
    """One arm on several tasks, over the steps."""

    benches: tuple[str, ...]
    arm: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What papers report of methods, what others saw and what was measured here."""

    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stops:
    """A language model that was trained, and its base stopped without training."""

    bench: str


@dataclass(frozen=True, slots=True)
class Spot:
    """A model, and how it was stopped or trained, if it was: thinking tokens, accuracy in % with its interval."""

    name: str
    kind: str | None
    thought: float
    accuracy: float
    low: float
    high: float


Picture = Plane | Course | Tasks | Claims | Stops

SHOWN: dict[str, Picture] = {
    "ballots-step-100": Plane(100, {"full": None, "ballots-aim": ("exits as baselines",)}, "exits as baselines"),
    "share": Course("ballots-lambda", ("length penalty", "λ = 0.5", "GRPO-λ", "λ = 0.1")),
    "deviation": Course("ballots-lambda", ("length penalty", "length penalty, no std", "GRPO-λ", "λ = 0.2, no std")),
    "after-the-fall": Course("full", ("length penalty", "GRPO-λ", "S-GRPO")),
    "arithmetic": Course("arithmetic-lambda", ("length penalty", "GRPO-λ", "S-GRPO", "GRPO-λ at 3e-3")),
    "decay": Course("ballots-exits", ("S-GRPO", "decay 0.8", "decay 0.9")),
    "exit-baseline": Course("ballots-aim", ("exits as baselines", "S-GRPO, decay 0.9")),
    "decide": Tasks(("decide-sums", "decide-arithmetic", "decide-ballots"), "decide"),
    "trained-tokens": Course(
        "arithmetic-tokens", ("sampled, constant", "sampled+close, constant", "all, constant", "sampled, sequence")
    ),
    "claims": Claims(("s-grpo", "grpo-lambda")),
    "language-model": Stops(LANGUAGE_MODEL),
}


def points(record: dict[str, Any], arm: str) -> list[Point]:
    (found,) = (each for each in record["arms"] if each["arm"] == arm)
    return [
        Point(
            arm,
            step["step"],
            *(
                round(100 * value, 2)
                for value in (
                    step["change"]["thought_tokens_change"]["mean"],
                    *(step["change"]["accuracy"][key] for key in ("difference", "low", "high")),
                )
            ),
        )
        for step in found["steps"]
    ]


def data(what: Picture, load: Load) -> list[Any]:
    """Everything that a picture shows, as points or claims."""
    if isinstance(what, Claims):
        return [each for method in what.methods for each in claims(method)]
    if isinstance(what, Stops):
        return spots(load(what.bench))
    if isinstance(what, Tasks):
        benches = [load(name) for name in what.benches]
        return [replace(point, arm=found["protocol"]["task"]) for found in benches for point in points(found, what.arm)]
    if isinstance(what, Course):
        return [point for arm in what.arms for point in points(load(what.bench), arm)]
    return [
        point
        for bench, arms in what.benches.items()
        for arm in arms or [each["arm"] for each in load(bench)["arms"]]
        for point in points(load(bench), arm)
        if point.step == what.step
    ]


def spots(record: dict[str, Any]) -> list[Spot]:
    """The base, what stopping makes of it, and every run after its last step."""
    seeds = Counter(cell["arm"] for cell in record["cells"])
    ends = [
        (f"{cell['arm']}, seed {cell['seed']}" if seeds[cell["arm"]] > 1 else cell["arm"], cell["arm"], end["metrics"])
        for cell in record["cells"]
        for end in cell["steps"][-1:]
    ]
    stopped = [(row["variant"] or "base", row["kind"], row) for row in taught.record()["stopped"]]
    return [
        Spot(
            name,
            kind,
            round(found["thought_tokens"]["mean"], 1),
            *(round(100 * found["accuracy"][key], 2) for key in ("mean", "low", "high")),
        )
        for name, kind, found in [*stopped, *ends]
        if kind != "budget"  # cut and wrong: hardly any thought of the base ends before
    ]


def digest(what: Picture, load: Load) -> str:
    text = json.dumps([asdict(point) for point in data(what, load)], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def kept(name: str) -> str:
    """The digest in a picture."""
    with Image.open(PICTURES / f"{name}.png") as picture:
        return str(picture.info.get("Record"))


@rc_context({**STYLE, "font.size": 8.0})
def plane(shown: list[Point], ours: str) -> Figure:
    """Ours in orange, rewards that ask for short thoughts in blue, those blind to length in grey; shaded is where
    thoughts are at least 30 % shorter at no lower accuracy."""
    figure = Figure(figsize=(8.4, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(-100, 55)
    axes.axhline(0, color=GRID, linewidth=1.4, zorder=1)
    axes.axvline(0, color=GRID, linewidth=1.4, zorder=1)
    named = [("base", INK, (0.0, 0.0))]
    axes.plot([0], [0], "o", color=INK, markersize=6, zorder=4)
    for point in sorted(shown, key=lambda each: -each.thought):  # names find their places from the right
        colour = PALETTE[1] if point.arm == ours else MUTED if point.arm in BLIND else PALETTE[0]
        whiskers = [[point.accuracy - point.low], [point.high - point.accuracy]]
        axes.errorbar([point.thought], [point.accuracy], yerr=whiskers, fmt="o", color=colour, markersize=6,
                      elinewidth=1.1, zorder=3)  # fmt: skip
        named.append((point.arm, colour, (point.thought, point.accuracy)))
    low, high = axes.get_ylim()[0], axes.get_ylim()[1] + 2
    axes.fill_between([-100, -30], 0, high, color=PALETTE[2], alpha=0.09, linewidth=0, zorder=0)
    axes.set_ylim(low, high)
    axes.text(-98, high - 1, "30 % shorter and no less accurate", va="top", color=PALETTE[2])
    axes.set_xlabel("change of thinking tokens, %")
    axes.set_ylabel("change of accuracy, points")
    label_points(figure, axes, named)
    return figure


@rc_context(STYLE)
def course(shown: list[Point]) -> Figure:
    """Changes of accuracy, with intervals, and of thinking tokens over the steps, from the base on."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    accuracy, thought = figure.subplots(1, 2)
    for axes in (accuracy, thought):
        axes.axhline(0, color=GRID, linewidth=1.4, zorder=1)
        axes.set_xlabel("step")
    for arm, colour in zip(dict.fromkeys(point.arm for point in shown), PALETTE, strict=False):
        own = [point for point in shown if point.arm == arm]
        steps = [0, *(point.step for point in own)]
        accuracy.plot(steps, [0, *(point.accuracy for point in own)], "o-", color=colour, markersize=4, label=arm)
        thought.plot(steps, [0, *(point.thought for point in own)], "o-", color=colour, markersize=4)
        for point in own:
            if point.high - point.low < 60:  # what two seeds leave open has no place in the picture
                accuracy.vlines(point.step, point.low, point.high, color=colour, linewidth=1, alpha=0.5)
    accuracy.set_ylabel("accuracy, points")
    thought.set_ylabel("thinking tokens, %")
    figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, columnspacing=1.4, borderpad=0)
    return figure


@rc_context({**STYLE, "font.size": 8.0})
def reported(methods: tuple[str, ...]) -> Figure:
    """A panel a method: accuracy against tokens, what the paper reports, what others saw, what was measured here."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    names = {"paper": "the paper", "others": "independent re-run", "here": "here"}
    marks = {"paper": (PALETTE[0], "o"), "others": (PALETTE[1], "s"), "here": (MUTED, "D")}
    panels = figure.subplots(1, len(methods), sharex=True, sharey=True)
    for axes, method in zip(panels, methods, strict=True):
        axes.set_xlim(-100, 40)
        axes.set_ylim(-25, 25)
        axes.axhline(0, color=GRID, linewidth=1.4, zorder=1)
        axes.axvline(0, color=GRID, linewidth=1.4, zorder=1)
        axes.set_title(ARMS[method], loc="left", color=INK, fontsize=10, fontweight="bold")
        axes.set_xlabel("change of tokens, %")
        named = []
        for each in claims(method):
            colour, mark = marks[each.kind]
            axes.plot([each.tokens], [each.accuracy], mark, color=colour, markersize=6, alpha=0.85, zorder=3)
            task = each.problems.rpartition(",")[0].strip("`")
            named.append((task if each.kind == "here" else short(each), colour, (each.tokens, each.accuracy)))
        label_points(figure, axes, named)
    panels[0].set_ylabel("change of accuracy, points")
    for kind, (colour, mark) in marks.items():
        panels[0].plot([], [], mark, color=colour, markersize=6, label=names[kind])
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.4, borderpad=0)
    return figure


@rc_context({**STYLE, "font.size": 9.0})
def stopped(shown: list[Spot]) -> Figure:
    """Accuracy against thinking tokens: the base, what stopping makes of it, and what training does."""
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    told = sorted((each for each in shown if each.kind == "inducer"), key=lambda each: each.thought)
    axes.plot([each.thought for each in told], [each.accuracy for each in told], "s-", color=MUTED, markersize=4,
              label="base, told to answer after so many tokens", zorder=2)  # fmt: skip
    trained = list(dict.fromkeys(each.kind for each in shown if each.kind not in (None, "inducer", "deer")))
    colours = {None: INK, "deer": MUTED} | dict(zip(trained, PALETTE, strict=False))
    named: list[tuple[str, Any, tuple[float, float]]] = []
    for each in shown:
        if each.kind != "inducer":
            whiskers = [[each.accuracy - each.low], [each.high - each.accuracy]]
            axes.errorbar([each.thought], [each.accuracy], yerr=whiskers, fmt="o", color=colours[each.kind],
                          markersize=7, elinewidth=1.0, zorder=4)  # fmt: skip
            name = "base, DEER" if each.kind == "deer" else each.name
            named.append((name, colours[each.kind], (each.thought, each.accuracy)))
    axes.set_xlim(left=0)
    axes.set_xlabel("thinking tokens")
    axes.set_ylabel("accuracy, %")
    axes.legend(loc="lower right")
    label_points(figure, axes, named)
    return figure


def short(claim: Claim) -> str:
    return claim.model.replace("R1-Distill-Qwen-", "R1 ").removesuffix("-Thinking-2507")


def drawn(what: Picture, load: Load) -> Figure:
    if isinstance(what, Claims):
        return reported(what.methods)
    if isinstance(what, Stops):
        return stopped(data(what, load))
    return plane(data(what, load), what.ours) if isinstance(what, Plane) else course(data(what, load))


def draw(load: Load) -> None:
    """All pictures, those alone whose figures changed."""
    for name, what in SHOWN.items():
        found, path = digest(what, load), PICTURES / f"{name}.png"
        if path.exists() and kept(name) == found:
            continue
        figure = drawn(what, load)
        figure.savefig(path, dpi=160, metadata={"Record": found})
