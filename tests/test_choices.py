"""Multiple choice: the options are shown and the gold answer is a letter; where either is unclear it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from problem_files import Folder
from suffice.grading import Grader
from suffice.groups import Verdict
from suffice.tasks import load_task
from suffice.tasks.choices import LETTERS, Options, in_columns, options_of, right_letters

LETTER = r"Please reason step by step, and put the letter of your final answer within \boxed{}."
METALS = ["iron", "gold", "lead", "zinc"]
SHOWN = "Heaviest?\nA) iron\nB) gold\nC) lead\nD) zinc"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        # MMLU-Pro, RACE; ARC, CommonsenseQA, with other labels; OpenAI and MedQA; JSON in a text
        {"question": "Heaviest?", "options": METALS, "answer": "B", "answer_index": 1},
        {"id": 1, "question": "Heaviest?", "choices": {"text": METALS, "label": list("ABCD")}, "answerKey": "B"},
        {"question": "Heaviest?", "choices": {"text": METALS, "label": list("1234")}, "answerKey": "2"},
        {"question": "Heaviest?", "options": dict(zip("ABCD", METALS, strict=True)), "answer": "B"},
        {"question": "Heaviest?", "options": dict(zip("ABCD", METALS, strict=True)), "answer": "gold"},
        {
            "question": "Heaviest?",
            "options": [{"key": k, "value": v} for k, v in zip("ABCD", METALS, strict=True)],
            "answer": "B",
        },
        {
            "question": "Heaviest?",
            "choices": [{"label": k, "text": v} for k, v in zip("ABCD", METALS, strict=True)],
            "answer": "B",
        },
        {"question": "Heaviest?", "choices": [{"text": v} for v in METALS], "answer": "gold"},
        {"question": "Heaviest?", "choices": json.dumps(METALS), "answer": "gold"},
        {"question": "Heaviest?", "choices": json.dumps({"text": METALS, "label": list("ABCD")}), "answer": "b"},
        # AQuA, AGIEval: options that bring their letters
        {"question": "Heaviest?", "options": ["A)iron", "B)gold", "C)lead", "D)zinc"], "answer": "B"},
        {"question": "Heaviest?", "options": ["(A) iron", "(B) gold", "(C) lead", "(D) zinc"], "answer": "(B) gold"},
        {"question": "Heaviest?", "options": ["A. iron", "B. gold", "C. lead", "D. zinc"], "answer": "gold"},
        # C-Eval, MedMCQA: a column each
        {"question": "Heaviest?", **dict(zip("ABCD", METALS, strict=True)), "answer": "B"},
        {"question": "Heaviest?", **{f"op{k}": v for k, v in zip("abcd", METALS, strict=True)}, "answer": "b"},
        {"question": "Heaviest?", **{f"option_{k}": v for k, v in zip("1234", METALS, strict=True)}, "answer": "2"},
        {"question": "Heaviest?", **dict(zip("ABCD", METALS, strict=True)), "E": None, "answer": "B."},
        # gold answers with their mark, or as a text
        {"question": "Heaviest?", "choices": METALS, "answer": "B) gold"},
        {"question": "Heaviest?", "choices": METALS, "answer": r"so \boxed{B}"},
        {"question": "Heaviest?", "choices": METALS, "answer": "Gold is.\n#### B"},
        {"question": "Heaviest?", "choices": METALS, "answer": r"\text{(B)}"},
        {"question": "Heaviest?", "choices": METALS, "answer": "gold", "kind": "choice"},
        # the prompt as a chat, or listing the options itself
        {"prompt": [{"role": "user", "content": "Heaviest?"}], "choices": METALS, "answer": "B"},
        {"prompt": SHOWN, "choices": METALS, "answer": "B"},
    ],
)
def test_options_are_shown_and_the_gold_answer_is_a_letter(folder: Folder, record: dict[str, Any]):
    (problem,) = folder.load(record)
    assert (problem.prompt, problem.gold, problem.kind) == (f"{SHOWN}\n{LETTER}", "B", "choice")
    assert folder.load(record, prompt="plain")[0].prompt == SHOWN
    assert folder.load(record, prompt="answer-boxed")[0].prompt.startswith(f"{SHOWN}\nPut the letter")
    with Grader() as grader:
        assert grader.grade(r"It is \boxed{B}.", problem.gold, problem.kind) == Verdict.CORRECT
        assert grader.grade(r"It is \boxed{C}.", problem.gold, problem.kind) == Verdict.WRONG


def test_a_parquet_file_of_mmlu_is_read(tmp_path: Path):
    rows = [
        {"question": "Heaviest?", "subject": "chemistry", "choices": METALS, "answer": 1},
        {"question": "Lightest?", "subject": "chemistry", "choices": METALS, "answer": 0},
        {"question": "2 + 2?", "subject": "algebra", "choices": ["4", "2", "0", "1"], "answer": 0},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    problems = load_task("jsonl", path=str(tmp_path / "test.parquet"), prompt="plain")
    assert [(p.prompt, p.gold) for p in problems] == [
        (SHOWN, "B"),
        (SHOWN.replace("Heaviest", "Lightest"), "A"),
        ("2 + 2?\nA) 4\nB) 2\nC) 0\nD) 1", "A"),
    ]


def test_how_gold_answers_were_read_is_said(folder: Folder, capsys: pytest.CaptureFixture[str]):
    for golds, reading in (
        ([0, 1], "an index from 0"),
        ([1, 4], "an index from 1"),
        (["A", "C"], "a label"),
        (["gold", "zinc"], "an option's text"),
    ):
        folder.load(*asked(*golds), {"question": "2 + 2?", "choices": [], "answer": "4"})
        assert capsys.readouterr().err == (
            "jsonl: 2 of 3 problems are multiple choice; their options are shown, and gold answers are read as "
            f"{reading}\n"
        )


def asked(*golds: Any, choices: list[Any] = METALS) -> list[dict[str, Any]]:
    return [{"question": f"{n}?", "choices": choices, "answer": gold} for n, gold in enumerate(golds)]


@pytest.mark.parametrize(
    ("golds", "letters"),
    [
        ([1, 0, 3], "BAD"),  # only from 0 is there a 0
        (["1", "0", "3"], "BAD"),
        ([2, 4, 1], "BDA"),  # only from 1 is there a 4
        ([2.0, 4.0], "BD"),
        (["b", "D"], "BD"),
        (["gold", "zinc"], "BD"),
        (["B. gold", "D"], "BD"),
    ],
)
def test_one_reading_of_the_gold_answers_fits_all_records(folder: Folder, golds: list[Any], letters: str):
    assert [p.gold for p in folder.load(*asked(*golds))] == list(letters)


def test_the_options_that_are_numbers_are_told_from_an_index_by_the_other_records(folder: Folder):
    digits = {"question": "2 + 2?", "choices": ["4", "2", "0", "1"], "answer": 1}
    said = folder.refusal(digits)
    assert said == (
        ":1: gold '1' may be an option's text (option D) or an index from 0 (option B), and no record tells which; "
        "give the letter of the right option"
    )
    assert [p.gold for p in folder.load(digits, *asked(0))] == ["B", "A"]  # no text is 0: an index, from 0
    words = {"question": "2 + 3?", "choices": ["5", "10"], "answer": "10"}
    assert [p.gold for p in folder.load(digits, words)] == ["D", "B"]  # no index is 10: a text


@pytest.mark.parametrize(
    ("rows", "place", "said"),
    [
        (
            asked(1),
            1,
            "gold '1' may be an index from 0 (option B) or an index from 1 (option A), and no record tells which",
        ),
        (asked(1, 2, 3), 1, "gold '1' may be an index from 0"),
        (
            asked("2", choices=["1", "2", "3"]),
            1,
            "gold '2' may be an option's text (option B) or an index from 0 (option C)",
        ),
        (asked("A", choices=["B", "A", "O"]), 1, "gold 'A' may be a label (option A) or an option's text (option B)"),
        (asked(0, 4), 2, "gold '4' is none of its 4 choices"),
        (asked("A", "E"), 2, "gold 'E' is none of its 4 choices"),
        (asked("A", 1), 2, "gold '1' is none of its 4 choices"),
        (asked("silver"), 1, "gold 'silver' is none of its 4 choices"),
        (asked("x", choices=["x", "x", "y"]), 1, "gold 'x' is none of its 3 choices"),
        (asked(-1), 1, "gold '-1' is none of its 4 choices"),
        (asked(["A", "C"]), 1, "gold holds 2 answers (A, C)"),
        (asked(None), 1, "no gold: 'answer' is blank"),
        (asked("A", choices=["x"]), 1, "choices are 1, and a choice is among 2 to 10"),
        (asked("A", choices=list("abcdefghijk")), 1, "choices are 11, and a choice is among 2 to 10"),
        (asked("A", choices=["x", " ", "y"]), 1, "one of the choices is blank"),
        (asked("A", choices=["x", ["y"]]), 1, "a choice must be text or a finite number, not ['y']"),
        (asked("A", choices=[{"a": 1}, {"b": 2}]), 1, "choices are objects without a text"),
    ],
)
def test_what_cannot_be_told_is_refused_at_its_place(folder: Folder, rows: list[dict[str, Any]], place: int, said: str):
    assert folder.refusal(*rows).startswith(f":{place}: {said}")


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ("['x' 'y']", "choices must be a list, not"),
        ("a ) 38 , b ) 27", "choices must be a list, not"),
        (5, "choices must be a list, not 5"),
        ({"text": ["x", "y"], "label": ["A"]}, "choices have 1 labels and 2 texts"),
        ({"text": ["x", "y"], "label": ["A", "a"]}, "two choices have the same label (A, a)"),
    ],
)
def test_options_of_another_form_are_refused(folder: Folder, choices: Any, said: str):
    assert folder.refusal({"question": "Q?", "options": choices, "answer": "A"}).startswith(f":1: {said}")


def test_an_answer_that_always_stands_in_the_same_place_is_refused(folder: Folder):
    assert "in every one of 20 records" in folder.refusal(*asked(*["A"] * 20))
    assert len(folder.load(*asked(*["A"] * 19))) == 19
    assert len(folder.load(*asked(*["A"] * 20, "B"))) == 21


@pytest.mark.parametrize("choices", [None, [], "", "[]"])
def test_a_record_without_options_is_an_open_question(folder: Folder, choices: Any):
    (problem, other) = folder.load({"question": "2 + 2?", "choices": choices, "answer": "4"}, *asked("B"))
    assert (problem.prompt, problem.kind, other.kind) == ("2 + 2?", "math", "choice")


def test_a_kind_of_ones_own_decides_whether_options_are_shown(folder: Folder):
    record = {"question": "2 + 2?", "choices": ["3", "4"], "answer": "4"}
    for kind in ("math", "exact"):
        (problem,) = folder.load(record | {"kind": kind})
        assert (problem.prompt, problem.gold, problem.kind) == ("2 + 2?", "4", kind)


# options under other names


def test_options_under_another_name_are_mapped(folder: Folder):
    hellaswag = {"ctx": "He", "endings": ["runs", "sits"], "label": "0"}
    fields = {"prompt": "ctx", "gold": "label", "choices": "endings"}
    assert folder.load(hellaswag, fields=fields, prompt="plain")[0].prompt == "He\nA) runs\nB) sits"
    piqa = {"goal": "Open it.", "sol1": "Pull.", "sol2": "Push.", "label": 0}
    fields = {"prompt": "goal", "gold": "label", "choices": "sol1+sol2"}
    (problem,) = folder.load(piqa, fields=fields, prompt="plain")
    assert (problem.prompt, problem.gold) == ("Open it.\nA) Pull.\nB) Push.", "A")
    stem = {"question": {"stem": "Q?", "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]}}
    said = folder.refusal(stem | {"answerKey": "B"})
    assert said.startswith(":1: prompt is an object with 'stem', 'choices'; name the part that is the question: ")
    fields = {"prompt": "question.stem", "choices": "question.choices"}
    assert "--fields prompt=question.stem,choices=question.choices (in a recipe" in said
    (problem,) = folder.load(stem | {"answerKey": "B"}, fields=fields, prompt="plain")
    assert (problem.prompt, problem.gold) == ("Q?\nA) x\nB) y", "B")
    nested = {"question": "Q?", "mc": {"choices": ["x", "y"]}, "answer": "y"}
    assert folder.load(nested, fields={"options": "mc.choices"}, prompt="plain")[0].prompt == "Q?\nA) x\nB) y"


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Q?", "endings": ["x", "y"], "answer": "1"},
        {"question": "Q?", "answer_choices": ["x", "y"], "answer": "y"},
        {"question": "Q?", "cands": ["x", "y"], "answer": "B"},
        {"question": "Q?", "alternatives": '["x", "y"]', "answer": "A"},
    ],
)
def test_options_that_would_not_be_shown_are_refused_with_their_column(folder: Folder, record: dict[str, Any]):
    name = list(record)[1]
    said = folder.refusal(record)
    assert f"{name!r} may hold the options of a multiple choice, and the prompt shows no options" in said
    assert f"--fields choices={name} (in a recipe: task.fields)" in said
    assert folder.load(record | {"kind": "math"})[0].prompt == "Q?"
    (listed,) = folder.load(record | {"question": "Q?\nA. x\nB. y", "answer": "B"})
    assert (listed.kind, listed.prompt) == ("choice", "Q?\nA. x\nB. y")


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Q?", "distractor1": "x", "distractor2": "y", "answer": "z"},
        {"question": "Q?", "incorrect_answers": ["x", "y"], "answer": "z"},
        {"question": "Q?", "Incorrect Answer 1": "x", "answer": "z"},
        {"question": "Q?", "wrong_answer": "x", "answer": "z"},
    ],
)
def test_wrong_answers_beside_a_right_one_are_refused(folder: Folder, record: dict[str, Any]):
    said = folder.refusal(record)
    assert said.startswith(f":1: {list(record)[1]!r} holds wrong answers to choose from, which would not be shown")


def test_letters_without_options_are_refused_and_beside_their_options_are_choices(folder: Folder):
    bare = [{"prompt": f"{n}: which?", "answer": letter} for n, letter in enumerate("BAC")]
    assert "every gold answer is a letter, and the prompt shows no options" in folder.refusal(*bare)
    listed = [row | {"prompt": f"{row['prompt']}\n(A) x (B) y (C) z"} for row in bare]
    assert [(p.kind, p.gold, p.prompt) for p in folder.load(*listed)] == [
        ("choice", row["answer"], row["prompt"]) for row in listed
    ]
    assert [p.kind for p in folder.load(*bare, {"prompt": "1 + 1?", "answer": "2"})] == ["math"] * 4


@pytest.mark.parametrize(
    "record",
    [
        {"question": "a + b?", "a": 1, "b": 2, "answer": "3"},
        {"question": "How far?", "A": 1, "B": 2, "answer": "3"},
        {"question": "Q?", "tags": ["algebra", "easy"], "answer": "3"},
        {"question": "Q?", "num_choices": 4, "optional": "x", "answer": "3"},
        {"question": "Q?", "answer_1": "x", "answer_2": "y", "answer": "3"},
        {"question": "Q?", "solution_a": "x", "sold": "y", "answer": "3"},
    ],
)
def test_other_columns_are_not_taken_for_options(folder: Folder, record: dict[str, Any]):
    (problem,) = folder.load(record)
    assert (problem.prompt, problem.kind) == (record["question"], "math")


def test_columns_are_options_where_their_names_count_from_the_first():
    assert in_columns({"q": 0, "B": 1, "A": 2, "C": 3}) == {"A": "A", "B": "B", "C": "C"}
    assert in_columns({"option1": 1, "option2": 2}) == {"1": "option1", "2": "option2"}
    assert in_columns({"ending0": 1, "ending1": 2, "ending2": 3}) == {"0": "ending0", "1": "ending1", "2": "ending2"}
    assert in_columns({"answerA": 1, "answerB": 2}) == {"A": "answerA", "B": "answerB"}
    for columns in ({"A", "C", "D"}, {"B", "C", "D"}, {"option2", "option3"}, {"option1"}, {"A"}, set()):
        assert in_columns(dict.fromkeys(columns, "x")) == {}


@given(st.lists(st.text("xyz", min_size=1), min_size=2, max_size=10, unique=True), st.data())
def test_every_way_to_point_at_an_option_gives_its_letter(texts: list[str], data: st.DataObject):
    options = Options(tuple(texts))
    places = [*range(len(texts)), *data.draw(st.lists(st.sampled_from(range(len(texts))), max_size=5))]
    right = [LETTERS[place] for place in places]
    for golds in (right, [str(p) for p in places], [str(p + 1) for p in places], [texts[p] for p in places]):
        assert right_letters([("here", gold, options) for gold in golds])[0] == right


def test_options_keep_their_order_and_their_numbers():
    assert options_of([3, 2.0, 0.5, "x"]) == Options(("3", "2", "0.5", "x"))
    assert options_of({"b": "y", "a": "x"}) == Options(("y", "x"), ("b", "a"))
    assert options_of(["A) x", "C) y"]) == Options(("A) x", "C) y"))
