"""The lab's second task: ballots, the thoughts its base learns from, and the base that ships."""

import json
import random
import re
import zlib
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM

from suffice.config import DEFAULT_INDUCER, load_recipe, recipe_names
from suffice.errors import DataError
from suffice.grading import Grader
from suffice.groups import Verdict
from suffice.lab import base_path, build, training
from suffice.lab.ballots import (
    BALLOTS,
    NAMES,
    POLLS,
    VOCABULARY,
    Ballots,
    Habits,
    draw,
    leaders,
    problems,
    write,
)
from suffice.lab.splits import SPLITS
from suffice.lab.tokenizer import build_tokenizer
from suffice.model.load import load_model
from suffice.model.tokenizer import load_tokenizer
from suffice.tasks import load_task, locate

# votes of a … o: class 9 five times, 3 four times, 0 three times, 1, 2 and 4 once
VOTES = (9, 3, 9, 0, 9, 3, 1, 9, 0, 3, 2, 9, 0, 3, 4)
CASE = Ballots(VOTES, 10, 0.33)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(VOCABULARY)


def counted(prompt, classes):
    """Gold by counting in the text, knowing nothing of how it was drawn."""
    *lines, question = prompt.split(" , ")
    assert question == "most votes ?"
    votes = Counter((NAMES.index(line.split()[0]) + int(line.split()[1])) % classes for line in lines)
    (first, most), (_, second) = [*votes.most_common(2), (None, 0)][:2]
    assert sum(votes.values()) == 15
    assert most > second
    return f"v{first}"


def test_a_problem_shows_digits_that_add_up_to_votes_with_the_place_of_their_ballot():
    # b is the 1st after a, so vote 3 is digit 2; k is the 10th, so vote 2 is digit 2; l the 11th: 9 − 11 = 8 modulo 10
    assert CASE.prompt == (
        "a 9 , b 2 , c 7 , d 7 , e 5 , f 8 , g 5 , h 2 , i 2 , j 4 , k 2 , l 8 , m 8 , n 0 , o 0 , most votes ?"
    )
    assert CASE.gold == "v9"


def test_leaders_are_all_who_share_the_lead():
    assert leaders([4, 1, 4, 1, 7]) == [1, 4]
    assert leaders([]) == []


@pytest.mark.parametrize("poll", POLLS, ids=lambda poll: poll.name)
def test_the_gold_is_the_one_class_in_front_by_counting_in_the_prompt(poll):
    for split in SPLITS:
        for problem in problems(split, 500, poll=poll):
            assert problem.gold == counted(problem.prompt, poll.classes)


def test_the_three_splits_share_no_prompt_whatever_the_seed():
    asked = [{p.prompt for seed in range(3) for p in problems(split, 500, seed)} for split in SPLITS]
    assert len(set.union(*asked)) == sum(map(len, asked)) > 4000


def test_a_prompt_belongs_to_a_split_by_its_text_alone():
    for split, rests in (("train", {0, 1}), ("test", {2}), ("final", {3})):
        assert {zlib.crc32(p.prompt.encode()) % 4 for p in problems(split, 200)} == rests


def test_the_base_learns_from_the_train_split_only():
    course = training.course("ballots")
    lessons = course.lessons(random.Random(0), course.recipe.habits)
    assert {zlib.crc32(next(lessons).prompt.encode()) % 4 for _ in range(200)} == {0, 1}


@pytest.mark.parametrize("poll", POLLS, ids=lambda poll: poll.name)
def test_shares_take_turns_and_are_not_in_the_prompt(poll):
    asked = problems("test", 800, poll=poll)
    assert Counter(p.difficulty for p in asked) == Counter(f"{share:.2f}" for share in poll.shares * 200)
    assert {len(p.prompt) for p in asked} == {len(CASE.prompt)}


def test_a_ballot_votes_for_the_winner_as_often_as_its_share_says():
    rng = random.Random(0)
    part = [
        sum(max(Counter(draw(BALLOTS, share, "train", rng).votes).values()) for _ in range(1000)) / 15_000
        for share in BALLOTS.shares
    ]
    # above the share where it is small: the drawing keeps those that lead
    assert part == pytest.approx([0.97, 0.60, 0.46, 0.37], abs=0.02)


