"""What the READMEs show: a table, and what `suffice diagnose` says; and the tables by seed of docs/results.md.

python -m benchmarks.readme                                    render what benchmarks/results holds
python -m benchmarks.readme RUN/bench.json COMPARISON.json     first record these there: the bench, and what it trained
                                                               compared with the base stopped without training

The rows of `ballots` come from the records of `python -m benchmarks.findings`, the diagnosis from that of
`python -m benchmarks.real_models`.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.cli import tables
from suffice.cli.screen import say
from suffice.evaluation.serving import serve_lines
from suffice.numbers import interval, number, span
from suffice.run.records import DiagnosisSummary

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORD = RESULTS / "lab.json"
STOPS = RESULTS / "stops.json"
RESULTS_PAGE = ROOT / "docs" / "results.md"
PLACE = re.compile(r"(<!-- (?P<name>results|stops|summary|diagnosis): \w.*? -->\n).*?(<!-- /(?P=name) -->)", re.DOTALL)
KINDS = ("budget", "inducer", "deer")
CHANGES = {"thought_tokens_change": "mean", "accuracy": "difference"}
"""Changes to the base that are shown, and the key of their centre."""
DIAGNOSED, PRICE = "qwen3-8b-aime25", 0.60
TABLE = re.compile("[┏┃┡│└]|against the same")
"""Lines of a table and its caption."""
LANGUAGE_MODEL, QWEN, WORDS = "real-qwen", "Qwen2.5-Coder-0.5B", "ASDiv, SVAMP"
"""The bench of one by its name, the model, and the word problems that it was trained on."""
DECIDED = ("decide-arithmetic", "decide-ballots", "decide-sums")


@dataclass(frozen=True, slots=True)
class Words:
    """What the summary says in a language."""

    heads: tuple[str, ...]
    to: str
    ours: str


READMES = {
    "README.md": Words(
        ("method", "task", "seeds", "step", "thinking tokens, %", "accuracy, points"),
        "{} to {}",
        "ours",
    ),
    "README.zh-CN.md": Words(
        ("方法", "任务", "种子数", "步数", "思考 token，%", "准确率，百分点"),
        "{} 至 {}",
        "我们的方法",
    ),
}


def figure(values: dict[str, float], scale: float, key: str = "mean") -> str:
    """`−41.5 (−42.4 to −40.6)`, signed."""
    return interval(*(values[name] for name in (key, "low", "high")), scale, signed=True)


def results_of(bench: dict[str, Any]) -> dict[str, Any]:
    """What the first table needs of a bench with greedy ends: the base, and each arm and seed after its last step."""
    return {
        "manifest": bench["manifest"],
        "base": {
            "accuracy": bench["base"]["accuracy"],
            "thought_tokens": bench["base"]["thought_tokens"],
            "greedy_accuracy": bench["base_greedy"]["accuracy"],
        },
        "rows": [
            {
                "arm": cell["arm"],
                "seed": cell["seed"],
                "thought_tokens": cell["steps"][-1]["metrics"]["thought_tokens"],
                "change": {key: cell["steps"][-1]["change"][key] for key in CHANGES},
                "greedy": {key: cell["greedy"]["change"][key] for key in CHANGES},
                "tokens_sampled": cell["steps"][-1]["tokens_decode"],
            }
            for cell in bench["cells"]
        ],
    }


def results_table() -> str:
    """One line an arm and seed of `suffice bench lab`."""
    results = json.loads(RECORD.read_text())
    heads = ("recipe", "seed", "thinking tokens", "change, %", "accuracy, points", "greedy: tokens, %",
             "accuracy, points", "sampled in training")  # fmt: skip
    lines = headed(heads)
    base = results["base"]
    for row in results["rows"]:
        ends = [figure(row[end][key], 100, at) for end in ("change", "greedy") for key, at in CHANGES.items()]
        cells = (
            f"`{row['arm']}`",
            str(row["seed"]),
            f"{base['thought_tokens']['mean']:.1f} → {row['thought_tokens']['mean']:.1f}",
            *ends,
            f"{row['tokens_sampled'] / 1e6:.2f} M",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        f"\nThe untrained base: accuracy {100 * base['accuracy']['mean']:.1f} % sampled, "
        f"{100 * base['greedy_accuracy']['mean']:.1f} % greedy."
    )
    return "\n".join(lines) + "\n"


def stops_of(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """What the second table needs of a comparison, a row a trained model."""
    (task,) = comparison["tasks"].values()
    metrics = {row["side"]: row["metrics"] for row in task["rows"] if row["variant"] is None}
    return [
        {
            "run": re.sub(r"-(seed-\d+)-[0-9a-f]{8}/.*", r"/\1", side),
            "accuracy": metrics[side]["accuracy"],
            "thought_tokens": metrics[side]["thought_tokens"],
            "over": {rival["kind"]: rival["accuracy"] for rival in contest["rivals"]},
            "sentence": contest["sentence"],
        }
        for side, contest in task["outcomes"].items()
    ]


def stops_table() -> str:
    """What each trained model has over each way to stop the base without training, at equal tokens."""
    heads = (
        "trained",
        "accuracy, %",
        "thinking tokens",
        "over cut at a budget",
        "over inducer at a budget",
        "over DEER",
    )
    lines = headed(heads)
    for row in json.loads(STOPS.read_text()):
        over = (figure(row["over"][kind], 100, "difference") for kind in KINDS)
        lines.append(
            f"| `{row['run']}` | {100 * row['accuracy']['mean']:.1f} | {row['thought_tokens']['mean']:.1f} "
            f"| {' | '.join(over)} |"
        )
    return "\n".join(lines) + "\n"


def summary_table(words: Words) -> str:
    """A row a method and task: what all seeds gave, or the interval of all of them."""
    lines = headed(words.heads)
    rows = json.loads(RECORD.read_text())["rows"]
    for method in ("s-grpo", "grpo-lambda"):
        own = [row["change"] for row in rows if row["arm"] == f"lab-{method}"]
        lines.append(of_seeds(words, f"`{method}`", "arithmetic", own, 100))
    full = {arm["arm"]: arm for arm in bench("full")["arms"]}
    for label, name in (("`s-grpo`", "S-GRPO"), ("`grpo-lambda`", "GRPO-λ")):
        lines.append(of_arm(words, label, "ballots", full[name], 100))
    aim = [cell["steps"][-1]["change"] for cell in bench("ballots-aim")["cells"] if cell["arm"] == "exits as baselines"]
    lines.append(of_seeds(words, f"`exit-baseline` ({words.ours})", "ballots", aim, 300))
    decided = [cell["steps"][-1]["change"] for name in DECIDED for cell in bench(name)["cells"]]
    lines.append(of_seeds(words, f"`decide` ({words.ours})", "arithmetic, ballots, sums", decided, 300))
    for method, name in (("s-grpo", "S-GRPO"), ("grpo-lambda", "GRPO-λ")):
        ends = [cell["steps"][-1] for cell in bench(LANGUAGE_MODEL)["cells"] if cell["arm"] == name]
        changes = [end["change"] for end in ends]
        lines.append(of_seeds(words, f"`{method}`, {QWEN}", WORDS, changes, ends[0]["step"]))
    return "\n".join(lines) + "\n"


def end_of(arm: dict[str, Any], step: int) -> dict[str, Any]:
    """An arm's evaluation after a step."""
    return next(each for each in arm["steps"] if each["step"] == step)


