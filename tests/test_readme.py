"""The documents say what was recorded, show the pictures that are kept, and their commands and examples work."""

from __future__ import annotations

import doctest
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from benchmarks import claims, findings, pictures, readme, taught
from benchmarks.readme import PAGES, READMES, ROOT, STOPS, diagnosis, rendered, results_of, stops_of
from typer.testing import CliRunner

from suffice.cli import app
from suffice.numbers import number

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_results_are_what_was_recorded(page: Path):
    assert rendered(page) == page.read_text(encoding="utf-8")


def test_the_diagnosis_is_what_the_command_prints_of_recorded_thoughts():
    said = diagnosis()
    assert "Worth training: 30 % (24 to 36) of the thinking tokens of right thoughts" in said
    # 1,716.7 tokens of 0.60 a million, of a thousand answers: 1.03
    assert "saves 1.03 (0.39 to 1.67) per 1,000 answers, at your price" in said
    assert 'in every request: {"thinking_token_budget": 26000}' in said


@pytest.mark.parametrize("page", findings.PAGES, ids=lambda page: page.name)
def test_the_tables_of_benches_are_what_was_recorded(page: Path):
    text = page.read_text(encoding="utf-8")
    assert findings.rendered(text) == text


def test_the_claims_are_what_was_recorded():
    text = claims.PAGE.read_text(encoding="utf-8")
    assert claims.rendered(text) == text


def test_a_change_of_tokens_and_accuracy_is_worked_out_from_what_was_printed():
    row = {"kind": "paper", "who": "", "model": "", "problems": "", "before": [80.36, 5727], "after": [81.08, 3253]}
    claim = claims.printed(row)  # 3253 / 5727 = 0.5680
    assert (claim.tokens, claim.accuracy) == (-43.2, 0.72)


@pytest.mark.parametrize("name", pictures.SHOWN)
def test_a_picture_shows_what_was_recorded(name: str):
    assert pictures.kept(name) == pictures.digest(pictures.SHOWN[name], readme.bench)


def test_the_sentences_of_the_readme_say_what_was_recorded():
    full, aim = readme.bench("full"), readme.bench("ballots-aim")
    ends = {arm["arm"]: next(step for step in arm["steps"] if step["step"] == 100) for arm in full["arms"]}
    shorter = {arm for arm, end in ends.items() if end["change"]["thought_tokens_change"]["mean"] <= -0.3}
    assert "all 15 rewards that cut thinking by 30 % or more within 100 steps lost" in README.replace("\n  ", " ")
    assert len(shorter) == 15
    assert all(ends[arm]["change"]["accuracy"]["high"] < 0 for arm in shorter)
    assert "twelve ran with one seed" in README
    assert sum(len(arm["seeds"]) == 1 for arm in full["arms"] if arm["arm"] in shorter) == 12
    assert "five times the seconds of GRPO" in README
    ours = next(step for step in aim["arms"][0]["steps"] if step["step"] == 100)
    assert round(ours["seconds"] / ends["GRPO"]["seconds"]) == 5
    assert "[6 to 33 points]" in README
    over = [100 * row["over"]["inducer"]["difference"] for row in json.loads(STOPS.read_text())]
    assert (int(min(over)), int(max(over))) == (6, 33)


def test_a_bench_is_kept_as_the_first_table_shows_it():
    change = {"thought_tokens_change": {"mean": -0.5}, "accuracy": {"difference": 0.1}, "tokens_change": {"mean": -0.4}}
    first, last = ({"metrics": {"thought_tokens": {"mean": n}}, "change": change, "tokens_decode": n} for n in (9, 5))
    metrics = {"accuracy": {"mean": 0.8}, "thought_tokens": {"mean": 10}}
    bench = {
        "manifest": {},
        "base": metrics,
        "base_greedy": metrics,
        "cells": [{"arm": "a", "seed": 3, "steps": [first, last], "greedy": {"change": change}}],
    }
    (row,) = results_of(bench)["rows"]
    assert (row["arm"], row["seed"], row["thought_tokens"], row["tokens_sampled"]) == ("a", 3, {"mean": 5}, 5)
    assert row["change"] == row["greedy"] == {key: change[key] for key in ("thought_tokens_change", "accuracy")}


