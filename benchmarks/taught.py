"""What docs/real-models.md shows, beside its bench, of the model that was taught to overthink: `python -m
benchmarks.taught` renders it from what `benchmarks.real_training` kept.

The page takes a part between `<!-- taught PART -->` and `<!-- /taught -->`: `diagnosis`, `greedy`, `base`, `over`,
`other` or `traces`.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from benchmarks.readme import LANGUAGE_MODEL, RESULTS, ROOT, bench, figure, headed
from suffice.numbers import interval, number

PAGE = ROOT / "docs" / "real-models.md"
PLACE = re.compile(r"(<!-- taught (?P<part>\w+) -->\n).*?(<!-- /taught -->)", re.DOTALL)
RIVALS = ("inducer", "deer")
"""Ways to stop the base that are shown; cut at a budget, hardly any of its thoughts has ended."""


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{LANGUAGE_MODEL}.json").read_text(encoding="utf-8"))
    return found


def diagnosis() -> str:
    """What `suffice diagnose` concludes, and the curve."""
    found = record()["diagnosis"]
    cells = [[f"{100 * point['fraction']:.0f} %", number(100 * point["accuracy"]["mean"])] for point in found["curve"]]
    kept, right = (" | ".join(row) for row in zip(*cells, strict=True))
    rule = "---|" * (len(cells) + 1)
    table = f"| thought kept | {kept} |\n|{rule}\n| right, % | {right} |\n"
    return f"> {found['conclusion']}\n\n{table}"


def greedy() -> str:
    """What one greedy thought a problem gives: the base, and each run that was asked so."""
    found = bench(LANGUAGE_MODEL)
    lines = headed(["greedy", "accuracy, %", "thinking tokens", "change: points", "thinking tokens, %"])
    lines.append(
        f"| base | {accuracy(found['base_greedy'])} | {number(found['base_greedy']['thought_tokens']['mean'])} | | |"
    )
    for cell in found["cells"]:
        if end := cell["greedy"]:
            thought = number(end["metrics"]["thought_tokens"]["mean"])
            shown = [accuracy(end["metrics"]), thought, *changed(end["change"])]
            lines.append(f"| {cell['arm']}, seed {cell['seed']} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def base() -> str:
    """The base, whole and stopped without training."""
    lines = headed(["", "accuracy, %", "thinking tokens", "generated tokens"])
    for row in record()["stopped"]:
        if row["kind"] in (None, *RIVALS):
            tokens = " | ".join(number(row[each]["mean"]) for each in ("thought_tokens", "tokens"))
            lines.append(f"| {named(row)} | {accuracy(row)} | {tokens} |")
    return "\n".join(lines) + "\n"


def named(row: dict[str, Any]) -> str:
    at = (row["variant"] or "").partition("-")[2]
    return {None: "to its end", "inducer": f"told to answer after {at}", "deer": f"DEER, when {at} sure"}[row["kind"]]


def accuracy(row: dict[str, Any]) -> str:
    return interval(*(row["accuracy"][key] for key in ("mean", "low", "high")), 100)


def over() -> str:
    """What each trained model has over the ways to stop the base, in points of accuracy."""
    lines = headed(["trained", "accuracy, %", "thinking tokens", "over the inducer", "over DEER"])
    for row in record()["over"]:
        lead = (figure(row["over"][kind], 100, "difference") for kind in RIVALS)
        thought = number(row["thought_tokens"]["mean"])
        lines.append(f"| {row['run']} | {accuracy(row)} | {thought} | {' | '.join(lead)} |")
    return "\n".join(lines) + "\n"


def other() -> str:
    """The base and S-GRPO on problems of another kind."""
    lines = headed(["", "accuracy, %", "thinking tokens", "generated tokens", "change: points", "thinking tokens, %"])
    for name, row in zip(("base", "S-GRPO, seed 0"), record()["other"], strict=True):
        tokens = " | ".join(number(row[each]["mean"]) for each in ("thought_tokens", "tokens"))
        change = row["change"]
        changes = " | | |" if change is None else f" | {' | '.join(changed(change))} |"
        lines.append(f"| {name} | {accuracy(row)} | {tokens}{changes}")
    return "\n".join(lines) + "\n"


def changed(change: dict[str, Any]) -> list[str]:
    return [figure(change["accuracy"], 100, "difference"), figure(change["thought_tokens_change"], 100, "mean")]


def traces() -> str:
    """Thoughts before and after, side by side."""
    rows = [
        f'<tr><td colspan="2"><b>{broken(each["question"])}</b> ({each["gold"]})</td></tr>\n'
        f"<tr><td>{broken(each['before'])}</td><td>{broken(each['after'])}</td></tr>"
        for each in record()["traces"]
    ]
    return "<table>\n<tr><th>before</th><th>after</th></tr>\n" + "\n".join(rows) + "\n</table>\n"


def broken(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def rendered(page: str) -> str:
    """The page with its parts replaced."""
    parts = {"diagnosis": diagnosis, "greedy": greedy, "base": base, "over": over, "other": other, "traces": traces}
    return PLACE.sub(lambda place: f"{place[1]}{parts[place['part']]()}{place[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
