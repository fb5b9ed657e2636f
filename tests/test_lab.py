"""The micro-lab: arithmetic, its thoughts and base; the tokenizer and the training that both tasks share."""

import itertools
import json
import random
import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from suffice.config import DEFAULT_INDUCER
from suffice.errors import DataError, RunError
from suffice.lab import base_path, build, problems, training
from suffice.lab.arithmetic import Chain, Step, chains
from suffice.lab.thoughts import VOCABULARY, Habits, lesson, write
from suffice.lab.tokenizer import build_tokenizer

CHAIN = Chain(6, (Step("-", 1), Step("*", 8)))


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(VOCABULARY)


def worked_out(prompt):
    """Gold by substitution in the text, knowing nothing of chains."""
    *lines, question = prompt.removesuffix(" ?").split(" , ")
    known = {}
    for line in lines:
        name, work = line.split(" = ")
        left, *rest = [known.get(word, word) for word in work.split()]
        value = int(left)
        if rest:
            value = {"+": value + int(rest[1]), "-": value - int(rest[1]), "*": value * int(rest[1])}[rest[0]]
        known[name] = value % 10
    return " ".join(str(known[name]) for name in question.split())


def test_a_problem_reads_as_the_chain_it_is():
    assert CHAIN.prompt == "a = 6 , b = a - 1 , c = b * 8 , b c ?"
    assert CHAIN.values == [6, 5, 0]
    assert CHAIN.gold == "5 0"


def test_the_gold_is_right_by_substitution_in_the_prompt():
    for split in ("train", "test"):
        for problem in problems(split, 2000):
            assert problem.gold == worked_out(problem.prompt)


def test_train_and_test_share_no_prompt_whatever_the_seed():
    train = {problem.prompt for seed in range(3) for problem in problems("train", 2000, seed)}
    test = {problem.prompt for seed in range(3) for problem in problems("test", 2000, seed)}
    assert not train & test


def test_a_split_has_as_many_distinct_problems_as_asked():
    asked = problems("test", 3000)
    assert len(asked) == len({problem.id for problem in asked}) == len({problem.prompt for problem in asked}) == 3000
    assert asked[17].id == "arithmetic-test-17"
    assert {problem.difficulty for problem in asked} == set("123456")
    assert {problem.kind for problem in asked} == {"exact"}


def test_the_same_seed_gives_the_same_problems_and_fewer_are_the_first_of_more():
    assert problems("train", 50, 3) == problems("train", 200, 3)[:50]
    assert problems("train", 50, 3) != problems("train", 50, 4)


def test_problems_of_two_seeds_share_no_id():
    assert not {p.id for p in problems("test", 100, 0)} & {p.id for p in problems("test", 100, 1)}


def test_a_guess_is_right_about_one_time_in_thirty():
    golds = [problem.gold for problem in problems("test", 3000)]
    assert max(golds.count(gold) for gold in set(golds)) / len(golds) < 0.06


@pytest.mark.parametrize(("split", "count"), [("dev", 5), ("test", 0), ("train", -1)])
def test_an_unknown_split_or_an_empty_order_is_refused(split, count):
    with pytest.raises(DataError, match="arithmetic"):
        problems(split, count)


def test_problems_do_not_load_torch():
    code = "import sys; from suffice.lab import problems; problems('test', 3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_thought_without_slips_derives_the_gold_and_checks_it():
    thought = write(CHAIN, random.Random(0), Habits(rechecks=(0, 1), slip=0, recheck_slip=0))
    first, recheck = thought.text.split("\n")
    assert first == "a = 6 ; b = 6 - 1 = 5 ; c = 5 * 8 = 0 ; so 5 0 ."
    assert recheck.endswith(first)
    assert thought.conclusions == ("5 0", "5 0")


def test_every_conclusion_follows_from_the_digits_of_its_pass_and_the_last_one_wins():
    rng = random.Random(1)
    for chain in itertools.islice(chains("train", rng), 500):
        thought = write(chain, rng)
        for line, conclusion in zip(thought.text.split("\n"), thought.conclusions, strict=True):
            digits = re.findall(r"(\d) ;", line)
            assert len(digits) == len(chain.steps) + 1
            assert " ".join(digits[-2:]) == conclusion == re.search(r"so (\d \d) \.$", line)[1]
        assert thought.answer == thought.conclusions[-1]


def test_rechecks_mend_slips_and_break_what_was_right():
    rng = random.Random(2)
    seen = set()
    for chain in itertools.islice(chains("train", rng), 2000):
        thought = write(chain, rng)
        seen.add((thought.conclusions[0] == chain.gold, thought.answer == chain.gold))
    assert len(seen) == 4


