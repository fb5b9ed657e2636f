"""`decide`: what it weighs, by hand; where a model stops, found in its own thoughts; its terms, read plainly."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from making import CLOSE, END, INDUCER, OPEN, VOCABULARY, exact, tiny_model
from scoring import R, W, batch, near
from suffice import GroupBatch, get_method
from suffice.config import Recipe, load_recipe, local_only
from suffice.engines.local.build import build_engine, check_gold, hold_out
from suffice.engines.verl.translate import check_recipe
from suffice.errors import ModelError, RecipeError
from suffice.grading import Grader
from suffice.groups import Branch, Group, Problem, Spine, Verdict
from suffice.methods.adaptive import Floor
from suffice.objective import Objective, policy_loss, row_batches, spine_batches, to_batch
from suffice.objective.anchor import kept
from suffice.rollout.decode import Ask, Count, Decoder
from suffice.rollout.stops import likely_exits, own_stop
from suffice.rollout.streams import BranchStream, PromptStream, read_alone
from suffice.run.directory import Run

# What it weighs


def valued(
    value: list[list[float]], stopping: list[list[float]], thought: list[list[int]], **fields: Any
) -> GroupBatch:
    """Members whose probability of being right is known, and that of stopping where they do."""
    return GroupBatch(
        torch.tensor(value) > 0.5,
        torch.tensor(thought),
        value=torch.tensor(value, dtype=torch.float64),
        stopping=torch.tensor(stopping, dtype=torch.float64),
        **fields,
    )


def test_a_decision_gets_what_stopping_earns_more_than_the_whole_thought_over_the_chance_of_going_on() -> None:
    # the base thinks 20 tokens, so 10 tokens cost 0.1; rewards 0.3 − 0.04, 0.8 − 0.1, 0.9 − 0.2
    groups = valued([[0.3, 0.8, 0.9]], [[0.2, 0.5, 0.0]], [[4, 10, 20]])
    scores = get_method("decide", price=0.2, answer=2).score(groups)
    near(scores.reward, [[0.26, 0.7, 0.7]])
    near(scores.advantage, [[-0.44 / 0.8, 0.0, 2 * 0.9]])  # the whole's answer: twice its own probability


def test_the_policy_gradient_weighs_a_decision_by_its_odds() -> None:
    groups = valued([[0.3, 0.8, 0.5]], [[0.2, 0.5, 0.0]], [[4, 10, 20]])
    scores = get_method("decide", price=0, step="policy", answer=0).score(groups)
    near(scores.advantage, [[-0.2 * 0.2 / 0.8, 0.3 * 0.5 / 0.5, 0.0]])


def test_a_natural_step_pushes_no_rare_stop_down_no_usual_one_up_and_none_that_is_not_on_the_table() -> None:
    stopping = [[0.004, 0.009, 0.011, 0.79, 0.9, 0.0]]
    down = valued([[0.5] * 5 + [1.0]], stopping, [[1] * 6])
    up = valued([[1.0] * 5 + [0.5]], stopping, [[1] * 6])
    method = get_method("decide", price=0, answer=0)
    # beyond 0.78 the factor stays 1/0.22
    near(method.score(down).advantage, [[0, 0, -0.5 / 0.989, -0.5 / 0.22, -0.5 / 0.22, 0]])
    near(method.score(up).advantage, [[0, 0.5 / 0.991, 0.5 / 0.989, 0, 0, 0]])


def test_sampled_answers_are_0_or_1_and_the_wholes_answer_is_compared_with_the_groups_mean() -> None:
    scores = get_method("decide", price=0, answer=3).score(batch([[W, R, W, R]], spines=1))
    near(scores.advantage, [[-1, 0, -1, 3 * (1 - 0.5)]])


def test_spines_of_a_group_are_compared_each_with_itself() -> None:
    groups = batch([[R, W, W, R]], [[5, 9, 5, 9]], spines=2)
    near(get_method("decide", price=0, answer=0).score(groups).advantage, [[1, 0, -1, 0]])


def test_the_price_is_of_a_thought_as_long_as_the_bases_on_problems_held_out() -> None:
    method = get_method("decide", price=0.5)
    groups = batch([[R, R]], [[25, 50]], spines=1)
    near(method.score(groups).reward, [[0.75, 0.5]])  # nothing seen yet: the batch's own mean, 50
    method.look(0.8, 100.0, 1024)
    method.observe(0.9, 10.0)
    near(method.score(groups).reward, [[0.875, 0.75]])


def test_an_adaptive_price_is_the_floors() -> None:
    method = get_method("decide", answer=0)
    method.look(0.8, 20.0, 1024)
    groups = valued([[0.3, 0.9]], [[0.5, 0.0]], [[4, 20]])
    near(method.score(groups).reward, [[0.3 - 0.2 * 0.2, 0.9 - 0.2]])  # 0.2 to begin with
    assert method.observe(0.8, 70.0)["price"] == pytest.approx(0.2 + 0.4 * 0.5 + 0.01 * 0.5)  # 30 where 20 are asked
    near(method.score(groups).reward, [[0.3 - 0.405 * 0.2, 0.9 - 0.405]])


def test_metrics_say_what_is_asked_only_where_a_floor_is_held() -> None:
    assert get_method("decide").observe(0.8, 70.0).keys() == {"asked", "price"}
    assert get_method("decide", price=0.2).observe(0.8, 70.0) == {"price": 0.2}


# The floor


def test_what_is_asked_falls_while_accuracy_is_above_the_floor_by_so_much_as_is_sure() -> None:
    floor = Floor()
    floor.look(0.8, 100.0, 1024, target=0.5, pace=0.15)
    assert (floor.asked, floor.base_length) == (1.0, 100.0)
    floor.look(0.9, 100.0, 100, target=0.5, pace=0.15)
    assert floor.asked == pytest.approx(math.exp(-0.15))  # 11 points above the floor, more than one deviation
    floor.look(0.68, 100.0, 100, target=0.5, pace=0.15)
    # the mean of two is 0.79, as much as the floor: nothing is sure
    assert floor.mean == pytest.approx(0.79)
    assert floor.asked == pytest.approx(math.exp(-0.15))
    floor.look(0.76, 100.0, 100, target=0.5, pace=0.15)
    # a third of the way to 0.76 is 0.78, a point below the floor, with a variance of a third of 0.78·0.22/100
    below = -0.01 / math.sqrt(0.78 * 0.22 / 300 + 0.16 / 1024)
    assert floor.asked == pytest.approx(math.exp(-0.15 - 0.15 * below))


@pytest.mark.parametrize(("accuracy", "asked"), [(1.0, 0.55), (0.0, 1.0)])
def test_no_less_than_the_target_is_asked_for_and_no_more_than_the_bases_thought(accuracy: float, asked: float) -> None:
    floor = Floor(asked=0.7)
    floor.look(0.5, 100.0, 1024, target=0.55, pace=0.15)
    for _ in range(9):
        floor.look(accuracy, 100.0, 128, target=0.55, pace=0.15)
    assert floor.asked == asked


def test_the_price_follows_what_thoughts_exceed_what_is_asked_at_once_and_for_good() -> None:
    floor = Floor(asked=0.5)
    assert floor.price == 0.2  # nothing is known
    floor.look(0.8, 100.0, 1024, target=0.5, pace=0.15)
    assert floor.price == pytest.approx(0.2 + 0.4)  # twice as long
    floor.observe(75.0)  # the running mean goes a fifth of the way, to 95
    assert floor.price == pytest.approx(0.2 + 0.4 * 0.9 + 0.01 * 0.9)
    floor.observe(70.0)  # and to 90
    assert floor.price == pytest.approx(0.2 + 0.4 * 0.8 + 0.01 * (0.9 + 0.8))
    for _ in range(999):
        floor.observe(25.0)
    assert (floor.raised, floor.price) == (0, 0)  # thinking is never paid for
    for _ in range(999):
        floor.observe(150.0)
    assert (floor.raised, floor.price) == (1, 1)


def test_a_floor_that_is_rolled_back_to_before_the_first_look_still_knows_the_base() -> None:
    method = get_method("decide")
    before = method.state_dict()
    method.look(0.8, 60.0, 1024)
    method.look(0.9, 30.0, 128)
    method.load_state_dict(before)
    state = method.state_dict()
    assert (state["base"], state["base_looked"], state["length"], state["asked"]) == (0.8, 1024, 60.0, 1.0)


def test_the_floor_goes_on_from_its_state_and_an_eased_price_is_part_of_it() -> None:
    first, second = get_method("decide"), get_method("decide")
    first.look(0.8, 60, 1024)
    first.observe(0.8, 50)
    first.look(0.85, 50, 128)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.observe(0.8, 40) == first.observe(0.8, 40)
    groups = valued([[0.3, 0.9]], [[0.5, 0.0]], [[4, 20]])
    whole, eased = (0.9 - float(each.score(groups).reward[0, -1]) for each in (first, first.eased(0.5)))
    assert whole > 0
    assert eased == pytest.approx(whole / 2, abs=1e-6)


# The model's own stop

CONTENT, BREAK, BLANK = 10, 20, 21


class OfTheChat:
    """What of a chat says how thoughts end."""

    blank_ids = frozenset([BREAK, BLANK])

    tokenizer = SimpleNamespace(name_or_path="a model")


def thought(tokens: list[int], sure: list[float], *, closed: bool = True) -> Spine:
    """`<think>`, then tokens with the probabilities they had; closed, the close is the last but the answer's."""
    answer = [BLANK, CONTENT, END] if closed else []
    end = len(tokens) - closed
    logprobs = [0.0, *map(math.log, sure), *[0.0] * len(answer)]
    return Spine([OPEN, *tokens, *answer], logprobs, 1, 1 + end, closed, not closed)


