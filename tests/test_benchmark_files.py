"""The benchmarks themselves, from the folder that SUFFICE_BENCHMARKS names."""

import json
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from suffice.grading.pool import read_gold
from suffice.tasks import load_task, locate, overlap

COUNTS = {
    ("math500", "test"): 500,
    ("amc23", "test"): 40,
    ("aime24", "test"): 30,
    ("aime25", "test"): 30,
    ("gsm8k", "test"): 1319,
    ("gsm8k", "train"): 7473,
}


@pytest.fixture(scope="module")
def loaded(benchmarks):
    return {(name, split): load_task(name, path=str(benchmarks), split=split) for name, split in COUNTS}


def test_every_problem_is_there_once(loaded):
    assert {key: len(problems) for key, problems in loaded.items()} == COUNTS
    for problems in loaded.values():
        assert len({problem.id for problem in problems}) == len(problems)
    assert not {p.id for p in loaded["gsm8k", "train"]} & {p.id for p in loaded["gsm8k", "test"]}


def test_every_gold_answer_is_readable(loaded):
    for problems in loaded.values():
        assert all(read_gold(problem.gold, problem.kind) for problem in problems)


def test_gsm8k_and_contest_golds_are_plain_numbers(loaded):
    for (name, _), problems in loaded.items():
        if name != "math500":
            assert [problem.gold for problem in problems if not re.fullmatch(r"-?\d+(\.\d+)?", problem.gold)] == []
    assert all(0 <= int(problem.gold) <= 999 for year in ("aime24", "aime25") for problem in loaded[year, "test"])
    assert loaded["gsm8k", "test"][0].gold == "18"
    assert loaded["amc23", "test"][0].gold == "27"


def test_math500_has_five_levels(loaded):
    assert {problem.difficulty for problem in loaded["math500", "test"]} == {"1", "2", "3", "4", "5"}


def test_a_located_file_is_the_one_that_was_read(benchmarks):
    where = locate("math500", path=str(benchmarks))
    assert where["path"] == str(benchmarks / "math500.jsonl")
    assert len(where["sha256"]) == 64


def test_few_of_gsm8ks_test_problems_share_a_passage_with_its_training_problems(loaded):
    train, test = loaded["gsm8k", "train"], loaded["gsm8k", "test"]
    shared = {held_out for _, held_out in overlap(train, test)}
    assert 0 < len(shared) < 0.02 * len(test)


def test_math500_and_the_contests_share_no_passage_with_gsm8ks_training_problems(loaded):
    for name in ("math500", "amc23", "aime24", "aime25"):
        assert overlap(loaded["gsm8k", "train"], loaded[name, "test"]) == []


def test_math500_shares_with_the_contests_only_the_formula_in_which_they_ask_for_a_fraction(loaded):
    for name in ("aime24", "aime25"):
        pairs = overlap(loaded["math500", "test"], loaded[name, "test"])
        assert {trained for trained, _ in pairs} == {"test/counting_and_probability/1003.json"}
    assert overlap(loaded["math500", "test"], loaded["amc23", "test"]) == []


def test_a_benchmark_overlaps_with_all_of_itself(loaded):
    for problems in (loaded["math500", "test"], loaded["aime24", "test"]):
        assert {(p.id, p.id) for p in problems} <= set(overlap(problems, problems))


@pytest.mark.parametrize("name", ["math500", "amc23", "aime24", "aime25"])
def test_a_benchmark_read_as_a_users_file_has_the_same_problems(benchmarks, name):
    own = load_task(name, path=str(benchmarks), prompt="plain")
    users = load_task("jsonl", path=str(benchmarks / f"{name}.jsonl"))
    assert [p.prompt.strip() for p in users] == [p.prompt for p in own]
    assert [p.kind for p in users] == [p.kind for p in own]
    differing = {(ours.gold, theirs.gold) for ours, theirs in zip(own, users, strict=True) if ours.gold != theirs.gold}
    assert differing <= {("336", r"336^\circ")}


def test_gsm8k_in_verls_columns_has_the_same_problems(benchmarks, tmp_path):
    rows = [json.loads(line) for line in (benchmarks / "gsm8k_test.jsonl").open(encoding="utf-8")]
    ask = 'Let us think step by step and output the final answer after "####".'
    verl = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"{row['question']} {ask}"}],
            "reward_model": {"style": "rule", "ground_truth": row["answer"]},
            "extra_info": {"index": n, "answer": f"{row['solution']}\n#### {row['answer']}"},
        }
        for n, row in enumerate(rows)
    ]
    parquet.write_table(pa.Table.from_pylist(verl), tmp_path / "test.parquet")
    problems = load_task("jsonl", path=str(tmp_path / "test.parquet"), prompt="boxed")
    own = load_task("gsm8k", path=str(benchmarks), split="test", prompt="plain")
    assert [p.prompt.removesuffix(ask).strip() for p in problems] == [p.prompt for p in own]
    assert [p.gold.replace(",", "") for p in problems] == [p.gold for p in own]
