"""The tables of docs/performance.md, scale.md, reliability.md, servers.md and real-models.md, from benchmarks/results.

python -m benchmarks.performance
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS
from suffice.config import load_recipe
from suffice.devices import DEVICES
from suffice.estimate import estimate
from suffice.model.shape import shape_of
from suffice.numbers import interval, number

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
SCALE = PAGE.with_name("scale.md")
RELIABILITY = PAGE.with_name("reliability.md")
SERVERS = PAGE.with_name("servers.md")
REAL = PAGE.with_name("real-models.md")
PLACE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- /table -->)", re.DOTALL)


def main() -> None:
    for page in (PAGE, SCALE, RELIABILITY, SERVERS, REAL):
        page.write_text(rendered(page.read_text()))


def rendered(page: str) -> str:
    """The page with every table between `<!-- table: name -->` and `<!-- /table -->` as the results give it."""
    return PLACE.sub(lambda found: f"{found[1]}{found[2]}{TABLES[found[1]]()}", page)


def spine() -> str:
    heads = ["threads", "thought", "rows, s", "spine, s", "times faster", "FLOPs allow", "reached", "gradient distance"]
    results = [result(path.stem) for path in sorted(RESULTS.glob("spine-*.json"))]
    rows = [
        [
            str(row["threads"]),
            f"{row['thought']:,}",
            f"{row['seconds_rows']:.1f}",
            f"{row['seconds_spine']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['flop_ratio']:.2f}",
            percent(row["reached"]),
            f"{row['grad_rel_err']:.0e}",
        ]
        for found in results
        for row in sorted(found["rows"], key=lambda row: row["thought"])
    ]
    return table(heads, rows) + "".join(map(source, results))


def dense_mask() -> str:
    found = result("dense_mask")
    heads = ["thought", "dense mask, s", "spine, s", "times slower", "dense mask, MiB", "spine, MiB"]
    rows = [
        [
            f"{row['thought']:,}",
            f"{row['seconds_dense']:.1f}",
            f"{row['seconds_spine']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['mib_dense']:,.0f}",
            f"{row['mib_spine']:,.0f}",
        ]
        for row in found["rows"]
    ]
    return table(heads, rows) + source(found)


def memory() -> str:
    found = result("memory")
    rows = [
        [f"{row['thought']:,}", f"{row['mib_rows']:,.0f}", f"{row['mib_spine']:,.0f}", f"{row['ratio']:.2f}"]
        for row in found["rows"]
    ]
    return table(["thought", "rows one by one, MiB", "spine, MiB", "ratio"], rows) + source(found)


def ceiling() -> str:
    found = result("ceiling")
    rows = [
        [
            f"{row['thought']:,}",
            f"{row['gflops_spine']:.0f}",
            f"{row['gflops_products']:.0f}",
            percent(row["reached"]),
        ]
        for row in found["rows"]
    ]
    return table(["thought", "spine, GFLOP/s", "bare products, GFLOP/s", "reached"], rows) + source(found)


def growth() -> str:
    found = result("growth")
    names = {"thought": "thought of {:,} tokens", "exits": "{} exits", "parameters": "{}M parameters"}
    rows = [
        [names[row["over"]].format(row["value"]), f"{row['seconds']:.2f}", f"{row['mib']:,.0f}"]
        for row in found["rows"]
    ]
    return table(["update", "seconds", "peak, MiB"], rows) + source(found)


def step() -> str:
    found, sides = result("step"), {"GRPO, 9 rollouts": "grpo", "S-GRPO, 8 exits": "s-grpo"}
    return against(found, sides) + f"\nS-GRPO's step takes {found['rows'][0]['ratio']:.2f} of GRPO's.\n" + source(found)


def trl_step() -> str:
    found = result("trl_step")
    sides = {"TRL": "trl", "suffice": "suffice"}
    return against(found, sides) + f"\nTRL's step takes {found['rows'][0]['ratio']:.1f} times ours.\n" + source(found)


def decode() -> str:
    found = result("decode")
    heads = ["model and batch", "suffice, tokens/s", "generate, tokens/s", "times faster"]
    rows = [
        [
            row["case"],
            f"{row['tokens_per_second_ours']:,.0f}",
            f"{row['tokens_per_second_generate']:,.0f}",
            f"{row['ratio']:.2f}",
        ]
        for row in found["rows"]
    ]
    return table(heads, rows) + source(found)


def real_speed() -> str:
    found = result("real_speed")
    rows = {row["case"]: row for row in found["rows"]}
    machine, one = rows["machine"], rows["step"]
    what = {
        "read": "reading 32 prompts of 64 tokens",
        "decode": "decoding, 32 rows",
        "update": f"update, micro-batches of {rows['update']['micro_batch_tokens']:,} tokens",
    }
    lines = [
        [text, f"{rows[name]['tokens_per_second']:.0f}", percent(rows[name]["share_of_limit"])]
        for name, text in what.items()
    ]
    limits = (
        f"\nThe machine: products of 32 rows at {machine['products_32'] / 1e9:.0f} GFLOP/s, of 1,024 at "
        f"{machine['products_1024'] / 1e9:.0f}, memory read at {machine['read'] / 1e9:.0f} GB/s. A step took "
        f"{one['seconds_rollout']:.0f} s of rollout for {one['tokens_decode']:,} tokens.\n"
    )
    return table(["", "tokens/s", "of what the machine allows"], lines) + limits + source(found)


def estimates() -> str:
    """What `suffice doctor` says of the recipes for 8 GPUs: nothing is recorded, it is arithmetic."""
    names = [
        f"{model}-{method}" for model in ("qwen3-8b", "r1-distill-qwen-7b") for method in ("s-grpo", "grpo-lambda")
    ]
    recipes = {name: load_recipe(name) for name in names}
    found = {name: estimate(recipe, shape_of(recipe.model.path), DEVICES["H100"]) for name, recipe in recipes.items()}
    rows = [
        [
            f"`{name}`",
            f"{one.tokens.sampled / 1e6:.2f}M",
            f"{one.seconds_rollout:,.0f}",
            f"{one.seconds_update:,.0f}",
            f"{one.memory.needed:.0f}",
            f"{one.gpu_hours:,.0f}",
            f"{one.hours_pass_rates or 0:,.0f}",
        ]
        for name, one in found.items()
    ]
    heads = ["recipe", "sampled a step", "rollout, s", "update, s", "a GPU holds, GiB", "100 steps, GPU-hours"]
    return table([*heads, "pass rates, hours of one GPU"], rows)


def grading() -> str:
    found = result("grading")
    heads = ["answers", "pairs", "left to a worker", "verdicts a CPU second"]
    rows = [
        [
            row["case"],
            f"{row['pairs']:,}",
            f"{row['left_to_a_worker']:,}",
            f"{row['verdicts_per_cpu_second']:,.0f}",
        ]
        for row in found["rows"]
    ]
    return table(heads, rows) + source(found)


def kills() -> str:
    records = [result("kills-train"), result("kills-eval")]
    heads = ["killed", "kills", "inside a write", "runs", "as undisturbed", "damaged checkpoints"]
    heads += ["steps done again, at most", "files left behind"]
    keys = ["kills", "kills_inside_a_write", "runs", "equal_to_undisturbed", "damaged_checkpoints"]
    keys += ["most_steps_done_again", "files_left_behind"]
    rows = [row for record in records for row in record["rows"]]
    cells = [[row["case"], *(f"{row[key]:,}" if key in row else "–" for key in keys)] for row in rows]
    return table(heads, cells) + "\n".join(map(source, records))


def faults() -> str:
    found = result("faults")
    heads = ["fault", "times", "met before the end", "one line, right code", "what was saved is intact"]
    keys = ["times", "met", "one_line_and_code", "saved_before_intact", "exact"]
    rows = [[row["case"], *(str(row[key]) for key in keys)] for row in found["rows"]]
    return table([*heads, "ends as undisturbed"], rows) + source(found)


def fuzz() -> str:
    found = result("fuzz")
    heads = ["spoiled", "cases", "commands", "ended well", "refused in one line", "defects", "hangs", "slowest, s"]
    keys = ["cases", "commands", "ended_well", "refused_in_one_line", "defects", "hangs"]
    rows = [[row["case"], *(f"{row[key]:,}" for key in keys), f"{row['slowest_seconds']:.0f}"] for row in found["rows"]]
    return table(heads, rows) + source(found)


def against(found: dict[str, Any], sides: dict[str, str]) -> str:
    """A step of one side above the other's."""
    row = found["rows"][0]
    heads = ["", "step, s", "rollout, s", "update, s", "tokens decoded", "tokens pushed by the update"]
    rows = [
        [
            title,
            *(f"{row[f'{part}_{side}']:.2f}" for part in ("seconds", "seconds_rollout", "seconds_update")),
            *(f"{row[f'{part}_{side}']:,.0f}" for part in ("tokens_decode", "tokens_train")),
        ]
        for title, side in sides.items()
    ]
    return table(heads, rows)