def test_the_decision_is_the_last_choice_before_the_close() -> None:
    at_break = [thought([CONTENT, 11, BREAK, CLOSE], [0.3, 1.0, 0.1, 1.0])] * 3
    assert own_stop(at_break, OfTheChat()) == [BREAK, CLOSE, BLANK]  # type: ignore[arg-type]
    at_close = [thought([CONTENT, 11, BREAK, CLOSE], [0.3, 1.0, 1.0, 0.6])] * 3
    assert own_stop(at_close, OfTheChat()) == [CLOSE, BLANK]  # type: ignore[arg-type]
    words = [thought([CONTENT, 12, 13, CLOSE], [0.3, 0.2, 1.0, 0.99])] * 3
    assert own_stop(words, OfTheChat()) == [12, 13, CLOSE, BLANK]  # type: ignore[arg-type]
    assert own_stop([*at_break, *at_close, *at_close], OfTheChat()) == [CLOSE, BLANK]  # type: ignore[arg-type]


def test_a_thought_without_a_choice_ends_at_its_close() -> None:
    sure = [thought([CONTENT, BREAK, CLOSE], [1.0, 1.0, 1.0])]
    assert own_stop(sure, OfTheChat()) == [CLOSE, BLANK]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spines",
    [
        [thought([CONTENT, 11], [0.3, 0.3], closed=False)],
        [thought([CONTENT, 11 + i, CLOSE], [0.3, 0.3, 1.0]) for i in range(11)],
    ],
    ids=["none closed", "all differ"],
)
def test_a_model_without_a_stop_of_its_own_is_refused(spines: list[Spine]) -> None:
    with pytest.raises(ModelError, match="no stop of its own to train"):
        own_stop(spines, OfTheChat())  # type: ignore[arg-type]


