"""Tasks: what becomes of good records, and what is said of bad ones."""

import hashlib
import json
import os
import string
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from problem_files import refusal, write
from suffice.errors import DataError
from suffice.groups import Problem
from suffice.tasks import PROMPTS, list_tasks, load_task, locate, overlap
from suffice.tasks.prompts import CHOICE_PROMPTS, question

# the hub's format, with a worked solution and its calculator marks
HENS = {
    "question": "A farmer has 12 hens, and each lays 5 eggs a week. How many eggs is that in 3 weeks?",
    "answer": "In a week there are 12*5=<<12*5=60>>60 eggs.\nIn 3 weeks there are 60*3=<<60*3=180>>180 eggs.\n#### 180",
}
VAN = {"question": "A van costs $1,300 less than $3,500. What does it cost?", "answer": "3500-1300=2200\n#### 2,200"}
DEBT = {"question": "Ann has $2 and owes $5. What is she worth?", "answer": "2-5=-3\n#### -3"}
BOXED = r"Please reason step by step, and put your final answer within \boxed{}."


def refusal_of(path, line, **options):
    path.write_bytes(line)
    return refusal("jsonl", path=str(path), **options)


# names


def test_the_known_tasks_are_listed():
    contests = ["amc23", "aime24", "aime25", "aime26", "hmmt25", "olympiadbench", "minerva"]
    benchmarks = ["gsm8k", "math500", *contests, "gpqa", "mmlu-pro", "deepmath"]
    assert list_tasks() == ["arithmetic", "ballots", "ballots-4", "ballots-easy", "sums", *benchmarks, "jsonl"]


def test_an_unknown_task_is_answered_with_the_nearest_and_all_known():
    known = ", ".join(list_tasks())
    assert refusal("gsm8") == f"unknown task 'gsm8'; did you mean 'gsm8k'? known: {known}"
    assert refusal("poetry") == f"unknown task 'poetry'; known: {known}"


def test_the_command_line_pays_for_no_library_it_does_not_use():
    code = (
        "import sys; from suffice.tasks import load_task; load_task('arithmetic', limit=1); "
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
    assert refusal("gsm8k", path=path).startswith(f"{path}:1: no prompt ('question'); add it")


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
from suffice.errors import DataError
from suffice.tasks import load_task
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


# the other benchmarks, on invented records in the hub's formats

TORUS = {
    "problem": " What has one hole? ",
    "solution": "It has one.",
    "answer": "\\frac{2}{2}",
    "subject": "Geometry",
    "level": 2,
    "unique_id": "test/geometry/1.json",
}
SOUP = {
    "Question": "Which of these is best eaten with a spoon?\n",
    "Correct Answer": "soup\n",
    "Incorrect Answer 1": "bread",
    "Incorrect Answer 2": "an apple",
    "Incorrect Answer 3": "rice paper",
    "Record ID": "rec1",
    "High-level domain": "Cooking",
}
LIMIT = {"question": "Find the limit.", "final_answer": "\\infty", "difficulty": 5.5, "r1_solution_1": "so it grows"}
LETTER = r"Please reason step by step, and put the letter of your final answer within \boxed{}."


def test_math500_takes_the_level_as_difficulty(tmp_path):
    path = write(tmp_path / "a.jsonl", [TORUS, {"id": "mine", "problem": "2?", "answer": "2", "level": 5}])
    assert load_task("math500", path=path) == [
        Problem("test/geometry/1.json", "math500", f"What has one hole?\n{BOXED}", "\\frac{2}{2}", "math", "2"),
        Problem("mine", "math500", f"2?\n{BOXED}", "2", "math", "5"),
    ]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (27.0, "27"),
        ("27.0", "27"),
        (0, "0"),
        ("025", "25"),
        ("000", "0"),
        ("2,000", "2000"),
        (0.5, "0.5"),
        ("336^\\circ", "336"),
        ("-04.50", "-4.50"),
    ],
)
@pytest.mark.parametrize("task", ["amc23", "aime24", "aime25"])
def test_the_answer_to_a_contest_problem_becomes_a_plain_number(tmp_path, task, answer, gold):
    path = write(tmp_path / "a.jsonl", [{"id": 60, "problem": "How many?", "answer": answer}])
    assert load_task(task, path=path) == [Problem("60", task, f"How many?\n{BOXED}", gold, "math", None)]


def test_a_contest_answer_that_is_no_number_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"problem": "How many?", "answer": "a few"}])
    assert refusal("aime25", path=path).startswith(f"{path}:1: answer ends in no number")