def test_a_cell_of_the_bench_is_called_by_arm_and_seed_in_the_second_table():
    side = "lab-s-grpo-seed-1-3a4c1441/step-000100"
    metrics = {"accuracy": {"mean": 0.9}, "thought_tokens": {"mean": 50}}
    task = {
        "rows": [{"side": side, "variant": None, "metrics": metrics}],
        "outcomes": {side: {"rivals": [{"kind": "deer", "accuracy": {}}], "sentence": "beats"}},
    }
    (row,) = stops_of({"tasks": {"arithmetic": task}})
    assert row["run"] == "lab-s-grpo/seed-1"


def test_every_verb_that_the_readme_names_exists():
    verbs = set(re.findall(r"^suffice ([a-z]+)", README, re.MULTILINE))
    assert verbs >= {"doctor", "diagnose", "train", "eval", "compare", "export"}
    for verb in verbs:
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", READMES)
def test_every_file_that_the_readme_links_to_exists(name: str):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://arxiv.org/") or (ROOT / link).exists(), link


@pytest.mark.parametrize("name", READMES)
def test_the_readme_is_read_in_minutes(name: str):
    page = (ROOT / name).read_text(encoding="utf-8")
    assert len(page.split()) < 900
    assert page.count("![") == 1
    assert len(re.findall(r"^\|---", page, re.MULTILINE)) == 1
    assert len(re.findall(r"^\|", page, re.MULTILINE)) <= 2 + 8  # a head, a rule and eight rows


