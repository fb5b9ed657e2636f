"""The first four methods against numbers worked out by hand, hostile batches, and plain readings of the formulas."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from statistics import fmean, pstdev
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from scoring import R, W, batch, claim, group_batches, near, pick
from suffice import GroupBatch, Scores, get_method, list_methods

ALL = ["grpo", "length-penalty", "grpo-lambda", "s-grpo"]
PARALLEL = ["grpo", "length-penalty", "grpo-lambda"]
PENALISED = ["length-penalty", "grpo-lambda"]


def penalised_groups(scores: Scores, correct: list[list[bool]]) -> list[int]:
    """The groups in which some right member earned less than 1."""
    right_P_G = torch.tensor(correct)
    return ((scores.reward < 1) & right_P_G).any(-1).nonzero().flatten().tolist()


# S-GRPO: the decaying reward


def test_s_grpo_reproduces_the_papers_figure_5() -> None:
    scores = get_method("s-grpo").score(batch([[W] + [R] * 8]))
    near(scores.reward[0], [0, 1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128], atol=0)
    # the rewards sum to 255/128, so their mean over 9 members is 255/1152 = 0.221354
    near(
        scores.advantage[0],
        [-0.221354, 0.778646, 0.278646, 0.028646, -0.096354, -0.158854, -0.190104, -0.205729, -0.213542],
        atol=1e-6,
    )


def test_nine_right_members_push_every_exit_after_the_third_down() -> None:
    scores = get_method("s-grpo").score(batch([[R] * 9]))
    near(scores.reward[0], [2.0**-n for n in range(9)], atol=0)
    # mean 511/256/9 = 0.221788
    near(
        scores.advantage[0],
        [0.778212, 0.278212, 0.028212, -0.096788, -0.159288, -0.190538, -0.206163, -0.213976, -0.217882],
        atol=1e-6,
    )


def test_the_reward_decays_per_right_answer_and_not_per_exit() -> None:
    scores = get_method("s-grpo").score(batch([[R, W, W, R]]))
    near(scores.reward[0], [1, 0, 0, 1 / 2])  # counting exits would give 1/8
    near(scores.advantage[0], [0.625, -0.375, -0.375, 0.125])


def test_a_lone_right_full_thought_earns_the_whole_reward() -> None:
    scores = get_method("s-grpo").score(batch([[W, W, W, R]]))
    near(scores.reward[0], [0, 0, 0, 1])
    near(scores.advantage[0], [-0.25, -0.25, -0.25, 0.75])


def test_s_grpo_does_not_divide_by_the_standard_deviation() -> None:
    near(get_method("s-grpo").score(batch([[W, R]])).advantage[0], [-0.5, 0.5])  # with std: ∓1


def test_s_grpo_is_blind_to_length() -> None:
    short = get_method("s-grpo").score(batch([[W, R, R]], [[1, 2, 3]]))
    long = get_method("s-grpo").score(batch([[W, R, R]], [[10**9, 5, 70_000]]))
    assert torch.equal(short.advantage, long.advantage)


def test_another_decay_replaces_the_half() -> None:
    scores = get_method("s-grpo", decay=0.1).score(batch([[R, R, W, R]]))
    near(scores.reward[0], [1, 0.1, 0, 0.01])
    near(scores.advantage[0], [0.7225, -0.1775, -0.2775, -0.2675])


def test_without_decay_an_all_right_group_has_no_advantage() -> None:
    scores = get_method("s-grpo", decay=1.0).score(batch([[R] * 9]))
    assert scores.reward.eq(1).all()
    assert scores.advantage.eq(0).all()


def test_the_smallest_decay_a_float_can_hold_stays_finite() -> None:
    scores = get_method("s-grpo", decay=5e-324).score(batch([[W, R, W, R]]))
    near(scores.reward[0], [0, 1, 0, 0])
    near(scores.advantage[0], [-0.25, 0.75, -0.25, -0.25])


def test_rewards_too_small_for_a_float_become_zero() -> None:
    scores = get_method("s-grpo").score(batch([[R] * 300]))
    assert scores.reward.isfinite().all()
    assert scores.reward[0, -1] == 0


# S-GRPO: ragged groups


def test_a_missing_exit_counts_in_no_mean() -> None:
    scores = get_method("s-grpo").score(batch([[R, W, W, R]], valid=[[True, False, False, True]]))
    near(scores.reward[0], [1, 0, 0, 1 / 2])
    near(scores.advantage[0], [0.25, 0, 0, -0.25])  # mean 0.75 of two members, not 0.375 of four


def test_a_missing_exit_marked_right_halves_nobodys_reward() -> None:
    scores = get_method("s-grpo").score(batch([[W, R, R, R]], valid=[[True, False, False, True]]))
    near(scores.reward[0], [0, 0, 0, 1])
    near(scores.advantage[0], [-0.5, 0, 0, 0.5])


def test_a_thought_too_short_for_any_exit_leaves_the_full_member_alone_and_without_advantage() -> None:
    scores = get_method("s-grpo").score(batch([[W, W, R]], valid=[[False, False, True]]))
    near(scores.reward[0], [0, 0, 1])
    assert scores.advantage.eq(0).all()


def test_ragged_groups_of_one_batch_do_not_touch_each_other() -> None:
    scores = get_method("s-grpo").score(
        batch([[R, W, R], [W, R, R], [R, R, R]], valid=[[True, False, True], [True, True, True], [False, False, False]])
    )
    near(scores.reward, [[1, 0, 0.5], [0, 1, 0.5], [0, 0, 0]])
    near(scores.advantage, [[0.25, 0, -0.25], [-0.5, 0.5, 0], [0, 0, 0]])


# S-GRPO: several spines


def test_two_spines_add_the_between_term_to_their_full_members_only() -> None:
    # spine 1: r = 0 1 ½, mean ½;  spine 2: r = 1 0 0, mean ⅓;  c = 1 0, mean ½, so ±0.5·0.5 on columns 2 and 5
    scores = get_method("s-grpo", between=0.5).score(batch([[W, R, R, R, W, W]], spines=2))
    near(scores.reward[0], [0, 1, 0.5, 1, 0, 0])
    near(scores.advantage[0], [-0.5, 0.5, 0 + 0.25, 2 / 3, -1 / 3, -1 / 3 - 0.25])


def test_the_decay_starts_anew_in_every_spine() -> None:
    near(get_method("s-grpo").score(batch([[R, R, R, R]], spines=2)).reward[0], [1, 0.5, 1, 0.5])
    near(get_method("s-grpo").score(batch([[R, R, R, R]], spines=1)).reward[0], [1, 0.5, 0.25, 0.125])


def test_the_between_weight_scales_the_between_term() -> None:
    spines = batch([[W, R, W, W]], spines=2)  # within: −½ ½ | 0 0;  c − mean c = ½, −½
    near(get_method("s-grpo", between=0.0).score(spines).advantage[0], [-0.5, 0.5, 0, 0])
    near(get_method("s-grpo", between=1.0).score(spines).advantage[0], [-0.5, 1.0, 0, -0.5])
    near(get_method("s-grpo", between=2.0).score(spines).advantage[0], [-0.5, 1.5, 0, -1.0])


def test_spines_that_are_all_right_at_the_end_have_no_between_term() -> None:
    scores = get_method("s-grpo", between=3.0).score(batch([[W, R, R, R, W, R]], spines=3))
    near(scores.advantage[0], [-0.5, 0.5, 0.25, -0.25, -0.5, 0.5])


def test_an_invalid_full_member_leaves_the_between_spine_mean() -> None:
    # the third spine's full member is invalid though marked right: c = 1 0 over two spines, mean ½ and not ⅔ or ⅓
    scores = get_method("s-grpo", between=0.5).score(
        batch([[W, R, R, W, R, R]], spines=3, valid=[[True, True, True, True, True, False]])
    )
    near(scores.reward[0], [0, 1, 1, 0, 1, 0])
    near(scores.advantage[0], [-0.5, 0.5 + 0.25, 0.5, -0.5 - 0.25, 0, 0])


def test_a_wholly_invalid_spine_leaves_one_spine_and_no_between_term() -> None:
    scores = get_method("s-grpo", between=5.0).score(
        batch([[W, R, W, W]], spines=2, valid=[[True, True, False, False]])
    )
    near(scores.advantage[0], [-0.5, 0.5, 0, 0])


def test_one_spine_has_no_between_term_whatever_its_weight() -> None:
    serial = batch([[W, R, W, R], [R, R, R, R]])
    weak, strong = (get_method("s-grpo", between=between).score(serial) for between in (0.0, 7.0))
    assert torch.equal(weak.advantage, strong.advantage)


def test_s_grpo_takes_a_batch_without_spines_as_one_spine() -> None:
    bare, explicit = (get_method("s-grpo").score(batch([[W, R, W, R]], spines=spines)) for spines in (None, 1))
    assert torch.equal(bare.reward, explicit.reward)
    assert torch.equal(bare.advantage, explicit.advantage)


def test_spines_without_exits_are_grpo_without_the_standard_deviation() -> None:
    scores = get_method("s-grpo", between=1.0).score(batch([[R, W, W, W], [R, R, W, W]], spines=4))
    near(scores.reward, [[1, 0, 0, 0], [1, 1, 0, 0]])
    near(scores.advantage, [[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5]])


# GRPO


def test_grpo_standardises_by_the_population_deviation() -> None:
    scores = get_method("grpo").score(batch([[R, W], [R, W]]))
    near(scores.reward, [[1, 0], [1, 0]])
    near(scores.advantage, [[1, -1], [1, -1]])  # the sample deviation would give ±0.7071


def test_grpo_one_right_of_four() -> None:
    # mean ¼, std √3/4: ¾ ÷ √3/4 = √3 and −¼ ÷ √3/4 = −1/√3
    near(get_method("grpo").score(batch([[R, W, W, W]])).advantage[0], [1.732051, -0.577350, -0.577350, -0.577350])


def test_grpo_without_scaling_is_the_reward_less_its_mean() -> None:
    scores = get_method("grpo", scale_rewards="none").score(
        batch([[R, W, W, W], [R, R, W, R]], valid=[[True] * 4, [True, True, True, False]])
    )
    near(scores.advantage, [[0.75, -0.25, -0.25, -0.25], [1 / 3, 1 / 3, -2 / 3, 0]], atol=1e-6)


def test_grpo_leaves_invalid_members_out_of_mean_and_deviation() -> None:
    scores = get_method("grpo").score(batch([[R, R, W, W]], valid=[[True, False, True, False]]))
    near(scores.reward[0], [1, 0, 0, 0])
    near(scores.advantage[0], [1, 0, -1, 0])


# The length penalty


def test_the_length_penalty_by_hand() -> None:
    # right members 100 and 300: mean 200, std 100, z = ∓1; sigmoid(−1) = 0.268941, sigmoid(1) = 0.731059; the wrong
    # member's 50 tokens count in no mean. Rewards .946212 .853788 0: mean 0.6, std 0.425939
    scores = get_method("length-penalty", alpha=0.2).score(batch([[R, R, W]], [[100, 300, 50]]))
    near(scores.reward[0], [0.946212, 0.853788, 0])
    near(scores.advantage[0], [0.812817, 0.595832, -1.408649])


@pytest.mark.parametrize("name", PENALISED)
def test_without_scaling_by_the_deviation_the_length_penalty_keeps_its_size(name: str) -> None:
    # rewards as above, mean 0.6
    mixed = get_method(name, scale_rewards="none").score(batch([[R, R, W]], [[100, 300, 50]]))
    near(mixed.advantage[0], [0.346212, 0.253788, -0.6])
    # one token apart and all right: ∓1 with std; 0.2·(0.731059 − 0.5) = 0.046212 without
    close = batch([[R, R]], [[100, 101]])
    near(get_method(name).score(close).advantage[0], [1, -1], atol=1e-4)
    near(get_method(name, scale_rewards="none").score(close).advantage[0], [0.046212, -0.046212])


def test_three_right_members_are_spread_by_the_population_deviation() -> None:
    # std of 100 200 300 is 81.6497, z = ∓1.224745, sigmoid(1.224745) = 0.772897
    scores = get_method("length-penalty", alpha=0.2).score(batch([[R, R, R]], [[100, 200, 300]]))
    near(scores.reward[0], [0.954579, 0.9, 0.845421])
    near(scores.advantage[0], [1.224745, 0, -1.224745], atol=1e-4)


def test_a_length_penalty_follows_length_and_not_thought_length() -> None:
    correct, length = torch.tensor([[R, R]]), torch.tensor([[100, 300]])
    scores = get_method("length-penalty").score(
        GroupBatch(correct=correct, length=length, thought_length=torch.tensor([[90, 10]]))
    )
    near(scores.reward[0], [0.946212, 0.853788])


@pytest.mark.parametrize("name", PENALISED)
def test_equal_rewards_earn_exactly_zero_without_scaling_too(name: str) -> None:
    assert get_method(name, scale_rewards="none").score(batch([[R] * 9])).advantage.eq(0).all()


@pytest.mark.parametrize("name", PENALISED)
def test_one_right_member_earns_one_minus_half_of_alpha(name: str) -> None:
    near(get_method(name, alpha=0.2).score(batch([[W, R, W]], [[5, 70, 9]])).reward[0], [0, 0.9, 0], atol=1e-7)
    near(get_method(name, alpha=0.6).score(batch([[W, R, W]], [[5, 70, 9]])).reward[0], [0, 0.7, 0], atol=1e-7)


@pytest.mark.parametrize("name", PENALISED)
def test_equal_lengths_earn_the_same_and_an_advantage_of_exactly_zero(name: str) -> None:
    scores = get_method(name, alpha=0.2).score(batch([[R] * 4], [[512] * 4]))
    near(scores.reward[0], [0.9] * 4, atol=1e-7)
    assert scores.advantage.eq(0).all()


@pytest.mark.parametrize("members", [3, 7, 9, 16, 49])
def test_rewards_of_095_that_do_not_average_to_themselves_still_earn_exactly_zero(members: int) -> None:
    scores = get_method("length-penalty", alpha=0.1).score(batch([[R] * members]))
    assert scores.reward.unique().tolist() == [pytest.approx(0.95)]
    assert scores.advantage.eq(0).all()


def test_alpha_is_invisible_where_every_member_is_right() -> None:
    group = batch([[R, R, R]], [[100, 250, 900]])
    weak, strong = (get_method("length-penalty", alpha=alpha).score(group).advantage for alpha in (0.05, 0.6))
    assert_close(weak, strong, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", PENALISED)
def test_alpha_zero_is_grpo(name: str) -> None:
    group = batch([[R, W, R], [R, R, R]], [[1, 2, 3], [4, 5, 6]])
    penalised, plain = get_method(name, alpha=0.0).score(group), get_method("grpo").score(group)
    assert torch.equal(penalised.reward, plain.reward)
    assert torch.equal(penalised.advantage, plain.advantage)


def test_an_invalid_right_member_has_no_say_in_the_mean_length() -> None:
    scores = get_method("length-penalty").score(batch([[R, R, R]], [[100, 300, 10**9]], valid=[[True, True, False]]))
    near(scores.reward[0], [0.946212, 0.853788, 0])
    near(scores.advantage[0], [1, -1, 0], atol=1e-4)


def test_short_integers_do_not_overflow_in_the_mean_length() -> None:
    length = torch.tensor([[2_000_000_000, 2_000_000_100]], dtype=torch.int32)
    scores = get_method("length-penalty").score(GroupBatch(correct=torch.tensor([[R, R]]), length=length))
    near(scores.reward[0], [0.946212, 0.853788])


# GRPO-λ: which groups are asked to be shorter


def test_only_the_most_accurate_group_is_asked_to_be_shorter() -> None:
    correct = [[R, W, W], [R, R, W], [W, W, W], [R, R, R], [W, R, R]]
    length = [[100, 300, 50], [100, 300, 50], [1, 2, 3], [100, 200, 300], [50, 100, 300]]
    scores = get_method("grpo-lambda", lam=0.2, alpha=0.2).score(batch(correct, length))
    near(scores.reward, [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0.954579, 0.9, 0.845421], [0, 1, 1]])
    # 1 of 3 right: √2 and −1/√2; 2 of 3: 1/√2 and −√2
    a, b = 0.707107, 1.414214
    near(
        scores.advantage,
        [[b, -a, -a], [a, a, -b], [0, 0, 0], [1.224745, 0, -1.224745], [-b, a, a]],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("problems", "lam", "selected"),
    [
        (128, 0.2, 26),  # 25.6
        (5, 0.2, 1),
        (6, 0.2, 2),  # 1.2
        (1, 0.01, 1),
        (30, 0.1, 3),
        (100, 0.07, 7),  # 7.000000000000001 in floats
        (50, 0.14, 7),  # 7.000000000000001 in floats
        (25, 0.28, 7),  # 7.000000000000001 in floats
        (4, 0.0, 0),
        (4, 1.0, 4),
    ],
)
def test_lambda_rounds_the_number_of_groups_up_but_not_a_float_error(problems: int, lam: float, selected: int) -> None:
    correct = [[R, R]] * problems
    length = [[10 + 7 * p, 20 + 7 * p] for p in range(problems)]
    scores = get_method("grpo-lambda", lam=lam).score(batch(correct, length))
    assert penalised_groups(scores, correct) == list(range(problems - selected, problems))  # the longest ones


def test_equally_accurate_groups_are_ranked_by_the_mean_length_of_their_right_members() -> None:
    correct = [[R, W], [R, W], [R, W], [R, W]]
    length = [[100, 900], [200, 10], [150, 99_999], [199, 1]]  # wrong members would rank 2, 0, 1, 3
    scores = get_method("grpo-lambda", lam=0.5).score(batch(correct, length))
    assert penalised_groups(scores, correct) == [1, 3]


def test_accuracy_comes_before_length() -> None:
    correct = [[R, R, W], [R, R, R]]
    scores = get_method("grpo-lambda", lam=0.5).score(batch(correct, [[9000, 9000, 9000], [1, 2, 3]]))
    assert penalised_groups(scores, correct) == [1]


def test_groups_that_tie_in_accuracy_and_length_are_taken_in_the_order_of_the_problems() -> None:
    correct = [[R, W], [W, R], [R, W], [R, W], [W, R]]
    length = [[40, 1], [1, 40], [40, 2], [40, 3], [9, 40]]
    scores = get_method("grpo-lambda", lam=0.4).score(batch(correct, length))
    assert penalised_groups(scores, correct) == [0, 1]


def test_accuracy_is_a_ratio_of_valid_members() -> None:
    correct = [[R, R, R, W], [R, R, W, W]]  # 3 of 4 against 2 of 2
    valid = [[True] * 4, [True, True, False, False]]
    scores = get_method("grpo-lambda", lam=0.5).score(batch(correct, [[500] * 4, [1] * 4], valid=valid))
    assert penalised_groups(scores, correct) == [1]


def test_a_group_without_a_right_member_is_never_selected_even_if_too_few_remain() -> None:
    groups = batch([[W, W], [R, W], [W, W], [W, W]], [[999, 999], [1, 1], [999, 999], [999, 999]])
    method: Any = get_method("grpo-lambda", lam=0.75)
    assert method.selected(groups).tolist() == [False, True, False, False]
    near(method.score(groups).reward, [[0, 0], [0.9, 0], [0, 0], [0, 0]])
    assert not method.selected(batch([[W, W], [W, W]])).any()


def test_an_invalid_right_member_does_not_get_its_group_selected() -> None:
    groups = batch([[R, W], [R, W]], [[900, 900], [1, 1]], valid=[[False, True], [True, True]])
    method: Any = get_method("grpo-lambda", lam=0.5)
    assert method.selected(groups).tolist() == [False, True]


def test_an_adaptive_lambda_starts_at_the_papers_and_waits_until_it_knows_where_accuracy_began() -> None:
    method: Any = get_method("grpo-lambda", lam="adaptive")
    assert [method.observe(0.8, 60)["lam"] for _ in range(8)] == [0.2] * 8
    groups = batch([[R, R]] * 10, [[1, 2]] * 10)
    assert int(method.selected(groups).sum()) == 2


def test_an_adaptive_lambda_is_ten_times_what_accuracy_has_gained() -> None:
    method: Any = get_method("grpo-lambda", lam="adaptive")
    for _ in range(8):
        method.observe(0.8, 60)
    # the mean of nine is 0.8 + 0.1/9, of ten 0.82; from then on the newest counts a tenth: 0.9·0.82 + 0.1·0.8 = 0.818
    assert method.observe(0.9, 60)["lam"] == pytest.approx(1 / 9)
    assert method.observe(0.9, 60)["lam"] == pytest.approx(0.2)
    assert method.observe(0.8, 60)["lam"] == pytest.approx(0.18)
    assert int(method.selected(batch([[R, R]] * 10, [[1, 2]] * 10)).sum()) == 2  # ⌈1.8⌉
    assert method.observe(0.5, 60)["lam"] == 0.0  # 0.9·0.818 + 0.1·0.5 = 0.7862
    assert not method.selected(batch([[R, R]] * 10, [[1, 2]] * 10)).any()
    for _ in range(60):
        last = method.observe(1.0, 60)["lam"]
    assert last == 1.0


def test_an_adaptive_lambda_goes_on_from_its_state() -> None:
    first, second = (get_method("grpo-lambda", lam="adaptive") for _ in range(2))
    for accuracy in (0.5, 0.6, 0.7, 0.8) * 4:
        first.observe(accuracy, 60)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [first.observe(a, 60) for a in (0.1, 0.9)] == [second.observe(a, 60) for a in (0.1, 0.9)]
    assert get_method("grpo-lambda").observe(0.5, 60) == get_method("grpo-lambda").state_dict() == {}


# Exits as baselines


def test_each_exit_is_compared_with_the_one_before_it() -> None:
    # the base thinks 10 tokens, so 10 tokens cost 0.1: rewards -0.02, 0.94, 0.9, their mean 0.606667
    groups = batch([[W, R, R]], [[4, 8, 12]], spines=1, thought_length=[[2, 6, 10]])
    scores = get_method("exit-baseline", price=0.1).score(groups)
    near(scores.reward, [[-0.02, 0.94, 0.9]])
    near(scores.advantage, [[-0.626667, 0.96, -0.04]])


def test_a_kept_token_is_trained_by_what_thinking_on_from_the_last_exit_earned() -> None:
    method = get_method("exit-baseline", price=0.3)
    groups = batch([[R, W, W, R], [W, R, R, W]], [[1, 5, 9, 14], [2, 3, 4, 6]], spines=1)
    scores = method.score(groups)
    kept_P_M = scores.advantage.flip(-1).cumsum(-1).flip(-1)  # a token after exit i belongs to members i + 1, …, whole
    for m in range(1, 4):
        assert kept_P_M[:, m].tolist() == pytest.approx(
            (scores.reward[:, 3] - scores.reward[:, m - 1]).tolist(), abs=1e-6
        )


def test_an_exit_that_does_not_exist_is_no_baseline_and_spines_do_not_mix() -> None:
    valid = [[True, False, True, True, True, True]]
    groups = batch([[R, W, R, W, W, R]], [[1, 0, 2, 1, 2, 3]], valid=valid, spines=2)
    scores = get_method("exit-baseline", price=0).score(groups)
    near(scores.advantage, [[0.4, 0, 0, -0.6, 0, 1]])  # three right of five


def test_the_price_is_of_a_thought_as_long_as_the_first_steps() -> None:
    method = get_method("exit-baseline", price=0.2)
    groups = batch([[R, R]], [[25, 50]], spines=1)
    near(method.score(groups).reward, [[0.9, 0.8]])  # nothing seen yet: the batch's own mean, 50
    for length in (90, 110) * 4:
        method.observe(0.5, length)
    near(method.score(groups).reward, [[0.95, 0.9]])
    method.observe(0.5, 1)
    near(method.score(groups).reward, [[0.95, 0.9]])


def test_an_adaptive_price_follows_accuracy_between_nothing_and_three_tenths() -> None:
    method = get_method("exit-baseline", price="adaptive")
    assert [method.observe(0.8, 60)["price"] for _ in range(8)] == pytest.approx([0.2] * 8)
    # from then on the newest counts a fifth: 0.8 − 0.2·0.05 = 0.79, a point below the start
    assert method.observe(0.75, 60)["price"] == pytest.approx(0.1)
    assert method.observe(0.5, 60)["price"] == 0
    assert [method.observe(1, 60)["price"] for _ in range(9)][-1] == pytest.approx(0.3)


def test_an_adaptive_price_asks_for_no_less_than_its_target_and_pays_below_it() -> None:
    method = get_method("exit-baseline", price="adaptive", target=0.5)
    for _ in range(8):
        method.observe(0.8, 100)
    # the mean length moves by a fifth of the way: 0.8·100 + 0.2·25 = 85, 70 % above the target of 50
    assert method.observe(0.8, 25)["price"] == pytest.approx(0.2)
    lengths = [85.0]
    while len(lengths) < 9:
        lengths.append(0.8 * lengths[-1] + 0.2 * 25)
        wanted = lengths[-1] / 50 - 1
        assert method.observe(0.8, 25)["price"] == pytest.approx(min(0.2, wanted), abs=1e-6)
    assert wanted < -0.2  # it has been below its target for some steps
    for _ in range(40):
        last = method.observe(0.8, 1)["price"]
    assert last == -0.3


def test_an_adaptive_price_goes_on_from_its_state_and_eases() -> None:
    first, second = (get_method("exit-baseline", price="adaptive") for _ in range(2))
    for accuracy in (0.5, 0.6, 0.7, 0.8) * 4:
        first.observe(accuracy, 40)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert first.observe(0.6, 40) == second.observe(0.6, 40)
    eased = first.eased(0.5)
    assert 0 < eased.observe(0.6, 40)["price"] == pytest.approx(second.observe(0.6, 40)["price"] / 2)
    assert first.state_dict()["seen"] == 17  # the copy has a memory of its own


# All methods: degenerate and hostile batches


def test_the_four_methods_are_listed_and_every_listed_one_scores_a_plain_batch_by_default() -> None:
    assert set(ALL) <= set(list_methods())
    for name in list_methods():
        scores = get_method(name).score(GroupBatch(torch.tensor([[R, W, R]]), torch.tensor([[3, 1, 2]])))
        assert scores.reward.shape == scores.advantage.shape == (1, 3)
        assert scores.reward.dtype == scores.advantage.dtype == torch.float32


def test_defaults_are_the_papers() -> None:
    groups = batch([[W, R, R, R], [R, R, R, R]], [[4, 3, 2, 1], [10, 20, 30, 99]])
    for name, parameters in [
        ("length-penalty", {"alpha": 0.2}),
        ("grpo-lambda", {"alpha": 0.2, "lam": 0.2}),
        ("s-grpo", {"decay": 0.5, "between": 0.5}),
    ]:
        bare, explicit = get_method(name).score(groups), get_method(name, **parameters).score(groups)
        assert torch.equal(bare.reward, explicit.reward)
        assert torch.equal(bare.advantage, explicit.advantage)


@pytest.mark.parametrize("name", ALL)
def test_an_all_wrong_group_earns_nothing_and_pushes_nothing(name: str) -> None:
    scores = get_method(name).score(batch([[W, W, W, W]], [[1, 20, 300, 4000]]))
    assert scores.reward.eq(0).all()
    assert scores.advantage.eq(0).all()


def test_an_all_right_group_moves_only_the_methods_that_look_beyond_correctness() -> None:
    group = batch([[R, R]], [[100, 300]])
    near(get_method("grpo").score(group).advantage[0], [0, 0], atol=0)
    near(get_method("length-penalty").score(group).advantage[0], [1, -1], atol=1e-4)
    near(get_method("grpo-lambda").score(group).advantage[0], [1, -1], atol=1e-4)
    near(get_method("s-grpo").score(group).advantage[0], [0.25, -0.25], atol=0)


@pytest.mark.parametrize(
    ("name", "reward"), [("grpo", 1), ("length-penalty", 0.9), ("grpo-lambda", 0.9), ("s-grpo", 1)]
)
def test_a_group_of_one_earns_its_reward_and_no_advantage(name: str, reward: float) -> None:
    scores = get_method(name).score(batch([[R]], [[10**9]]))
    near(scores.reward, [[reward]], atol=1e-7)
    assert scores.advantage.eq(0).all()


@pytest.mark.parametrize("name", ALL)
def test_a_wholly_invalid_group_scores_zero(name: str) -> None:
    scores = get_method(name).score(batch([[R, R], [R, W]], valid=[[False, False], [True, True]]))
    assert scores.reward[0].eq(0).all()
    assert scores.advantage[0].eq(0).all()
    assert scores.advantage[1].ne(0).all()


@pytest.mark.parametrize("name", ALL)
def test_lengths_of_a_billion_tokens_stay_finite(name: str) -> None:
    lengths = [[10**9, 10**9 + 1, 1, 10**9], [10**9] * 4, [0, 0, 0, 10**9]]
    scores = get_method(name).score(batch([[R, R, R, W], [R] * 4, [R, W, W, R]], lengths))
    assert scores.reward.isfinite().all()
    assert scores.advantage.isfinite().all()


# What refill keeps


def signal(name: str, groups: GroupBatch, **parameters: Any) -> list[bool]:
    return get_method(name, **parameters).has_signal(groups).tolist()


def test_refill_keeps_what_each_method_can_learn_from() -> None:
    groups = batch([[R, R, R], [R, W, R], [W, W, W]])
    assert signal("grpo", groups) == [False, True, False]
    assert signal("s-grpo", groups) == [True, True, False]
    assert signal("length-penalty", groups) == [True, True, True]
    assert signal("grpo-lambda", groups) == [True, True, True]


@pytest.mark.parametrize("name", PENALISED)
def test_length_methods_drop_all_wrong_groups_only_when_asked(name: str) -> None:
    assert signal(name, batch([[R, R], [R, W], [W, W]]), drop="all-wrong") == [True, True, False]


def test_refill_looks_at_valid_members_only() -> None:
    # valid members: all right, all wrong, mixed
    groups = batch([[R, R, W], [W, W, R], [R, W, R]], valid=[[True, True, False]] * 3)
    assert signal("grpo", groups) == [False, False, True]
    assert signal("s-grpo", groups) == [True, False, True]
    assert signal("length-penalty", groups, drop="all-wrong") == [True, False, True]


@pytest.mark.parametrize("name", ALL)
def test_refill_decides_without_looking_at_lengths(name: str) -> None:
    correct = [[R, R], [R, W], [W, W]]
    assert signal(name, batch(correct, [[5, 5]] * 3)) == signal(name, batch(correct, [[1, 10**9]] * 3))


# Mistakes are refused


@pytest.mark.parametrize("spines", [0, -1, 2, 4, 6])
def test_members_that_do_not_divide_into_spines_are_refused(spines: int) -> None:
    with pytest.raises(ValueError, match="spines"):
        get_method("s-grpo").score(batch([[R, W, R]], spines=spines))


@pytest.mark.parametrize("name", PARALLEL)
@pytest.mark.parametrize("spines", [1, 2])
def test_a_parallel_method_refuses_spines_with_exits(name: str, spines: int) -> None:
    groups = batch([[R, W, R, W]], spines=spines)
    with pytest.raises(ValueError, match=name):
        get_method(name).score(groups)


@pytest.mark.parametrize("name", PARALLEL)
def test_a_parallel_method_takes_as_many_spines_as_members(name: str) -> None:
    bare, explicit = (get_method(name).score(batch([[R, W, R, W]], spines=spines)) for spines in (None, 4))
    assert torch.equal(bare.advantage, explicit.advantage)


@pytest.mark.parametrize(
    ("correct", "fields"),
    [
        ((2, 3), {"length": (3, 2)}),
        ((2, 3), {"length": (2, 3), "valid": (2, 1)}),
        ((2, 3), {"length": (2, 3), "thought_length": (2,)}),
        ((2, 3), {"length": (2, 3), "truncated": (1, 3)}),
        ((2, 3), {"length": (2, 3), "target": (3,)}),
        ((3,), {"length": (3,)}),
        ((1, 2, 3), {"length": (1, 2, 3)}),
        ((0, 3), {"length": (0, 3)}),
        ((2, 0), {"length": (2, 0)}),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(correct: tuple[int, ...], fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        GroupBatch(correct=torch.ones(correct).bool(), **{name: torch.ones(shape) for name, shape in fields.items()})


@pytest.mark.parametrize(
    ("typo", "meant"), [("sgrpo", "s-grpo"), ("grpo-lamda", "grpo-lambda"), ("length_penalty", "length-penalty")]
)
def test_an_unknown_method_names_the_nearest_one(typo: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"{typo}.*'{meant}'"):
        get_method(typo)


def test_an_unknown_method_near_to_none_names_them_all() -> None:
    with pytest.raises(ValueError, match="zzz") as refused:
        get_method("zzz")
    assert all(name in str(refused.value) for name in list_methods())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("grpo", {"alpha": 0.2}),
        ("s-grpo", {"lam": 0.2}),
        ("grpo-lambda", {"lamda": 0.2}),
        ("grpo-lambda", {"lam": -0.01}),
        ("grpo-lambda", {"lam": 1.01}),
        ("grpo-lambda", {"lam": math.nan}),
        ("grpo-lambda", {"lam": "a fifth"}),
        ("length-penalty", {"alpha": -0.1}),
        ("length-penalty", {"alpha": 1.1}),
        ("length-penalty", {"alpha": math.inf}),
        ("length-penalty", {"drop": "all-right"}),
        ("grpo", {"scale_rewards": "group"}),
        ("s-grpo", {"scale_rewards": "std"}),
        ("s-grpo", {"decay": 0.0}),
        ("s-grpo", {"decay": 1.5}),
        ("s-grpo", {"decay": None}),
        ("s-grpo", {"between": -0.5}),
        ("s-grpo", {"between": math.inf}),
    ],
)
def test_an_unknown_parameter_or_one_out_of_range_is_refused_by_name(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        get_method(name, **parameters)


# Properties


@st.composite
def scorings(draw: st.DrawFn) -> tuple[str, dict[str, Any], GroupBatch]:
    """A method, its parameters anywhere in their ranges, and a batch it can score."""
    name = draw(st.sampled_from(ALL))
    fractions, scale = st.floats(0, 1), {"scale_rewards": st.sampled_from(["std", "batch", "none"])}
    parameters: Any = {
        "grpo": scale,
        "length-penalty": {"alpha": fractions} | scale,
        "grpo-lambda": {"lam": fractions, "alpha": fractions} | scale,
        "s-grpo": {"decay": st.floats(0, 1, exclude_min=True), "between": st.floats(0, 100)},
    }[name]
    return name, draw(st.fixed_dictionaries(parameters)), draw(group_batches(spines=name == "s-grpo"))


def serial_by_loops(
    correct: list[bool], valid: list[bool], spines: int, decay: float, between: float
) -> tuple[list[float], list[float]]:
    """Rewards and advantages of one group, by the paper's Algorithm 1 and the two-level formula, in loops."""
    members = len(correct) // spines
    rewards, advantages = [], []
    ends = [k * members + members - 1 for k in range(spines)]
    full = [float(correct[end]) for end in ends if valid[end]]
    for end in ends:
        block = range(end - members + 1, end + 1)
        n_right, spine = 0, {}
        for i in block:
            if valid[i]:
                n_right += correct[i]
                spine[i] = decay ** (n_right - 1) if correct[i] else 0.0
        for i in block:
            rewards.append(spine.get(i, 0.0))
            advantages.append(spine[i] - fmean(spine.values()) if i in spine else 0.0)
        if valid[end]:
            advantages[end] += between * (correct[end] - fmean(full))
    return rewards, advantages