def test_gpqa_lists_four_answers_and_asks_for_a_letter(tmp_path):
    (problem,) = load_task("gpqa", path=write(tmp_path / "a.jsonl", [SOUP]))
    asked, *listed, instruction = problem.prompt.split("\n")
    assert (problem.id, problem.kind, asked, instruction) == ("rec1", "choice", SOUP["Question"].strip(), LETTER)
    answers = dict(line.split(") ") for line in listed)
    assert list(answers) == ["A", "B", "C", "D"]
    assert sorted(answers.values()) == ["an apple", "bread", "rice paper", "soup"]
    assert answers[problem.gold] == "soup"


def test_the_order_of_gpqas_answers_hangs_on_the_question_alone(tmp_path):
    others = [SOUP | {"Question": f"{n}?", "Record ID": f"rec-{n}"} for n in range(200)]
    problems = load_task("gpqa", path=write(tmp_path / "a.jsonl", [SOUP, *others]))
    again = load_task("gpqa", path=write(tmp_path / "b.jsonl", [*reversed(others), SOUP]))
    assert again == problems[1:][::-1] + problems[:1]
    swapped = SOUP | {"Incorrect Answer 1": SOUP["Incorrect Answer 3"], "Incorrect Answer 3": "bread"}
    assert load_task("gpqa", path=write(tmp_path / "c.jsonl", [swapped])) == problems[:1]
    golds = [problem.gold for problem in problems]
    assert all(30 <= golds.count(letter) <= 75 for letter in "ABCD")  # 50 each, within four standard deviations


# contests of 2025 and 2026, OlympiadBench, Minerva, MMLU-Pro: the columns of the hub, records of ours


def test_aime26_has_whole_numbers_and_hmmt25_formulas_under_their_places_in_the_contest(tmp_path):
    rows = [
        {"problem_idx": 7, "answer": 25, "problem": "Find $n$."},
        {"problem_idx": 8, "answer": 9, "problem": "And?"},
    ]
    problems = load_task("aime26", path=write(tmp_path / "a.jsonl", rows), prompt="plain")
    assert [(p.id, p.gold, p.prompt) for p in problems] == [("7", "25", "Find $n$."), ("8", "9", "And?")]
    row = {"problem_idx": 3, "problem": "What?", "answer": r"1-\frac{2}{\pi}", "problem_type": ["Geometry"]}
    (problem,) = load_task("hmmt25", path=write(tmp_path / "b.jsonl", [row]))
    assert (problem.id, problem.gold, problem.kind) == ("3", r"1-\frac{2}{\pi}", "math")
    assert problem.prompt == f"What?\n{BOXED}"


def test_a_final_answer_of_olympiadbench_is_the_one_in_its_list_and_may_be_several_values(tmp_path, capsys):
    rows = [
        {"id": 1, "question": "Find $x$.", "final_answer": ["$\\frac{1}{2}$"], "is_multiple_answer": False},
        {"id": 2, "question": "All pairs?", "final_answer": ["$(7,3),(7,-3)$"], "is_multiple_answer": True},
        {"id": 3, "question": "Prove it.", "final_answer": None, "is_multiple_answer": False},
        {"id": 4, "question": "Both?", "final_answer": ["1", "2"], "is_multiple_answer": True},
    ]
    problems = load_task("olympiadbench", path=write(tmp_path / "a.jsonl", rows))
    assert [(p.id, p.gold) for p in problems] == [("1", "$\\frac{1}{2}$"), ("2", "$(7,3),(7,-3)$")]
    assert "olympiadbench: 2 of 4 records left out; the first: " in capsys.readouterr().err


def test_minerva_has_questions_and_answers(tmp_path):
    rows = [{"question": " How far is it, in cm? ", "answer": "4.5e33"}, {"question": "Which?", "answer": "x^2"}]
    problems = load_task("minerva", path=write(tmp_path / "a.jsonl", rows), prompt="plain")
    assert [(p.id, p.prompt, p.gold) for p in problems] == [
        ("minerva-test-1", "How far is it, in cm?", "4.5e33"),
        ("minerva-test-2", "Which?", "x^2"),
    ]


METAL = {
    "question_id": 70,
    "question": "Which is heaviest?",
    "options": ["iron", "tin", "lead", "gold", "zinc"],
    "answer": "D",
    "answer_index": 3,
    "category": "chemistry",
}


