"""The promise of docs/scale.md on this machine: one recipe for one GPU, from `doctor` to a compared, shorter model.

The recipe is `qwen3-1.7b-s-grpo-lora` with budgets that fit, on a Qwen3 of 0.35M parameters with Qwen's tokenizer
class that knows four problems by heart. verl runs on two logical GPUs. SUFFICE_VERL_RUN=1 asks for it: verl starts
twice.
"""

from __future__ import annotations

import json
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Tokenizer

from making import make_qwen3
from suffice.run.files import read_jsonl
from suffice.tasks import load_task
from test_gsm8k import HUB_FORMAT, learn_by_heart, write_hub_format
from verl_cpu import WORKERS, begin, options

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not find_spec("verl") or not os.environ.get("SUFFICE_VERL_RUN"),
        reason="a whole verl run takes a minute or more: SUFFICE_VERL_RUN=1 and verl installed",
    ),
]

RECIPE = "qwen3-1.7b-s-grpo-lora"
STEPS = 4
SMALL = {  # of the recipe's keys those that a machine without a GPU cannot keep
    "group.exits": 4,
    "rollout.max_thought_tokens": 32,
    "rollout.max_answer_tokens": 12,
    "train.steps": STEPS,
    "train.problems_per_step": 4,
    "train.checkpoint_every": 1,
    "train.learning_rate": 1e-3,
}
BUDGETS = ["--max-thought-tokens", "32", "--max-answer-tokens", "12"]


def suffice(*words: object, code: int = 0) -> str:
    """Standard output of a command that ends with this code."""
    done = begin(*words)
    out, err = done.communicate()
    assert done.returncode == code, (words, out, err)
    return out


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """What is set of the recipe: a taught model, its data and what is small."""
    torch.set_num_threads(1)
    for split in ("train", "test"):
        write_hub_format(tmp_path / f"{split}.jsonl")
    blank = make_qwen3(tmp_path / "blank", [*HUB_FORMAT, *map(str, HUB_FORMAT.values())], vocabulary=800, width=128)
    tokenizer: Any = Qwen2Tokenizer.from_pretrained(blank)  # its rules of splitting over the words learnt
    tokenizer.save_pretrained(blank)
    model = learn_by_heart(blank, load_task("gsm8k", path=str(tmp_path), split="train"), tmp_path / "taught")
    assert type(AutoTokenizer.from_pretrained(model)).__name__ == "Qwen2Tokenizer"
    sets = {"model.path": model, "task.path": tmp_path, **SMALL}
    return [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]


def test_one_recipe_goes_from_the_estimate_over_a_killed_run_to_a_compared_model(tmp_path: Path, asked: list[str]):
    run, shorter, model = tmp_path / "run", tmp_path / "shorter", tmp_path / "taught"
    doctor = ["doctor", RECIPE, *asked, "--set", f"cluster.gpus={WORKERS}", "--gpu", "4090", "--json"]
    found = json.loads(suffice(*doctor, code=2))
    assert {each["what"] for each in found["findings"] if not each["ok"]} == {"CUDA", "vllm", "flash-attn", "GPUs"}

    started = begin("train", RECIPE, "--engine", "verl", "--out", run, *asked, *options())
    while not (run / "checkpoints" / "step-000002").exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.2)
    family = psutil.Process(started.pid).children(recursive=True)
    next(each for each in family if "WorkerDict" in " ".join(each.cmdline())).send_signal(signal.SIGKILL)
    _, said = started.communicate()
    assert started.returncode == 2
    assert f"suffice train --resume {run}" in said.strip().splitlines()[-1]
    suffice("train", "--resume", run)
    lines = read_jsonl(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    thought, sampled = (sum(line[name] for line in lines) / STEPS for name in ("thought_tokens", "tokens_decode"))
    planned = json.loads(suffice(*doctor, "--mean-thought", thought, code=2))["estimate"]["tokens"]
    assert planned["sampled"] / 2 < sampled < 2 * planned["sampled"]  # its answers are half as long as they may be

    for words in (["report", run], ["watch", run, "--once"]):
        suffice(*words)
    suffice("export", run, "--out", shorter)
    task = ["--task", "gsm8k", "--path", tmp_path, *BUDGETS, "--samples", "4"]
    for side, name in ((model, "before"), (shorter, "after")):
        suffice("eval", side, *task, "--out", tmp_path / name)
    said = suffice("compare", tmp_path / "before", tmp_path / "after", "--out", tmp_path / "page.html")
    assert "accuracy" in said
    assert (tmp_path / "page.html").exists()
