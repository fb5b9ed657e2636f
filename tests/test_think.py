"""Lessons in thinking and overthinking: what they say, who may not be taught, and that teaching goes on where it was
stopped."""

import json
import random
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmarks import real_training
from benchmarks.marks import marked
from benchmarks.real_training import STAGES, commands, first_answers, others
from benchmarks.think import Habits, Step, lesson, prepared, slip, split, think, worked, written
from safetensors.torch import load_file, save_file

from making import CORPUS, make_qwen3
from suffice.bench.plan import load_plan, resolve
from suffice.errors import ModelError
from suffice.groups import Problem
from suffice.model.load import load_chat
from suffice.tasks import load_task

ROOT = Path(__file__).parents[1]
APPLES = {"id": "a", "question": "Tom has 3 apples and buys 4.", "answer": "7", "equation": "3+4=7"}
BAGS = {"id": "b", "question": "12 bags of 5, and 2 more.", "answer": "62", "solution": "<<12*5=60>>60 <<60+2=62>>62"}


def test_steps_are_taken_in_the_order_in_which_they_are_done():
    assert [str(step) for step in worked(APPLES)] == ["3 + 4 = 7"]
    assert [str(step) for step in worked(BAGS)] == ["12 * 5 = 60", "60 + 2 = 62"]
    # 2.5 · (8 − 3) = 12.5: the bracket first
    found = worked({"equation": "2.5*(8-3)=12.5", "answer": "12.5"})
    assert [str(step) for step in found] == ["8 - 3 = 5", "2.5 * 5 = 12.5"]


@pytest.mark.parametrize(
    "record",
    [
        {"equation": "3+4=7", "answer": "8"},
        {"equation": "x=3+4", "answer": "7"},
        {"equation": "8/0=0", "answer": "0"},
        {"equation": "2**9=512", "answer": "512"},
        {"equation": "__import__('os')", "answer": "1"},
        {"equation": "7=7", "answer": "seven"},
        {"answer": "7"},
    ],
    ids=str,
)
def test_what_is_not_plain_arithmetic_to_the_answer_has_no_steps(record):
    assert worked(record) == []


def test_numbers_are_written_as_people_write_them():
    assert [written(Fraction(each)) for each in ("7", "-3", "1/4", "1/3", "12.50")] == [
        "7",
        "-3",
        "0.25",
        "0.3333",
        "12.5",
    ]


@pytest.mark.parametrize("seed", range(40))
def test_every_line_of_a_thought_is_true_and_the_mistake_is_not_trained(seed):
    thought = think(worked(BAGS), random.Random(seed), Habits(1, 3, 0.5))
    for line in thought.lines:
        for left, operator, right, value in re.findall(r"([-\d.]+) ([-+*/]) ([-\d.]+) = ([-\d.]+)\.", line):
            assert written(Step(Fraction(left), operator, Fraction(right)).value) == value, line
    assert len(thought.said) == len(thought.lines) + 1
    assert thought.said[-1] == thought.answer == "62"
    if thought.before:  # it answered wrongly there, and says so at every exit until it has mended that
        wrong = re.search(r"So the answer is ([-\d.]+)\.\n$", thought.before)[1]
        assert wrong != "62"
        assert thought.said[:3] == [wrong] * 3
    else:
        assert thought.said[0] is None


def test_a_slip_comes_to_something_else():
    draw = random.Random(0)
    for step in (
        Step(Fraction(2), "+", Fraction(2)),
        Step(Fraction(0), "*", Fraction(5)),
        Step(Fraction(6), "/", Fraction(1)),
    ):
        assert all(slip(step, draw).value != step.value for _ in range(50))


def test_the_split_keeps_no_question_twice_and_tests_none_that_is_trained_on(tmp_path):
    records = [APPLES | {"id": f"{i}", "question": f"Tom has {i % 7} apples."} for i in range(20)] + [BAGS]
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in records))
    train, test = split([file, file], 1, 3, 0)
    questions = [[each["question"] for each in part] for part in (train, test)]
    assert [len(part) for part in questions] == [4, 3]
    assert len({*questions[0], *questions[1]}) == 7
    assert len(split([file], 2, 3, 0)[0]) == 5, "two operations are allowed"