def test_mmlu_pro_shows_its_options_in_their_order_and_asks_for_a_letter(tmp_path):
    path = tmp_path / "test-00000-of-00001.parquet"
    parquet.write_table(pa.Table.from_pylist([METAL]), path)
    (problem,) = load_task("mmlu-pro", path=str(tmp_path))
    listed = "Which is heaviest?\nA) iron\nB) tin\nC) lead\nD) gold\nE) zinc"
    assert (problem.id, problem.gold, problem.kind) == ("70", "D", "choice")
    assert problem.prompt == f"{listed}\n{CHOICE_PROMPTS['boxed']}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "F"}, "the gold answer 'F' is no letter of its 5 options; correct it"),
        ({"options": None}, "choices must be a list, not None; write it as one"),
        ({"options": ["one"]}, "choices are 1, and a choice is among 2 to 10"),
    ],
)
def test_mmlu_pro_refuses_a_gold_answer_that_is_no_option(tmp_path, change, words):
    path = write(tmp_path / "a.jsonl", [METAL | change])
    assert refusal("mmlu-pro", path=path).startswith(f"{path}:1: {words}")


def test_gpqa_needs_four_answers(tmp_path):
    path = write(tmp_path / "a.jsonl", [{name: SOUP[name] for name in SOUP if name != "Incorrect Answer 2"}])
    assert refusal("gpqa", path=path) == f"{path}:1: no wrong2 ('Incorrect Answer 2'); add it"


def test_deepmath_leaves_out_what_it_cannot_use_and_says_so_once(tmp_path, capsys):
    records = [
        LIMIT,
        LIMIT | {"final_answer": " "},
        LIMIT | {"final_answer": None},
        LIMIT | {"question": "Is it?", "final_answer": "Yes"},
    ]
    path = write(tmp_path / "a.jsonl", records)
    problems = load_task("deepmath", path=path)
    assert [(p.id, p.gold, p.difficulty) for p in problems] == [
        ("deepmath-train-1", "\\infty", "5.5"),
        ("deepmath-train-4", "Yes", "5.5"),
    ]
    said = capsys.readouterr().err
    assert said.startswith(f"deepmath: 2 of 4 records left out; the first: {path}:2: no gold ('final_answer')")
    assert said.count("\n") == 1


def test_a_file_that_is_not_deepmaths_is_refused(tmp_path):
    assert ":1: no prompt ('question')" in refusal("deepmath", path=write(tmp_path / "a.jsonl", [TORUS, TORUS]))


def test_a_data_set_in_shards_is_read_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    for shard in range(2):
        rows = [LIMIT | {"question": f"{shard} {row}?"} for row in range(2)]
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"train-{shard:05d}-of-00002.parquet")
    problems = load_task("deepmath", path=str(tmp_path), prompt="plain")
    assert [p.prompt for p in problems] == ["0 0?", "0 1?", "1 0?", "1 1?"]
    assert problems[3].id == "deepmath-train-4"
    where = locate("deepmath", path=str(tmp_path))
    both = b"".join(file.read_bytes() for file in sorted((tmp_path / "data").iterdir()))
    assert where["path"] == str(tmp_path / "data")
    assert where["sha256"] == hashlib.sha256(both).hexdigest()
    (tmp_path / "data" / "train-00000-of-00002.parquet").rename(tmp_path / "data" / "train-00002-of-00002.parquet")
    assert "has 2 files data/train-*.parquet" in refusal("deepmath", path=str(tmp_path))


@pytest.mark.parametrize("name", ["aime24.jsonl", "aime24_test.jsonl", "train.jsonl"])
def test_a_benchmark_of_one_split_is_found_in_a_folder(tmp_path, name):
    path = write(tmp_path / name, [{"problem": "1?", "answer": "1"}])
    assert load_task("aime24", path=str(tmp_path)) == load_task("aime24", path=path)


def test_a_benchmark_without_the_split_names_what_it_has():
    assert refusal("math500", split="train") == "math500 has no split 'train'; use 'test'"
    assert refusal("deepmath", split="test") == "deepmath has no split 'test'; use 'train'"


# prompts


@pytest.mark.parametrize("prompt", list(PROMPTS))
def test_a_prompt_option_adds_its_sentence_to_the_question(tmp_path, prompt):
    path = write(tmp_path / "a.jsonl", [{"problem": "1?", "answer": "1"}])
    (problem,) = load_task("aime24", path=path, prompt=prompt)
    assert problem.prompt == "\n".join(filter(None, ["1?", PROMPTS[prompt]]))
    (chosen,) = load_task("gpqa", path=write(tmp_path / "b.jsonl", [SOUP]), prompt=prompt)
    assert chosen.prompt.split("\n")[5:] == [CHOICE_PROMPTS[prompt]] * bool(CHOICE_PROMPTS[prompt])
    assert question(problem.prompt).strip() == "1?"
    assert question(chosen.prompt).count("\n") >= 4


