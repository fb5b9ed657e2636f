"""The lab's third task: addition by columns, the thoughts its base learns from, and the base that ships."""

import itertools
import json
import random
import re
import zlib
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from suffice.config import DEFAULT_INDUCER, load_recipe, recipe_names
from suffice.errors import DataError
from suffice.grading import Grader
from suffice.groups import Verdict
from suffice.lab import base_path, build, training
from suffice.lab.splits import SPLITS
from suffice.lab.sums import NAMES, VOCABULARY, Sum, problems, sums, write
from suffice.lab.thoughts import Habits, teach
from suffice.lab.tokenizer import build_tokenizer
from suffice.model.load import load_model
from suffice.model.tokenizer import load_tokenizer
from suffice.tasks import load_task, locate

CASE = Sum(482, 917, 3)
COLUMN = re.compile(r"([a-e]) (\d) \+ (\d) \+ (\d) = (\d) (\d) ;")
CONCLUSION = re.compile(r"so ((?:\d )+)\.")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(VOCABULARY)


def added(prompt):
    """Gold by adding what is in the text, knowing nothing of how it was drawn."""
    left, right = (int(side.replace(" ", "")) for side in prompt.removesuffix("?").split("+"))
    return " ".join(str(left + right))


def test_a_problem_reads_as_the_sum_it_is():
    assert CASE.prompt == "4 8 2 + 9 1 7 ?"
    assert CASE.gold == "1 3 9 9"


def test_the_shorter_number_is_padded_and_the_sum_is_not():
    assert Sum(48, 917, 3).prompt == "0 4 8 + 9 1 7 ?"
    assert Sum(48, 917, 3).gold == "9 6 5"
    assert Sum(48, 917, 3).digits == [(0, 9), (4, 1), (8, 7)]


def test_the_gold_is_right_by_adding_what_the_prompt_says():
    for split in SPLITS:
        for problem in problems(split, 1000):
            assert problem.gold == added(problem.prompt)


def test_both_numbers_have_two_digits_or_more_and_one_of_them_as_many_as_there_are_columns():
    seen = Counter()
    for drawn in itertools.islice(sums("train", random.Random(0)), 4000):
        digits = [len(str(number)) for number in (drawn.left, drawn.right)]
        assert 2 <= min(digits) <= max(digits) == drawn.columns <= 5
        seen[tuple(digits)] += 1
    assert set(seen) == set(itertools.product(range(2, 6), repeat=2))


def test_every_number_of_columns_is_equally_likely():
    seen = Counter(problem.difficulty for problem in problems("train", 2000))
    assert set(seen) == set("2345")
    assert all(share / 2000 == pytest.approx(0.25, abs=0.04) for share in seen.values())


def test_the_three_splits_share_no_prompt_whatever_the_seed():
    asked = [{p.prompt for seed in range(3) for p in problems(split, 500, seed)} for split in SPLITS]
    assert len(set.union(*asked)) == sum(map(len, asked)) > 4000


def test_a_prompt_belongs_to_a_split_by_its_text_alone():
    for split, rests in (("train", {0, 1}), ("test", {2}), ("final", {3})):
        assert {zlib.crc32(p.prompt.encode()) % 4 for p in problems(split, 200)} == rests


def test_the_base_learns_from_the_train_split_only():
    course = training.course("sums")
    lessons = course.lessons(random.Random(0), course.recipe.habits)
    assert {zlib.crc32(next(lessons).prompt.encode()) % 4 for _ in range(200)} == {0, 1}


def test_a_guess_is_hardly_ever_right():
    golds = Counter(problem.gold for problem in problems("test", 3000))
    assert max(golds.values()) / 3000 < 0.01


def test_the_same_seed_gives_the_same_problems_and_fewer_are_the_first_of_more():
    assert problems("final", 50, 3) == problems("final", 200, 3)[:50]
    assert problems("final", 50, 3) != problems("final", 50, 4)
    assert problems("test", 1, 3)[0].id == "sums-test-seed3-0"


@pytest.mark.parametrize(("split", "count"), [("dev", 5), ("test", 0), ("final", -1)])
def test_an_unknown_split_or_an_empty_order_is_refused(split, count):
    with pytest.raises(DataError, match="sums"):
        problems(split, count)


