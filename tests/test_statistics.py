"""Statistics: hand-computed intervals, refusals, and coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    proportion_difference,
    proportion_interval,
    ratio_change,
    share_interval,
)

T_1, T_2, T_4, T_199 = 12.706205, 4.302653, 2.776445, 1.971957  # tabulated 97.5 % points of Student's t


def repeated(questions, samples):
    return [question for question in range(questions) for _ in range(samples)]


def test_the_standard_error_is_that_of_question_means():
    # question means 1, ½, 0: mean ½, standard deviation ½
    half = T_2 * 0.5 / 3**0.5
    interval = mean_interval([1, 1, 0, 1, 0, 0], ["a", "a", "b", "b", "c", "c"])
    assert interval == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-5)


def test_more_samples_of_the_same_questions_do_not_narrow_the_interval():
    once = mean_interval([3, 5, 10], ["a", "b", "c"])
    assert mean_interval([3, 3, 3, 5, 5, 5, 10, 10, 10], list("aaabbbccc")) == pytest.approx(once)


def test_a_question_with_many_samples_weighs_no_more_than_another():
    assert mean_interval([1, 1, 1, 1, 0], ["a", "a", "a", "a", "b"]).mean == 0.5


def test_the_order_of_samples_does_not_matter():
    assert mean_interval([0, 7, 2, 5], list("abab")) == pytest.approx(mean_interval([2, 0, 5, 7], list("aabb")))


def test_an_interval_is_a_dict_of_its_three_numbers():
    assert Interval(0.5, 0.4, 0.6).as_dict() == {"mean": 0.5, "low": 0.4, "high": 0.6}


def test_a_higher_level_gives_a_wider_interval():
    at_99 = mean_interval([2, 4], ["a", "b"], level=0.99)
    assert at_99 == pytest.approx(
        (3, 3 - 63.656741, 3 + 63.656741), abs=1e-5
    )  # standard error 1, one degree of freedom


def test_wilsons_interval_is_taken_at_the_effective_number_of_samples():
    # one sample a question, 3 of 5 right: SE² = 0.24/4, so 4 effective samples
    squared = T_4**2
    centre = (0.6 + squared / 8) / (1 + squared / 4)
    half = T_4 / (1 + squared / 4) * (0.24 / 4 + squared / 64) ** 0.5
    assert proportion_interval([1, 1, 1, 0, 0], list("abcde")) == pytest.approx(
        (0.6, centre - half, centre + half), abs=1e-5
    )
    assert (centre - half, centre + half) == pytest.approx((0.131243, 0.937083), abs=1e-5)


def test_all_right_is_not_certainty():
    assert proportion_interval([1] * 800, repeated(200, 4)) == pytest.approx((1, 200 / (200 + T_199**2), 1), abs=1e-6)


def test_all_wrong_mirrors_all_right():
    low, high = proportion_interval([1] * 800, repeated(200, 4))[1:]
    assert proportion_interval([0] * 800, repeated(200, 4)) == pytest.approx((0, 1 - high, 1 - low))


def test_shares_of_questions_get_wilsons_interval_at_what_they_are_worth():
    # shares 0, ½, 1: mean ½, variance ¼, SE² = 1/12, effective size ¼ / (1/12) = 3; with 2 outcomes at most it is 2
    for outcomes, size in ((6, 3), (2, 2)):
        half = T_2 / (1 + T_2**2 / size) * (0.25 / size + (T_2 / (2 * size)) ** 2) ** 0.5
        assert share_interval([0, 0.5, 1], outcomes) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-5)
    with pytest.raises(ValueError, match="0…1"):
        share_interval([0.5, 1.1], 2)


def test_questions_that_agree_at_one_half_count_once_each():
    # 2 questions, each 1 of 2 right: Wilson at n = 2, p = ½
    half = (T_1**2 / (4 * (2 + T_1**2))) ** 0.5
    assert proportion_interval([0, 1, 1, 0], list("aabb")) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=2, max_size=30))
def test_a_proportions_interval_holds_its_mean_and_stays_possible(questions):
    outcomes = [outcome for own in questions for outcome in own]
    clusters = [index for index, own in enumerate(questions) for _ in own]
    mean, low, high = proportion_interval(outcomes, clusters)
    assert 0 <= low <= mean <= high <= 1
    assert low < high
    mirrored = proportion_interval([not outcome for outcome in outcomes], clusters)
    assert mirrored == pytest.approx((1 - mean, 1 - high, 1 - low), abs=1e-9)


def test_a_difference_is_paired_by_question():
    # differences −1, 1, −3: mean −1, standard deviation 2
    after, before = {"a": [1], "b": [3], "c": [2]}, {"c": [5], "a": [2], "b": [2]}
    half = T_2 * 2 / 3**0.5
    assert paired_difference(after, before) == pytest.approx((-1, -1 - half, -1 + half), abs=1e-5)


def test_the_two_sides_may_have_different_numbers_of_samples():
    assert paired_difference({"a": [1, 3], "b": [5]}, {"a": [1], "b": [2, 3, 4]}).mean == 1.5


@given(st.dictionaries(st.text(), st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=2))
def test_swapping_the_sides_mirrors_a_difference(pairs):
    after, before = ({name: [pair[side]] for name, pair in pairs.items()} for side in (0, 1))
    mean, low, high = paired_difference(after, before)
    assert paired_difference(before, after) == pytest.approx((-mean, -high, -low), abs=1e-6)


def test_no_difference_seen_is_not_no_difference():
    side = {str(question): [1, 1, 0, 1] for question in range(200)}
    bound = 1 - 0.05 ** (1 / 200)  # about 3/200
    assert bound == pytest.approx(0.014867, abs=1e-6)
    assert proportion_difference(side, side) == pytest.approx((0, -bound, bound))


def test_the_same_difference_everywhere_keeps_a_width():
    unseen = 1 - 0.05**0.5
    interval = proportion_difference({"a": [1], "b": [1]}, {"a": [0], "b": [0]})
    assert interval == pytest.approx((1, 1 - 2 * unseen, 1))


def test_where_questions_differ_a_difference_of_proportions_is_students():
    after, before = {"a": [1, 1], "b": [1, 0], "c": [0, 0]}, {"a": [0, 0], "b": [1, 0], "c": [0, 0]}
    assert proportion_difference(after, before) == paired_difference(after, before)


def test_a_relative_change_is_by_the_delta_method():
    # means 3 and 4, ratio ¾; (after − ¾·before)/4 is −¼ and ¼, so its standard error is ¼
    half = T_1 * 0.25
    assert ratio_change({"a": [2], "b": [4]}, {"a": [4], "b": [4]}) == pytest.approx(
        (-0.25, -0.25 - half, -0.25 + half), abs=1e-5
    )


def test_halving_every_length_is_minus_one_half_exactly():
    before = {"a": [10, 30], "b": [100], "c": [7]}
    after = {name: [length / 2 for length in own] for name, own in before.items()}
    assert ratio_change(after, before) == pytest.approx((-0.5, -0.5, -0.5))


def test_a_relative_change_is_of_the_means_and_not_the_mean_of_changes():
    # from 110 to 91 tokens, where the mean of −90 % and −10 % would say −50 %
    assert ratio_change({"a": [1], "b": [90]}, {"a": [10], "b": [100]}).mean == pytest.approx(91 / 110 - 1)


def test_a_change_relative_to_nothing_is_refused():
    with pytest.raises(ValueError, match="mean before above 0, not 0"):
        ratio_change({"a": [1], "b": [2]}, {"a": [0], "b": [0]})


@pytest.mark.parametrize("function", [paired_difference, proportion_difference, ratio_change])
def test_different_questions_are_refused_by_name(function):
    with pytest.raises(ValueError, match="2 questions are missing before: b, c"):
        function({"a": [1], "b": [1], "c": [1]}, {"a": [1]})
    with pytest.raises(ValueError, match="4 questions are missing after: b, c, d, …"):
        function({"a": [1]}, {name: [1] for name in "abcde"})


@pytest.mark.parametrize("function", [paired_difference, proportion_difference, ratio_change])
@pytest.mark.parametrize("side", [{}, {"a": [1, 1, 0]}])
def test_fewer_than_two_questions_pair_to_no_interval(function, side):
    with pytest.raises(ValueError, match="at least 2 questions"):
        function(side, side)


@pytest.mark.parametrize("function", [mean_interval, proportion_interval])
@pytest.mark.parametrize("values", [[], [1], [1, 0, 1]])
def test_fewer_than_two_questions_have_no_interval(function, values):
    with pytest.raises(ValueError, match="at least 2 questions"):
        function(values, ["a"] * len(values))


def test_a_question_without_a_sample_is_refused():
    with pytest.raises(ValueError, match="at least 1 sample"):
        paired_difference({"a": [1], "b": []}, {"a": [1], "b": [1]})


def test_every_sample_needs_its_question():
    with pytest.raises(ValueError, match="shorter"):
        mean_interval([1, 2, 3], ["a", "b"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1, value], ["a", "b"])


@pytest.mark.parametrize("outcome", [0.5, 2, float("nan")])
def test_an_outcome_is_right_or_wrong(outcome):
    with pytest.raises(ValueError, match="0 or 1"):
        proportion_interval([1, outcome], ["a", "b"])
    with pytest.raises(ValueError, match="0 or 1"):
        proportion_difference({"a": [1], "b": [outcome]}, {"a": [1], "b": [1]})


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_lies_between_0_and_1(level):
    with pytest.raises(ValueError, match="level"):
        mean_interval([1, 2], ["a", "b"], level=level)


REPEATS, QUESTIONS, SAMPLES = 2000, 200, 4


@pytest.mark.slow
@pytest.mark.parametrize(("easy", "hard"), [(2, 2), (1.7, 0.3), (1.9, 0.1)])
def test_95_percent_intervals_of_accuracy_cover_95_percent(easy, hard):
    rng = np.random.default_rng(0)
    questions, accuracy, covered = repeated(QUESTIONS, SAMPLES), easy / (easy + hard), 0
    for _ in range(REPEATS):
        chance = rng.beta(easy, hard, (QUESTIONS, 1))
        outcomes = rng.random((QUESTIONS, SAMPLES)) < chance
        _, low, high = proportion_interval(outcomes.ravel().tolist(), questions)
        covered += low <= accuracy <= high
    assert 0.93 <= covered / REPEATS <= 0.97


@pytest.mark.slow
def test_95_percent_intervals_of_lengths_cover_95_percent():
    # a question's length is its own factor times noise; training takes 40 % off, more or less of it by question
    rng = np.random.default_rng(1)
    names, found = [str(question) for question in range(QUESTIONS)], np.zeros(3)
    for _ in range(REPEATS):
        own = rng.lognormal(5, 0.5, (QUESTIONS, 1))
        kept = rng.uniform(0.4, 0.8, (QUESTIONS, 1))
        before = own * rng.uniform(0.5, 1.5, (QUESTIONS, SAMPLES))
        after = own * kept * rng.uniform(0.5, 1.5, (QUESTIONS, SAMPLES))
        truth = np.exp(5 + 0.5**2 / 2)
        sides = [dict(zip(names, side.tolist(), strict=True)) for side in (after, before)]
        intervals = [
            mean_interval(before.ravel().tolist(), repeated(QUESTIONS, SAMPLES)),
            paired_difference(sides[0], sides[1]),
            ratio_change(sides[0], sides[1]),
        ]
        for index, (interval, value) in enumerate(zip(intervals, [truth, -0.4 * truth, -0.4], strict=True)):
            found[index] += interval.low <= value <= interval.high
    assert all(0.93 <= share <= 0.97 for share in found / REPEATS)


@pytest.mark.slow
def test_95_percent_intervals_of_a_difference_in_accuracy_cover_95_percent():
    rng = np.random.default_rng(2)
    names, covered = [str(question) for question in range(QUESTIONS)], 0
    for _ in range(REPEATS):
        chance = rng.beta(1.4, 0.6, (QUESTIONS, 1))
        sides = [rng.random((QUESTIONS, SAMPLES)) < chance * factor for factor in (1.0, 0.9)]
        after, before = (dict(zip(names, side.tolist(), strict=True)) for side in sides)
        _, low, high = proportion_difference(after, before)
        covered += low <= 0.07 <= high
    assert 0.93 <= covered / REPEATS <= 0.97


def test_a_resampled_mean_has_the_interval_of_a_mean():
    values = np.random.default_rng(1).lognormal(0, 1, 80)
    interval, exact = bootstrap_interval(lambda weight: float(weight @ values), 80), mean_interval(values, range(80))
    assert interval.mean == pytest.approx(exact.mean)
    # of 1,000 draws the 2.5 % point is off by some 6 % of the half width, and a skewed mean lies higher
    half = exact.high - exact.mean
    assert interval == pytest.approx(exact, abs=0.25 * half)
    assert bootstrap_interval(lambda weight: float(weight @ values), 80) == interval


def test_a_statistic_that_is_often_undefined_has_no_interval():
    def rare(weight):
        return 1.0 if weight[0] else float("nan")

    assert bootstrap_interval(rare, 5).mean == 1.0
    assert np.isnan(bootstrap_interval(rare, 5).low)
    assert all(map(np.isnan, bootstrap_interval(lambda weight: float("nan"), 5)))
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap_interval(rare, 1)