def test_both_kinds_of_question_know_the_same_options():
    assert list(PROMPTS) == list(CHOICE_PROMPTS) == ["boxed", "answer-boxed", "plain"]
    assert PROMPTS["boxed"] == BOXED


def test_an_option_given_for_a_users_own_problems_suits_each_of_them(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "1?", "gold": "1"}, {"prompt": "A?", "gold": "A", "kind": "choice"}])
    assert [p.prompt for p in load_task("jsonl", path=path, prompt="boxed")] == [f"1?\n{BOXED}", f"A?\n{LETTER}"]
    assert [p.prompt for p in load_task("jsonl", path=path)] == ["1?", "A?"]


def test_no_box_is_asked_for_where_the_whole_answer_is_compared():
    assert refusal("arithmetic", prompt="boxed") == (
        "arithmetic problem 'arithmetic-train-0' is of kind exact: its whole answer is compared, so prompt 'boxed' "
        "would make every answer wrong; leave prompt out"
    )
    assert load_task("arithmetic", limit=3, prompt="plain") == load_task("arithmetic", limit=3)


def test_an_unknown_prompt_is_answered_with_the_nearest_and_all_known():
    assert refusal("arithmetic", prompt="box") == (
        "unknown prompt 'box'; did you mean 'boxed'? known: boxed, answer-boxed, plain"
    )


# where data came from

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Knows one commit of every data set, and lets nobody at gated ones."""

    def do_GET(self):
        gated = "gpqa" in self.path and "revision" not in self.path
        body = b"{}" if gated else json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": []}).encode()
        unknown = "revision/nowhere" in self.path
        self.send_response(404 if unknown else 403 if gated else 200)
        if unknown:
            self.send_header("X-Error-Code", "RevisionNotFound")
        if gated:
            self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def ask(tmp_path):
    """What python code prints whose hub is a server of ours, and nothing was downloaded before."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    hub = known | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "home")}

    def run(expression):
        code = (
            "from suffice.errors import DataError\nfrom suffice.tasks import load_task, locate\n"
            f"try:\n    print({expression})\nexcept DataError as error:\n    print(error)\n"
        )
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=hub).stdout.rstrip("\n")

    yield run
    server.shutdown()


def test_data_of_the_hub_is_located_by_its_commit(ask):
    found = {"task": "gsm8k", "split": "test", "hub": "openai/gsm8k", "config": "main", "revision": COMMIT}
    assert ask("locate('gsm8k', split='test')") == str(found)
    assert ask("locate('gsm8k', split='test', revision='v1')") == str(found)


def test_an_unknown_revision_of_the_hub_is_one_line(ask):
    said = ask("locate('gsm8k', revision='nowhere')")
    assert said.startswith("openai/gsm8k cannot be loaded from the hub (")
    assert "\n" not in said


def test_a_gated_data_set_says_how_to_get_access(ask):
    assert ask("load_task('gpqa')") == (
        "Idavidrein/gpqa is gated: accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa and log in with "
        "`hf auth login`, or give path, a local copy of it"
    )


def test_a_full_commit_is_taken_at_its_word():
    assert locate("math500", revision=COMMIT) == {
        "task": "math500",
        "split": "test",
        "hub": "HuggingFaceH4/MATH-500",
        "revision": COMMIT,
    }


def test_a_local_file_is_located_by_its_sha256(tmp_path):
    path = write(tmp_path / "aime24.jsonl", [{"problem": "1?", "answer": "1"}])
    digest = hashlib.sha256((tmp_path / "aime24.jsonl").read_bytes()).hexdigest()
    assert locate("aime24", path=str(tmp_path)) == {"task": "aime24", "split": "test", "path": path, "sha256": digest}
    assert locate("jsonl", path=path) == {"task": "jsonl", "split": None, "path": path, "sha256": digest}


def test_the_labs_problems_come_from_suffice_itself():
    assert locate("arithmetic", split="test") == {"task": "arithmetic", "split": "test"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "poetry"}, "unknown task 'poetry'"),
        ({"name": "gsm8k", "split": "dev"}, "gsm8k has no split 'dev'"),
        ({"name": "gsm8k", "path": "no.jsonl"}, "no.jsonl does not exist; check the path"),
        ({"name": "jsonl"}, "task jsonl needs the path"),
    ],
)
def test_what_cannot_be_located_is_refused(options, said):
    with pytest.raises(DataError, match=said):
        locate(**options)


# overlap


def told(name, *prompts):
    return [Problem(f"{name}{n}", name, prompt, "1") for n, prompt in enumerate(prompts)]