def test_exits_lie_where_stopping_was_likely_and_not_where_it_was_sampled() -> None:
    spine = thought([CONTENT, 11, BREAK, 12, BREAK, CLOSE], [1.0] * 6)
    watched = [0.5, 0.5, 0.0001, 0.004, 0.02, 0.3, 0.9, 0.0, 0.0, 0.0]  # of the decision, in the place of every token
    spine.watched = [math.log(max(p, 1e-30)) for p in watched]
    assert likely_exits(9, [BREAK, CLOSE, BLANK])(spine, "key") == [3]  # not at 4, where the thought did stop
    assert likely_exits(9, [CLOSE, BLANK])(spine, "key") == [3, 4]
    spine.watched = [math.log(0.1)] * 10
    many = {tuple(likely_exits(2, [CLOSE])(spine, f"key {i}")) for i in range(40)}
    assert many == {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}
    assert likely_exits(2, [CLOSE])(thought([CLOSE], [1.0]), "key") == []


# Terms of the loss

STOP = [BREAK, CLOSE]
TEMPERATURE = 0.7
PROMPT = [4, 9, 4]
GOLD = [BLANK, 25, 26, END]


def decided(*, gold: bool) -> Group:
    """One thought of six tokens left after 2 and after 5 of them, its answer begins after the close."""
    tokens = [OPEN, 8, 9, 10, 11, 12, 13, CLOSE, BLANK, 27, END]
    spine = Spine(tokens, [-1.0] * len(tokens), 1, 7, True, False, Verdict.CORRECT)
    if gold:
        spine.value, spine.gold_at = 0.75, 8
    for position, value, stopping in ((2, 0.5, 0.25), (5, 1.0, 0.5)):
        answer = [] if gold else [28, END]
        branch = Branch(
            position, answer, [-1.0] * len(answer), False, Verdict.WRONG if position == 2 else Verdict.CORRECT
        )
        branch.value, branch.stopping = (value if gold else None), stopping
        spine.branches.append(branch)
    return Group(Problem("p", "t", "?", "!"), PROMPT, STOP, [spine], gold=GOLD if gold else [])