def test_as_a_task_it_holds_4000_problems_a_split():
    for split in SPLITS:
        asked = load_task("sums", split=split)
        assert len({p.id for p in asked}) == len({p.prompt for p in asked}) == 4000
        assert {(p.task, p.kind) for p in asked} == {("sums", "exact")}
    assert locate("sums", split="final") == {"task": "sums", "split": "final"}


def test_an_answer_is_compared_whole():
    with Grader() as grader:
        answers = ("1 3 9 9", "1 3 9 8", "3 9 9", "0 1 3 9 9")
        verdicts = grader.grade_many([(answer, "1 3 9 9", "exact") for answer in answers])
    assert verdicts == [Verdict.CORRECT, Verdict.WRONG, Verdict.WRONG, Verdict.WRONG]


# thoughts


def test_a_thought_without_slips_adds_from_the_right_and_checks_it():
    thought = write(CASE, random.Random(0), Habits(rechecks=(0, 1), slip=0, recheck_slip=0))
    first, recheck = thought.text.split("\n")
    # 2 + 7 = 9, 8 + 1 = 9, 4 + 9 = 13
    assert first == "c 2 + 7 + 0 = 0 9 ; b 8 + 1 + 0 = 0 9 ; a 4 + 9 + 0 = 1 3 ; so 1 3 9 9 ."
    assert recheck.endswith(first)
    assert thought.conclusions == ("1 3 9 9", "1 3 9 9")


@given(st.integers(10, 99_999), st.integers(10, 99_999), st.randoms(use_true_random=False))
def test_a_pass_without_slips_concludes_the_sum(left, right, rng):
    drawn = Sum(left, right, len(str(max(left, right))))
    thought = write(drawn, rng, Habits(slip=0, recheck_slip=0))
    assert set(thought.conclusions) == {" ".join(str(left + right))}


def test_every_conclusion_follows_from_the_columns_of_its_pass_which_hand_on_their_carry():
    rng = random.Random(1)
    for drawn in itertools.islice(sums("train", rng), 500):
        thought = write(drawn, rng, Habits())
        assert thought.answer == thought.conclusions[-1]
        for line, conclusion in zip(thought.text.split("\n"), thought.conclusions, strict=True):
            columns = COLUMN.findall(line)
            assert [name for name, *_ in columns] == list(NAMES[drawn.columns - 1 :: -1])
            assert [(int(x), int(y)) for _, x, y, *_ in columns] == drawn.digits[::-1]
            carries = [carry for *_, carry, _ in columns]
            assert [carried for _, _, _, carried, *_ in columns] == ["0", *carries[:-1]]
            result = [*carries[-1:], *(digit for *_, digit in reversed(columns))]
            assert " ".join(result).removeprefix("0 " if result[0] == "0" else "") == conclusion
            assert CONCLUSION.search(line)[1].strip() == conclusion


def test_columns_slip_as_often_as_the_habits_say_and_twice_as_often_in_a_recheck():
    rng = random.Random(2)
    wrong, added_up = Counter(), Counter()
    for drawn in itertools.islice(sums("train", rng), 4000):
        for index, line in enumerate(write(drawn, rng, Habits()).text.split("\n")):
            for _, x, y, carried, carry, digit in COLUMN.findall(line):
                wrong[index > 0] += int(x) + int(y) + int(carried) != int(carry + digit)
                added_up[index > 0] += 1
    assert wrong[False] / added_up[False] == pytest.approx(0.03, abs=0.006)
    assert wrong[True] / added_up[True] == pytest.approx(0.06, abs=0.006)


def test_rechecks_mend_slips_and_break_what_was_right():
    rng = random.Random(2)
    thoughts = [(drawn, write(drawn, rng, Habits())) for drawn in itertools.islice(sums("train", rng), 2000)]
    assert len({(t.conclusions[0] == drawn.gold, t.answer == drawn.gold) for drawn, t in thoughts}) == 4