ALPHABET = list(string.ascii_lowercase)


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not():
    train = told("train", " ".join(ALPHABET[:20]), " ".join(ALPHABET[:8] + ALPHABET[18:]))
    test = told("test", " ".join(ALPHABET[7:]), " ".join(ALPHABET[8:]), "x " * 30)
    assert overlap(train, test) == [("train0", "test0")]  # h … t are 13 words, i … t are 12
    assert overlap(train, test, n=12) == [("train0", "test0"), ("train0", "test1")]


def test_case_punctuation_and_width_do_not_hide_an_overlap():
    words = "How many of the forty-two hens in Ann's yard lay five eggs a week, each?"
    hidden = words.upper().replace(",", " ;").replace(" ", "\n").replace("A", "\uff21")
    assert overlap(told("train", words), told("test", f"Tell me: {hidden}")) == [("train0", "test0")]


def test_the_instruction_is_no_overlap(tmp_path):
    pairs = [
        {"problem": "Find the area of the first shape.", "answer": 1},
        {"problem": "Count the holes.", "answer": 2},
    ]
    paths = [write(tmp_path / f"{n}.jsonl", [pair]) for n, pair in enumerate(pairs)]
    for prompt in PROMPTS:
        first, second = (load_task("aime24", path=path, prompt=prompt) for path in paths)
        assert not overlap(first, second, n=3)


def test_short_texts_overlap_where_they_are_the_same():
    train = told("train", "What is 2 + 2?", "What is 2 - 2?", " ".join(ALPHABET))
    assert overlap(train, told("test", "what is 2+2", "a b c", "")) == [("train0", "test0")]


def test_a_pair_is_named_once_in_the_order_of_the_training_problems():
    text = " ".join(ALPHABET)
    assert overlap(told("a", text, "x", text), told("b", text, text)) == [
        ("a0", "b0"),
        ("a0", "b1"),
        ("a2", "b0"),
        ("a2", "b1"),
    ]


def test_the_labs_splits_share_no_problem():
    train, test = (load_task("arithmetic", split=split) for split in ("train", "test"))
    assert overlap(train, test, n=1000) == []


WORDS = st.lists(st.sampled_from("abc"), max_size=12)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4), st.integers(1, 5))
def test_overlap_agrees_with_comparing_every_pair(train, test, n):
    def grams(words):
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} or {("", *words)}

    expected = [(f"a{i}", f"b{j}") for i, a in enumerate(train) for j, b in enumerate(test) if grams(a) & grams(b)]
    assert overlap(told("a", *map(" ".join, train)), told("b", *map(" ".join, test)), n) == expected


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
        (b'{"gold": "1"}', ":1: no prompt among its columns 'gold'; add it"),
        (b'{"prompt": " ", "gold": "1"}', ":1: no prompt"),
        (b'{"prompt": "a"}', ":1: no gold among its columns 'prompt'; add it"),
        (b'{"prompt": "a", "gold": null}', ":1: no gold: 'gold' is blank, among its columns 'prompt', 'gold'; add it"),
        (b'{"prompt": "a", "gold": ""}', ":1: no gold"),
        (b'{"prompt": ["a"], "gold": "1"}', ":1: prompt must be text or one user turn, not ['a']"),
        (b'{"prompt": 5, "gold": "1"}', ":1: prompt must be text or one user turn, not 5"),
        (b'{"prompt": "a", "gold": true}', ":1: gold must be text or a finite number, not True"),
        (b'{"prompt": "a", "gold": 1e999}', ":1: gold must be text or a finite number, not inf"),
        (b'{"prompt": "a", "gold": {"x": "\\n"}}', ":1: gold is an object, not an answer; correct it"),
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
    assert said.endswith("name the column that holds it: --fields gold=label (in a recipe: task.fields)")


def test_a_mapped_field_must_be_there(tmp_path):
    said = refusal_of(tmp_path / "a.jsonl", b'{"prompt": "a", "gold": "1"}', fields={"difficulty": "levle"})
    assert said.endswith(
        "a.jsonl:1: no field 'levle' among its columns 'prompt', 'gold'; correct the record, or what "
        "fields.difficulty says"
    )


def test_only_our_own_names_can_be_mapped(tmp_path):
    said = refusal_of(tmp_path / "a.jsonl", b'{"prompt": "a", "gold": "1"}', fields={"query": "prompt"})
    assert said.startswith(
        "fields has the unknown name 'query'; it maps prompt, gold, choices, id, difficulty, kind to"
    )


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
        ("a.json", b'[{"prompt": "a", "gold": "1"},\n{"prompt": "b"', ":2: malformed JSON at column 15"),
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


@settings(deadline=None)
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


@settings(deadline=None)
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
