"""GSM8K through the verbs: train, evaluate and diagnose, on a file of the hub's own format and on the benchmark itself.

A random model answers nothing right, and where nothing is right there is nothing to train on. So a tiny one first
learns four problems by heart, with long and short thoughts: it is right often enough to be rewarded, and not always.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from making import exact, make_qwen3
from suffice.cli import app
from suffice.config import DEFAULT_INDUCER
from suffice.groups import Problem, Verdict
from suffice.model.load import load_chat, load_model
from suffice.run.files import read_jsonl, write_jsonl
from suffice.tasks import load_task

pytestmark = pytest.mark.slow

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
HUB_FORMAT = {
    "A shelf holds 4 rows of 9 jars. How many jars does it hold?": ("It holds 4*9=<<4*9=36>>36 jars.", "36", "36"),
    "Mia reads 30 pages a day. How many pages does she read in 40 days?": (
        "She reads 30*40=<<30*40=1200>>1,200 pages.",
        "1,200",
        "1200",
    ),
    "A tank of 50 litres loses 7 litres. How much is left?": ("There are 50-7=<<50-7=43>>43 litres.", "43", "43"),
    "At noon it was 5 degrees; by night it fell by 9. How cold was it?": ("It was 5-9=<<5-9=-4>>-4.", "-4", "-4"),
}
BUDGETS = ["--max-thought-tokens", "48", "--max-answer-tokens", "12"]


class Source(NamedTuple):
    """A model that knows some answers, the data's folder, and every question's gold answer, read without suffice."""

    model: Path
    data: Path
    golds: dict[str, str]


@pytest.fixture(scope="module", params=["the hub's format", "the benchmark"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gsm8k")
    if request.param == "the benchmark":
        data = request.getfixturevalue("benchmarks")
        rows = [json.loads(line) for line in (data / "gsm8k_train.jsonl").open(encoding="utf-8")]
        golds = {row["question"].strip(): row["answer"].replace(",", "") for row in rows}
        blank = make_qwen3(folder / "blank", list(golds), vocabulary=2000, width=96)
    else:
        data = folder
        write_hub_format(data / "train.jsonl")
        golds = {question: gold for question, (_, _, gold) in HUB_FORMAT.items()}
        blank = request.getfixturevalue("tiny_qwen3")
    problems = load_task("gsm8k", path=str(data), split="train", limit=4, seed=0)
    return Source(learn_by_heart(blank, problems, folder / "taught"), data, golds)


def write_hub_format(file: Path) -> None:
    write_jsonl(
        file,
        [
            {"question": question, "answer": f"{solution}\n#### {final}"}
            for question, (solution, final, _) in HUB_FORMAT.items()
        ],
    )


def learn_by_heart(blank: Path, problems: Sequence[Problem], target: Path) -> Path:
    """A checkpoint trained on the answers of some problems, after a long thought, a short one, and at an exit."""
    # in float64: a hundred steps would make another model out of every processor's rounding
    model, chat = exact(load_model(str(blank), device="cpu")), load_chat(str(blank), DEFAULT_INDUCER)
    examples = []
    for problem in problems:
        prompt, words = chat.render(problem.prompt), problem.prompt.split()
        answer = rf"\boxed{{{problem.gold}}}<|im_end|>"
        for close, count in (("\n</think>\n\n", 3), ("\n</think>\n\n", 6), (DEFAULT_INDUCER, 4)):
            text = f"<think>\n{' '.join(words[:count])}{close}{answer}"
            examples.append((prompt, chat.tokenizer.encode(text, add_special_tokens=False)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        for prompt, response in examples:
            logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            (cross_entropy(logits, torch.tensor(response)) / len(examples)).backward()
        optimizer.step()
    model.float().save_pretrained(target)
    chat.tokenizer.save_pretrained(target)
    return target


def suffice(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    found = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def check(records: Sequence[dict[str, Any]], source: Source) -> None:
    """Every prompt is a question and the instruction, with the gold answer that its file gives."""
    for record in records:
        question, _, instruction = record["prompt"].rpartition("\n")
        assert instruction == INSTRUCTION
        assert record["gold"] == source.golds[question]


@pytest.mark.parametrize("recipe", ["lab-s-grpo", "lab-grpo-lambda"])
def test_training_on_gsm8k_updates_the_model(source: Source, recipe: str, tmp_path: Path):
    group = {"lab-s-grpo": {"spines": 1, "exits": 4}, "lab-grpo-lambda": {"spines": 6, "exits": 0}}[recipe]
    chosen = {
        "model.path": source.model,
        "task.name": "gsm8k",
        "task.path": source.data,
        "task.limit": 4,
        "group.spines": group["spines"],
        "group.exits": group["exits"],
        "rollout.max_thought_tokens": 48,
        "rollout.max_answer_tokens": 12,
        "train.steps": 2,
        "train.problems_per_step": 4,
        "train.eval_every": 2,
        "eval.split": "train",
        "eval.problems": 4,
        "eval.samples": 2,
    }
    run = tmp_path / "run"
    suffice("train", recipe, "--out", run, *(word for k, v in chosen.items() for word in ("--set", f"{k}={v}")))
    metrics = read_jsonl(run / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [1, 2]
    for line in metrics:
        assert all(math.isfinite(value) for value in line.values())
        assert line["accuracy"] > 0
        assert line["grad_norm"] > 0
        assert line["tokens_train"] > 0
    before, after = (load_model(str(path)) for path in (source.model, run / "checkpoints" / "step-000002"))
    assert all(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    check(read_jsonl(run / "rollouts.jsonl"), source)
    check(read_jsonl(run / "evaluations" / "after" / "records.jsonl"), source)


def test_evaluating_on_gsm8k_records_a_verdict_of_every_sample(source: Source, tmp_path: Path):
    arguments = ["--task", "gsm8k", "--path", source.data, "--split", "train", "--problems", 4, "--samples", 3]
    said = suffice("eval", source.model, *arguments, *BUDGETS, "--out", tmp_path / "run", "--json")
    records = read_jsonl(tmp_path / "run" / "evaluations" / "gsm8k" / "records.jsonl")
    check(records, source)
    verdicts = [Verdict(record["verdict"]) for record in records]
    assert len(verdicts) == 12
    assert json.loads(said)["metrics"]["accuracy"]["mean"] == pytest.approx(verdicts.count(Verdict.CORRECT) / 12)
    assert Verdict.CORRECT in verdicts
    right = next(record for record in records if record["verdict"] == Verdict.CORRECT)
    assert right["gold"] in right["answer"]


def test_diagnosing_on_gsm8k_answers_at_every_fraction_of_every_thought(source: Source, tmp_path: Path):
    arguments = ["--task", "gsm8k", "--path", source.data, "--split", "train", "--problems", 4, *BUDGETS]
    said = json.loads(suffice("diagnose", source.model, *arguments, "--out", tmp_path / "run", "--json"))
    records = read_jsonl(next((tmp_path / "run" / "diagnosis").glob("*/records.jsonl")))
    check(records, source)
    assert len(records) == 4
    assert all(len(record["exits"]) == 11 for record in records)
    assert {exit_["verdict"] for record in records for exit_ in record["exits"]} <= set(Verdict)
    assert len(said["curve"]) == 11
    assert max(point["accuracy"]["mean"] for point in said["curve"]) > 0
