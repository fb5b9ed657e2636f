"""The tables of docs/findings.md and docs/results.md, rendered from what `suffice bench` recorded.

    python -m benchmarks.findings                       render what benchmarks/results holds, tables and pictures
    python -m benchmarks.findings NAME=DIRECTORY …      first keep these benches there

A page takes between a marker and `<!-- /bench -->`:

    <!-- bench NAME -->                  every arm, with the steps at which seeds collapsed and how many kept the rule
    <!-- bench NAME: ARM; ARM -->        these arms alone, without that
    <!-- bench NAME, ARM -->             the seeds of one arm
    <!-- bench NAME at equal cost -->    what equal budgets buy
    <!-- bench NAME by seed -->          the seeds of every arm

and, between a marker and `<!-- /tasks -->`,

    <!-- tasks ARM: NAME; NAME -->       one arm of several benches, each of another task
    <!-- tasks: NAME; NAME -->           every arm of them, after the last step

Curves of training are not kept.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import pictures, readme
from benchmarks.readme import RESULTS, ROOT, bench, headed
from suffice.bench.result import SPENT
from suffice.bench.tables import gained, short
from suffice.interval import Interval
from suffice.numbers import number
from suffice.run.layout import BENCH

DOCS = ROOT / "docs"
PAGES = [
    *(DOCS / f"{name}.md" for name in ("findings", "results", "guard", "claims", "real-models")),
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
]
PLACE = re.compile(
    r"(<!-- bench (?P<name>[\w-]+)(?:, (?P<arm>[^:]+?))?(?:: (?P<arms>.+?))?(?P<how> at equal cost| by seed)? -->\n)"
    r".*?(<!-- /bench -->)",
    re.DOTALL,
)
TASKS = re.compile(r"(<!-- tasks(?: (?P<arm>[^:]+))?: (?P<names>.+?) -->\n).*?(<!-- /tasks -->)", re.DOTALL)
LOST, SAVED = -0.02, -0.40
"""The rule: accuracy surely not lower than this, thinking tokens changed by this or more."""


def keep(name: str, directory: Path) -> None:
    """Copy a bench's record, without its curves and the folders that it was made in; the page names its command."""
    record = json.loads((directory / BENCH).read_text(encoding="utf-8"))
    del record["manifest"]["command"]
    for cell in record["cells"]:
        del cell["curve"], cell["run"]
    readme.keep(RESULTS / f"bench-{name}.json", record)


def table(record: dict[str, Any]) -> str:
    """A row an arm: its change to the base at every evaluated step, and which seeds collapsed or kept the rule."""
    steps = steps_of(record["arms"])
    heads = ["", "seeds", *(f"step {step}" for step in steps), "collapsed at", "keeps the rule"]
    lines = headed(heads)
    for arm in record["arms"]:
        cells = cells_of(record, arm)
        fell = ", ".join(str(cell["collapsed"] or "–") for cell in cells)
        lines.append(
            f"| {' | '.join([arm['arm'], str(len(cells)), *row(record, arm, steps), fell, kept(cells, steps)])} |"
        )
    base, protocol = record["base"], record["protocol"]
    lines.append(
        f"\nBase: {100 * base['accuracy']['mean']:.1f} % at {base['thought_tokens']['mean']:.1f} thinking tokens, "
        f"on {record['questions']:,} problems of `{protocol['task']}` (split `{protocol['split']}`) "
        f"× {protocol['samples']} samples."
    )
    return "\n".join(lines) + "\n"


def chosen(record: dict[str, Any], names: str) -> str:
    """A row for each of the named arms: its change to the base at every step that one of them was evaluated at."""
    arms = {arm["arm"]: arm for arm in record["arms"]}
    found = [arms[name] for name in names.split("; ")]
    steps = steps_of(found)
    lines = headed(["", "seeds", *(f"step {step}" for step in steps)])
    for arm in found:
        lines.append(f"| {' | '.join([arm['arm'], str(len(arm['seeds'])), *row(record, arm, steps)])} |")
    return "\n".join(lines) + "\n"


def tasks(records: list[dict[str, Any]], arm: str) -> str:
    """A row a bench: one arm's change to the base at every evaluated step, and how many seeds kept the rule."""
    found = [next(each for each in record["arms"] if each["arm"] == arm) for record in records]
    steps = steps_of(found)
    lines = headed([arm, "seeds", *(f"step {step}" for step in steps), "keeps the rule"])
    for record, own in zip(records, found, strict=True):
        cells, task = cells_of(record, own), f"`{record['protocol']['task']}`"
        lines.append(f"| {' | '.join([task, str(len(cells)), *row(record, own, steps), kept(cells, steps)])} |")
    return "\n".join(lines) + "\n"