def of_arm(words: Words, label: str, task: str, arm: dict[str, Any], step: int) -> str:
    """A row with the mean of an arm's seeds and the interval of its accuracy."""
    change = end_of(arm, step)["change"]
    thought = number(100 * change["thought_tokens_change"]["mean"], 0, signed=True)
    accuracy = change["accuracy"]
    ends = span(100 * accuracy["low"], 100 * accuracy["high"], signed=True).replace(" to ", f" {words.to[3:-3]} ")
    said = f"{number(100 * accuracy['difference'], signed=True)} ({ends})"
    return f"| {' | '.join([label, task, str(len(arm['seeds'])), str(step), thought, said])} |"


def of_seeds(words: Words, label: str, task: str, changes: Sequence[dict[str, Any]], step: int) -> str:
    """A row with the least and the most that seeds gave."""
    ends = []
    for (key, centre), digits in zip(CHANGES.items(), (0, 1), strict=True):
        found = sorted(100 * change[key][centre] for change in changes)
        if found[-1] < 0:
            found.reverse()  # the least change first
        first, last = (number(found[i], digits, signed=True) for i in (0, -1))
        ends.append(first if first == last else words.to.format(first, last))
    return f"| {' | '.join([label, task, str(len(changes)), str(step), *ends])} |"


def diagnosis() -> str:
    """What `suffice diagnose --from … --price …` says of recorded thoughts: its conclusion, the budget, the first
    server's line."""
    record = json.loads((RESULTS / "real_models.json").read_text(encoding="utf-8"))[DIAGNOSED]["summary"]
    summary = DiagnosisSummary.model_validate(record)
    assert summary.budget is not None
    assert summary.budget.recommended is not None
    advice = summary.budget.model_copy(update={"price": PRICE, "others": []})
    with say.capture() as said:
        tables.tell(summary.conclusion)
        tables.show_budget(DIAGNOSED, advice)
        tables.show_lines(serve_lines(summary.budget.recommended.budget or 0, "MODEL", None)[:1])
    lines = re.sub("\x1b\\[[0-9;]*m", "", said.get()).splitlines()
    lines = [line for line in lines if not TABLE.search(line)]
    folded = [part for line in lines for part in textwrap.wrap(line, 100, subsequent_indent="    ")]
    return "```text\n" + "\n".join(["…", *folded, "…"]) + "\n```\n"


def headed(heads: Sequence[str]) -> list[str]:
    """The first lines of a table."""
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]


def bench(name: str) -> dict[str, Any]:
    """A bench's record by its name."""
    return json.loads((RESULTS / f"bench-{name}.json").read_text(encoding="utf-8"))


def keep(path: Path, record: dict[str, Any]) -> None:
    """Write a record in one line, floats at five significant digits."""
    text = re.sub(r"-?\d+\.\d{5,}(e-?\d+)?", lambda figure: f"{float(figure[0]):.5g}", json.dumps(record))
    path.write_text(json.dumps(json.loads(text), ensure_ascii=False) + "\n", encoding="utf-8")


def rendered(path: Path) -> str:
    """A page with its tables and outputs replaced."""
    words = READMES.get(path.name, READMES["README.md"])
    shown: dict[str, Callable[[], str]] = {
        "results": results_table,
        "stops": stops_table,
        "summary": lambda: summary_table(words),
        "diagnosis": diagnosis,
    }
    return PLACE.sub(lambda place: f"{place[1]}{shown[place['name']]()}{place[3]}", path.read_text(encoding="utf-8"))


PAGES = [*(ROOT / name for name in READMES), RESULTS_PAGE]


def main(files: list[str]) -> None:
    for found in (json.loads(Path(file).read_text()) for file in files):
        path, kept = (RECORD, results_of(found)) if "cells" in found else (STOPS, stops_of(found))
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    for page in PAGES:
        page.write_text(rendered(page), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