WHOLE = ("thoughts", "thinking budget", "budget above the thought")
"""Rows of the doctor that are shown with what was seen; of the others what became of the wish."""


def servers() -> str:
    found = result("servers")
    asked = [
        *("engine", "limit of tokens", "greedy", "thoughts", "chat template", "raw completions", "token-id prompts"),
        *("log-probs", "seeds", "n > 1", "thinking budget", "budget above the thought"),
    ]
    rows = [
        [what, *(_said(each.get(what), whole=what in (*WHOLE, "engine")) for each in found["rows"])] for what in asked
    ]
    for label, key in (("right, %", "accuracy"), ("never close, %", "unclosed"), ("loop, %", "looping")):
        rows.append([f"eval: {label}", *(f"{100 * each[f'eval {key}']:.0f}" for each in found["rows"])])
    for label, key in (("thinking tokens", "thought_tokens"), ("… that repeat", "loop_tokens")):
        rows.append([f"eval: {label}", *(f"{each[f'eval {key}']:.1f}" for each in found["rows"])])
    rows.append(["diagnose", *(each["diagnose"] for each in found["rows"])])
    heads = ["", *(each["case"] for each in found["rows"])]
    return table(heads, rows).replace("---:", "---") + source(found)


def _said(found: str | None, *, whole: bool) -> str:
    if found is None:
        return ""
    return re.sub(r"</?\w+>", r"`\g<0>`", found) if whole else found.partition(":")[0]


