"""The documents say what was recorded, show the pictures that are kept, and their commands and examples work."""

from __future__ import annotations

import doctest
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from benchmarks import findings
from benchmarks.readme import READMES, RECORD, ROOT, STOPS, rendered
from typer.testing import CliRunner

from suffice.cli import app

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READMES)
def test_the_tables_of_results_are_what_was_recorded(name: str):
    page = (ROOT / name).read_text(encoding="utf-8")
    assert rendered(name, json.loads(RECORD.read_text()), json.loads(STOPS.read_text())) == page


@pytest.mark.parametrize("page", findings.PAGES, ids=lambda page: page.name)
def test_the_tables_of_benches_are_what_was_recorded(page: Path):
    text = page.read_text(encoding="utf-8")
    assert findings.rendered(text) == text


def test_every_seed_shortens_by_at_least_35_percent_and_surely_loses_less_than_2_points():
    bench = next(bench for bench in json.loads(RECORD.read_text()) if bench["recipe"] == "lab-s-grpo")
    assert len(bench["seeds"]) >= 3
    for row in bench["seeds"]:
        assert row["change"]["thought_tokens_change"]["mean"] <= -0.35
        assert row["change"]["accuracy"]["low"] >= -0.02


def test_every_verb_that_the_readme_names_exists():
    verbs = set(re.findall(r"^suffice ([a-z]+)", README, re.MULTILINE))
    assert verbs >= {"doctor", "diagnose", "train", "eval", "compare", "report"}
    for verb in verbs:
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", READMES)
def test_every_file_that_the_readme_links_to_exists(name: str):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://arxiv.org/") or (ROOT / link).exists(), link


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
