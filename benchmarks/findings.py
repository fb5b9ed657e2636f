"""The tables of docs/findings.md, rendered from what `suffice bench` recorded.

    python -m benchmarks.findings                       render what benchmarks/results holds
    python -m benchmarks.findings NAME=DIRECTORY …      first keep these benches there, and their figures

A page takes a bench's table between `<!-- bench NAME -->` and `<!-- /bench -->`, the seeds of one arm after
`<!-- bench NAME, ARM -->`, or what equal budgets buy after `<!-- bench NAME at equal cost -->`. Curves of training are
not kept.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.readme import ROOT
from suffice.bench.result import SPENT
from suffice.bench.tables import short, signed
from suffice.interval import Interval
from suffice.numbers import number
from suffice.run.layout import BENCH

RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "pictures"
PAGES = [ROOT / "docs" / "findings.md", ROOT / "docs" / "guard.md", ROOT / "README.md", ROOT / "README.zh-CN.md"]
PLACE = re.compile(
    r"(<!-- bench (?P<name>[\w-]+)(?:, (?P<arm>.+?))?(?P<cost> at equal cost)? -->\n).*?(<!-- /bench -->)", re.DOTALL
)
LOST, SAVED = -0.02, -0.40
"""The rule: accuracy surely not lower than this, thinking tokens changed by this or more."""

CAPTION = (
    "Changes: accuracy in points, thinking tokens in %; paired, 95 % intervals over seeds and questions. Collapsed at: "
    "by seed, the step where accuracy in training has fallen 10 points below its best. Keeps the rule: how many seeds, "
    "step by step, think at least 40 % less and surely lose no more than 2 points."
)


def keep(name: str, directory: Path) -> None:
    """Copy a bench's record, without its curves, and those of its figures that a page shows."""
    record = json.loads((directory / BENCH).read_text(encoding="utf-8"))
    for cell in record["cells"]:
        del cell["curve"], cell["run"]
    text = re.sub(r"-?\d+\.\d{5,}(e-?\d+)?", lambda number: f"{float(number[0]):.5g}", json.dumps(record))
    (RESULTS / f"bench-{name}.json").write_text(json.dumps(json.loads(text), ensure_ascii=False) + "\n")
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for figure in ("dynamics", "pareto"):
        picture = f"bench-{name}-{figure}.png"
        if picture in pages:
            shutil.copy(directory / f"{figure}.png", PICTURES / picture)


def table(record: dict[str, Any]) -> str:
    """A row an arm: its change to the base at every evaluated step, and which seeds collapsed or kept the rule."""
    steps = sorted({step["step"] for arm in record["arms"] for step in arm["steps"]})
    heads = ["", "seeds", *(f"step {step}" for step in steps), "collapsed at", "keeps the rule"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm in record["arms"]:
        at = {step["step"]: change(step) for step in arm["steps"]}
        cells = [cell for cell in record["cells"] if cell["arm"] == arm["arm"] and cell["seed"] in arm["seeds"]]
        kept = ", ".join(f"{sum(keeps(cell, step) for cell in cells)}" for step in steps)
        fell = ", ".join(str(cell["collapsed"] or "–") for cell in cells)
        row = [arm["arm"], str(len(cells)), *(at.get(step, "–") for step in steps), fell, kept]
        lines.append(f"| {' | '.join(row)} |")
    base, protocol = record["base"], record["protocol"]
    lines.append(
        f"\nBase: {100 * base['accuracy']['mean']:.1f} % at {base['thought_tokens']['mean']:.1f} thinking tokens, "
        f"on {record['questions']:,} problems of `{protocol['task']}` (split `{protocol['split']}`) "
        f"× {protocol['samples']}. {CAPTION}"
    )
    return "\n".join(lines) + "\n"


def seeds(record: dict[str, Any], arm: str) -> str:
    """A row a seed of one arm."""
    cells = [cell for cell in record["cells"] if cell["arm"] == arm]
    steps = [step["step"] for step in cells[0]["steps"]]
    lines = [f"| {arm} | {' | '.join(f'step {step}' for step in steps)} |", "|---" * (len(steps) + 1) + "|"]
    lines += [f"| seed {cell['seed']} | {' | '.join(map(change, cell['steps']))} |" for cell in cells]
    return "\n".join(lines) + "\n"


def change(step: dict[str, Any]) -> str:
    """`+1.2 (−0.4 to 2.8), −41 %`."""
    thought = number(100 * step["change"]["thought_tokens_change"]["mean"], 0, signed=True) + " %"
    accuracy = step["change"]["accuracy"]
    return f"{signed(Interval(accuracy['difference'], accuracy['low'], accuracy['high']))}, {thought}"


def keeps(cell: dict[str, Any], at: int) -> bool:
    """Whether a seed keeps the rule at a step."""
    found = [step["change"] for step in cell["steps"] if step["step"] == at]
    return any(c["accuracy"]["low"] >= LOST and c["thought_tokens_change"]["mean"] <= SAVED for c in found)


def rendered(page: str) -> str:
    """A page with the tables of the benches that it names replaced."""
    return PLACE.sub(lambda place: f"{place[1]}{shown(**place.groupdict())}{place[5]}", page)


def costs(record: dict[str, Any]) -> str:
    """A row an arm: its change to the base with what every kind of budget buys."""
    kinds = [f"{short(record['budgets'][kind]['budget'])} {name}" for kind, name in SPENT.items()]
    lines = [f"|  | {' | '.join(f'within {kind}' for kind in kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for arm in record["arms"]:
        at = {step["step"]: change(step) for step in arm["steps"]}
        found = [record["budgets"][kind]["steps"][arm["arm"]] for kind in SPENT]
        lines.append(f"| {arm['arm']} | {' | '.join(f'step {step}: {at[step]}' for step in found)} |")
    return "\n".join(lines) + "\n"


def shown(name: str, arm: str | None, cost: str | None) -> str:
    record = load(name)
    return seeds(record, arm) if arm else costs(record) if cost else table(record)


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"bench-{name}.json").read_text(encoding="utf-8"))


def main(benches: list[str]) -> None:
    for each in benches:
        name, _, directory = each.partition("=")
        keep(name, Path(directory))
    for page in PAGES:
        if page.exists():
            page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