def logprob(model: Any, tokens: list[int], at: int) -> Tensor:
    """Of token `at` given those before it, by a plain pass."""
    logits = model(input_ids=torch.tensor([tokens[:at]])).logits[0, -1]
    return torch.log_softmax(logits / TEMPERATURE, -1)[tokens[at]]


def gradient(model: Any, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("make", [row_batches, spine_batches])
@pytest.mark.parametrize("gold", [True, False])
def test_only_decisions_and_the_whole_thoughts_answer_are_trained(make: Any, gold: bool) -> None:
    model, group = exact(tiny_model()), decided(gold=gold)
    seen = to_batch([group], 1, 2)
    scores = get_method("decide", price=0, answer=2).score(seen)
    spine, whole = group.spines[0], PROMPT + group.spines[0].tokens
    # gold: leads 0.5 − 0.75 and 1 − 0.75; sampled: 0 − 1 and 1 − 1, and the answer is right where two of three are
    weights = [-0.25 / 0.75, 0.25 / 0.5] if gold else [-1 / 0.75, 0.0]
    first = 3 + 8
    answered = [*whole[:first], *GOLD] if gold else whole
    answer = 2 * 0.75 if gold else 2 * (1 - 2 / 3)
    wanted = sum(
        w * logprob(model, [*whole[: 3 + 1 + branch.exit], BREAK], 3 + 1 + branch.exit)
        for w, branch in zip(weights, spine.branches, strict=True)
    ) + answer * sum(logprob(model, answered, i) for i in range(first, len(answered)))
    oracle = gradient(model, -wanted / (3 * 10))  # three members, constant_length 10

    found = torch.zeros_like(oracle)
    for each in make([group], scores.advantage, Objective("constant", "decision", CLOSE, 2, 10), 999):
        new_T, _ = each.logprobs(model, TEMPERATURE)
        found += gradient(model, policy_loss(new_T, new_T.detach(), each.plus, each.minus, clip_low=0.2, clip_high=0.2))
    assert (found - oracle).norm() <= 1e-6 * oracle.norm()  # advantages are float32


def test_what_is_kept_is_the_divergence_of_what_follows_where_the_thought_goes_on() -> None:
    # without the decision, token 0: p = (0.6, 0.2)/0.8 = (3/4, 1/4), q = (0.1, 0.1)/0.2 = (1/2, 1/2)
    base, model = torch.tensor([[0.2, 0.6, 0.2]]).log(), torch.tensor([[0.8, 0.1, 0.1]]).log()
    wanted = 0.8 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert kept(base, model, 0).tolist() == pytest.approx([wanted], rel=1e-6)
    stops = torch.tensor([[0.9, 0.075, 0.025]]).log()  # other than p by the decision alone
    assert kept(base, stops, 0).tolist() == pytest.approx([0.0], abs=1e-7)


def test_the_gradient_of_what_is_kept_leaves_the_decision_alone_and_is_finite() -> None:
    base = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64).log_softmax(-1)
    logits = torch.tensor([[2.0, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    kept(base, logits.log_softmax(-1), 2).sum().backward()
    # (1 − p₂)·(q − p) over the first two: p = (1, e)/(1 + e), q = (e², 1)/(e² + 1)
    e = math.e
    stays = (e + e**2) / (e + e**2 + e**3)
    first = stays * (e**2 / (e**2 + 1) - 1 / (1 + e))
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([first, -first, 0.0], abs=1e-12)


def test_thoughts_are_held_to_the_base_token_by_token() -> None:
    base, model = (exact(tiny_model(seed=seed)) for seed in (0, 1))
    groups = [decided(gold=True), decided(gold=False)]
    groups[1].spines[0].branches.clear()  # no exit, and no weight: held all the same
    advantage = torch.tensor([[0.5, -0.5, 1.0], [0.0, 0.0, 0.0]])
    objective = Objective("constant", "decision", CLOSE, 2, constant_length=10, kl=0.3)
    wanted = torch.zeros((), dtype=torch.float64)
    for group in groups:
        whole = PROMPT + group.spines[0].tokens
        for at in range(3 + 1, 3 + 7):  # the six tokens of the thought
            one, other = (
                torch.softmax(each(input_ids=torch.tensor([whole[:at]])).logits[0, -1] / TEMPERATURE, -1)
                for each in (base, model)
            )
            one, q = one.detach(), torch.cat([other[:BREAK], other[BREAK + 1 :]])
            p = torch.cat([one[:BREAK], one[BREAK + 1 :]])
            wanted = wanted + p.sum() * ((p / p.sum()) * ((p / p.sum()).log() - (q / q.sum()).log())).sum()
    wanted = 0.3 * wanted / (4 * 10)  # three members and one
    oracle = gradient(model, wanted)

    found, total = torch.zeros_like(oracle), 0.0
    for each in spine_batches(groups, advantage, objective, 30):
        with torch.no_grad():
            theirs = each.read(base)
        drift = each.drift(theirs, each.read(model), BREAK, TEMPERATURE)
        found, total = found + gradient(model, drift), total + float(drift.detach())
    assert total == pytest.approx(float(wanted.detach()), rel=1e-9)
    assert (found - oracle).norm() <= 1e-9 * oracle.norm()


# Rollout


def plain(model: Any, tokens: list[int], temperature: float) -> Tensor:
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0] / temperature, -1)


def test_a_watched_token_has_its_log_prob_in_the_place_of_every_token() -> None:
    model = exact(tiny_model())
    asks = [Ask([5, 6, 7 + i], f"{i}", answer=4 + i, thought=3) for i in range(3)]
    decoder = Decoder(OPEN, CLOSE, frozenset([END]), TEMPERATURE, 1.0, watch=BREAK)
    for ask, said in zip(asks, decoder.run(PromptStream(model, asks, 0), asks, Count()), strict=True):
        logprobs = plain(model, ask.prefix + said.tokens, TEMPERATURE)[len(ask.prefix) - 1 : -1]
        assert said.watched == pytest.approx(logprobs[:, BREAK].tolist(), abs=1e-9)
        assert len(said.watched) == len(said.tokens) > 0


def test_given_tokens_are_read_as_a_plain_pass_would_whether_or_not_keys_and_values_are_kept() -> None:
    model, rng = exact(tiny_model()), random.Random(0)
    spines = [[rng.randrange(VOCABULARY) for _ in range(n)] for n in (9, 5, 12)]
    exits = [[2, 7], [4], [1, 6, 11]]
    own = [[rng.randrange(VOCABULARY) for _ in range(n)] for n in (4, 2, 6, 3, 5, 2)]
    asks = [Ask(tokens, "", 1) for tokens in spines]
    stream, count = PromptStream(model, asks, 0, keep=True), Count()
    with torch.inference_mode():
        stream.start(count)
        for row in range(3):
            stream.finish(row, row)
        kept_values = [stream.kept[row] for row in range(3)]
        found = BranchStream(model, kept_values, exits, INDUCER).read(own, TEMPERATURE, count)
    prefixes = [spine[:n] for spine, of_spine in zip(spines, exits, strict=True) for n in of_spine]
    alone = read_alone(model, prefixes, own, TEMPERATURE, Count())
    for prefix, tokens, ours, theirs in zip(prefixes, own, found, alone, strict=True):
        whole = plain(model, prefix + tokens, TEMPERATURE)
        wanted = [float(whole[len(prefix) + i - 1, token]) for i, token in enumerate(tokens)][1:]
        assert ours == pytest.approx(wanted, abs=1e-9)
        assert theirs == pytest.approx(wanted, abs=1e-9)


# Recipes


def of(*changes: str) -> Recipe:
    return load_recipe("lab-ballots-decide", changes)


def test_the_method_chooses_its_exits_its_tokens_its_anchor_and_what_is_held_out() -> None:
    recipe = load_recipe("lab-s-grpo", ["method.name=decide"])
    assert (recipe.group.at, recipe.objective.train_on, recipe.objective.kl) == ("stops", "decision", 0.3)
    assert recipe.train.held_out == 1024
    assert load_recipe("lab-s-grpo", ["method.name=decide", "method.price=0.2"]).train.held_out == 0
    plain = load_recipe("lab-s-grpo")
    assert (plain.group.at, plain.objective.train_on, plain.objective.kl, plain.train.held_out) == (
        "random",
        "sampled",
        0,
        0,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("objective.train_on=sampled", "leave it out"),
        ("train.held_out=0", "set train.held_out"),
        ("objective.layout=rows", "objective.layout = spine"),
        ("method.name=s-grpo", 'set rollout.answers = "sampled"'),
    ],
)
def test_keys_that_contradict_the_method_are_refused(change: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        of(change)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ([], "objective.train_on = decision"),
        (["objective.train_on=decision"], "objective.train_on = decision"),
        (["method.name=s-grpo", "rollout.answers=sampled", "group.at=stops"], "group.at = stops"),
        (["method.name=s-grpo", "rollout.answers=sampled", "objective.kl=0.5"], "objective.kl = 0.5"),
        (["method.name=s-grpo", "rollout.answers=sampled", "train.held_out=8"], "train.held_out = 8"),
        (["method.name=s-grpo", "rollout.answers=sampled"], ""),
    ],
)
def test_what_only_the_local_engine_knows_is_named_to_the_others(changes: list[str], key: str) -> None:
    recipe = of(*changes)
    assert local_only(recipe) == key
    if key:
        with pytest.raises(RecipeError, match=f"verl does not know {key}"):
            check_recipe(recipe, 1)


