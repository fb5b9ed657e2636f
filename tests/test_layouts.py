"""Records in the columns that others use: read where they say one thing, else refused with the words that settle it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from problem_files import Folder, write
from suffice.cli import app
from suffice.config import load_recipe
from suffice.errors import RecipeError, SufficeError
from suffice.run.files import read_json, read_jsonl
from suffice.tasks import load_task
from suffice.tasks.fields import at
from suffice.tasks.provenance import training_problems

VERL = {
    "data_source": "math_dapo",
    "prompt": [{"role": "user", "content": "What is 30 + 4?"}],
    "ability": "MATH",
    "reward_model": {"ground_truth": "34", "style": "rule"},
    "extra_info": {"index": 7, "split": "train"},
}
USER = {"role": "user", "content": "1 + 1?"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": r"So \boxed{2}"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def advised(message: str) -> dict[str, str]:
    """The first `--fields` that a refusal gives, as a shell would hand it on."""
    found = re.search(r"--fields ('[^']*'|\S+)", message)
    assert found, message
    (said,) = shlex.split(found[1])
    return dict(pair.split("=", 1) for pair in said.split(","))


# known layouts


@pytest.mark.parametrize(
    ("record", "prompt", "gold"),
    [
        # verl, and those whose ground truth is a list in a text, or whose columns are JSON in texts
        (VERL, "What is 30 + 4?", "34"),
        (VERL | {"reward_model": {"ground_truth": '["34"]'}}, "What is 30 + 4?", "34"),
        (VERL | {"prompt": json.dumps(VERL["prompt"])}, "What is 30 + 4?", "34"),
        (VERL | {"reward_model": json.dumps(VERL["reward_model"])}, "What is 30 + 4?", "34"),
        (VERL | {"solution": "34", "prompt": "30 + 4?"}, "30 + 4?", "34"),
        # TRL
        ({"prompt": [USER], "solution": r"So it is $\boxed{2}$."}, "1 + 1?", "2"),
        ({"prompt": "1 + 1?", "ground_truth": 2.0}, "1 + 1?", "2"),
        ({"prompt": [USER], "completion": [ANSWER], "answer": "2"}, "1 + 1?", "2"),
        # MATH, NuminaMath, GSM8K
        ({"problem": "P?", "solution": r"First \boxed{1}, then \boxed{\frac{1}{2}}."}, "P?", r"\frac{1}{2}"),
        ({"problem": "P?", "solution": "see above", "answer": "5"}, "P?", "5"),
        ({"problem": "P?", "solution": r"\boxed{3}", "messages": [USER, ANSWER]}, "P?", "3"),
        ({"question": "Q?", "answer": "She has 5.\n#### 1,205"}, "Q?", "1,205"),
        # ms-swift, OpenAI, ShareGPT
        ({"messages": [USER], "solution": r"\boxed{2}"}, "1 + 1?", "2"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}], "answer": "2"},
            "1 + 1?",
            "2",
        ),
        ({"conversations": [{"from": "human", "value": "1 + 1?"}], "answer": "2"}, "1 + 1?", "2"),
        # other cases of the letters, and columns that say the same
        ({"Question": "Q?", "Answer": 27.0}, "Q?", "27"),
        ({"prompt": "Q?", "question": "Q? ", "answer": "0.5", "gold": r"\frac12"}, "Q?", "0.5"),
    ],
)
def test_a_known_layout_needs_no_words(folder: Folder, record: dict[str, Any], prompt: str, gold: str):
    (problem,) = folder.load(record)
    assert (problem.prompt, problem.kind) == (prompt, "math")
    assert problem.gold in (gold, r"\frac12")


def test_a_parquet_file_of_verl_is_read(tmp_path: Path):
    other = VERL | {"prompt": [{"role": "user", "content": "Another?"}]}
    parquet.write_table(pa.Table.from_pylist([VERL, other]), tmp_path / "train.parquet")
    problems = load_task("jsonl", path=str(tmp_path / "train.parquet"), split="train")
    assert [(p.id, p.prompt, p.gold) for p in problems] == [
        ("jsonl-train-1", "What is 30 + 4?", "34"),
        ("jsonl-train-2", "Another?", "34"),
    ]


def test_maths_level_is_the_difficulty(folder: Folder):
    (problem,) = folder.load({"problem": "P?", "level": "Level 3", "type": "Algebra", "solution": r"\boxed{1}"})
    assert problem.difficulty == "Level 3"
    (problem,) = folder.load({"problem": "P?", "level": "Level 3", "difficulty": 0.5, "answer": "1"})
    assert problem.difficulty == "0.5"


# chats that a problem cannot carry


@pytest.mark.parametrize(
    ("turns", "path"),
    [
        ([SYSTEM, USER], "prompt.1.content"),
        ([{"role": "system", "content": ""}, USER], "prompt.1.content"),
        ([{"role": "developer", "content": "Be brief."}, USER], "prompt.1.content"),
        ([USER, {"role": "assistant", "content": "<think>"}], "prompt.0.content"),
        ([SYSTEM, USER, ANSWER], "prompt.1.content"),
    ],
)
def test_a_chat_of_more_than_the_users_turn_is_refused_with_the_path_of_that(
    folder: Folder, turns: list[dict[str, str]], path: str
):
    record = VERL | {"prompt": turns}
    said = folder.refusal(record)
    assert said.startswith(f":1: prompt is a chat of {len(turns)} turns ({', '.join(t['role'] for t in turns)}), and ")
    assert advised(said) == {"prompt": path}
    assert folder.load(record, fields=advised(said))[0].prompt == "1 + 1?"


def test_a_demonstration_is_refused_with_the_paths_of_question_and_answer(folder: Folder):
    for record in ({"messages": [SYSTEM, USER, ANSWER]}, {"messages": json.dumps([USER, ANSWER])}):
        (problem,) = folder.load(record, fields=advised(folder.refusal(record)))
        assert (problem.prompt, problem.gold) == ("1 + 1?", "2")


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([USER, ANSWER, USER], "is a chat of 3 turns (user, assistant, user), and a problem is a single user turn"),
        ([USER, USER], "is a chat of 2 turns (user, user)"),
        ([SYSTEM], "is a chat of 1 turn (system)"),
        ([{"role": "user", "content": 5}], "must be text or one user turn, not 5"),
        (
            [{"role": "user", "content": [{"type": "image", "url": "x.png"}]}],
            "holds a part of type 'image', which is not",
        ),
        ([{"role": "user", "content": " "}], "no prompt: 'prompt' is blank"),
    ],
)
def test_other_chats_are_refused_with_the_reason(folder: Folder, turns: list[dict[str, Any]], said: str):
    told = folder.refusal(VERL | {"prompt": turns})
    assert said in told
    assert "--fields" not in told  # no one turn of these is the question


# columns that could be several things, or are unknown


@pytest.mark.parametrize(
    ("record", "field", "columns"),
    [
        ({"prompt": "Solve it: 1 + 1?", "question": "1 + 1?", "answer": "2"}, "prompt", ("prompt", "question")),
        ({"problem": "P?", "question": "Q?", "answer": "2"}, "prompt", ("question", "problem")),
        ({"question": "Q?", "gold": "2", "answer": "3"}, "gold", ("gold", "answer")),
        (
            {"question": "Q?", "answer": "3", "reward_model": {"ground_truth": "4"}},
            "gold",
            ("answer", "reward_model.ground_truth"),
        ),
    ],
)
def test_columns_that_contradict_each_other_are_named(
    folder: Folder, record: dict[str, Any], field: str, columns: tuple[str, str]
):
    said = folder.refusal(record)
    assert said.startswith(
        f":1: {columns[0]!r} and {columns[1]!r} may each be the {field}, and they differ; name one: "
    )
    assert said.endswith(f"--fields {field}={columns[0]} or --fields {field}={columns[1]} (in a recipe: task.fields)")
    for column in columns:
        (problem,) = folder.load(record, fields={field: column})
        assert getattr(problem, field) == at(record, column)


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        ({"query": "Q?", "response": "5"}, {"prompt": "query", "gold": "response"}),
        ({"instruction": "Add.", "input": "1 + 1", "output": "2"}, {"prompt": "instruction+input", "gold": "output"}),
        ({"question": "Q?", "final_answer": "5", "source": "x"}, {"gold": "final_answer"}),
        ({"meta": {"target": 5}, "question": "Q?", "tag": "x"}, {"gold": "meta.target"}),
        ({"question": "Q?", "answer": None, "solution": r"\boxed{5}"}, {"gold": "solution"}),
        ({"context": "Long ago.", "query": "When?", "label": "1066"}, {"prompt": "context+query", "gold": "label"}),
        ({"question": "Q?", "the value": 5}, {"gold": "the value"}),
        ({"question": "Q?", "answer": {"value": "5", "unit": "m"}}, {"gold": "answer.value"}),
        ({"dialog": [USER], "solution": "2"}, {"prompt": "dialog"}),
    ],
)
def test_unknown_columns_are_refused_with_fields_that_work(
    folder: Folder, record: dict[str, Any], fields: dict[str, str]
):
    said = folder.refusal(record)
    assert advised(said) == fields
    assert len(folder.load(record, fields=fields)) == 1


def test_where_nothing_tells_the_columns_are_named(folder: Folder):
    said = folder.refusal({"question": "Q?", "x": "5", "y": "6"})
    assert said.startswith(":1: no gold among its columns 'question', 'x', 'y'; add it, or name the column")
    assert advised(said) == {"gold": "COLUMN"}


def test_a_path_leads_into_objects_lists_and_json_in_texts():
    data = {"a": {"b": [{"c": 1}, {"c": 2}]}, "d.e": 3, "f": '{"g": [4, 5]}', "h.i": {"j": 6}}
    assert [at(data, path) for path in ("a.b.0.c", "a.b.-1.c", "d.e", "f.g.1", "h.i.j")] == [1, 2, 3, 5, 6]
    for path in ("a.x", "a.b.2", "a.b.-3.c", "a.b.c", "f.g.9999999999999999999999", "", "a.b.0.c.0"):
        with pytest.raises(LookupError):
            at(data, path)


def test_our_fields_go_by_the_names_that_columns_have(folder: Folder):
    record = {"q": "Q?", "x": {"y": "5"}}
    for fields in ({"prompt": "q", "gold": "x.y"}, {"question": "q", "answer": "x.y"}):
        assert [(p.prompt, p.gold) for p in folder.load(record, fields=fields)] == [("Q?", "5")]
    assert "names prompt twice" in folder.refusal(record, fields={"prompt": "q", "question": "x"})


def test_a_prompt_may_be_made_of_several_columns(folder: Folder):
    record = {"Body": "He had 3 and lost 1.", "Question": "How many?", "Answer": 2.0}
    (problem,) = folder.load(record, fields={"prompt": "Body+Question"})
    assert problem.prompt == "He had 3 and lost 1.\n\nHow many?"
    assert "only prompt and choices" in folder.refusal(record, fields={"prompt": "Body", "gold": "Answer+Body"})


# what belongs to a question and would not be shown


@pytest.mark.parametrize("name", ["context", "passage", "article", "Body"])
def test_a_passage_beside_the_question_is_not_left_out_in_silence(folder: Folder, name: str):
    record = {name: "Ann has 3 pens.", "question": "How many pens?", "answer": "3"}
    said = folder.refusal(record)
    assert said.startswith(f":1: {name!r} may belong to the question, and only 'question' would be shown")
    assert folder.load(record, fields=advised(said))[0].prompt == "Ann has 3 pens.\n\nHow many pens?"
    assert folder.load(record, fields={"prompt": "question"})[0].prompt == "How many pens?"
    assert folder.load(record | {"question": "Ann has 3 pens. How many pens?"})
    assert folder.load(record | {name: ""})


def test_a_passage_that_is_no_text_is_refused_with_what_can_be_done(folder: Folder):
    record = {"context": {"title": ["A"], "text": ["b"]}, "question": "Q?", "answer": "3"}
    assert advised(folder.refusal(record)) == {"prompt": "question"}


@pytest.mark.parametrize("column", ["images", "image", "audio"])
def test_a_picture_beside_the_question_is_refused(folder: Folder, column: str):
    record = {"problem": "<image> How many?", "answer": "3", column: ["a.png"]}
    assert folder.refusal(record).startswith(f":1: {column!r} goes with the question, and only text is shown")
    assert folder.load(record | {column: []})


# gold answers


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (27.0, "27"),
        (["4"], "4"),
        ([4.0, "4"], "4"),
        ('["4"]', "4"),
        ("[1, 2]", "[1, 2]"),
        ("15 meters", "15 meters"),
        ("$18", "$18"),
        ("x = 3 or x = 4", "x = 3 or x = 4"),
        (r"\text{all real numbers except zero and one and two and three and four}", None),
    ],
)
def test_a_gold_answer_is_one_text(folder: Folder, gold: Any, text: str | None):
    (problem,) = folder.load({"prompt": "Q?", "gold": gold})
    assert problem.gold == (gold if text is None else text)


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (["4", "5"], ":1: gold holds 2 answers (4, 5), and one is compared"),
        ([], ":1: no gold: 'gold' is blank"),
        ([None], ":1: gold must be text or a finite number, not None"),
        ({}, ":1: no gold: 'gold' is blank"),
        ({"inputs": ["1"]}, ":1: gold is an object with 'inputs', not an answer"),
        ('{"inputs": ["1"], "outputs": ["2"]}', ":1: gold is an object with 'inputs', 'outputs', not an answer"),
        (True, ":1: gold must be text or a finite number, not True"),
        (
            "He has 3 and gets 4 more at the market on Monday so that in the end he holds 7",
            ":1: gold is a text of 20 words",
        ),
    ],
)
def test_what_is_no_answer_is_refused(folder: Folder, gold: Any, said: str):
    assert folder.refusal({"prompt": "Q?", "gold": gold}).startswith(said)


def test_a_worked_solution_is_refused_with_the_column_of_the_answer(folder: Folder):
    worked = "He has 3 and gets 4 more at the market on Monday so that in the end he holds 7"
    record = {"question": "Q?", "answer": worked, "final": "7"}
    assert advised(folder.refusal(record)) == {"gold": "final"}
    assert folder.load(record | {"kind": "exact"})[0].gold == worked


# questions


def test_a_question_with_two_answers_is_refused(folder: Folder):
    rows = [{"prompt": "Q?", "gold": "1"}, {"prompt": "R?", "gold": "1"}, {"prompt": "Q? ", "gold": "2"}]
    file = folder.file
    assert (
        folder.refusal(*rows)
        == f":3: the question of {file}:1 with another gold answer, '2' for '1'; keep the right one of each"
    )
    assert "(2 such records)" in folder.refusal(*rows, {"prompt": "R?", "gold": "7"})


def test_a_repeated_question_is_said(folder: Folder, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": "Q?", "gold": "1"}, {"prompt": "Q?", "gold": "1.0"}, {"prompt": "R?", "gold": r"\frac{1}{2}"}]
    assert len(folder.load(*rows, {"prompt": "R?", "gold": "0.5"})) == 4
    assert capsys.readouterr().err == (
        f"jsonl: 2 of 4 problems repeat an earlier question (the first: {folder.file}:2 that of {folder.file}:1); "
        "intervals count them as different questions\n"
    )
    folder.load(*rows[:1])
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "question",
    [
        r"1 + 1? Please reason step by step, and put your final answer within \boxed{}.",
        r"1 + 1? Give your answer in \boxed{...}.",
        r'1 + 1? Let us think and output the final answer after "####".',
        r'The last line should be of the form Answer: $Answer (without quotes). 1 + 1? Write "Answer:" first.',
        "1 + 1? Reply in <answer> </answer> tags.",
    ],
)
def test_no_second_instruction_is_added(folder: Folder, question: str, capsys: pytest.CaptureFixture[str]):
    plain = {"prompt": "Of 5 boxed apples, 3 are eaten. How many are left?", "gold": "2"}
    found = folder.load({"prompt": question, "gold": "2"}, plain, prompt="boxed")
    assert found[0].prompt == question
    assert found[1].prompt.startswith(plain["prompt"] + "\nPlease reason")
    assert capsys.readouterr().err == (
        "jsonl: 1 of 2 questions say themselves where the answer goes; no second instruction was added to those\n"
    )
    folder.load({"prompt": question, "gold": "2"})
    assert not capsys.readouterr().err


# how fields are given


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("prompt=query,gold=reward_model.ground_truth", {"prompt": "query", "gold": "reward_model.ground_truth"}),
        (" prompt = my query , gold=a", {"prompt": "my query", "gold": "a"}),
        ("gold=right, or not,prompt=x=y", {"gold": "right, or not", "prompt": "x=y"}),
        ('{ prompt = "query" }', {"prompt": "query"}),
    ],
)
def test_fields_are_given_in_one_text_or_as_a_table(said: str, fields: dict[str, str]):
    assert load_recipe("lab-s-grpo", [f"task.fields={said}"]).task.fields == fields


@pytest.mark.parametrize("said", ["gold", "gold=", "=answer", "gold=a,gold=b", "5"])
def test_fields_of_another_form_are_refused(said: str):
    with pytest.raises(RecipeError, match=r"^task\.fields = .* is not allowed: it should be "):
        load_recipe("lab-s-grpo", [f"task.fields={said}"])


def test_eval_diagnose_and_train_take_fields(tmp_path: Path):
    problems = load_task("arithmetic", split="train", limit=4)
    rows = [{"ask": {"text": p.prompt}, "right": [p.gold], "answer": "of another"} for p in problems]
    path = write(tmp_path / "mine.jsonl", rows)
    fields = "prompt=ask.text,gold=right"
    data = ["--task", "jsonl", "--path", path, "--fields", fields]
    short = ["--problems", "2", "--max-thought-tokens", "8", "--max-answer-tokens", "4"]
    for verb, folder in (("eval", "evaluations"), ("diagnose", "diagnosis")):
        run = tmp_path / verb
        ended = CliRunner().invoke(app, [verb, "lab/arithmetic", *data, *short, "--out", str(run)])
        assert ended.exit_code == 0, ended.output
        known = {(p.prompt, p.gold) for p in problems}
        records = read_jsonl(run / folder / "jsonl" / "records.jsonl")
        assert {(record["prompt"], record["gold"]) for record in records} < known
        assert read_json(run / "request.json")["tasks"][0]["fields"] == {"prompt": "ask.text", "gold": "right"}
    recipe = load_recipe("lab-s-grpo", ["task.name=jsonl", f"task.path={path}", f"task.fields={fields}"])
    assert [p.prompt for p in training_problems(recipe.task, recipe.run.seed)] == [p.prompt for p in problems]


def test_fields_that_are_wrong_are_one_line_of_the_command(tmp_path: Path):
    path = write(tmp_path / "mine.jsonl", [{"prompt": "Q?", "x": "1"}] * 2)
    for task, fields, said in (
        ("jsonl", "gold", "is not allowed: it should be pairs field=column"),
        ("jsonl", "gold=y", "no field 'y' among its columns 'prompt', 'x'"),
        ("jsonl", "gould=x", "fields has the unknown name 'gould'"),
        ("gsm8k", "gold=x", "leave fields out, or use task jsonl"),
    ):
        ended = CliRunner().invoke(app, ["eval", "lab/arithmetic", "--task", task, "--path", path, "--fields", fields])
        assert said in str(ended.exception), ended.output
        assert isinstance(ended.exception, SufficeError)
