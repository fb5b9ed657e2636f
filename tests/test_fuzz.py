"""A few hostile inputs of each kind, and what many of them once found. Many: `python -m benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from benchmarks import fuzz
from pyarrow import parquet

from suffice.engines.local import train
from suffice.errors import DataError, SufficeError, one_line
from suffice.evaluation.server.transport import LONGEST_REPLY
from suffice.lab import base_path
from suffice.tasks import load_task
from suffice.tasks.files import read_records
from suffice.tasks.text import LONGEST

EVAL = ["eval", "model", "--task", "arithmetic", "--problems", "2", "--out", "new", *fuzz.SHORT]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole") / "run"
    train(fuzz.small(), run)
    return run


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_hostile_input_ends_well_or_in_one_line(kind: str, whole: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(fuzz.ServerSource.__init__.__kwdefaults__, "retries", 0)
    monkeypatch.setitem(fuzz.ServerSource.__init__.__kwdefaults__, "timeout", 3)
    for number in range(5):
        case, ended = fuzz.outcome(kind, number, whole)
        for command, each in zip(case.commands, ended, strict=False):
            assert each.good, f"{kind} {number}: {case.what}: {command}\n{each.trace}{each.error}"


def test_a_case_is_drawn_from_its_number_alone(tmp_path: Path):
    texts = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        fuzz.recipe_case(random.Random("recipe/3"), tmp_path / name)
        texts.append((tmp_path / name / "recipe.toml").read_bytes())
    assert texts[0] == texts[1]


# -- what was found


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("generation_config.json", lambda text: json.dumps(json.loads(text) | {"eos_token_id": "x"})),
        ("generation_config.json", lambda text: json.dumps(json.loads(text) | {"eos_token_id": [2, None]})),
        ("chat_template.jinja", lambda text: text + "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}"),
        ("chat_template.jinja", lambda text: "{{ 1 // 0 }}"),
        ("config.json", lambda text: text.replace('"qwen3"', '"q\\u2028\\u202e3"')),
    ],
)
def test_a_checkpoint_that_breaks_a_library_is_refused_in_one_line(
    tmp_path: Path, name: str, edit: Callable[[str], str]
):
    shutil.copytree(base_path(), tmp_path / "model")
    file = tmp_path / "model" / name
    file.write_text(edit(file.read_text()))
    ended = fuzz.within(tmp_path, EVAL)
    assert ended.refused, ended
    assert not ended.trace


def test_a_parquet_file_that_was_damaged_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "problems.parquet"
    parquet.write_table(pa.table({"prompt": ["a", "b"], "gold": ["1", "2"]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\0" * (len(content) - 200) + content[-196:])
    with pytest.raises(SufficeError) as error:
        read_records(path)
    assert "\n" not in str(error.value)


def test_a_prompt_longer_than_any_model_reads_is_refused_before_it_is_tokenized(tmp_path: Path):
    path = tmp_path / "problems.json"
    path.write_text(json.dumps([{"prompt": "1" * (LONGEST + 1), "gold": "1"}]))
    with pytest.raises(DataError, match="prompt has 1,000,001 characters"):
        load_task("jsonl", path=str(path))


def test_a_reply_far_beyond_what_was_asked_for_is_refused(tmp_path: Path):
    body = json.dumps({"choices": [{"message": {"content": "2" * LONGEST_REPLY}}], "usage": {"completion_tokens": 9}})
    models = json.dumps({"data": [{"id": "lab/arithmetic"}]})
    replies = {"/v1/models": fuzz.reply(models.encode()), "/v1/chat/completions": fuzz.reply(body.encode())}
    with fuzz.answering(replies) as url:
        command = ["eval", "lab/arithmetic", "--base-url", url, "--task", "arithmetic", "--problems", "2", *fuzz.SHORT]
        ended = fuzz.within(tmp_path, command)
    assert ended.refused
    assert "far beyond what was asked for" in ended.error


def test_a_message_is_one_line_that_does_nothing_to_a_terminal():
    assert one_line("a\nb\x1b[31mc\u2028d\u202ee\x07") == "a b [31mc d e"
    assert one_line(ValueError("λ − 你好")) == "λ − 你好"


@pytest.mark.parametrize("value", ["9" * 6000, "[" * 100_000])
def test_a_recipe_that_breaks_the_parser_is_refused_in_one_line(tmp_path: Path, value: str):
    (tmp_path / "recipe.toml").write_text(f"[train]\nsteps = {value}\n")
    for arguments in (["recipe.toml"], ["lab-s-grpo", "--set", f"train.steps={value}"]):
        assert fuzz.within(tmp_path, ["train", *arguments, "--dry-run"]).refused