def test_the_packaged_plan_trains_the_two_papers_methods_with_two_seeds_from_one_base(monkeypatch):
    monkeypatch.chdir(ROOT / "benchmarks" / "plans" / "real")
    cells = resolve(load_plan("plan.toml")).cells
    seeds = [(cell.recipe.method.name, cell.seed) for cell in cells]
    assert seeds[:4] == [("s-grpo", 0), ("s-grpo", 1), ("grpo-lambda", 0), ("grpo-lambda", 1)]
    assert {cell.recipe.model.path for cell in cells} == {"base"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An instruct model without marks."""
    folder = make_qwen3(tmp_path_factory.mktemp("model") / "plain", CORPUS.splitlines(), 400, 16)
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"] = [each for each in data["added_tokens"] if "think" not in each["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("added_tokens_decoder", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    template = "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    template += "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_model_without_marks_gets_two_that_it_can_tell_apart(plain):
    model, chat = marked(str(plain))
    prompt = chat.render("2 + 2?")
    assert chat.opened(prompt)
    rows = model.get_input_embeddings().weight
    assert not torch.equal(rows[chat.open_id], rows[chat.close_id])
    spelled = chat.tokenizer.encode("< / t h i n k >", add_special_tokens=False)
    assert chat.close_id not in spelled
    assert torch.equal(model.get_output_embeddings().weight[chat.close_id], rows[chat.close_id])


def test_a_lesson_is_the_response_and_early_answers_that_were_said(plain):
    _, chat = marked(str(plain))
    problem = Problem("a", "think", "How many?", "7")
    group = lesson(problem, think(worked(APPLES), random.Random(1), Habits(1, 1, 0.0)), chat, random.Random(0), 2)
    (spine,) = group.spines
    assert spine.tokens[spine.thought_end] == chat.close_id
    assert chat.text(spine.answer_tokens) == "The answer is \\boxed{7}."
    assert spine.tokens[-1] in chat.end_ids
    for branch in spine.branches:
        assert chat.written(spine.tokens[: branch.exit]).endswith("\n") or branch.exit == 0
        assert chat.text(branch.answer) == "The answer is \\boxed{7}."


def teach(folder, out, *options, stop=None):
    command = [
        sys.executable,
        "-m",
        "benchmarks.think",
        str(folder),
        "--data",
        str(out.parent / "data.jsonl"),
        "--out",
        str(out),
    ]
    command += ["--test", "8", "--batch", "2", "--rank", "2", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def data(tmp_path):
    records = [
        {
            "id": str(i),
            "question": f"{i} apples and {i + 1} more?",
            "answer": f"{2 * i + 1}",
            "equation": f"{i}+{i + 1}",
        }
        for i in range(20)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return tmp_path


@pytest.mark.slow
def test_teaching_makes_a_model_that_goes_on_learning_where_it_was_stopped(plain, data):
    whole = teach(plain, data / "whole", "--examples", "8")
    assert whole.returncode == 0, whole.stderr
    chat = load_chat(str(data / "whole" / "base"), "</think>")
    assert chat.opened(chat.render("2 + 2?"))
    assert len((data / "whole" / "test.jsonl").read_text().splitlines()) == 8

    again = teach(plain, data / "whole", "--examples", "8")
    assert (again.returncode, "already" in again.stdout) == (0, True)
    other = teach(plain, data / "whole", "--examples", "8", "--rate", "1e-3")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert "taught otherwise" in other.stderr
    assert load_file(data / "whole" / "base" / "model.safetensors")


def test_a_model_that_thinks_is_not_taught_again():
    problems = load_task("arithmetic", split="test", limit=4)
    with pytest.raises(ModelError, match="closes its thoughts already"):
        prepared("lab/arithmetic", problems)


def test_a_model_without_a_chat_template_is_refused(plain, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(plain, base)
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        marked(str(base))


def test_marks_that_are_one_vector_are_refused(tmp_path):
    folder = make_qwen3(tmp_path / "marked", CORPUS.splitlines(), 400, 16)
    weights = load_file(folder / "model.safetensors")
    opened, closed = (load_chat(str(folder), "</think>").open_id, load_chat(str(folder), "</think>").close_id)
    weights["model.embed_tokens.weight"][opened] = weights["model.embed_tokens.weight"][closed]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="one untrained vector"):
        marked(str(folder))


def test_stages_that_were_begun_go_on_and_others_start(tmp_path):
    (tmp_path / "diagnosis").mkdir()
    (tmp_path / "diagnosis" / "request.json").touch()
    first, second, third = commands(tmp_path, STAGES)
    assert first == ["suffice", "diagnose", "--resume", "diagnosis"]
    assert (second[:3], second[-2:]) == (["suffice", "eval", "base"], ["--out", "stopped"])
    assert third == ["suffice", "bench", "plan.toml", "--out", "bench"]  # which goes on by itself


def test_other_problems_are_asked_of_the_base_and_of_the_first_seeds_last_checkpoint(tmp_path, monkeypatch):
    run = tmp_path / "bench" / "runs" / "s-grpo-seed-0-0123abcd"
    run.mkdir(parents=True)
    monkeypatch.setattr(real_training, "latest_checkpoint", lambda folder: folder / "checkpoints" / "step-000010")
    base, trained = commands(tmp_path, others(tmp_path))
    assert base[:3] == ["suffice", "eval", "base"]
    assert trained[2] == "bench/runs/s-grpo-seed-0-0123abcd/checkpoints/step-000010"
    for command in (base, trained):
        assert (command[command.index("--path") + 1], command[-2]) == ("other.jsonl", "--out")


def test_first_answers_are_counted_with_what_thinking_on_lost_and_mended(tmp_path):
    said = [
        ("So the answer is 7.\nLet me check.\nSo the answer is 8.", "WRONG"),
        ("So the answer is 8.\nNo.\nSo the answer is 7.", "CORRECT"),
        ("So the answer is 7.", "CORRECT"),
        ("I add 3 and", "WRONG"),
    ]
    rows = [{"thought": thought, "verdict": verdict, "gold": "7"} for thought, verdict in said]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = first_answers(tmp_path / "records.jsonl")
    assert found == {"thoughts": 4, "right": 2, "lost": 1, "mended": 1}
