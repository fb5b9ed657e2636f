"""Tasks: what becomes of good records, and what is said of bad ones."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from laconic.errors import DataError
from laconic.groups import Problem
from laconic.tasks import list_tasks, load_task

# the hub's format, with a worked solution and its calculator marks
HENS = {
    "question": "A farmer has 12 hens, and each lays 5 eggs a week. How many eggs is that in 3 weeks?",
    "answer": "In a week there are 12*5=<<12*5=60>>60 eggs.\nIn 3 weeks there are 60*3=<<60*3=180>>180 eggs.\n#### 180",
}
VAN = {"question": "A van costs $1,300 less than $3,500. What does it cost?", "answer": "3500-1300=2200\n#### 2,200"}
DEBT = {"question": "Ann has $2 and owes $5. What is she worth?", "answer": "2-5=-3\n#### -3"}
BOXED = r"Please reason step by step, and put your final answer within \boxed{}."


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def refusal(*args, **options):
    with pytest.raises(DataError) as caught:
        load_task(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def refusal_of(path, line, **options):
    path.write_bytes(line)
    return refusal("jsonl", path=str(path), **options)


# names


def test_the_known_tasks_are_listed():
    assert list_tasks() == ["arithmetic", "gsm8k", "jsonl"]


def test_an_unknown_task_is_answered_with_the_nearest_and_all_known():
    assert refusal("gsm8") == "unknown task 'gsm8'; did you mean 'gsm8k'? known: arithmetic, gsm8k, jsonl"
    assert refusal("poetry") == "unknown task 'poetry'; known: arithmetic, gsm8k, jsonl"


def test_the_command_line_pays_for_no_library_it_does_not_use():
    code = (
        "import sys; from laconic.tasks import load_task; load_task('arithmetic', limit=1); "
        "print([name for name in ('torch', 'transformers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# gsm8k


def test_gsm8k_reads_the_hubs_own_format(tmp_path):
    problems = load_task("gsm8k", path=write(tmp_path / "mine.jsonl", [HENS, VAN, DEBT]), split="test")
    assert problems[0] == Problem("gsm8k-test-1", "gsm8k", f"{HENS['question']}\n{BOXED}", "180", "math", None)
    assert [problem.gold for problem in problems] == ["180", "2200", "-3"]
    assert [problem.id for problem in problems] == ["gsm8k-test-1", "gsm8k-test-2", "gsm8k-test-3"]


def test_gsm8k_reads_files_with_the_final_answer_alone(tmp_path):
    records = [
        {"id": "x", "question": "2 · 1000?", "answer": "2,000", "solution": "#### 7"},
        {"id": "y", "question": "1?", "answer": 1},
    ]
    problems = load_task("gsm8k", path=write(tmp_path / "mine.jsonl", records))
    assert [(problem.id, problem.gold) for problem in problems] == [("x", "2000"), ("y", "1")]


@pytest.mark.parametrize("name", ["gsm8k_test.jsonl", "test.jsonl"])
def test_gsm8k_finds_the_split_in_a_folder(tmp_path, name):
    write(tmp_path / name, [HENS])
    write(tmp_path / name.replace("test", "train"), [VAN, DEBT])
    assert [problem.gold for problem in load_task("gsm8k", path=str(tmp_path), split="test")] == ["180"]
    assert [problem.gold for problem in load_task("gsm8k", path=str(tmp_path), split="train")] == ["2200", "-3"]
    assert load_task("gsm8k", path=str(tmp_path)) == load_task("gsm8k", path=str(tmp_path), split="train")


@pytest.mark.parametrize("folder", [".", "main"])
def test_gsm8k_reads_a_copy_of_the_hubs_parquet_files(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    parquet.write_table(pa.Table.from_pylist([HENS, VAN]), tmp_path / folder / "train-00000-of-00001.parquet")
    assert [problem.gold for problem in load_task("gsm8k", path=str(tmp_path), split="train")] == ["180", "2200"]


def test_all_formats_of_the_same_records_give_the_same_problems(tmp_path):
    parquet.write_table(pa.Table.from_pylist([HENS, VAN]), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps([HENS, VAN], indent=2))
    problems = load_task("gsm8k", path=write(tmp_path / "a.jsonl", [HENS, VAN]))
    assert load_task("gsm8k", path=str(tmp_path / "a.json")) == problems
    assert load_task("gsm8k", path=str(tmp_path / "a.parquet")) == problems


def test_gsm8k_refuses_a_solution_that_ends_in_no_number(tmp_path):
    path = write(tmp_path / "a.jsonl", [HENS, {"question": "Why?", "answer": "Because."}])
    assert refusal("gsm8k", path=path) == (
        f"{path}:2: answer ends in no number; write the number alone, or after '####'"
    )


def test_gsm8k_refuses_a_record_without_a_question(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"query": "1?", "answer": "1"}])
    assert refusal("gsm8k", path=path).startswith(f"{path}:1: no prompt ('prompt' or 'question' or 'problem'); add it")


def test_gsm8k_names_what_it_looked_for_in_a_folder(tmp_path):
    assert refusal("gsm8k", path=str(tmp_path), split="test").startswith(
        f"{tmp_path} has no gsm8k_test.jsonl or test.jsonl"
    )


def test_gsm8k_refuses_to_choose_between_files(tmp_path):
    for part in (0, 1):
        parquet.write_table(pa.Table.from_pylist([HENS]), tmp_path / f"train-{part}.parquet")
    assert refusal("gsm8k", path=str(tmp_path)).startswith(f"{tmp_path} has 2 files train-*.parquet")


def test_gsm8k_has_two_splits():
    assert refusal("gsm8k", split="dev") == "gsm8k has no split 'dev'; use 'train' or 'test'"


def test_gsm8k_takes_no_fields(tmp_path):
    assert "leave fields out" in refusal("gsm8k", path=str(tmp_path), fields={"prompt": "query"})


def test_a_hub_out_of_reach_asks_for_a_local_copy(tmp_path):
    code = """