def result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---:"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def source(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return (
        f"\n`{found['command']}`, {found['date']}: {machine['cores']} cores of {machine['cpu']}, "
        f"torch {machine['torch']}, transformers {machine['transformers']}, torch threads {machine['threads']}\n"
    )


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def verl_spine() -> str:
    found = result("verl_spine")
    heads = ["thought", "rows, s", "spine, s", "times faster", "fewer tokens", "gradient distance"]
    rows = [
        [f"{r['thought']:,}", f"{r['seconds_rows']:.1f}", f"{r['seconds_spine']:.2f}", f"{r['ratio']:.2f}",
         f"{r['token_ratio']:.2f}", f"{r['grad_rel_err']:.0e}"]
        for r in found["rows"]
    ]  # fmt: skip
    return table(heads, rows) + source(found)


def real_serving() -> str:
    found = result("real_serving")
    heads = ["", "accuracy, %", "thinking tokens", "tokens a request", "seconds for all"]
    rows = [
        [
            f"{r['case']}, {r['requests']} requests",
            interval(*(r[f"accuracy_{end}"] for end in ("mean", "low", "high")), 100),
            number(r["thought_tokens_mean"]),
            number(r["tokens_mean"]),
            number(r["seconds"], 0),
        ]
        for r in found["rows"]
    ]
    return table(heads, rows) + source(found)


MADE = (spine, dense_mask, memory, ceiling, growth, decode, step, trl_step, grading, estimates, kills)
MADE += (faults, fuzz, servers, real_speed, real_serving, verl_spine)
TABLES = {made.__name__: made for made in MADE}


if __name__ == "__main__":
    main()
