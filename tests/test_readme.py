"""The README says what was recorded, and its commands exist."""

from __future__ import annotations

import json
import re
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