@claim
@given(group_batches(spines=True), st.sampled_from([0.25, 0.5, 0.9]), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_s_grpo_is_algorithm_1_and_the_two_level_formula(groups: GroupBatch, decay: float, between: float) -> None:
    scores = get_method("s-grpo", decay=decay, between=between).score(groups)
    rows = zip(groups.correct.tolist(), groups.valid.tolist(), strict=True)
    expected = [serial_by_loops(*row, groups.spines or 1, decay, between) for row in rows]
    near(scores.reward, [reward for reward, _ in expected], atol=1e-6)
    near(scores.advantage, [advantage for _, advantage in expected], atol=1e-6)


def lambda_by_loops(groups: GroupBatch, percent: int, alpha: float) -> tuple[list[list[float]], list[list[float]]]:
    """GRPO-λ with exact fractions for the selection and the standard library's statistics for the rest."""
    correct, length, valid = groups.correct.tolist(), groups.length.tolist(), groups.valid.tolist()
    problems, members = range(len(correct)), range(len(correct[0]))
    right = [[i for i in members if correct[p][i] and valid[p][i]] for p in problems]
    accuracy = [Fraction(len(right[p]), max(sum(valid[p]), 1)) for p in problems]
    mean = [Fraction(sum(length[p][i] for i in right[p]), max(len(right[p]), 1)) for p in problems]
    ranked = sorted((p for p in problems if right[p]), key=lambda p: (-accuracy[p], -mean[p], p))
    chosen = ranked[: math.ceil(Fraction(percent, 100) * len(problems))]
    rewards, advantages = [], []
    for p in problems:
        reward = [0.0 for _ in members]
        for i in right[p]:
            deviation = pstdev([length[p][j] for j in right[p]]) + 1e-6
            z = float(length[p][i] - mean[p]) / deviation
            reward[i] = 1 - alpha / (1 + math.exp(-z)) if p in chosen else 1.0
        existing = [reward[i] for i in members if valid[p][i]]
        spread = max(existing, default=0.0) - min(existing, default=0.0)
        rewards.append(reward)
        advantages.append(
            [
                (reward[i] - fmean(existing)) / (pstdev(existing) + 1e-6) if valid[p][i] and spread > 1e-9 else 0.0
                for i in members
            ]
        )
    return rewards, advantages


@claim
@given(group_batches(), st.integers(0, 100), st.sampled_from([0.05, 0.2, 1.0]))
def test_grpo_lambda_is_its_formula_in_exact_fractions(groups: GroupBatch, percent: int, alpha: float) -> None:
    scores = get_method("grpo-lambda", lam=percent / 100, alpha=alpha).score(groups)
    rewards, advantages = lambda_by_loops(groups, percent, alpha)
    near(scores.reward, rewards, atol=1e-5)
    near(scores.advantage, advantages, atol=1e-4)


@claim
@given(group_batches())
def test_lambda_zero_is_grpo_and_lambda_one_is_the_length_penalty(groups: GroupBatch) -> None:
    for lam, twin in [(0.0, "grpo"), (1.0, "length-penalty")]:
        scores, same = get_method("grpo-lambda", lam=lam).score(groups), get_method(twin).score(groups)
        assert torch.equal(scores.reward, same.reward)
        assert torch.equal(scores.advantage, same.advantage)


@claim
@given(group_batches())
def test_spines_without_exits_and_full_between_weight_are_reward_minus_mean(groups: GroupBatch) -> None:
    spines = GroupBatch(groups.correct, groups.length, groups.valid, spines=groups.correct.shape[1])
    scores, plain = get_method("s-grpo", between=1.0).score(spines), get_method("grpo").score(groups)
    assert torch.equal(scores.reward, plain.reward)
    accuracy_P_1 = plain.reward.sum(-1, keepdim=True) / groups.valid.sum(-1, keepdim=True).clamp(min=1)
    deviation_P_1 = (accuracy_P_1 * (1 - accuracy_P_1)).sqrt()  # of zeros and ones
    assert_close(scores.advantage, plain.advantage * deviation_P_1, atol=1e-5, rtol=0)


@claim
@given(scorings())
def test_scores_are_finite_float32_zero_for_invalid_members_and_rewards_lie_in_0_to_1(
    scoring: tuple[str, dict[str, Any], GroupBatch],
) -> None:
    name, parameters, groups = scoring
    scores = get_method(name, **parameters).score(groups)
    for tensor in (scores.reward, scores.advantage):
        assert tensor.dtype == torch.float32
        assert tensor.shape == groups.correct.shape
        assert tensor.isfinite().all()
        assert tensor[~groups.valid].eq(0).all()
    assert scores.reward.ge(0).all()
    assert scores.reward.le(1).all()


@claim
@given(scorings())
def test_a_wrong_member_never_earns_more_than_a_right_one(scoring: tuple[str, dict[str, Any], GroupBatch]) -> None:
    name, parameters, groups = scoring
    reward_P_G = get_method(name, **parameters).score(groups).reward
    assert reward_P_G[~groups.correct].eq(0).all()
    assert name == "s-grpo" or reward_P_G[groups.correct].gt(0).all()  # s-grpo's late rewards may underflow to 0


@claim
@given(scorings())
def test_scoring_is_pure(scoring: tuple[str, dict[str, Any], GroupBatch]) -> None:
    name, parameters, groups = scoring
    before = [tensor.clone() for tensor in (groups.correct, groups.length, groups.valid)]
    method = get_method(name, **parameters)
    first, second = method.score(groups), method.score(groups)
    assert torch.equal(first.reward, second.reward)
    assert torch.equal(first.advantage, second.advantage)
    assert all(map(torch.equal, before, (groups.correct, groups.length, groups.valid)))


@claim
@given(scorings())
def test_nothing_written_in_an_invalid_member_changes_a_score(
    scoring: tuple[str, dict[str, Any], GroupBatch],
) -> None:
    name, parameters, groups = scoring
    blank = GroupBatch(groups.correct, groups.length.masked_fill(~groups.valid, 0), groups.valid, groups.spines)
    garbage = GroupBatch(
        groups.correct | ~groups.valid, groups.length.masked_fill(~groups.valid, 2**62), groups.valid, groups.spines
    )
    one, other = (get_method(name, **parameters).score(each) for each in (blank, garbage))
    assert torch.equal(one.reward, other.reward)
    assert torch.equal(one.advantage, other.advantage)


@pytest.mark.parametrize("name", ALL)
@claim
@given(data=st.data(), groups=group_batches(ragged=False))
def test_an_added_invalid_member_changes_nobody_elses_score(name: str, data: st.DataObject, groups: GroupBatch) -> None:
    members = groups.correct.shape[1]
    at = data.draw(st.integers(0, members - 1))  # before the full member, which stays last
    others = [*range(at), *range(at + 1, members + 1)]
    wider = pick(groups, slice(None), torch.tensor([*range(at), at, *range(at, members)]))
    wider.valid[:, at] = False
    wider = GroupBatch(wider.correct, wider.length, wider.valid)
    narrow, wide = get_method(name).score(groups), get_method(name).score(wider)
    assert_close(wide.reward[:, others], narrow.reward, atol=1e-6, rtol=0)
    assert_close(wide.advantage[:, others], narrow.advantage, atol=1e-5, rtol=0)
    assert wide.advantage[:, at].eq(0).all()


def has_ties(groups: GroupBatch) -> bool:
    """Whether two groups with a right member agree in accuracy and mean right length."""
    keys = []
    for correct, length, valid in zip(
        groups.correct.tolist(), groups.length.tolist(), groups.valid.tolist(), strict=True
    ):
        right = [n for n, c in zip(length, correct, strict=True) if c]
        if right:
            keys.append((Fraction(len(right), sum(valid)), Fraction(sum(right), len(right))))
    return len(set(keys)) < len(keys)


@pytest.mark.parametrize("name", ALL)
@claim
@given(data=st.data())
def test_permuting_groups_permutes_their_scores(name: str, data: st.DataObject) -> None:
    groups = data.draw(group_batches(spines=name == "s-grpo"))
    assume(name != "grpo-lambda" or not has_ties(groups))
    order = torch.tensor(data.draw(st.permutations(range(groups.correct.shape[0]))))
    scores, permuted = get_method(name).score(groups), get_method(name).score(pick(groups, order))
    assert_close(permuted.reward, scores.reward[order], atol=1e-6, rtol=0)
    assert_close(permuted.advantage, scores.advantage[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PARALLEL)
@claim
@given(data=st.data(), groups=group_batches())
def test_permuting_the_members_of_parallel_groups_permutes_their_scores(
    name: str, data: st.DataObject, groups: GroupBatch
) -> None:
    order = torch.tensor(data.draw(st.permutations(range(groups.correct.shape[1]))))
    scores, permuted = get_method(name).score(groups), get_method(name).score(pick(groups, slice(None), order))
    assert_close(permuted.reward, scores.reward[:, order], atol=1e-6, rtol=0)
    assert_close(permuted.advantage, scores.advantage[:, order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PARALLEL)
@claim
@given(groups=group_batches())
def test_advantages_of_a_parallel_group_sum_to_zero(name: str, groups: GroupBatch) -> None:
    near(get_method(name).score(groups).advantage.sum(-1), [0.0] * groups.correct.shape[0])


@claim
@given(group_batches(spines=True))
def test_advantages_of_a_spine_sum_to_zero_without_the_between_term(groups: GroupBatch) -> None:
    advantage_P_G = get_method("s-grpo", between=0.0).score(groups).advantage
    per_spine = advantage_P_G.unflatten(1, (groups.spines or 1, -1)).sum(-1)
    assert_close(per_spine, torch.zeros_like(per_spine), atol=1e-6, rtol=0)


@claim
@given(group_batches(spines=True))
def test_the_between_term_sums_to_zero_over_the_spines(groups: GroupBatch) -> None:
    advantage_P_G = get_method("s-grpo", between=2.0).score(groups).advantage
    near(advantage_P_G.sum(-1), [0.0] * groups.correct.shape[0])


@claim
@given(group_batches(), st.floats(0, 1))
def test_a_longer_right_member_never_earns_more_and_rewards_stay_above_one_minus_alpha(
    groups: GroupBatch, alpha: float
) -> None:
    rewards = get_method("length-penalty", alpha=alpha).score(groups).reward
    for reward, length, correct in zip(rewards, groups.length, groups.correct, strict=True):
        by_length = reward[correct][length[correct].argsort()]
        assert (by_length.diff() <= 1e-6).all()
        assert (by_length >= 1 - alpha - 1e-6).all()


@claim
@given(group_batches(spines=True))
def test_a_later_right_exit_always_earns_half_of_the_one_before(groups: GroupBatch) -> None:
    reward_P_K_M = get_method("s-grpo").score(groups).reward.unflatten(1, (groups.spines or 1, -1))
    for spine in reward_P_K_M.flatten(0, 1):
        earned = spine[spine > 0].tolist()
        assert earned == [2.0**-n for n in range(len(earned))]
