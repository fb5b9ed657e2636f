"""Results as tables and lines for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from suffice.cli.screen import say, tell
from suffice.numbers import UNKNOWN, interval, number, of

if TYPE_CHECKING:
    from suffice.bench.found import BenchFound
    from suffice.evaluation.serving import Served
    from suffice.run.records import BudgetAdvice


SAVINGS = {
    "accuracy": "right, %",
    "saveable_right": "saveable, % of right thoughts",
    "saveable_fraction": "… of all",
    "first_right_right": "after first right, % of right thoughts",
    "first_right": "… of all",
    "luck": "luck, %",
}


NOTHING = {"mean": None, "low": None, "high": None}
"""A figure that an older version did not measure."""


def show_metrics(summaries: dict[str, dict[str, Any]]) -> None:
    counted = {summary.get("token_counts", "tokenizer") for summary in summaries.values()} - {"tokenizer"}
    source = {"server": "; tokens as the server counts them", "characters": "; tokens split by characters"}
    caption = "95 % intervals, clustered by question" + "".join(source[each] for each in sorted(counted))
    table = Table("", *summaries, caption=caption)
    for name, label, scale in (
        ("accuracy", "accuracy, %", 100),
        ("thought_tokens", "thinking tokens", 1),
        ("thought_tokens_correct", "… where correct", 1),
        ("thought_tokens_wrong", "… where not", 1),
        ("answer_tokens", "answer tokens", 1),
        ("truncated", "cut by a limit, %", 100),
        ("unclosed", "thought not closed, %", 100),
        ("unclosed_tokens", "… thinking tokens of those", 1),
        ("looping", "thought ends in a loop, %", 100),
        ("loop_tokens", "… thinking tokens that repeat", 1),
        ("unparsed", "answer not parsed, %", 100),
    ):
        table.add_row(label, *(interval(*of(s["metrics"].get(name, NOTHING)), scale) for s in summaries.values()))
    if any(s.get("at_budgets") for s in summaries.values()):
        areas = ((s.get("at_budgets") or {}).get("area", NOTHING) for s in summaries.values())
        table.add_row("accuracy, mean over thinking budgets, %", *(interval(*of(each), 100) for each in areas))
    together = [{each["k"]: each for each in s["metrics"].get("together", ())} for s in summaries.values()]
    for k in sorted({max(each) for each in together if each}):
        for name, label in (
            ("any_correct", f"any of {k} correct (pass@{k}), %"),
            ("all_correct", f"all {k} correct, %"),
        ):
            table.add_row(label, *(interval(*of(each[k][name]), 100) if k in each else UNKNOWN for each in together))
    say.print(table)
    for label, summary in summaries.items():
        if found := summary.get("at_budgets"):
            points = (f"{point['budget']:,}: {number(100 * point['accuracy']['mean'])} %" for point in found["curve"])
            tell(f"{label}, accuracy if cut at so many thinking tokens: {', '.join(points)}")


def show_stops(summaries: dict[str, dict[str, Any]]) -> None:
    table = Table("stopped without training", "accuracy, %", "thinking tokens", "with answers and trials")
    for label, summary in summaries.items():
        metrics = summary["metrics"]
        table.add_row(
            label.replace("@", " "),
            interval(*of(metrics["accuracy"]), 100),
            *(number(metrics[name]["mean"]) for name in ("thought_tokens", "tokens")),
        )
    say.print(table)
    if not any("@deer" in label for label in summaries):
        say.print("DEER is left out: it needs log-probabilities, and this server gives none with forced answers.")


def show_comparison(found: dict[str, Any]) -> None:
    """One table for all tasks as the papers print it, or one a task where the terminal is too narrow for that."""
    from suffice.evaluation.budgets import saves
    from suffice.run.records import BudgetAdvice

    tasks = {task: each["rows"] for task, each in found["tasks"].items()}
    overall = {"overall": found["overall"]} if found["overall"] else {}
    table = papers_table(tasks | overall)
    if say.measure(table, options=say.options.update(max_width=1000)).maximum <= say.width:
        say.print(table)
    else:
        for task, rows in (tasks | overall).items():
            say.print(papers_table({task: rows}))
    lines = [f"Not compared: only {', '.join(names)} has {task}" for task, names in found["left_out"].items()]
    for task, each in found["tasks"].items():
        for row in each["rows"]:
            if row["change"] and not row["variant"]:
                accuracy = interval(*of(row["change"]["accuracy"], "difference"), 100, signed=True, unit=" points")
                thought = interval(*of(row["change"]["thought_tokens_change"]), 100, signed=True, unit=" %")
                lines.append(f"{task}, {row['side']}: paired, accuracy {accuracy}, thinking tokens {thought}")
                lines += [f"{task}, {row['side']}: {line}" for line in endless_change(row)]
        lines += [f"{task}, {note}" for note in each["notes"]]
        for side, outcome in each["outcomes"].items():
            lines.append(f"{task}, {side}: {outcome['sentence']}")
        if each["budget"]:
            advice = BudgetAdvice.model_validate(each["budget"])
            lines.append(f"{task}, {found['sides'][0]} untrained: {advice.sentence}")
            lines += [f"{task}, beside that budget, {other.rule}: {saves(other)}" for other in advice.others]
        for key, values in each["protocols"].items():
            said = ", ".join(f"{value} for {side}" for side, value in values.items())
            lines.append(f"{task}: sampled differently, {key} {said}")
    if len(found["trained"]) > 1:
        spent = (
            f"{side} {each['rollouts']:,} rollouts and {each['tokens']:,} generated tokens"
            for side, each in found["trained"].items()
        )
        lines.append(f"Trained on: {'; '.join(spent)}")
    for line in lines:
        tell(line)


def endless_change(row: dict[str, Any]) -> list[str]:
    """How thoughts that never end changed, where any did on either side."""
    lines = []
    for name, tokens, words in (("unclosed", "unclosed_tokens", "never close"), ("looping", "loop_tokens", "loop")):
        change, cost = (row["change"].get(each) for each in (name, tokens))
        if (
            change
            and cost
            and change["difference"] is not None
            and (change["difference"] or row["metrics"][name]["mean"])
        ):
            points = interval(*of(change, "difference"), 100, signed=True, unit=" points")
            spent = interval(*of(cost, "difference"), signed=True)
            lines.append(f"thoughts that {words} {points}, {spent} thinking tokens a sample in those")
    return lines


def papers_table(tasks: dict[str, list[dict[str, Any]]]) -> Table:
    """Rows of a comparison by task, each with accuracy, generated tokens and their part of the first row's."""
    table = Table(caption="Acc %, generated tokens, CR % of the first row's; * on the Pareto front", show_edge=False)
    table.add_column("")
    for task in tasks:
        for i, name in enumerate(("Acc", "Tok", "CR")):
            table.add_column(f"{'' if i else task}\n{name}", justify="right", no_wrap=True)
    by_task = [{(row["side"], row["variant"]): row for row in rows} for rows in tasks.values()]
    for side, variant in dict.fromkeys(name for rows in by_task for name in rows):
        cells = [cell for rows in by_task for cell in papers_cells(rows.get((side, variant)))]
        table.add_row(Text(f"  {variant}" if variant else side), *cells)
    return table


