"""Every command that a document shows names a verb, options, recipes, tasks and keys that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from suffice.bench.plan import plan_names
from suffice.cli import app
from suffice.config import load_recipe, recipe_names
from suffice.tasks import TASKS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPICAL = "lab-s-grpo"
"""Stands for a recipe of the reader's own."""


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `suffice …` of a page's blocks, continued lines joined, comments and placeholders left out."""
    for block in FENCE.findall(page.read_text(encoding="utf-8")):
        for line in re.sub(r" *\\\n *", " ", block).splitlines():
            words = re.sub(r"^(\$ |[A-Z_]+=\S+ )", "", line.strip()).split("   ")[0]
            if words.startswith("suffice ") and "…" not in words and '"$' not in words:
                yield shlex.split(words, comments=True)[1:]


def verb_of(words: list[str]) -> tuple[Any, list[str]]:
    """A command's verb, such as `lab build`, and what is given to it."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        assert words, command.name
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist(page: Path):
    for words in commands(page):
        verb, given = verb_of(words)
        options = {name for parameter in verb.params for name in parameter.opts}
        assert {word for word in given if word.startswith("--")} <= options, words
        for option, value in pairwise(given):
            if option == "--task":
                assert value in TASKS, words
        first = given[0] if given and not given[0].startswith("-") else None
        packaged = {"train": recipe_names(), "doctor": recipe_names(), "bench": [*plan_names(), *recipe_names()]}
        if first and verb.name in packaged and not first.endswith(".toml") and first.islower():
            assert first in packaged[verb.name], words
        recipe = first if first in recipe_names() else TYPICAL
        settings = [value for option, value in pairwise(given) if option == "--set"]
        for key in (each.partition("=")[0] for each in settings if not each.startswith("verl.")):
            section, _, name = key.partition(".")
            if section != "method":  # whose keys hang on the method
                assert name in type(getattr(load_recipe(recipe), section)).model_fields, words


def test_a_page_with_a_command_that_is_none_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    for wrong in ("suffice trian lab-s-grpo", "suffice train lab-sgrpo", "suffice eval M --tasks gsm8k",
                  "suffice eval M --task gsm9k", "suffice train my.toml --set train.step=3"):  # fmt: skip
        page.write_text(f"```text\n{wrong}\n```\n")
        with pytest.raises((AssertionError, ValueError)):
            test_the_commands_of_a_page_exist(page)