def test_a_cut_before_the_first_conclusion_aims_at_the_gold_and_later_at_the_last_conclusion():
    habits = Habits(rechecks=(0, 0, 1), slip=1, recheck_slip=1)
    thought = write(CASE, random.Random(0), habits)
    answer_at = teach(CASE.prompt, CASE.gold, thought).answer_at
    words = thought.text.split()
    ends = [place for place, word in enumerate(words) if word == "."]
    assert len(ends) == len(thought.conclusions) == 3
    assert answer_at([]) == answer_at(words[: ends[0]]) == CASE.gold
    assert [answer_at(words[: end + 1]) for end in ends] == list(thought.conclusions)


def test_no_problem_and_no_thought_has_an_unknown_word(tokenizer):
    rng = random.Random(3)
    for drawn in itertools.islice(sums("test", rng), 300):
        text = f"{drawn.prompt}<think>\n{write(drawn, rng, Habits()).text}\n</think>\n\n{drawn.gold}"
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert "".join(tokenizer.decode(ids).split()) == "".join(text.split())
        assert tokenizer.decode(tokenizer.encode(drawn.gold)) == drawn.gold


def test_the_longest_thought_fits_into_the_budget_of_the_recipes(tokenizer):
    thought = write(Sum(99_999, 99_999, 5), random.Random(0), Habits(rechecks=(0, 0, 0, 1), slip=0, recheck_slip=0))
    assert len(tokenizer.encode(f"\n{thought.text}\n")) <= load_recipe("lab-sums-grpo").rollout.max_thought_tokens


def test_the_inducer_closes_the_thought_in_known_tokens(tokenizer):
    ids = tokenizer.encode(DEFAULT_INDUCER)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == DEFAULT_INDUCER


# the base, the recipes


def test_the_same_seed_builds_the_same_base(tmp_path):
    for name in ("one", "two"):
        build(tmp_path / name, seed=5, recipe=training.BaseRecipe(steps=2, batch=4), task="sums")
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    assert json.loads((tmp_path / "one" / "lab.json").read_text())["task"] == "sums"


def test_the_base_that_ships_is_small_and_made_by_its_courses_recipe(tmp_path, tokenizer):
    folder = base_path("sums")
    assert (folder / "model.safetensors").stat().st_size < 500_000
    card = json.loads((folder / "lab.json").read_text())
    assert card["recipe"] == json.loads(json.dumps(training.asdict(training.course("sums").recipe)))
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_the_base_that_ships_is_a_model_by_its_name():
    ours = load_model("lab/sums", device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(base_path("sums"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


def test_the_base_that_ships_copies_every_column_and_mostly_adds_up():
    model, tokenizer = load_model("lab/sums", device="cpu"), load_tokenizer("lab/sums")
    asked = problems("test", 64)
    turns = [[{"role": "user", "content": problem.prompt}] for problem in asked]
    prompts = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = model.generate(**prompts, do_sample=True, top_k=0, max_new_tokens=270)[:, prompts["input_ids"].shape[1] :]
    columns = copied = passes = right = 0
    for problem, text in zip(asked, tokenizer.batch_decode(out, skip_special_tokens=True), strict=True):
        left, right_side = (side.split() for side in problem.prompt.removesuffix(" ?").split(" + "))
        thought, _, answer = text.partition("</think>\n\n")
        passes += thought.count("so")
        for name, x, y, *_ in COLUMN.findall(thought):
            columns += 1
            place = NAMES.index(name)
            copied += place < len(left) and (left[place], right_side[place]) == (x, y)
        right += answer == problem.gold
    assert columns > 300
    assert copied / columns > 0.98
    assert passes / len(asked) > 1.5
    assert 0.5 < right / len(asked) < 1  # 0.77, and what is sampled elsewhere within five times √(0.77 · 0.23 / 64)


def test_every_method_has_a_recipe_that_trains_the_base_that_ships():
    names = [name for name in recipe_names() if name.startswith("lab-sums-")]
    recipes = {load_recipe(name).method.name: load_recipe(name) for name in names}
    assert set(recipes) == {"grpo", "length-penalty", "grpo-lambda", "s-grpo", "decide"}
    for recipe in recipes.values():
        assert (recipe.model.path, recipe.task.name, recipe.eval.task) == ("lab/sums", "sums", "sums")
        assert (recipe.eval.split, recipe.eval.temperature) == ("test", 1.0)