def test_the_chat_template_renders_the_format_of_qwen3(tokenizer):
    turn = [{"role": "user", "content": CHAIN.prompt}]
    assert tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) == (
        f"<|im_start|>user\n{CHAIN.prompt}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.apply_chat_template(turn, tokenize=False) == f"<|im_start|>user\n{CHAIN.prompt}<|im_end|>\n"


def test_the_inducer_closes_the_thought_once_in_known_tokens(tokenizer):
    ids = tokenizer.encode(DEFAULT_INDUCER)
    assert tokenizer.unk_token_id not in ids
    assert ids.count(tokenizer.convert_tokens_to_ids("</think>")) == 1
    assert tokenizer.convert_ids_to_tokens(ids)[-3:] == ["\n", "</think>", "\n\n"]
    assert tokenizer.decode(ids) == DEFAULT_INDUCER


def test_no_problem_and_no_thought_has_an_unknown_word_and_decoding_gives_the_words_back(tokenizer):
    rng = random.Random(3)
    for chain in itertools.islice(chains("test", rng), 2000):
        text = f"{chain.prompt}<think>\n{write(chain, rng).text}\n</think>\n\n{chain.gold}"
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert "".join(tokenizer.decode(ids).split()) == "".join(text.split())
        assert tokenizer.encode(tokenizer.decode(ids)) == ids


def test_decoding_keeps_the_thought_markers_and_drops_the_turn_markers(tokenizer):
    ids = tokenizer.encode("<think>\nso 5 0 .\n</think>\n\n5 0<|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>\nso 5 0.\n</think>\n\n5 0"
    assert ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("word", ["zebra", "½", "\t", "é"])
def test_an_unknown_word_is_the_unknown_token(tokenizer, word):
    assert tokenizer.encode(word) == [tokenizer.unk_token_id]


def test_neither_the_prompt_nor_an_injected_inducer_is_a_target(tokenizer):
    inducer = tokenizer.encode(DEFAULT_INDUCER)
    for seed in range(50):
        rng = random.Random(seed)
        ids, labels = training._example(tokenizer, 1.0, lesson(CHAIN, rng), rng)
        start = next(i for i in range(len(ids)) if ids[i : i + len(inducer)] == inducer)
        opened = ids.index(tokenizer.convert_tokens_to_ids("<think>"))
        assert labels[:opened] == [training.IGNORED] * opened
        assert labels[opened:start] == ids[opened:start]
        assert labels[start : start + len(inducer)] == [training.IGNORED] * len(inducer)
        assert labels[start + len(inducer) :] == ids[start + len(inducer) :]


def test_a_cut_before_the_first_conclusion_aims_at_the_gold_and_later_at_the_last_conclusion(tokenizer):
    habits = Habits(rechecks=(0, 0, 1), slip=1, recheck_slip=1)
    seen = set()
    for seed in range(200):
        rng = random.Random(seed)
        ids, _ = training._example(tokenizer, 1.0, lesson(CHAIN, rng, habits), rng)
        thought, _, answer = tokenizer.decode(ids, skip_special_tokens=True).partition("</think>\n\n")
        concluded = re.findall(r"so (\d \d)\.", thought)
        assert answer == (concluded[-1] if concluded else CHAIN.gold)
        seen.add(len(concluded))
    assert seen == {0, 1, 2, 3}


def test_a_base_of_three_steps_is_a_folder_that_loads(tmp_path):
    losses = []
    build(tmp_path / "base", seed=1, recipe=training.BaseRecipe(steps=3), progress=lambda _, loss: losses.append(loss))
    assert len(losses) == 3
    assert losses[0] == pytest.approx(torch.tensor(52.0).log().item(), abs=0.2)  # uniform over 52 tokens
    AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    card = json.loads((tmp_path / "base" / "lab.json").read_text())
    assert (card["seed"], card["recipe"]["steps"]) == (1, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_the_same_seed_builds_the_same_base_and_leaves_the_callers_random_state_alone(tmp_path):
    recipe = training.BaseRecipe(steps=2, batch=4)
    before = torch.get_rng_state()
    for name in ("one", "two"):
        build(tmp_path / name, seed=5, recipe=recipe)
    assert torch.equal(before, torch.get_rng_state())
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_base_is_never_written_over(tmp_path):
    (tmp_path / "model.safetensors").write_text("precious")
    with pytest.raises(RunError):
        build(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "precious"


def test_measurements_are_added_to_the_card_and_keep_how_it_was_made(tmp_path):
    training.write_card(tmp_path, {"seed": 0})
    training.write_card(tmp_path, {"greedy": 0.9})
    assert json.loads((tmp_path / "lab.json").read_text()) == {"seed": 0, "greedy": 0.9}


def test_the_tokenizer_of_the_base_that_ships_is_the_one_that_is_built(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (base_path() / name).read_bytes()


def test_a_base_of_an_unknown_task_is_refused_before_anything_is_made(tmp_path):
    tasks = "arithmetic, ballots, ballots-4, ballots-easy, sums"
    with pytest.raises(DataError, match=f"no task 'ballot'; use one of: {tasks}"):
        build(tmp_path / "base", task="ballot")
    assert not (tmp_path / "base").exists()


def test_the_base_that_ships_is_small_and_made_by_the_default_recipe():
    assert (base_path() / "model.safetensors").stat().st_size < 2_000_000
    card = json.loads((base_path() / "lab.json").read_text())
    assert card["recipe"] == json.loads(json.dumps(training.asdict(training.BaseRecipe())))


def test_the_base_that_ships_thinks_and_is_mostly_right():
    model = AutoModelForCausalLM.from_pretrained(base_path()).eval()
    tokenizer = AutoTokenizer.from_pretrained(base_path())
    asked = problems("test", 48)
    turns = [[{"role": "user", "content": problem.prompt}] for problem in asked]
    prompts = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    out = model.generate(**prompts, do_sample=False, max_new_tokens=250)[:, prompts["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    assert all(text.startswith("<think>\n") for text in texts)
    assert sum(text.endswith(f"</think>\n\n{p.gold}") for text, p in zip(texts, asked, strict=True)) >= 38
