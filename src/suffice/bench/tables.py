"""A bench as the papers print it: rows are arms, columns accuracy, generated tokens and their part of the base's."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.bench.found import ArmFound, BenchFound, Evaluated
from suffice.bench.result import SPENT
from suffice.interval import Interval
from suffice.numbers import UNKNOWN, interval, number
from suffice.run.records import Figures

HEADS = ("", "seeds", "step", "Acc", "Tok", "CR", "accuracy, points", "thinking tokens, %")
SPENDING = (*HEADS, "spent")
CAPTION = (
    "Acc in %, Tok generated tokens of a sample, CR their part of the base's in %; changes to the base, paired, with "
    "95 % intervals over seeds and questions; * on the Pareto front of accuracy and thinking tokens."
)


COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True, slots=True)
class Block:
    """One table: a row an arm, cells under the heads."""

    title: str
    heads: tuple[str, ...]
    rows: list[list[str]]


def blocks(found: BenchFound) -> list[Block]:
    """The final step, greedily where the plan asks for it, then one budget of every kind. Nothing while the base or all
    arms are unfinished."""
    if not (found.arms and found.base):
        return []
    base = found.base.accuracy.mean
    ends = [row(arm, arm.steps[-1], base, mark=arm.pareto) for arm in found.arms]
    tables = [Block("After the last step", HEADS, [base_row(found.base), *ends])]
    if found.base_greedy:
        greedy = found.base_greedy.accuracy.mean
        ends = [row(arm, arm.greedy, greedy) for arm in found.arms if arm.greedy]
        tables.append(Block("After the last step, greedy", HEADS, [base_row(found.base_greedy), *ends]))
    for kind, name in SPENT.items():
        within = found.budgets[kind]
        rows = []
        for arm in found.arms:
            (step,) = (each for each in arm.steps if each.step == within.steps[arm.arm])
            rows.append([*row(arm, step, base), short(getattr(step, kind))])
        tables.append(Block(f"Within {short(within.budget)} {name}", SPENDING, rows))
    return tables


def base_row(metrics: Figures) -> list[str]:
    return ["base", "", "0", *place(metrics), "100.0", "", ""]


def row(arm: ArmFound, step: Evaluated, base: float, mark: bool = False) -> list[str]:
    """An arm after a step; `base` is the accuracy that its change is to."""
    thought = step.change.thought_tokens_change
    return [
        arm.arm + (" *" if mark else ""),
        str(len(arm.seeds)),
        str(step.step),
        *place(step.metrics),
        number(100 * step.compression.mean) if step.compression.known else UNKNOWN,
        gained(step.change.accuracy, base, len(arm.seeds)),
        signed(thought._replace(low=max(thought.low, -1.0))),  # no thought is shorter than none
    ]


def place(metrics: Figures) -> list[str]:
    return [number(100 * metrics.accuracy.mean), number(metrics.tokens.mean)]


def gained(change: Interval, base: float, seeds: int) -> str:
    """A change of accuracy in points, its interval cut where accuracy would leave 0 to 100 %. Seeds that differ so much
    that theirs holds all of that say nothing of others: `−16.3 (two seeds: no interval)`.

    Args:
        base: accuracy that the change is to, from 0 to 1.
    """
    cut = Interval(change.mean, max(change.low, -base), min(change.high, 1 - base))
    if seeds > 1 and (cut.low, cut.high) == (-base, 1 - base):
        return f"{number(100 * change.mean, signed=True)} ({COUNTS.get(seeds, seeds)} seeds: no interval)"
    return signed(cut if change.bounded else change)


def signed(figure: Interval) -> str:
    """`+1.2 (−0.4 to +2.8)`, a fraction times 100."""
    return interval(*figure, 100, signed=True)


def short(amount: float) -> str:
    """`1.23 M`, `45.6 k` or `789`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f}"


def notes(found: BenchFound) -> list[str]:
    """What a reader must know beside the tables: cells that failed, are unfinished, or collapsed."""
    lines = [f"{cell.arm}, seed {cell.seed}, failed: {cell.failed}" for cell in found.cells if cell.failed]
    unfinished: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.collapsed:
            lines.append(f"{cell.arm}, seed {cell.seed}: accuracy in training collapsed at step {cell.collapsed}")
        if not cell.steps and not cell.failed:
            unfinished.setdefault(cell.arm, []).append(str(cell.seed))
    lines += [f"{arm}: unfinished for seed {', '.join(seeds)}" for arm, seeds in unfinished.items()]
    return lines


def markdown(found: BenchFound) -> str:
    """The tables and notes as a Markdown page."""
    protocol = found.protocol
    parts = [
        f"Base {found.model}, {protocol['task']} {protocol['split']}: {found.questions} questions × "
        f"{protocol['samples']} samples, temperature {protocol['temperature']:g}, top_p {protocol['top_p']:g}, at most "
        f"{protocol['max_thought_tokens']} thinking and {protocol['max_answer_tokens']} answer tokens.\n"
    ]
    for block in blocks(found):
        lines = [block.heads, ["---", *["---:"] * (len(block.heads) - 1)], *block.rows]
        parts.append(f"## {block.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    parts.append(CAPTION.replace("*", "\\*") + "\n")
    parts += [f"- {line}" for line in notes(found)]
    return "\n".join(parts).rstrip() + "\n"