from laconic.errors import DataError
from laconic.tasks import load_task
try:
    load_task("gsm8k", split="test")
except DataError as error:
    print(error)
"""
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=offline).stdout
    assert said.startswith("openai/gsm8k cannot be loaded from the hub (")
    assert said.endswith("); give path, a local copy of it\n")
    assert said.count("\n") == 1


def test_gsm8ks_benchmark_files_are_read_whole(benchmarks):
    train, test = (load_task("gsm8k", path=str(benchmarks), split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (7473, 1319)
    assert test[0].gold == "18"
    assert "," not in "".join(problem.gold for problem in train + test)
    assert len({problem.id for problem in train + test}) == 7473 + 1319


# jsonl


def test_a_users_record_is_taken_as_written(tmp_path):
    record = {"prompt": "Which?\nA) x  B) y", "gold": "B", "id": "q1", "difficulty": 3, "kind": "choice", "note": [1]}
    path = write(tmp_path / "a.jsonl", [record])
    assert load_task("jsonl", path=path) == [Problem("q1", "jsonl", "Which?\nA) x  B) y", "B", "choice", "3")]


@pytest.mark.parametrize("prompt", ["prompt", "question", "problem"])
@pytest.mark.parametrize("gold", ["gold", "answer"])
def test_common_names_of_fields_are_known(tmp_path, prompt, gold):
    path = write(tmp_path / "a.jsonl", [{prompt: "1 + 1?", gold: "2"}])
    assert load_task("jsonl", path=path) == [Problem("jsonl-1", "jsonl", "1 + 1?", "2", "math", None)]


def test_other_names_of_fields_are_mapped(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"query": "1?", "target": "1", "level": "easy", "nr": 7, "answer": "no"}])
    fields = {"prompt": "query", "gold": "target", "difficulty": "level", "id": "nr"}
    assert load_task("jsonl", path=path, fields=fields) == [Problem("7", "jsonl", "1?", "1", "math", "easy")]


def test_a_record_without_an_id_is_named_by_its_split_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"prompt": "a", "gold": "1"}\r\n\r\n{"prompt": "b", "gold": "2"}', encoding="utf-8")
    assert [problem.id for problem in load_task("jsonl", path=str(path), split="dev")] == ["jsonl-dev-1", "jsonl-dev-3"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("27.0", "27"),
        ("-4", "-4"),
        ("0.5", "0.5"),
        ("1e-7", "0.0000001"),
        ("1e22", "1" + "0" * 22),
        ("1" * 400, "1" * 400),
    ],
)
def test_a_number_becomes_plain_text(tmp_path, number, text):
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "?", "gold": {number}}}')
    assert load_task("jsonl", path=str(tmp_path / "a.jsonl"))[0].gold == text


def test_a_line_separator_inside_text_ends_no_record(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a\u2028b\u0085c", "gold": "1"}\n', encoding="utf-8")
    assert load_task("jsonl", path=str(tmp_path / "a.jsonl"))[0].prompt == "a\u2028b\u0085c"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", ": no problem"),
        (b'{"prompt": "a", "gold": }', ":1: malformed JSON at column 25"),
        (b'{"prompt": "a", "gold": NaN}', ":1: malformed JSON (NaN is not JSON)"),
        (b"[" * 100_000, ":1: malformed JSON"),
        (b'{"prompt": "a", "gold": ' + b"1" * 5000 + b"}", ":1: malformed JSON"),
        (b'{"prompt": "\xff", "gold": "1"}', ":1: invalid UTF-8 at byte 13"),
        (b'["a", "b"]', ":1: not an object"),
        (b"null", ":1: not an object"),
        (b'{"gold": "1"}', ":1: no prompt ('prompt' or 'question' or 'problem')"),
        (b'{"prompt": " ", "gold": "1"}', ":1: no prompt"),
        (b'{"prompt": "a"}', ":1: no gold ('gold' or 'answer')"),
        (b'{"prompt": "a", "gold": null}', ":1: no gold"),
        (b'{"prompt": "a", "gold": ""}', ":1: no gold"),
        (b'{"prompt": ["a"], "gold": "1"}', ":1: prompt must be text, not ['a']"),
        (b'{"prompt": 5, "gold": "1"}', ":1: prompt must be text, not 5"),
        (b'{"prompt": "a", "gold": true}', ":1: gold must be text or a finite number, not True"),
        (b'{"prompt": "a", "gold": 1e999}', ":1: gold must be text or a finite number, not inf"),
        (b'{"prompt": "a", "gold": {"x": "\\n"}}', ":1: gold must be text or a finite number"),
        (b'{"prompt": "a\\ud800", "gold": "1"}', ":1: prompt holds half of a surrogate pair"),
        (b'{"prompt": "a", "gold": "1", "kind": "essay"}', ":1: unknown kind 'essay'; use one of math, choice, exact"),
        (b'{"prompt": "a", "gold": "1"}\n{"prompt": "b", "gold": "2"', ":2: malformed JSON"),
    ],
)
def test_a_bad_record_is_refused_with_its_place(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    assert refusal_of(path, line).startswith(f"{path}{said}")


def test_the_refusal_of_a_record_without_gold_says_how_to_map_it(tmp_path):
    said = refusal_of(tmp_path / "a.jsonl", b'{"prompt": "a", "label": "1"}')
    assert said.endswith('task jsonl, fields = { gold = "..." }')


def test_a_mapped_field_must_be_there(tmp_path):
    said = refusal_of(tmp_path / "a.jsonl", b'{"prompt": "a", "gold": "1"}', fields={"difficulty": "levle"})
    assert said.endswith("a.jsonl:1: no field 'levle'; correct the record, or what fields.difficulty says")


def test_only_our_own_names_can_be_mapped(tmp_path):
    said = refusal_of(tmp_path / "a.jsonl", b'{"prompt": "a", "gold": "1"}', fields={"query": "prompt"})
    assert said.startswith("fields has the unknown name 'query'; it maps prompt, gold, id, difficulty, kind")


def test_an_id_used_twice_is_refused_with_both_places(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"id": name, "prompt": "a", "gold": "1"} for name in ("7", "8", 7)])
    assert refusal("jsonl", path=path) == f"{path}:3: id '7' is taken by {path}:1; give every problem its own"


def test_a_given_id_may_not_take_the_name_of_a_line(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"id": "jsonl-2", "prompt": "a", "gold": "1"}, {"prompt": "b", "gold": "2"}])
    assert "id 'jsonl-2' is taken" in refusal("jsonl", path=path)


@pytest.mark.parametrize("task", ["jsonl", "gsm8k"])
def test_a_missing_file_is_refused(tmp_path, task):
    assert refusal(task, path=str(tmp_path / "no")) == f"{tmp_path / 'no'} does not exist; check the path"


def test_a_task_without_data_of_its_own_needs_a_path():
    assert refusal("jsonl") == "task jsonl needs the path of a problem file; set path"


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer\n")
    assert refusal("jsonl", path=str(tmp_path / "a.csv")).endswith("give a file that ends in .jsonl, .json, .parquet")


def test_a_folder_named_like_a_file_is_refused(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    assert "cannot be read (Is a directory)" in refusal("jsonl", path=str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"prompt": "a"}', ": not an array"),
        ("a.json", b'{"prompt": "a"}\n{"prompt": "b"}', ": malformed JSON at line 2, column 1"),
        ("a.json", b"[]", ": no problem"),
        ("a.json", b"", ": no problem"),
        ("a.json", b'[{"prompt": "a", "gold": "1"}, 5]', " record 2: not an object"),
        ("a.parquet", b"not parquet at all", ": not a parquet file"),
        ("a.parquet", b"", ": not a parquet file"),
    ],
)
def test_bad_files_of_other_formats_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert refusal("jsonl", path=str(tmp_path / name)).startswith(f"{tmp_path / name}{said}")


@given(st.binary(max_size=200))
def test_any_bytes_are_problems_or_a_refusal_of_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hostile") / "a.jsonl"
    path.write_bytes(content)
    refusal("jsonl", path=str(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["prompt", "gold", "id", "kind"]), inner),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["prompt", "gold", "id", "kind"]), JSON), min_size=1, max_size=3))
def test_any_records_are_problems_or_a_refusal_of_one_line(tmp_path_factory, records):
    path = write(tmp_path_factory.mktemp("hostile") / "a.jsonl", records)
    said, problems = "", []
    try:
        problems = load_task("jsonl", path=path)
    except DataError as error:
        said = str(error)
    assert bool(said) != bool(problems)
    assert "\n" not in said
    assert len({problem.id for problem in problems}) == len(problems)
    assert all(problem.prompt.strip() and problem.gold.strip() for problem in problems)


# subsets


@pytest.fixture
def hundred(tmp_path):
    return write(tmp_path / "a.jsonl", [{"prompt": f"{n}?", "gold": n} for n in range(100)])


def test_a_limit_takes_a_random_subset_in_order(hundred):
    golds = [int(problem.gold) for problem in load_task("jsonl", path=hundred, limit=10)]
    assert len(set(golds)) == 10
    assert golds == sorted(golds)
    assert golds != list(range(10))


def test_the_seed_decides_the_subset_and_the_ids_stay(hundred):
    first = load_task("jsonl", path=hundred, limit=10, seed=1)
    assert load_task("jsonl", path=hundred, limit=10, seed=1) == first
    assert load_task("jsonl", path=hundred, limit=10, seed=2) != first
    whole = load_task("jsonl", path=hundred, seed=2)
    assert [problem for problem in whole if problem in first] == first


def test_a_limit_beyond_the_end_gives_all(hundred):
    assert len(load_task("jsonl", path=hundred, limit=101)) == 100


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(hundred, limit):
    assert refusal("jsonl", path=hundred, limit=limit).startswith(f"limit must be at least 1, not {limit}")


# arithmetic


def test_the_labs_task_has_its_own_problems():
    train, test = (load_task("arithmetic", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (4000, 2000)
    assert {problem.kind for problem in train} == {"exact"}
    assert not {problem.prompt for problem in train} & {problem.prompt for problem in test}
    assert load_task("arithmetic", seed=5) == train


def test_the_labs_task_refuses_what_it_cannot_use():
    assert "leave path and fields out" in refusal("arithmetic", path="somewhere")
    assert "leave path and fields out" in refusal("arithmetic", fields={"prompt": "query"})
    assert refusal("arithmetic", split="dev") == "arithmetic has no split 'dev'; use 'train' or 'test'"