def test_problems_are_held_out_by_the_seed_and_not_trained_on() -> None:
    problems = [Problem(str(i), "t", "?", "!") for i in range(20)]
    train = of("train.held_out=8", "train.problems_per_step=12").train
    trained, held = hold_out(train, problems, seed=1)
    assert len(held) == 8
    assert sorted(p.id for p in trained + held) == sorted(p.id for p in problems)
    assert hold_out(train, problems, seed=1) == (trained, held) != hold_out(train, problems, seed=2)
    with pytest.raises(RecipeError, match=r"lower train\.held_out"):
        hold_out(of("train.held_out=9", "train.problems_per_step=12").train, problems, seed=1)


class Counted:
    """A chat whose answers have a token a word and an end of turn."""

    def answer(self, text: str) -> list[int]:
        return [0] * (len(text.split()) + 1)


def test_gold_answers_must_be_what_a_right_answer_is_word_for_word() -> None:
    check_gold([Problem("a", "t", "?", "1 2", "exact")], Counted(), 3)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"b is of kind math.*rollout\.answers"):
        check_gold([Problem("b", "t", "?", "1", "math")], Counted(), 3)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"max_answer_tokens = 2"):
        check_gold([Problem("a", "t", "?", "1 2", "exact")], Counted(), 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["lab-ballots-decide", "lab-decide", "lab-sums-decide"])
