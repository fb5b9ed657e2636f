"""A bench as the papers print it: rows are arms, columns accuracy, generated tokens and their part of the base's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suffice.bench.result import SPENT
from suffice.numbers import UNKNOWN, interval, number, of

HEADS = ("", "seeds", "step", "Acc", "Tok", "CR", "accuracy, points", "thinking tokens, %")
SPENDING = (*HEADS, "spent")
CAPTION = (
    "Acc in %, Tok generated tokens of a sample, CR their part of the base's in %; changes to the base, paired, with "
    "95 % intervals over seeds and questions; * on the Pareto front of accuracy and thinking tokens."
)


@dataclass(frozen=True, slots=True)
class Block:
    """One table: a row an arm, cells under the heads."""

    title: str
    heads: tuple[str, ...]
    rows: list[list[str]]


def blocks(result: Mapping[str, Any]) -> list[Block]:
    """The final step, greedily where the plan asks for it, then one budget of every kind. Nothing while the base or all
    arms are unfinished."""
    if not result["arms"]:
        return []
    ends = [row(arm, arm["steps"][-1], mark=arm["pareto"]) for arm in result["arms"]]
    found = [Block("After the last step", HEADS, [base_row(result["base"]), *ends])]
    if result["base_greedy"]:
        greedy = [row(arm, arm["greedy"]) for arm in result["arms"]]
        found.append(Block("After the last step, greedy", HEADS, [base_row(result["base_greedy"]), *greedy]))
    for kind, name in SPENT.items():
        budget = result["budgets"][kind]
        rows = []
        for arm in result["arms"]:
            (step,) = (each for each in arm["steps"] if each["step"] == budget["steps"][arm["arm"]])
            rows.append([*row(arm, step), short(step[kind])])
        found.append(Block(f"Within {short(budget['budget'])} {name}", SPENDING, rows))
    return found


def base_row(metrics: Mapping[str, Any]) -> list[str]:
    return ["base", "", "0", *place(metrics), "100.0", "", ""]


def row(arm: Mapping[str, Any], step: Mapping[str, Any], mark: bool = False) -> list[str]:
    ratio = step["compression"]["mean"]
    return [
        arm["arm"] + (" *" if mark else ""),
        str(len(arm["seeds"])),
        str(step["step"]),
        *place(step["metrics"]),
        UNKNOWN if ratio is None else number(100 * ratio),
        signed(step["change"]["accuracy"], "difference"),
        signed(step["change"]["thought_tokens_change"]),
    ]


def place(metrics: Mapping[str, Any]) -> list[str]:
    return [number(100 * metrics["accuracy"]["mean"]), number(metrics["tokens"]["mean"])]


def signed(figure: Mapping[str, float | None], centre: str = "mean") -> str:
    """`+1.2 (−0.4 to +2.8)`, a fraction times 100."""
    return interval(*of(figure, centre), 100, signed=True)


def short(amount: float) -> str:
    """`1.23 M`, `45.6 k` or `789`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f}"


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know beside the tables: cells that failed, are unfinished, or collapsed."""
    lines = [
        f"{cell['arm']}, seed {cell['seed']}, failed: {cell['failed']}" for cell in result["cells"] if cell["failed"]
    ]
    unfinished: dict[str, list[str]] = {}
    for cell in result["cells"]:
        if cell["collapsed"]:
            lines.append(
                f"{cell['arm']}, seed {cell['seed']}: accuracy in training collapsed at step {cell['collapsed']}"
            )
        if not cell["steps"] and not cell["failed"]:
            unfinished.setdefault(cell["arm"], []).append(str(cell["seed"]))
    lines += [f"{arm}: unfinished for seed {', '.join(seeds)}" for arm, seeds in unfinished.items()]
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """The tables and notes as a Markdown page."""
    protocol = result["protocol"]
    parts = [
        f"Base {result['model']}, {protocol['task']} {protocol['split']}: {result['questions']} questions × "
        f"{protocol['samples']} samples, temperature {protocol['temperature']:g}, top_p {protocol['top_p']:g}, at most "
        f"{protocol['max_thought_tokens']} thinking and {protocol['max_answer_tokens']} answer tokens.\n"
    ]
    for block in blocks(result):
        lines = [block.heads, ["---", *["---:"] * (len(block.heads) - 1)], *block.rows]
        parts.append(f"## {block.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    parts.append(CAPTION.replace("*", "\\*") + "\n")
    parts += [f"- {line}" for line in notes(result)]
    return "\n".join(parts).rstrip() + "\n"
