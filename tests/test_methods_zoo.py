"""The other papers' methods against numbers worked out by hand, and what all methods have in common."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
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
from suffice.methods.exits import budgets

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


# MRT's termination-reward baseline


def test_mrt_compares_the_whole_thought_with_its_exits_and_each_exit_with_it() -> None:
    # right whole thoughts, exits W W R and R R: 1 − ⅓, (0 − 1)/3, 0; all right
    scores = get_method("mrt").score(batch([[W, W, R, R], [R, R, W, R]], valid=[[True] * 4, [True, True, False, True]]))
    near(scores.reward, [[0, 0, 1, 1], [1, 1, 0, 1]])
    near(scores.advantage, [[-1 / 3, -1 / 3, 0, 2 / 3], [0, 0, 0, 0]])


def test_mrt_tells_a_thought_that_lost_its_answer_to_stop_there() -> None:
    # exits R W, whole W: 0 − ½, ½·(1 − 0), 0
    near(get_method("mrt").score(batch([[R, W, W]])).advantage, [[0.5, 0, -0.5]])


@claim
@given(group_batches(ragged=False))
def test_what_mrt_trains_after_i_exits_is_the_mean_lead_of_the_whole_over_those_exits(groups: GroupBatch) -> None:
    scores = get_method("mrt").score(groups)
    trained_P_M = scores.advantage.double().flip(-1).cumsum(-1).flip(-1)  # a token belongs to the later members
    reward_P_M = scores.reward.double()
    exits = reward_P_M.shape[1] - 1
    for i in range(exits + 1):
        lead_P = (reward_P_M[:, -1:] - reward_P_M[:, :i]).sum(-1) / max(1, exits)
        assert_close(trained_P_M[:, i], lead_P, atol=1e-6, rtol=0)


def test_mrt_leaves_spines_to_themselves_and_has_nothing_to_say_where_exits_agree_with_their_whole() -> None:
    groups = batch([[R, R, W, W], [W, R, W, W]], spines=2)
    near(get_method("mrt").score(groups).advantage, [[0, 0, 0, 0], [-1, 1, 0, 0]])
    assert get_method("mrt").has_signal(groups).tolist() == [False, True]


def test_a_thought_without_exits_has_no_termination_to_be_compared_with() -> None:
    groups = batch([[W, R, W, R]], spines=2, valid=[[False, True, True, True]])
    near(get_method("mrt").score(groups).advantage, [[0, 0, -1, 1]])


def test_exits_whose_whole_thought_was_lost_say_nothing_to_mrt() -> None:
    groups = batch([[R, W, W, R]], spines=2, valid=[[True, False, True, True]])
    near(get_method("mrt").score(groups).advantage, [[0, 0, -1, 1]])


# REO-RL


def test_reo_rl_weighs_exits_by_the_budgets_they_stand_for() -> None:
    # exits at 10 and 30, the whole 60 long, up to a budget of 100: c = 0…20, 20…45, 45…100
    groups = batch([[W, R, R]], [[99, 99, 99]], thought_length=[[10, 30, 60]])
    scores = get_method("reo-rl", budget=100).score(groups)
    # 20·0 + 25 + 55 of 100 is the accuracy over all budgets, 0.8; c over its mean 100/3 is 0.6, 0.75, 1.65
    near(scores.reward, [[0, 1, 1]])
    near(scores.advantage, [[0.6 * -0.8, 0.75 * 0.2, 1.65 * 0.2]])


def test_what_a_thought_does_beyond_reo_rls_largest_budget_counts_nothing() -> None:
    # a budget of 20: the exit at 10 stands for 0…15, that at 30 for 15…20, the whole of 60 for nothing
    groups = batch([[R, W, R], [R, W, W]], [[10, 30, 60]] * 2)
    # 0.75, 0.25, 0 over the mean ⅓; 0.75 right
    near(get_method("reo-rl", budget=20).score(groups).advantage, [[2.25 * 0.25, 0.75 * -0.75, 0]] * 2)


def test_a_missing_exit_leaves_its_budgets_to_its_neighbours() -> None:
    missing = batch([[W, R, R]], [[10, 0, 60]], valid=[[True, False, True]])
    bare = batch([[W, R]], [[10, 60]])
    found, wanted = (get_method("reo-rl", budget=100).score(groups).advantage for groups in (missing, bare))
    near(found[:, [0, 2]], wanted.tolist())  # 35 and 65 of 100
    near(wanted, [[0.7 * -0.65, 1.3 * 0.35]])


def test_spines_of_reo_rl_share_the_mean_over_budgets() -> None:
    # budgets of a spine: 15 and 5, mean 10; the first is right at all 20, the second at 5: 25 of 40 are right
    groups = batch([[R, R, W, R]], [[10, 20, 10, 20]], spines=2)
    near(
        get_method("reo-rl", budget=20).score(groups).advantage, [[1.5 * 0.375, 0.5 * 0.375, 1.5 * -0.625, 0.5 * 0.375]]
    )


@claim
@given(group_batches(spines=True), st.integers(1, 10**6))
def test_the_budgets_of_a_spines_members_are_all_up_to_the_largest_each_once(groups: GroupBatch, most: int) -> None:
    valid_P_K_M = groups.valid.unflatten(1, (groups.spines or 1, -1))
    at_P_K_M = groups.length.double().masked_fill(~groups.valid, 0).unflatten(1, (groups.spines or 1, -1))
    low_P_K_M, high_P_K_M = budgets(valid_P_K_M, at_P_K_M, most)
    spines = zip(*(x.flatten(0, 1) for x in (low_P_K_M, high_P_K_M, valid_P_K_M)), strict=True)
    for low, high, valid in spines:
        edges = [0.0, *high[valid].tolist()]
        assert low[valid].tolist() == edges[:-1]
        assert edges == sorted(edges)
        assert edges[-1] == (most if valid.any() else 0)


# BRPO


def test_brpo_credits_a_stretch_with_the_budgets_to_come() -> None:
    # an exit at 10 and the whole of 30 share 0…40 half and half: p = ½ ½. Wrong then right: R = ½ ½, P = 1 ½. The first
    # stretch is compared with itself; W = 0 and ½ − ½·(½·0 + ½·1) = ¼
    groups = batch([[W, R]], [[10, 30]])
    near(get_method("brpo", prior="uniform", budget=40).score(groups).advantage, [[-0.25, 0.25]])
    # p = (20/40)² and the rest: R = ¾ ¾, W = 0 and ¾ − ¾·½
    near(get_method("brpo", prior="linear", budget=40).score(groups).advantage, [[-0.375, 0.375]])
    # p = 0 1: W = 0 and 1 − ½
    near(get_method("brpo", prior="base", budget=40).score(groups).advantage, [[-0.5, 0.5]])


def test_brpo_compares_thoughts_at_first_and_a_thought_with_its_own_exits_in_the_end() -> None:
    # as above, and a second thought that is right at both: right from the first on ½ and 1, from the second on 1 and 1.
    # W = ½ − ¾, ½ − ½·(½·0 + ½·1); 1 − ¾, ½ − ½·(½·1 + ½·1)
    groups = batch([[W, R, R, R]], [[10, 30, 10, 30]], spines=2)
    near(get_method("brpo", prior="uniform", budget=40).score(groups).advantage, [[-0.5, 0.25, 0.25, 0]])


def brpo_by_loops(right: list[list[bool]], p: list[float]) -> list[list[float]]:
    """What trains the stretches of a group's thoughts at budgets of probability p, in loops as the authors' code."""
    members = len(p)
    found = []
    for own in right:
        found.append([])
        for s in range(members):
            left = range(s, members)
            v1 = 0.0
            if s:
                before = sum(2**k * own[k] for k in range(s)) / sum(2**k for k in range(s))
                v1 = before * sum(p[k] for k in left)
            v2 = fmean(sum(p[k] * other[k] for k in left) for other in right)
            earned = sum(p[k] * own[k] for k in left)
            found[-1].append(earned - (s * v1 + (members - s) * v2) / members)
    return found


@claim
@given(st.data(), st.integers(1, 4), st.integers(2, 6), st.sampled_from(["linear", "uniform", "base"]))
def test_brpo_at_equal_budgets_is_the_authors_loops(data: st.DataObject, spines: int, members: int, prior: str) -> None:
    right = data.draw(lists(spines, members, st.booleans()))
    at = sorted(data.draw(st.lists(st.integers(1, 500), min_size=members, max_size=members)))
    ends = [0.0, *((a + b) / 2 for a, b in pairwise(at)), 600.0]
    p = [b**2 - a**2 if prior == "linear" else b - a for a, b in pairwise(ends)]
    p = [0.0] * (members - 1) + [1.0] if prior == "base" else [each / sum(p) for each in p]
    members_right = [each for own in right for each in own]
    groups = batch([members_right], [at * spines], spines=spines)
    scores = get_method("brpo", prior=prior, budget=600).score(groups)
    trained = scores.advantage.view(spines, members).flip(-1).cumsum(-1).flip(-1)
    alike = len(set(members_right)) == 1
    near(trained, [[0.0] * members] * spines if alike else brpo_by_loops(right, p), atol=1e-6)


def test_a_thought_too_short_for_brpos_exits_is_compared_as_a_whole() -> None:
    # the second thought is only whole: 0 of 1 right against ½, the first R R: 1 − ½, and ½ − ½·(½·1 + ½·½)
    groups = batch([[R, R, W, W]], [[10, 30, 0, 1]], spines=2, valid=[[True, True, False, True]])
    near(get_method("brpo", prior="uniform", budget=40).score(groups).advantage, [[0.375, 0.125, 0, -0.5]])


# Length as a constraint


def test_the_price_of_an_excess_follows_the_mean_and_stays_between_nothing_and_its_ceiling() -> None:
    method = get_method("primal-dual", budget=50, rate=0.1, ceiling=0.25)
    groups = batch([[R, R, W, W]], [[999] * 4], thought_length=[[50, 100, 20, 150]])
    near(method.score(groups).reward, [[1, 1, 0, 0]])  # λ = 0
    assert method.observe(0.5, 100)["lam"] == pytest.approx(0.1)  # 0 + 0.1·(100/50 − 1)
    near(method.score(groups).reward, [[1, 0.9, 0, -0.2]])
    assert method.observe(0.5, 150)["lam"] == 0.25  # 0.3, clipped
    assert method.observe(0.5, 25)["lam"] == pytest.approx(0.2)
    for _ in range(5):
        last = method.observe(0.5, 25)["lam"]
    assert last == 0


def test_a_price_of_excess_goes_on_from_its_state_and_eases_without_moving_the_original() -> None:
    first, second = (get_method("primal-dual", budget=50, rate=0.1) for _ in range(2))
    first.observe(0.5, 100)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    eased = first.eased(0.5)
    assert first.observe(0.1, 60) == second.observe(0.9, 60) == {"lam": pytest.approx(0.12)}
    assert eased.observe(0.1, 60) == {"lam": pytest.approx(0.07)}  # half of 0.1, and 0.02


# ACOER


def test_acoer_pays_right_answers_for_what_they_save_of_the_budget_and_wrong_ones_nothing() -> None:
    # half of the budget saved: log 3.5 / log 6 = 0.699176 of α; all: α; none, and beyond it: nothing
    groups = batch([[R, R, R, R, W]], [[99] * 5], thought_length=[[50, 0, 100, 300, 1]])
    near(get_method("acoer", alpha=0.5, budget=100).score(groups).reward, [[1.349588, 1.5, 1, 1, 0]])


def test_acoers_bonus_grows_while_accuracy_holds_and_its_budget_follows_length() -> None:
    method = get_method("acoer", alpha=0.1, budget=100, floor=30, warmup=2, window=3)
    assert [method.observe(0.5, 60) for _ in "12"] == [{"alpha": 0.1, "budget": 100}] * 2
    assert method.observe(0.5, 60) == {"alpha": pytest.approx(0.102), "budget": pytest.approx(51)}  # 0.85·60
    # the newest counts 2/51: 60 − 2/51·51 = 58 thinking tokens
    assert method.observe(0.5, 9)["budget"] == pytest.approx(0.85 * 58)
    # 0.5 − 2/51·0.5 = 0.480392, not yet two points below the 0.5 of two steps before; once more 0.461553, 3.8 below
    assert method.observe(0, 9)["alpha"] == pytest.approx(0.1 * 1.02**3)
    assert method.observe(0, 9)["alpha"] == pytest.approx(0.1 * 1.02**3 * 0.95)
    for _ in range(200):
        last = method.observe(1, 1)
    assert last == {"alpha": 0.5, "budget": 30}


def test_acoer_waits_for_its_warmup_and_for_a_window_of_steps() -> None:
    for warmup, window in ((3, 2), (0, 4)):
        method = get_method("acoer", alpha=0.1, warmup=warmup, window=window)
        assert [method.observe(0.5, 60)["alpha"] for _ in range(4)] == [0.1, 0.1, 0.1, pytest.approx(0.102)]


def test_acoer_goes_on_from_its_state_and_eases_without_moving_the_original() -> None:
    first, second = (get_method("acoer", floor=1, warmup=0, window=4) for _ in range(2))
    for accuracy in (0.9, 0.8, 0.7, 0.2, 0.9, 0.1):
        first.observe(accuracy, 100 * accuracy)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    eased = first.eased(0.5)
    for accuracy in (0.1, 0.9, 0.9):
        found = first.observe(accuracy, 50)
        assert found == second.observe(accuracy, 50)
        assert eased.observe(accuracy, 50)["budget"] == found["budget"]
    assert eased.state_dict()["alpha"] == 0.01  # half of it is below the least, where it is put at the next loss


# QLPO


def test_qlpo_trains_half_of_a_group_rather_short_right_and_long_wrong_ones() -> None:
    # 4 of 8, 2 of them right: of the short right 10 20 ⌈2/(4/3)⌉ = 2, of the long wrong 90 80 two.
    right, length = [R, R, R, R, W, W, W, W], [40, 20, 30, 10, 60, 90, 70, 80]
    scores = get_method("qlpo").score(batch([right], [length]))  # each stands for two: 2·(±1)
    near(scores.reward, [[1, 1, 1, 1, 0, 0, 0, 0]])
    near(scores.advantage, [[0, 2, 0, 2, 0, -2, 0, -2]])


def test_qlpos_other_half_is_trained_as_alpha_says() -> None:
    # 6 of 12, 6·8/12 = 4 of them right: ⌈4/(4/3)⌉ = 3 of the four shortest in their order, one of the others;
    # two wrong: ⌈1.5⌉ = 2 of the two longest. With α = 1 half of each
    right = [R] * 8 + [W] * 4
    length = [80, 70, 60, 50, 40, 30, 20, 10, 1, 2, 3, 4]
    trained = get_method("qlpo").score(batch([right], [length])).advantage.ne(0)
    assert trained[0].nonzero().flatten().tolist() == [0, 4, 5, 6, 10, 11]
    both: Any = get_method("qlpo", alpha=1)
    assert both.drawn(batch([right], [length]))[0].nonzero().flatten().tolist() == [0, 1, 4, 5, 8, 10]


def test_of_an_odd_class_the_greater_half_is_qlpos_preferred_one() -> None:
    # 3 of 6, 2.5 rounded up to 3 of them right: ⌈3/(4/3)⌉ = 3, and 10 20 30 are the shorter half of five
    method: Any = get_method("qlpo")
    groups = batch([[R, R, R, R, R, W]], [[50, 10, 20, 30, 40, 1]])
    assert method.drawn(groups)[0].nonzero().flatten().tolist() == [1, 2, 3]


def test_a_group_of_which_qlpo_draws_only_right_members_says_nothing() -> None:
    groups = batch([[R] * 11 + [W], [R] * 10 + [W] * 2])  # 5.5 of 6 round up to 6, 5 leave one
    assert get_method("qlpo").has_signal(groups).tolist() == [False, True]
    scores = get_method("qlpo").score(groups)
    assert scores.advantage[0].eq(0).all()
    assert scores.advantage[1].ne(0).sum() == 6


@claim
@given(group_batches(), st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.sampled_from([0.0, 1 / 3, 1.0]))
def test_qlpo_draws_right_and_wrong_in_proportion_whatever_their_lengths(
    groups: GroupBatch, keep: float, alpha: float
) -> None:
    method: Any = get_method("qlpo", keep=keep, alpha=alpha)
    drawn_P_G = method.drawn(groups)
    for drawn, correct, valid in zip(drawn_P_G, groups.correct, groups.valid, strict=True):
        members, right = int(valid.sum()), int(correct.sum())
        kept = min(members, max(2, math.floor(keep * members + 0.5)))
        assert not drawn[~valid].any()
        assert int(drawn.sum()) == kept
        assert int(drawn[correct].sum()) == (math.floor(kept * right / members + 0.5) if members else 0)


@claim
@given(group_batches())
def test_qlpo_that_keeps_all_is_grpo(groups: GroupBatch) -> None:
    scores, grpo = get_method("qlpo", keep=1).score(groups), get_method("grpo").score(groups)
    assert torch.equal(scores.reward, grpo.reward)
    assert torch.equal(scores.advantage, grpo.advantage)


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
    assume(name != "qlpo")  # draws members in their order
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
    # there as good as the exit before, without a budget of its own, or not drawn
    assert name in {"exit-baseline", "reo-rl", "qlpo"} or scores.advantage[0, :3].lt(0).all()


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


@pytest.mark.parametrize("name", sorted(set(PARALLEL) - {"grpo", "dr-grpo", "dapo", "think-prune", "dler", "qlpo"}))
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
        ("mrt", {"price": 0.2}),
        ("reo-rl", {"budget": 0}),
        ("brpo", {"prior": "flat"}),
        ("primal-dual", {"rate": 0}),
        ("acoer", {"window": 1}),
        ("qlpo", {"keep": 1.5}),
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


@pytest.mark.parametrize(
    "name", ["dr-grpo", "dapo", "shortest-one", "kimi-length", "grpo-lead", "l1-exact", "dler", "brpo", "qlpo"]
)
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
