"""What papers report of S-GRPO and GRPO-λ, what others saw when they ran them again, and what was measured here.

`python -m benchmarks.claims` renders docs/claims.md. Figures of others are in benchmarks/results/claims.json, as
printed but for sums that were added up again; ours come from the records of `suffice bench`. The page takes a table
between `<!-- claims METHOD -->` and `<!-- /claims -->`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.readme import CHANGES, LANGUAGE_MODEL, QWEN, RECORD, RESULTS, ROOT, WORDS, bench, end_of, headed
from suffice.numbers import number

SOURCE = RESULTS / "claims.json"
PAGE = ROOT / "docs" / "claims.md"
PLACE = re.compile(r"(<!-- claims (?P<method>[\w-]+) -->\n).*?(<!-- /claims -->)", re.DOTALL)
ARMS = {"s-grpo": "S-GRPO", "grpo-lambda": "GRPO-λ"}
LAB, TAUGHT = "the lab's, 100,000 parameters", f"{QWEN}, taught to overthink"


@dataclass(frozen=True, slots=True)
class Claim:
    """One model after training with one method: changes of tokens in % and of accuracy in points."""

    kind: Literal["paper", "others", "here"]
    who: str
    model: str
    problems: str
    tokens: float
    accuracy: float


def claims(method: str) -> list[Claim]:
    """Those of the paper, of others and ours, in this order."""
    return [*(printed(each) for each in json.loads(SOURCE.read_text()) if each["method"] == method), *ours(method)]


def printed(row: dict[str, Any]) -> Claim:
    (accuracy, tokens), (then, fewer) = row["before"], row["after"]
    change = round(100 * (fewer / tokens - 1), 1), round(then - accuracy, 2)
    return Claim(row["kind"], row["who"], row["model"], row["problems"], *change)


def ours(method: str) -> list[Claim]:
    """The mean over seeds on the lab's two tasks, and on a language model that was taught to overthink."""
    cells = [row["change"] for row in json.loads(RECORD.read_text())["rows"] if row["arm"] == f"lab-{method}"]
    mean = {key: {centre: sum(cell[key][centre] for cell in cells) / len(cells)} for key, centre in CHANGES.items()}
    found = [(LAB, "`arithmetic`", len(cells), mean)]
    for model, problems, name, step in (
        (LAB, "`ballots`", "full", 100),
        (TAUGHT, WORDS, LANGUAGE_MODEL, None),
    ):
        arm = next(each for each in bench(name)["arms"] if each["arm"] == ARMS[method])
        end = end_of(arm, step or arm["steps"][-1]["step"])
        found.append((model, problems, len(arm["seeds"]), end["change"]))
    return [
        Claim(
            "here",
            "here",
            model,
            f"{problems}, {seeds} seed{'s' * (seeds > 1)}",
            *(round(100 * change[key][centre], 1) for key, centre in CHANGES.items()),
        )
        for model, problems, seeds, change in found
    ]


def table(method: str) -> str:
    lines = headed(["who", "model", "problems", "tokens, %", "accuracy, points"])
    for each in claims(method):
        accuracy = number(each.accuracy, 1 if each.kind == "here" else 2, signed=True)
        lines.append(
            f"| {each.who} | {each.model} | {each.problems} | {number(each.tokens, signed=True)} | {accuracy} |"
        )
    return "\n".join(lines) + "\n"


def rendered(page: str) -> str:
    """The page with its tables replaced."""
    return PLACE.sub(lambda place: f"{place[1]}{table(place['method'])}{place[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