def test_the_lab_has_a_recipe_a_task(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method.name == "decide"
    assert Path(recipe.model.path).name == recipe.task.name


# On the lab

SMALL = ["train.problems_per_step=4", "train.held_out=8", "rollout.max_thought_tokens=64", "group.exits=3"]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    torch.set_num_threads(1)
    with Grader() as grader:
        yield grader


@pytest.mark.parametrize(
    ("name", "stop"),
    [("lab-ballots-decide", "\n</think>\n\n"), ("lab-decide", "</think>\n\n"), ("lab-sums-decide", "</think>\n\n")],
)
def test_the_labs_models_are_found_to_decide_before_the_close_or_at_it(name: str, stop: str, grader: Grader) -> None:
    recipe = load_recipe(name, ["train.problems_per_step=4", "train.held_out=48"])
    engine, _ = build_engine(recipe, grader, None)
    metrics, groups = engine.step(1)
    assert engine.chat.tokenizer.decode(engine.sampler.stop) == stop
    assert engine.update.decision == engine.sampler.stop[0] == groups[0].inducer[0]
    assert metrics["held_out_accuracy"] > 0.5
    branches = [branch for group in groups for branch in group.spines[0].branches]
    assert branches
    for branch in branches:
        assert branch.stopping is not None
        assert branch.stopping > 0.005
        assert branch.value is not None
        assert 0 <= branch.value <= 1
        assert branch.verdict is None


def test_values_are_what_the_model_gives_the_gold_answer_and_its_own_answers_are_still_graded(grader: Grader) -> None:
    engine, _ = build_engine(load_recipe("lab-ballots-decide", SMALL), grader, None)
    exact(engine.model)
    _, groups = engine.step(1)
    engine, _ = build_engine(load_recipe("lab-ballots-decide", SMALL), grader, None)  # the groups were the base's
    model = exact(engine.model)
    for group in groups:
        (spine,) = group.spines
        assert spine.verdict is not None
        members: list[Spine | Branch] = [spine, *spine.branches]
        for member in members:
            if isinstance(member, Branch):
                prefix = group.prompt + spine.tokens[: spine.thought_start + member.exit]
                before = plain(model, prefix, 1.0)[-1, group.inducer[0]]
                assert member.stopping == pytest.approx(math.exp(before), rel=1e-6)
                prefix += group.inducer
            else:
                prefix = group.prompt + spine.tokens[: spine.gold_at]
            logprobs = plain(model, prefix + group.gold, 1.0)
            said = sum(float(logprobs[len(prefix) + i - 1, token]) for i, token in enumerate(group.gold))
            assert member.value == pytest.approx(math.exp(said) if spine.closed or member is not spine else 0, rel=1e-6)


@pytest.mark.parametrize("answers", ["gold", "sampled"])
def test_a_resumed_run_goes_on_as_one_that_was_not_stopped(answers: str, grader: Grader, tmp_path: Path) -> None:
    recipe = load_recipe("lab-ballots-decide", [*SMALL, f"rollout.answers={answers}"])
    whole, _ = build_engine(recipe, grader, None)
    for step in range(1, 10):
        whole.step(step)
    whole.save(tmp_path, 9, {})
    resumed, done = build_engine(recipe, grader, Run(tmp_path).checkpoint(9))
    assert done == 9
    for step in (10, 11):  # at 10 it looks
        one, other = ({k: v for k, v in e.step(step)[0].items() if "seconds" not in k} for e in (whole, resumed))
        assert one == other
    assert "held_out_accuracy" not in one
    assert one["asked"] == resumed.method.state_dict()["asked"]


def test_a_look_counts_problems_that_come_up_for_the_first_time_and_no_others(grader: Grader) -> None:
    engine, _ = build_engine(load_recipe("lab-ballots-decide", [*SMALL, "task.limit=16"]), grader, None)
    seen = []
    for step in (1, 2, 3):  # eight problems to train on, four a step
        engine.step(step)
        seen.append(engine.fresh[1])
    assert seen == [4, 8, 8]
    engine.step(10)
    assert engine.fresh == (0.0, 0)