def test_every_picture_is_shown_by_a_document():
    pages = "".join(page.read_text(encoding="utf-8") for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    assert [path.name for path in (ROOT / "docs" / "pictures").iterdir() if path.name not in pages] == []


def test_the_examples_in_docstrings_run():
    sources = ROOT / "src"
    examples = [path for path in sources.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    assert examples
    for path in examples:
        name = ".".join(path.relative_to(sources).with_suffix("").parts).removesuffix(".__init__")
        found = doctest.testmod(import_module(name))
        assert found.attempted
        assert not found.failed


def test_the_sentences_of_findings_and_claims_say_what_was_recorded():
    told = {page.name: " ".join(page.read_text(encoding="utf-8").split()) for page in findings.PAGES}
    fell = {arm["arm"]: sorted(arm["collapsed"].values()) for arm in readme.bench("ballots-lambda")["arms"]}
    spans = {arm: f"{steps[0]} to {steps[-1]}" for arm, steps in fell.items() if steps}
    assert (
        f"collapses at steps {spans['length penalty, no std']} instead of {spans['length penalty']}"
        in (told["findings.md"])
    )
    assert f"the penalty at steps {spans['length penalty']}, GRPO-λ at {spans['GRPO-λ']}" in told["claims.md"]
    ends = {arm["arm"]: arm["steps"][-1] for arm in readme.bench("full")["arms"]}
    ablations = [findings.change(readme.bench("full"), ends[arm]) for arm in ("shortest one", "all one")]
    said = [f"{thought} and {accuracy.partition(' (')[0]} points" for accuracy, thought in (
        each.rsplit(", ", 1) for each in ablations)]  # fmt: skip
    assert f"`ballots`: {', '.join(said)}, S-GRPO between" in told["claims.md"]
    easy = {arm["arm"]: arm["steps"][-1]["change"]["accuracy"] for arm in readme.bench("ballots-easy")["arms"]}
    assert (
        number(100 * easy["GRPO-λ"]["difference"], signed=True) + " points by step 100 instead of −15.8"
        in (told["claims.md"])
    )
    cells = readme.bench(readme.LANGUAGE_MODEL)["cells"]
    serial, share, (blind,) = (
        [cell["steps"][-1]["change"] for cell in cells if cell["arm"] == arm] for arm in ("S-GRPO", "GRPO-λ", "GRPO")
    )
    shorter = [round(-100 * change["thought_tokens_change"]["mean"]) for change in serial + share]
    assert f"they shorten by {min(shorter)} to {max(shorter)} % within ten steps, S-GRPO at higher" in told["claims.md"]
    assert shorter[0] > 35 > shorter[1]
    assert serial[0]["accuracy"]["low"] > -0.03
    assert all(change["accuracy"]["difference"] > 0 for change in serial)
    assert all(change["accuracy"]["low"] < -0.03 < 0 < change["accuracy"]["high"] for change in share)
    lows = " and ".join(number(100 * change["accuracy"]["low"], signed=True) for change in share)
    assert f"GRPO-λ, with lower ends of {lows}, in none" in told["real-models.md"]
    assert round(-100 * blind["accuracy"]["difference"]) == 6
    assert "GRPO, which asks for no short thoughts, loses 6 points" in told["real-models.md"]


def test_the_sentences_about_decide_say_what_was_recorded():
    told = " ".join((ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split())
    benches = {task: readme.bench(f"decide-{task}") for task in ("sums", "arithmetic", "ballots")}
    checks = [
        (task, cell, step) for task, found in benches.items() for cell in found["cells"] for step in cell["steps"]
    ]
    lows = [step["change"]["accuracy"]["low"] for _, _, step in checks]
    assert (len(checks), number(100 * min(lows))) == (27, "−0.9")
    assert "**Accuracy was kept in all 27 checks**" in told
    assert "the lowest of the paired 95 % intervals ends at −0.9 points" in told
    assert all(low > 0 for (task, _, _), low in zip(checks, lows, strict=True) if task != "ballots")
    kept = [(task, step["step"]) for task, cell, step in checks if findings.keeps(cell, step["step"])]
    assert len(kept) == 22
    assert "**Thoughts were 40 % shorter in 22 of the 27**" in told
    assert [kept.count(("ballots", step)) for step in (100, 200, 300)] == [0, 1, 3]
    by_200 = [next(step for step in found["arms"][0]["steps"] if step["step"] == 200) for found in benches.values()]
    assert all(0.55e6 < each["tokens_train"] < 0.75e6 and 0.5e6 < each["tokens_decode"] < 0.75e6 for each in by_200)
    aim = next(step for step in readme.bench("ballots-aim")["arms"][0]["steps"] if step["step"] == 200)
    assert (round(aim["tokens_train"] / 1e6), round(aim["tokens_decode"] / 1e6, 1)) == (33, 2.7)
    assert 40 < aim["tokens_train"] / by_200[-1]["tokens_train"] < 50  # a fortieth
    (lost,) = (cell["steps"][-1] for cell in readme.bench("decide-ballots-fast")["cells"] if cell["seed"] == 1)
    assert number(-100 * lost["change"]["accuracy"]["difference"]) == "7.7"


def test_the_page_about_the_language_model_says_what_was_recorded():
    text = taught.PAGE.read_text(encoding="utf-8")
    assert taught.rendered(text) == text
    record = taught.record()
    first = record["first"]
    said = f"of its {first['thoughts']} thoughts {first['right']} say the right answer at once, {first['lost']} lose it"
    assert f"{said} again, and {first['mended']} is mended" in " ".join(text.split())
    papers = [row for row in record["over"] if row["run"].startswith(("s-grpo", "grpo-λ"))]
    beating = [row["run"] for row in papers if all(row["over"][kind]["low"] > 0 for kind in taught.RIVALS)]
    assert (len(papers), beating) == (4, ["s-grpo/seed-0"])
    one = "on the language model by [one run of four](docs/real-models.md#a-language-model-trained)"
    assert one in " ".join(README.split())


def test_no_record_names_a_folder_of_the_machine_that_made_it():
    absolute = re.compile(r"(?<![\w./:>-])/[A-Za-z]+/[\w./-]*")
    for record in (ROOT / "benchmarks" / "results").iterdir():
        assert absolute.findall(record.read_text(encoding="utf-8")) == [], record.name
