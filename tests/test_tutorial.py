"""The commands of docs/tutorial.md, in their order, on the lab's model and a server of this machine; and those of
docs/quickstart.md and README.md that need neither a server nor a GPU."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.serving import transformers_serve

from suffice import cli
from suffice.lab import base_path
from test_commands import commands

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
LAB = {
    "gsm8k": "arithmetic",
    "qwen3-1.7b-s-grpo-lora": "lab-s-grpo",
    "200": "4",
    "500": "4",
    "cluster.gpus=1": "train.steps=1",
    "guard.action=stop": "train.problems_per_step=2",
    "runs/after/evaluations/gsm8k/records.jsonl": "runs/after/evaluations/arithmetic/records.jsonl",
}
"""What stands on the page, and what this machine has of it."""
BUDGETS = ["--max-thought-tokens", "100", "--max-answer-tokens", "8"]
SHORT = {
    "eval": BUDGETS,
    "diagnose": BUDGETS,
    "train": ["--set", "train.eval_every=0", "--set", "guard.action=warn", "--set", "rollout.max_thought_tokens=32"],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command line in an empty working folder; returns what it says."""
    monkeypatch.chdir(tmp_path)

    def command(words: list[str], *codes: int) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["suffice", *words])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        assert code in (codes or (0,)), (words, out, err)
        return out

    return command


def test_the_tutorial_leads_from_a_served_model_to_a_shorter_one(run: Callable[..., str], tmp_path: Path):
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
    pytest.importorskip("uvicorn", reason="transformers serve needs uvicorn")
    said: dict[str, list[str]] = {}
    steps = list(commands(PAGE))
    assert [words[0] for words in steps] == [
        "doctor", "diagnose", "eval", "doctor", "train", "watch", "export", "eval", "compare", "diagnose",
    ]  # fmt: skip
    base, shorter = str(base_path()), str(tmp_path / "shorter")

    def here(words: list[str], url: str, model: str) -> list[str]:
        named = {"http://localhost:8000/v1": url, "Qwen/Qwen3-1.7B": base, "shorter": model}
        words = [{**LAB, **named}.get(word, word) for word in words if word not in ("--engine", "verl")]
        brought = "--from" in words  # which brings its own budgets
        return [*words, *([] if brought else SHORT.get(words[0], []))]

    with transformers_serve(base_path(), tmp_path / "hub") as url:
        for words in steps[:3]:
            said.setdefault(words[0], []).append(run(here(words, url, shorter)))
    for words in steps[3:7]:
        asked = ["shorter" if word == shorter else word for word in here(words, "", shorter)]
        run(asked, 0, 2 if words[0] == "doctor" else 0)
    assert re.search(r"worth training|no conclusion", said["diagnose"][0], re.IGNORECASE)  # four thoughts may all fail
    assert (tmp_path / "shorter" / "model.safetensors").exists()
    with transformers_serve(Path(shorter), tmp_path / "hub-after") as url:
        for words in steps[7:]:
            said.setdefault(words[0], []).append(run(here(words, url, shorter)))
    assert "accuracy" in said["compare"][0]
    assert (tmp_path / "page.html").exists()


def test_the_quickstart_leads_from_a_diagnosis_to_a_model_card(run: Callable[..., str], tmp_path: Path):
    steps = list(commands(ROOT / "docs" / "quickstart.md"))[:6]
    assert [words[0] for words in steps] == ["diagnose", "train", "watch", "report", "compare", "export"]
    little = {
        "diagnose": ["--problems", "4"],
        "train": sets("train.steps=1", "train.problems_per_step=2", "eval.problems=4", "eval.samples=1"),
        "watch": ["--once"],
    }
    for words in steps:
        run([*words, *little.get(words[0], [])])
    assert (tmp_path / "runs" / "first" / "report.html").exists()
    assert (tmp_path / "runs" / "first" / "export" / "README.md").exists()


def test_the_readme_leads_from_a_model_to_a_shorter_one(run: Callable[..., str], tmp_path: Path):
    steps = [words for words in commands(ROOT / "README.md") if "--base-url" not in words]
    assert [words[0] for words in steps] == ["train", "eval", "eval", "compare", "export"]
    named = {**LAB, "MODEL": str(base_path()), "model.path=MODEL": "model.path=lab/arithmetic"}
    little = {
        "eval": [*BUDGETS, "--problems", "4"],
        "train": sets("train.problems_per_step=2", "train.eval_every=0", "rollout.max_thought_tokens=32"),
    }
    for words in steps:
        here = [named.get(word, word) for word in words if word not in ("--engine", "verl")]
        said = run([*here, *little.get(words[0], [])])
        if words[0] == "compare":
            assert "accuracy" in said
    assert (tmp_path / "runs" / "mine" / "export" / "model.safetensors").exists()


def sets(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]
