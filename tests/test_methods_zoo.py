"""The other papers' methods against numbers worked out by hand, and what all methods have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from scoring import R, W, batch, claim, group_batches, lists, near, pick
from suffice import GroupBatch, get_method, list_methods
from suffice.config import load_recipe
from suffice.engines.local.build import build_engine
from suffice.grading import Grader
from suffice.methods import OURS, Method, registry
from suffice.methods.base import EQUAL

PARALLEL = [name for name in list_methods() if not registry()[name].serial]
PAY_FOR_WRONG = {
    "dapo",
    "kimi-length",
    "shorter-better",
    "grpo-lead",
    "alp",
    "alp-relative",
    "l1-exact",
    "exit-baseline",
    "decide",
}
COUPLED = {
    "grpo-lambda",
    "dler",
    "exit-baseline",
    "decide",
}  # what a group earns hangs on the other groups of the batch
CAPPED = {"think-prune", "dler"}


# Dr. GRPO


def test_dr_grpo_centres_rewards_and_does_not_scale_them() -> None:
    scores = get_method("dr-grpo").score(batch([[R, W, W, W]]))
    near(scores.reward[0], [1, 0, 0, 0])
    near(scores.advantage[0], [0.75, -0.25, -0.25, -0.25])


def test_dr_grpo_weighs_every_token_alike() -> None:
    assert get_method("dr-grpo").aggregate == "constant"


def test_dr_grpo_with_a_standard_deviation_would_be_grpo_and_is_refused() -> None:
    with pytest.raises(ValueError, match="scale_rewards"):
        get_method("dr-grpo", scale_rewards="std")


# The whole batch's deviation


def test_one_deviation_for_the_batch_lets_sure_groups_dilute_the_others() -> None:
    # r − mean: ±½ and 0, 0; mean square over 4 members 1/8, root 0.353553
    scores = get_method("grpo", scale_rewards="batch").score(batch([[R, W], [R, R]]))
    near(scores.advantage, [[1.414214, -1.414214], [0, 0]])


def test_the_batchs_deviation_counts_valid_members_only() -> None:
    groups = batch([[R, W], [R, R]], valid=[[True, True], [False, False]])
    near(get_method("grpo", scale_rewards="batch").score(groups).advantage, [[1, -1], [0, 0]])


# DAPO


def test_dapos_punishment_grows_over_the_buffer() -> None:
    # punished by 0, ½, 1 and, beyond the limit, no more than 1; mean −0.625, std √1.921875 = 1.386317
    scores = get_method("dapo", limit=1000, buffer=200).score(batch([[R, R, W, W]], [[800, 900, 1000, 9000]]))
    near(scores.reward[0], [1, 0.5, -2, -2])
    near(scores.advantage[0], [1.172170, 0.811502, -0.991836, -0.991836])


def test_dapo_punishes_what_was_cut_whole_however_short() -> None:
    near(get_method("dapo").score(batch([[R, W]], [[50, 50]], truncated=[[True, True]])).reward[0], [0, -2])


def test_dapo_samples_again_where_members_agree() -> None:
    groups = batch([[R, R], [R, W], [W, W]], [[1, 90_000]] * 3)
    assert get_method("dapo").has_signal(groups).tolist() == [False, True, False]


def test_dapo_takes_its_papers_loss() -> None:
    method = get_method("dapo")
    assert (method.aggregate, method.clip_low, method.clip_high) == ("token", 0.2, 0.28)


# S-GRPO's ablations


def test_shortest_one_pays_the_earliest_right_exit_only() -> None:
    scores = get_method("shortest-one").score(batch([[W, R, R], [W, W, R], [W, W, W]]))
    near(scores.reward, [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    near(scores.advantage, [[-1 / 3, 2 / 3, -1 / 3], [-1 / 3, -1 / 3, 2 / 3], [0, 0, 0]])


def test_all_one_pays_every_right_exit_alike() -> None:
    scores = get_method("all-one").score(batch([[W, R, R], [R, R, R]]))
    near(scores.reward, [[0, 1, 1], [1, 1, 1]])
    near(scores.advantage, [[-2 / 3, 1 / 3, 1 / 3], [0, 0, 0]])


@claim
@given(group_batches(spines=True))
def test_the_ablations_are_s_grpo_with_no_decay_and_with_all_of_it(groups: GroupBatch) -> None:
    for name, decay in (("all-one", 1.0), ("shortest-one", 5e-324)):
        ablation, twin = get_method(name).score(groups), get_method("s-grpo", decay=decay).score(groups)
        assert torch.equal(ablation.reward, twin.reward)
        assert torch.equal(ablation.advantage, twin.advantage)


# Kimi k1.5


def test_kimis_wrong_members_are_punished_for_length_and_never_rewarded_for_its_lack() -> None:
    # λ = ½, 0, ½, −½ over all members; mean reward ½
    scores = get_method("kimi-length", weight=0.4).score(batch([[R, R, W, W]], [[100, 300, 100, 500]]))
    near(scores.reward[0], [1.2, 1, 0, -0.2])
    near(scores.advantage[0], [0.7, 0.5, -0.5, -0.7])


def test_kimis_equal_lengths_are_neither_short_nor_long() -> None:
    scores = get_method("kimi-length").score(batch([[R, W, R], [R, R, R]], [[7] * 3, [7] * 3]))
    near(scores.reward, [[1, 0, 1], [1, 1, 1]])


def test_an_invalid_member_is_neither_kimis_shortest_nor_its_longest() -> None:
    groups = batch([[R, R, W, R]], [[100, 300, 10**9, 1]], valid=[[True, True, False, False]])
    near(get_method("kimi-length", weight=0.4).score(groups).reward[0], [1.2, 0.8, 0, 0])


# ShorterBetter


def test_shorter_better_draws_to_the_shortest_right_member_from_both_sides() -> None:
    # L* = 1000; mean reward ½, std √(3.5/3) = 1.080123
    scores = get_method("shorter-better").score(batch([[R, R, W]], [[1000, 3000, 500]]))
    near(scores.reward[0], [2, 0, -0.5])
    near(scores.advantage[0], [1.388730, -0.462910, -0.925820])


def test_shorter_better_draws_to_the_mean_where_all_are_wrong() -> None:
    # L* = 300: rewards −0.2 −0.1 −0.3, std 0.081650
    scores = get_method("shorter-better").score(batch([[W, W, W]], [[100, 200, 600]]))
    near(scores.reward[0], [-0.2, -0.1, -0.3])
    near(scores.advantage[0], [0, 1.224745, -1.224745])


def test_a_short_wrong_member_is_not_shorter_betters_target() -> None:
    near(get_method("shorter-better").score(batch([[W, R]], [[1, 1001]])).reward[0], [-1, 2])


# L1


def test_l1_exact_pays_for_every_token_off_the_target() -> None:
    # mean 17/30, std 0.418994
    scores = get_method("l1-exact", target=1000).score(batch([[R, R, W]], [[1000, 2000, 1000]]))
    near(scores.reward[0], [1, 0.7, 0])
    near(scores.advantage[0], [1.034224, 0.318223, -1.352447])


def test_l1_max_is_clipped_at_nothing_and_at_one() -> None:
    method = get_method("l1-max", target=1000, alpha=0.001)
    scores = method.score(batch([[R, R, R, R, W]], [[1000, 700, 200, 1600, 200]]))
    near(scores.reward[0], [0.5, 0.8, 1, 0, 0])


@pytest.mark.parametrize("name", ["l1-exact", "l1-max", "laser"])
def test_a_target_of_the_batch_goes_before_the_parameter(name: str) -> None:
    length = [[900, 1500], [900, 1500]]
    own = get_method(name, target=7).score(batch([[R, R], [R, R]], length, target=[1000, 2000]))
    for p, target in enumerate([1000, 2000]):
        assert torch.equal(own.reward[p], get_method(name, target=target).score(batch([[R, R]] * 2, length)).reward[p])


# LASER


def test_laser_gives_a_bonus_up_to_the_target_and_no_price_beyond() -> None:
    # mean 5/6, std 0.623610
    scores = get_method("laser", target=100).score(batch([[R, R, W]], [[100, 101, 5]]))
    near(scores.reward[0], [1.5, 1, 0])
    near(scores.advantage[0], [1.069045, 0.267261, -1.336306])


# ThinkPrune and DLER


@pytest.mark.parametrize("name", sorted(CAPPED))
def test_a_right_answer_that_is_cut_or_beyond_the_cap_earns_nothing(name: str) -> None:
    groups = batch([[R, R, R, W]], [[100, 101, 50, 10]], truncated=[[False, False, True, False]])
    scores = get_method(name, cap=100).score(groups)  # of one group: the batch's deviation is its own
    near(scores.reward[0], [1, 0, 0, 0])
    near(scores.advantage[0], [1.732051, -0.577350, -0.577350, -0.577350])


def test_dler_divides_by_the_batchs_deviation_and_think_prune_by_the_groups() -> None:
    groups = batch([[R, W], [R, R]])
    near(get_method("dler").score(groups).advantage, [[1.414214, -1.414214], [0, 0]])
    near(get_method("think-prune").score(groups).advantage, [[1, -1], [0, 0]])


@pytest.mark.parametrize("name", sorted(CAPPED))
def test_a_cap_makes_a_signal_where_all_are_right_and_takes_it_where_none_is_in_time(name: str) -> None:
    groups = batch([[R, R], [R, W], [R, W]], [[100, 200], [200, 100], [100, 200]])
    assert get_method(name, cap=100).has_signal(groups).tolist() == [True, False, True]


def test_dler_takes_its_scripts_loss() -> None:
    assert (get_method("dler").aggregate, get_method("dler").clip_high) == ("token", 0.28)


# GRPO-LEAD


def test_grpo_lead_weighs_advantages_by_difficulty() -> None:
    # z = ∓1: rewards e^0.05, e^−0.05, −1, standardised .759417 .653473 −1.412890; w(⅔) = 1.166765, w(⅓) = 1.483206
    scores = get_method("grpo-lead").score(batch([[R, R, W]], [[100, 300, 50]]))
    near(scores.reward[0], [1.051271, 0.951229, -1])
    near(scores.advantage[0], [0.886061, 0.762449, -2.095607])


def test_grpo_leads_right_answers_to_hard_problems_weigh_most() -> None:
    method: Any = get_method("grpo-lead")
    weights = [float(method.weight(torch.tensor(x))) for x in (0.0, 0.75, 1.0)]
    # e^−7.5 and e^2.5: 0.4 + 1.1/1.000553, 0.4 + 1.1/2, 0.4 + 1.1/13.182494
    assert weights == pytest.approx([1.499392, 0.95, 0.483444], abs=1e-6)


def test_one_right_member_earns_one_from_grpo_lead() -> None:
    near(get_method("grpo-lead").score(batch([[R, W]], [[900, 1]])).reward[0], [1, -1])


# JET


def test_jet_shares_the_bonus_from_the_longest_to_the_shortest_right_member() -> None:
    # 1.05 + 0.95·1.2·(1, 0, ½); the wrong member's 50 tokens are nobody's shortest
    scores = get_method("jet").score(batch([[R, R, R, W]], [[100, 300, 200, 50]]))
    near(scores.reward[0], [2.19, 1.05, 1.62, 0])


def test_jet_pays_equal_lengths_and_a_lone_right_member_the_least_bonus() -> None:
    near(get_method("jet").score(batch([[R, R], [R, W]], [[9, 9], [9, 1]])).reward, [[1.05, 1.05], [1.05, 0]])


# ConciseR


def test_concise_r_looks_at_length_only_where_all_are_right() -> None:
    # 1 + 1 − L/400; mean 17/12, std 0.311805
    scores = get_method("concise-r").score(batch([[R, R, R], [R, R, W]], [[100, 200, 400], [100, 200, 400]]))
    near(scores.reward, [[1.75, 1.5, 1], [1, 1, 0]])
    near(scores.advantage, [[1.069045, 0.267261, -1.336306], [0.707107, 0.707107, -1.414214]])


def test_a_missing_member_does_not_keep_concise_rs_group_from_being_all_right() -> None:
    groups = batch([[R, R, W]], [[100, 200, 900]], valid=[[True, True, False]])
    near(get_method("concise-r").score(groups).reward[0], [1.5, 1, 0])


def test_concise_r_survives_responses_of_no_length() -> None:
    near(get_method("concise-r").score(batch([[R, R]], [[0, 0]])).reward[0], [2, 2])


# ALP


def test_alps_price_follows_accuracy() -> None:
    # p = ⅔: 0.1, 0.2 and 0.4 of 1
    scores = get_method("alp", beta=0.0015).score(batch([[R, R, W]], [[100, 200, 400]]))
    near(scores.reward[0], [0.9, 0.8, -0.4])


def test_alps_price_of_an_unsolved_problem_is_one_member_in_k() -> None:
    scores = get_method("alp", beta=0.004).score(batch([[W, W, W, W]], [[100, 200, 300, 400]]))
    near(scores.reward[0], [-0.1, -0.2, -0.3, -0.4])


def test_alp_relative_prices_the_share_of_the_longest() -> None:
    # p = ⅔: 1 − 1/24, 1 − 1/12, −1/6; mean 0.569444, no std
    scores = get_method("alp-relative").score(batch([[R, R, W]], [[100, 200, 400]]))
    near(scores.reward[0], [23 / 24, 11 / 12, -1 / 6])
    near(scores.advantage[0], [0.388889, 0.347222, -0.736111])


def test_alp_relative_leaves_unsolved_problems_alone() -> None:
    assert get_method("alp-relative").score(batch([[W, W]], [[1, 900]])).reward.eq(0).all()


# Every registered method


def truncated_too(groups: GroupBatch, draw: Any) -> GroupBatch:
    problems, members = groups.correct.shape
    flags = torch.tensor(draw(lists(problems, members, st.booleans())))
    return GroupBatch(groups.correct, groups.length, groups.valid, groups.spines, truncated=flags)


@st.composite
def scorings(draw: st.DrawFn) -> tuple[str, GroupBatch]:
    """A registered method and a batch that it can score."""
    name = draw(st.sampled_from(list_methods()))
    return name, truncated_too(draw(group_batches(spines=registry()[name].serial)), draw)


many = pytest.mark.parametrize("name", list_methods())


@claim
@given(scorings())
def test_scores_are_finite_float32_and_zero_for_invalid_members(scoring: tuple[str, GroupBatch]) -> None:
    name, groups = scoring
    scores = get_method(name).score(groups)
    for tensor in (scores.reward, scores.advantage):
        assert tensor.dtype == torch.float32
        assert tensor.shape == groups.correct.shape
        assert tensor.isfinite().all()
        assert tensor[~groups.valid].eq(0).all()


@claim
@given(scorings())
def test_a_wrong_member_never_earns_more_than_a_right_one_of_its_group(scoring: tuple[str, GroupBatch]) -> None:
    name, groups = scoring
    assume(
        name not in {"shorter-better", "l1-exact", "alp", "exit-baseline", "decide"}
    )  # there a long right answer may earn less
    reward_P_G = get_method(name).score(groups).reward
    for reward, correct, valid in zip(reward_P_G, groups.correct, groups.valid, strict=True):
        if correct.any() and (valid & ~correct).any():
            assert reward[correct].min() >= reward[valid & ~correct].max()
    if name not in PAY_FOR_WRONG:
        assert reward_P_G[~groups.correct].eq(0).all()


@claim
@given(scorings())
def test_rewards_of_a_group_that_are_equal_earn_exactly_nothing(scoring: tuple[str, GroupBatch]) -> None:
    name, groups = scoring
    method = get_method(name)
    spines = method.spines(groups)
    assume(not method.serial or spines == 1)
    rows = zip(method.reward(groups, spines), method.score(groups).advantage, groups.valid, strict=True)
    for reward, advantage, valid in rows:
        if not valid.any() or reward[valid].max() - reward[valid].min() <= EQUAL:
            assert advantage.eq(0).all()


@claim
@given(scorings())
def test_scoring_is_pure(scoring: tuple[str, GroupBatch]) -> None:
    name, groups = scoring
    tensors = (groups.correct, groups.length, groups.valid, groups.truncated)
    before = [tensor.clone() for tensor in tensors]
    method = get_method(name)
    first, second = method.score(groups), method.score(groups)
    assert torch.equal(first.reward, second.reward)
    assert torch.equal(first.advantage, second.advantage)
    assert all(map(torch.equal, before, tensors))


@claim
@given(scorings())
def test_nothing_written_in_an_invalid_member_changes_a_score(scoring: tuple[str, GroupBatch]) -> None:
    name, groups = scoring
    absent, fields = ~groups.valid, (groups.valid, groups.spines)
    blank = GroupBatch(
        groups.correct, groups.length.masked_fill(absent, 0), *fields, truncated=groups.truncated & groups.valid
    )
    garbage = GroupBatch(
        groups.correct | absent, groups.length.masked_fill(absent, 2**62), *fields, truncated=groups.truncated | absent
    )
    one, other = get_method(name).score(blank), get_method(name).score(garbage)
    assert torch.equal(one.reward, other.reward)
    assert torch.equal(one.advantage, other.advantage)


@claim
@given(scorings(), st.data())
def test_permuting_the_groups_of_a_batch_permutes_their_scores(
    scoring: tuple[str, GroupBatch], data: st.DataObject
) -> None:
    name, groups = scoring
    assume(name != "grpo-lambda")  # breaks ties by the order of the problems
    order = torch.tensor(data.draw(st.permutations(range(groups.correct.shape[0]))))
    scores, permuted = get_method(name).score(groups), get_method(name).score(pick(groups, order))
    assert_close(permuted.reward, scores.reward[order], atol=1e-6, rtol=1e-6)
    assert_close(permuted.advantage, scores.advantage[order], atol=1e-5, rtol=1e-5)


@claim
@given(scorings())
def test_a_group_scores_alone_as_it_does_among_others(scoring: tuple[str, GroupBatch]) -> None:
    name, groups = scoring
    assume(name not in COUPLED)
    together = get_method(name).score(groups)
    for p in range(groups.correct.shape[0]):
        alone = get_method(name).score(pick(groups, slice(p, p + 1)))
        # sums of another shape may be taken in another order
        assert_close(alone.reward[0], together.reward[p], atol=1e-6, rtol=1e-6)
        assert_close(alone.advantage[0], together.advantage[p], atol=1e-6, rtol=1e-6)


@claim
@given(st.sampled_from(PARALLEL), group_batches(), st.data())
def test_permuting_the_members_of_parallel_groups_permutes_their_scores(
    name: str, groups: GroupBatch, data: st.DataObject
) -> None:
    groups = truncated_too(groups, data.draw)
    order = torch.tensor(data.draw(st.permutations(range(groups.correct.shape[1]))))
    scores, permuted = get_method(name).score(groups), get_method(name).score(pick(groups, slice(None), order))
    assert_close(permuted.reward, scores.reward[:, order], atol=1e-6, rtol=1e-6)
    assert_close(permuted.advantage, scores.advantage[:, order], atol=1e-4, rtol=1e-5)


@claim
@given(scorings())
def test_the_advantages_of_a_group_sum_to_zero_but_for_methods_that_reweigh_or_compare_in_turn(
    scoring: tuple[str, GroupBatch],
) -> None:
    name, groups = scoring
    assume(name not in {"grpo-lead", "exit-baseline", "decide"})
    advantage_P_G = get_method(name).score(groups).advantage
    assert advantage_P_G.sum(-1).abs().max() <= 1e-5 * groups.correct.shape[1]


@many
def test_an_all_right_group_of_equal_lengths_moves_no_parallel_method(name: str) -> None:
    scores = get_method(name).score(batch([[R] * 4, [R] * 4], [[512] * 4] * 2))
    assert scores.reward.isfinite().all()
    assert registry()[name].serial or scores.advantage.eq(0).all()


@many
def test_an_all_wrong_group_of_equal_lengths_moves_no_method(name: str) -> None:
    assert get_method(name).score(batch([[W] * 4], [[512] * 4])).advantage.eq(0).all()


@many
def test_one_right_among_wrong_ones_of_its_length_is_pushed_up_and_they_down(name: str) -> None:
    scores = get_method(name).score(batch([[W, W, W, R]], [[512] * 4]))
    assert scores.advantage[0, 3] > 0
    assert scores.advantage[0, 0] < 0
    assert name == "exit-baseline" or scores.advantage[0, :3].lt(0).all()  # there as good as the exit before


@many
def test_a_wholly_invalid_group_scores_zero_and_leaves_the_others_alone(name: str) -> None:
    scores = get_method(name).score(batch([[R, R], [R, W]], valid=[[False, False], [True, True]]))
    assert scores.reward[0].eq(0).all()
    assert scores.advantage[0].eq(0).all()
    assert scores.advantage[1].ne(0).all()


@many
def test_lengths_of_a_billion_tokens_stay_finite(name: str) -> None:
    lengths = [[10**9, 10**9 + 1, 1, 10**9], [10**9] * 4, [0, 0, 0, 10**9]]
    scores = get_method(name).score(batch([[R, R, R, W], [R] * 4, [R, W, W, R]], lengths))
    assert scores.reward.isfinite().all()
    assert scores.advantage.isfinite().all()


@many
def test_refill_keeps_every_mixed_group(name: str) -> None:
    groups = batch([[R, R, R], [R, W, R], [W, W, W]])
    _, mixed, _ = get_method(name).has_signal(groups).tolist()
    assert mixed


@many
def test_refill_looks_at_valid_members_only(name: str) -> None:
    seen = get_method(name).has_signal(batch([[R, W, R], [R, W, W]], valid=[[True, True, False]] * 2))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", sorted(set(PARALLEL) - {"grpo", "dr-grpo", "dapo", "think-prune", "dler"}))
def test_methods_with_a_length_reward_drop_all_wrong_groups_when_asked(name: str) -> None:
    groups = batch([[R, R], [R, W], [W, W]])
    assert get_method(name).has_signal(groups).tolist() == [True, True, True]
    assert get_method(name, drop="all-wrong").has_signal(groups).tolist() == [True, True, False]


@many
def test_every_parameter_has_a_description_and_numbers_have_a_range(name: str) -> None:
    for key, field in registry()[name].model_fields.items():
        assert field.description, key
        if isinstance(field.default, int | float):
            assert field.metadata or key in ("lam", "price"), key


@pytest.mark.parametrize("name", PARALLEL)
@pytest.mark.parametrize("spines", [1, 2])
def test_a_parallel_method_refuses_spines_with_exits(name: str, spines: int) -> None:
    with pytest.raises(ValueError, match=name):
        get_method(name).score(batch([[R, W, R, W]], spines=spines))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dapo", {"buffer": 0}),
        ("dapo", {"limit": -1}),
        ("kimi-length", {"weight": math.inf}),
        ("shorter-better", {"beta": -0.001}),
        ("l1-exact", {"target": -1}),
        ("l1-exact", {"delta": 0.5}),
        ("l1-max", {"delta": 1.5}),
        ("laser", {"target": 0.5}),
        ("think-prune", {"cap": 0}),
        ("dler", {"scale_rewards": "group"}),
        ("grpo-lead", {"middle": 2}),
        ("jet", {"delta": -0.1}),
        ("concise-r", {"alpha": 1}),
        ("alp", {"beta": math.nan}),
        ("shortest-one", {"decay": 0.5}),
        ("all-one", {"decay": 1.0}),
    ],
)
def test_an_unknown_parameter_or_one_out_of_range_is_refused_by_name(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        get_method(name, **parameters)


# Their pages

PAGES = Path(__file__).parent.parent / "docs" / "methods"
OF_OURS = pytest.mark.parametrize("method", OURS, ids=lambda method: method.name)


@OF_OURS
def test_a_methods_page_says_what_its_class_says(method: type[Method]) -> None:
    page = (PAGES / f"{method.name}.md").read_text()
    assert page.startswith(f"# `{method.name}`: ")
    assert " ".join(method.formula.split()) in " ".join(page.split())
    assert f"Loss: `{method.aggregate}`" in page
    assert f"clip {method.clip_low} below and {method.clip_high} above" in " ".join(page.split())
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| [^|]+ \| (.+) \|$", page, re.M)
    assert rows == [(key, str(field.default), field.description) for key, field in method.model_fields.items()]
    link = re.search(r"arXiv (\d{4}\.\d{5})", method.paper)
    assert link is not None
    assert f"https://arxiv.org/abs/{link[1]}" in page
    for heading in ("## Where it differs from the source", "## When to use it"):
        assert heading in page


@OF_OURS
def test_the_command_on_a_methods_page_resolves_to_that_method(method: type[Method]) -> None:
    page = (PAGES / f"{method.name}.md").read_text()
    command = re.search(r"^suffice train (\S+)((?: --set \S+)*)$", page, re.M)
    assert command
    assert load_recipe(command[1], command[2].split(" --set ")[1:]).method.name == method.name


def test_the_index_lists_every_method_and_every_page_is_a_methods() -> None:
    listed = re.findall(r"^\| \[`([a-z0-9-]+)`\]\(\1\.md\)", (PAGES / "index.md").read_text(), re.M)
    assert sorted(listed) == sorted(method.name for method in OURS)
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted([*listed, "index"])


# On the lab


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


@pytest.mark.parametrize("name", ["dr-grpo", "dapo", "shortest-one", "kimi-length", "grpo-lead", "l1-exact", "dler"])
def test_a_method_takes_a_step_on_the_lab_whatever_its_loss_and_the_sign_of_its_rewards(
    name: str, grader: Grader
) -> None:
    torch.set_num_threads(1)
    serial = registry()[name].serial
    small = ["train.problems_per_step=4", "train.refill_cap=0", "rollout.max_thought_tokens=64"]
    group = ["group.exits=3"] if serial else ["group.spines=4"]
    recipe = load_recipe("lab-s-grpo" if serial else "lab-grpo", [f"method.name={name}", *small, *group])
    metrics, groups = build_engine(recipe, grader, None)[0].step(1)
    assert len(groups) == 4
    assert metrics["advantage"] > 0
    assert 0 < metrics["grad_norm"] < math.inf