def test_a_guess_is_right_one_time_in_ten():
    golds = Counter(p.gold for p in problems("test", 3000))
    assert len(golds) == 10
    assert max(golds.values()) / 3000 < 0.125


def test_the_same_seed_gives_the_same_problems_and_fewer_are_the_first_of_more():
    assert problems("final", 50, 3) == problems("final", 200, 3)[:50]
    assert problems("final", 50, 3) != problems("final", 50, 4)
    assert problems("test", 1, 3)[0].id == "ballots-test-seed3-0"


@pytest.mark.parametrize(("split", "count"), [("dev", 5), ("test", 0), ("final", -1)])
def test_an_unknown_split_or_an_empty_order_is_refused(split, count):
    with pytest.raises(DataError, match="ballots"):
        problems(split, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ballots", "ballots-4"])
def test_as_a_task_it_holds_4000_problems_a_split(name):
    for split in SPLITS:
        asked = load_task(name, split=split)
        assert len({p.id for p in asked}) == len({p.prompt for p in asked}) == 4000
        assert {(p.task, p.kind) for p in asked} == {(name, "exact")}
    assert locate(name, split="final") == {"task": name, "split": "final"}


def test_a_path_fields_or_an_unknown_split_are_refused_in_one_line():
    for mistake, said in [
        ({"path": "somewhere"}, "task ballots makes its own problems; leave path and fields out"),
        ({"fields": {"prompt": "query"}}, "task ballots makes its own problems; leave path and fields out"),
        ({"split": "dev"}, "ballots has no split 'dev'; use 'train', 'test' or 'final'"),
    ]:
        with pytest.raises(DataError) as refused:
            load_task("ballots", **mistake)
        assert str(refused.value) == said


# thoughts


def opened(thought):
    return re.findall(r"([a-o]) (\d) = v(\d) #(\d+) ;", thought)


def test_a_thought_opens_ballots_once_each_and_counts_their_votes():
    for seed in range(300):
        lesson = write(CASE, random.Random(seed))
        seen = Counter()
        lines = opened(lesson.thought)
        assert " ".join(f"{n} {x} = v{v} #{k} ;" for n, x, v, k in lines) == lesson.thought
        assert len({name for name, *_ in lines}) == len(lines)
        for name, digit, vote, count in lines:
            seen[vote] += 1
            assert int(vote) == CASE.votes[NAMES.index(name)]
            assert int(digit) == CASE.digits[NAMES.index(name)]
            assert int(count) == seen[vote]
        assert not seen or seen[lesson.answer[1:]] == max(seen.values())
    assert lesson.prompt == CASE.prompt


def test_a_thought_that_opens_all_ballots_answers_the_gold():
    for seed in range(20):
        lesson = write(CASE, random.Random(seed), Habits(unread=0, all_read=1))
        assert len(opened(lesson.thought)) == 15
        assert lesson.answer == "v9"


def test_where_thoughts_stop_is_as_the_habits_say_and_owes_nothing_to_the_votes():
    clear, open_race = Ballots((9,) * 15, 10, 0.97), CASE
    for ballots in (clear, open_race):
        stops = Counter(len(opened(write(ballots, random.Random(seed)).thought)) for seed in range(4000))
        assert set(stops) == set(range(16))
        assert stops[0] / 4000 == pytest.approx(0.01, abs=0.006)
        assert stops[15] / 4000 == pytest.approx(0.34, abs=0.03)
        assert all(stops[n] / 4000 == pytest.approx(0.65 / 14, abs=0.015) for n in range(1, 15))


def test_a_cut_thought_is_answered_by_who_leads_in_it_ties_and_no_vote_by_lot():
    answers = [write(CASE, random.Random(seed)).answer_at for seed in range(300)]
    words = ["\n", *["c", "7", "=", "v9", "#1", ";", "a", "9", "=", "v9", "#2", ";", "b", "2", "=", "v3", "#1", ";"]]
    assert {at(words) for at in answers} == {"v9"}
    assert {at([*words, "f", "8", "=", "v3"]) for at in answers} == {"v9", "v3"}  # read, though not yet counted
    assert {at(words[:5]) for at in answers} == {"v9"}
    assert {at(words[:4]) for at in answers} == {f"v{vote}" for vote in range(10)}


def test_no_problem_and_no_thought_has_an_unknown_word_and_every_ballot_is_six_tokens(tokenizer):
    for poll in POLLS:
        rng = random.Random(3)
        for _ in range(300):
            lesson = write(draw(poll, poll.shares[-1], "test", rng), rng)
            text = f"{lesson.prompt}<think>\n{lesson.thought}\n</think>\n\n{lesson.answer}"
            ids = tokenizer.encode(text)
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.encode(tokenizer.decode(ids)) == ids
            assert len(tokenizer.encode(lesson.thought)) == 6 * len(opened(lesson.thought))
            assert tokenizer.decode(tokenizer.encode(lesson.answer)) == lesson.answer


def test_votes_and_counts_are_single_tokens_and_the_longer_count_wins(tokenizer):
    ids = tokenizer.encode("o 1 = v5 #15 ; #1 ; votes")
    assert tokenizer.convert_ids_to_tokens(ids) == ["o", "1", "=", "v5", "#15", ";", "#1", ";", "votes"]


def test_the_inducer_closes_the_thought_in_known_tokens(tokenizer):
    ids = tokenizer.encode(DEFAULT_INDUCER)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == DEFAULT_INDUCER


def test_an_answer_is_compared_whole():
    with Grader() as grader:
        verdicts = grader.grade_many([(answer, "v9", "exact") for answer in ("v9", "v3", "9", "v9 v3")])
    assert verdicts == [Verdict.CORRECT, Verdict.WRONG, Verdict.WRONG, Verdict.WRONG]


# the base, the recipes


def test_the_same_seed_builds_the_same_base_of_every_variant(tmp_path):
    for task in ("ballots", "ballots-4"):
        recipe = training.BaseRecipe(steps=2, batch=4, habits=training.course(task).recipe.habits)
        for name in ("one", "two"):
            build(tmp_path / f"{task}-{name}", seed=5, recipe=recipe, task=task)
        one, two = ((tmp_path / f"{task}-{name}" / "model.safetensors").read_bytes() for name in ("one", "two"))
        assert one == two
        assert json.loads((tmp_path / f"{task}-one" / "lab.json").read_text())["task"] == task


def test_the_base_that_ships_is_small_and_made_by_its_courses_recipe(tmp_path, tokenizer):
    folder = base_path("ballots")
    assert (folder / "model.safetensors").stat().st_size < 500_000
    card = json.loads((folder / "lab.json").read_text())
    assert card["task"] == "ballots"
    assert card["recipe"] == json.loads(json.dumps(training.asdict(training.course("ballots").recipe)))
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_the_base_that_ships_is_a_model_by_its_name():
    ours = load_model("lab/ballots", device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(base_path("ballots"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


def test_the_base_that_ships_reads_ballots_rightly_and_mostly_names_the_leader():
    model, tokenizer = load_model("lab/ballots", device="cpu"), load_tokenizer("lab/ballots")
    asked = problems("test", 64)
    turns = [[{"role": "user", "content": problem.prompt}] for problem in asked]
    prompts = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = model.generate(**prompts, do_sample=True, top_k=0, max_new_tokens=120)[:, prompts["input_ids"].shape[1] :]
    read = votes = right = 0
    for problem, text in zip(asked, tokenizer.batch_decode(out, skip_special_tokens=True), strict=True):
        thought, _, answer = text.partition("</think>\n\n")
        for name, _, vote, _ in opened(thought):
            read += 1
            place = NAMES.index(name)
            votes += (int(problem.prompt.split(" , ")[place].split()[1]) + place) % 10 == int(vote)
        right += answer == problem.gold
    assert read > 400
    assert votes / read > 0.98
    assert 0.65 < right / len(asked) < 1  # 0.87, and what is sampled elsewhere within five times √(0.87 · 0.13 / 64)


def test_every_method_has_a_recipe_that_trains_the_base_that_ships():
    names = [name for name in recipe_names() if name.startswith("lab-ballots-")]
    recipes = {load_recipe(name).method.name: load_recipe(name) for name in names}
    assert set(recipes) == {"grpo", "length-penalty", "grpo-lambda", "s-grpo", "exit-baseline", "decide"}
    for recipe in recipes.values():
        assert (recipe.model.path, recipe.task.name, recipe.eval.task) == ("lab/ballots", "ballots", "ballots")
        assert (recipe.eval.split, recipe.eval.temperature) == ("test", 1.0)