def papers_cells(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["–"] * 3
    mark = "*" if row.get("pareto") else " "
    compression = row["compression"]["mean"]
    return [
        number(100 * row["metrics"]["accuracy"]["mean"]) + mark,
        number(row["metrics"]["tokens"]["mean"], 0),
        UNKNOWN if compression is None else number(100 * compression),
    ]


def endless(summary: dict[str, Any]) -> str:
    """How many thoughts never end, and what that costs a thought of all; nothing where none does."""
    parts = []
    for name, tokens, words in (("unclosed", "unclosed_tokens", "never close"), ("looping", "loop_tokens", "loop")):
        if summary.get(name, {}).get("mean"):
            share, cost = interval(*of(summary[name]), 100, unit=" %"), interval(*of(summary[tokens]))
            parts.append(f"{share} of thoughts {words}: {cost} tokens a thought of all")
    return "; ".join(parts)


def show_curve(label: str, summary: dict[str, Any]) -> None:
    table = Table(
        "thought kept", "thinking tokens", "accuracy, %", "lost by thinking on, %", "mended by it, %", title=label
    )
    table.caption = endless(summary)
    for point in summary["curve"]:
        table.add_row(
            f"{number(100 * point['fraction'], 0)} %",
            number(point["thought_tokens"]),
            *(interval(*of(point[name]), 100) for name in ("accuracy", "lost", "mended")),
        )
    say.print(table)
    tell(f"sufficed, where right in the end: {interval(*of(summary['sufficient_fraction']), 100)} % of the thought")
    if summary.get("saveable_cost"):
        tell(f"saveable per 1,000 answers, at your price: {interval(*of(summary['saveable_cost']), digits=2)}")


def show_parts(summary: dict[str, Any]) -> None:
    """What could be saved, over all and by kind of problem; and how much of it is luck."""
    whole = {**summary, "accuracy": summary["full"]["accuracy"]}
    caption = "saveable: thinking tokens after the answer is settled; luck: right at an exit, wrong at a later one"
    table = Table("", "n", *SAVINGS.values(), caption=caption)
    table.add_row("all", "", *(interval(*of(whole[key]), 100) for key in SAVINGS))
    for kind, parts in summary.get("parts", {}).items():
        for name, part in parts.items():
            figures = (interval(*of(part[key]), 100) for key in SAVINGS)
            table.add_row(f"{kind} {name}", str(part["problems"]), *figures)
    say.print(table)


def show_budget(label: str, advice: BudgetAdvice) -> None:
    """The budget to serve, beside the other ways to shorten."""
    from suffice.evaluation.budgets import worth

    rows = [*([advice.recommended] if advice.recommended else []), *advice.others]
    if rows:
        table = Table(label, "accuracy, points", "thinking tokens", "saved, %", caption="against the same, not stopped")
        for each in rows:
            accuracy = interval(*each.accuracy, 100, signed=True)
            table.add_row(each.rule, accuracy, number(each.thought_tokens), interval(*each.saved_fraction, 100))
        say.print(table)
    say.print(f"{label}: {advice.sentence}", style="bold", markup=False)
    for line in worth(advice, advice.recommended) if advice.recommended else ():
        tell(f"  {line}")


def show_lines(lines: Sequence[Served]) -> None:
    """How a budget is served."""
    if lines:
        tell("To serve it:")
    for served in lines:
        tell(f"  {served.engine}: {served.start}")
        tell(f"    in every request: {json.dumps(served.request)}")


def show_demo(result: dict[str, Any]) -> None:
    table = Table(
        "held-out problems", "before", "after", "paired change", caption="95 % intervals, clustered by question"
    )
    for kind in ("sampled", "greedy"):
        before, after, change = (result[kind][key] for key in ("before", "after", "change"))
        table.add_row(
            f"thinking tokens, {kind}",
            interval(*of(before["thought_tokens"])),
            interval(*of(after["thought_tokens"])),
            interval(*of(change["thought_tokens_change"]), 100, signed=True, unit=" %"),
        )
        table.add_row(
            f"accuracy, {kind}, %",
            interval(*of(before["accuracy"]), 100),
            interval(*of(after["accuracy"]), 100),
            interval(*of(change["accuracy"], "difference"), 100, signed=True, unit=" points"),
        )
    say.print(f"Before: {result['diagnosis_before']}", markup=False)
    say.print(f"After:  {result['diagnosis_after']}", markup=False)
    say.print(table)
    tell(f"{result['seconds']:.0f} s in all. Report: {result['report']}")
    tell("Next, with your own model: suffice diagnose MODEL --task gsm8k")


def show_arms(found: BenchFound, out: Path) -> None:
    from suffice.bench.tables import CAPTION, blocks, notes
    from suffice.run.layout import BENCH

    for block in blocks(found):
        table = Table(*block.heads, title=block.title, title_justify="left", show_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in block.rows:
            table.add_row(*map(Text, row))
        say.print(table)
    for line in [CAPTION, *notes(found), f"Recorded: {out / BENCH}; tables and figures beside it"]:
        tell(line)