def ends(records: list[dict[str, Any]]) -> str:
    """A row an arm of the first bench: what each found after its last step, and how many of its seeds kept the rule
    there; a dash where a bench has no such arm."""
    lines = headed(["", *(f"`{record['protocol']['task']}`" for record in records), "keeps the rule"])
    for name in (arm["arm"] for arm in records[0]["arms"]):
        found, keeping = zip(*(end(record, name) for record in records), strict=True)
        lines.append(f"| {' | '.join([name, *found, ', '.join(keeping)])} |")
    return "\n".join(lines) + "\n"


def end(record: dict[str, Any], name: str) -> tuple[str, str]:
    for arm in record["arms"]:
        if arm["arm"] == name:
            last = steps_of([arm])[-1:]
            return row(record, arm, last)[0], kept(cells_of(record, arm), last)
    return "–", "–"


def seeds(record: dict[str, Any], arm: str | None = None) -> str:
    """A row a seed, of one arm or of all."""
    cells = [cell for cell in record["cells"] if arm in (None, cell["arm"])]
    lines = headed([arm or "", *(f"step {step['step']}" for step in cells[0]["steps"])])
    for cell in cells:
        name = f"seed {cell['seed']}" if arm else f"{cell['arm']}, seed {cell['seed']}"
        lines.append(f"| {name} | {' | '.join(change(record, step) for step in cell['steps'])} |")
    return "\n".join(lines) + "\n"


def costs(record: dict[str, Any]) -> str:
    """A row an arm: its change to the base with what every kind of budget buys."""
    kinds = [f"{short(record['budgets'][kind]['budget'])} {name}" for kind, name in SPENT.items()]
    lines = headed(["", *(f"within {kind}" for kind in kinds)])
    for arm in record["arms"]:
        at = {step["step"]: change(record, step, len(arm["seeds"])) for step in arm["steps"]}
        found = [record["budgets"][kind]["steps"][arm["arm"]] for kind in SPENT]
        lines.append(f"| {arm['arm']} | {' | '.join(f'step {step}: {at[step]}' for step in found)} |")
    return "\n".join(lines) + "\n"


def steps_of(arms: list[dict[str, Any]]) -> list[int]:
    return sorted({step["step"] for arm in arms for step in arm["steps"]})


def row(record: dict[str, Any], arm: dict[str, Any], steps: list[int]) -> list[str]:
    """An arm's cells, a dash where it was not evaluated."""
    at = {step["step"]: change(record, step, len(arm["seeds"])) for step in arm["steps"]}
    return [at.get(step, "–") for step in steps]


def change(record: dict[str, Any], step: dict[str, Any], count: int = 1) -> str:
    """`+1.2 (−0.4 to +2.8), −41 %`."""
    accuracy, base = step["change"]["accuracy"], record["base"]["accuracy"]["mean"]
    thought = number(100 * step["change"]["thought_tokens_change"]["mean"], 0, signed=True) + " %"
    said = gained(Interval(accuracy["difference"], accuracy["low"], accuracy["high"]), base, count)
    return f"{said}, {thought}"


def cells_of(record: dict[str, Any], arm: dict[str, Any]) -> list[dict[str, Any]]:
    """An arm's cells, those that were finished."""
    return [cell for cell in record["cells"] if cell["arm"] == arm["arm"] and cell["seed"] in arm["seeds"]]


def kept(cells: list[dict[str, Any]], steps: list[int]) -> str:
    """How many seeds keep the rule at each step."""
    return ", ".join(f"{sum(keeps(cell, step) for cell in cells)}" for step in steps)


def keeps(cell: dict[str, Any], at: int) -> bool:
    """Whether a seed keeps the rule at a step."""
    found = [step["change"] for step in cell["steps"] if step["step"] == at]
    return any(c["accuracy"]["low"] >= LOST and c["thought_tokens_change"]["mean"] <= SAVED for c in found)


def rendered(page: str) -> str:
    """A page with the tables of the benches that it names replaced."""
    page = PLACE.sub(lambda place: f"{place[1]}{shown(**place.groupdict())}{place[6]}", page)
    return TASKS.sub(lambda place: f"{place[1]}{across(**place.groupdict())}{place[4]}", page)


def shown(name: str, arm: str | None, arms: str | None, how: str | None) -> str:
    record = bench(name)
    if arms:
        return chosen(record, arms)
    if arm or how == " by seed":
        return seeds(record, arm)
    return costs(record) if how else table(record)


def across(arm: str | None, names: str) -> str:
    records = [bench(name) for name in names.split("; ")]
    return tasks(records, arm) if arm else ends(records)


def main(benches: list[str]) -> None:
    for each in benches:
        name, _, directory = each.partition("=")
        keep(name, Path(directory))
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    pictures.draw(bench)


if __name__ == "__main__":
    main(sys.argv[1:])
