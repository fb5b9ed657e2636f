"""Accuracy at budgets read off one sampling, and the scores that put accuracy and tokens in one number: by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sides import PROTOCOL, evaluation, sample
from suffice.errors import DataError
from suffice.evaluation.at_budgets import Curve, at_budgets
from suffice.evaluation.compare import compare_all
from suffice.evaluation.scores import aes, e3, equal_accuracy, gaps, scores
from suffice.evaluation.sides import Side
from suffice.run.records import Sample

RIGHT, WRONG = "CORRECT", "WRONG"
EVEN = np.array([0.5, 0.5])
INDEX = {"p": 0, "q": 1}


def side(name: str, records: list[Sample]) -> Side:
    return Side(name, {"t": {"": evaluation(records, name, "t", protocol=protocol(100))}})


def protocol(limit: int):
    return PROTOCOL.model_copy(update={"max_thought_tokens": limit})


# p: right after 20 tokens of thought, wrong after 80; q: right after 60, right after 100. Answers have 2 tokens.
BASE = [
    sample("p", RIGHT, 20),
    sample("p", WRONG, 80, number=1),
    sample("q", RIGHT, 60),
    sample("q", RIGHT, 100, number=1),
]
# as accurate, in a half of the tokens; and one that is right only in what is short
HALF = [each.model_copy(update={"thought_tokens": each.thought_tokens // 2, "answer_tokens": 1}) for each in BASE]
SHORT = [sample(p, RIGHT if n == 0 else WRONG, 10, number=n) for p in "pq" for n in range(2)]


def test_accuracy_at_a_budget_counts_longer_thoughts_as_wrong():
    found = at_budgets(BASE, 100)
    assert [point.budget for point in found.curve] == [3, 6, 12, 25, 50, 100]
    assert [point.accuracy.mean for point in found.curve] == [0, 0, 0, 0.25, 0.25, 0.75]
    assert found.curve[-2].thought_tokens.mean == (20 + 50 + 50 + 50) / 4
    # p is right at budgets from 20 on in one of two samples: (80 / 100) / 2; q: (40 / 100 + 0) / 2
    assert found.area.mean == pytest.approx((0.4 + 0.2) / 2)


def test_a_limit_of_one_token_has_one_budget():
    assert [point.budget for point in at_budgets(BASE, 1).curve] == [1]


def test_the_area_is_the_mean_of_accuracy_over_all_budgets():
    records = [sample(f"p{i}", RIGHT if i % 3 else WRONG, 7 * i % 41) for i in range(30)]
    steps = [sum(r.verdict == RIGHT and r.thought_tokens <= b for r in records) / 30 for b in range(40)]
    assert at_budgets(records, 40).area.mean == pytest.approx(sum(steps) / 40)


def test_tokens_at_an_accuracy_are_those_of_the_smallest_budget_with_it():
    curve = Curve.of(BASE, INDEX)
    # a budget of 20: 22 tokens and three times 20; of 60: 22 + 60 + 62 + 60; of 100: 22 + 82 + 62 + 102
    assert curve.tokens_at(0.25, EVEN) == pytest.approx(82 / 4)
    assert curve.tokens_at(0.5, EVEN) == pytest.approx(204 / 4)
    assert curve.tokens_at(0.75, EVEN) == pytest.approx(268 / 4) == curve.tokens(EVEN)
    assert curve.tokens_at(0.375, EVEN) == pytest.approx((82 + 204) / 8)  # two budgets, each for a half
    assert np.isnan(curve.tokens_at(0.76, EVEN))
    assert np.isnan(curve.tokens_at(0.0, EVEN))


def test_samples_of_one_length_are_cut_together_in_whatever_order_they_come():
    tied = [
        sample("p", RIGHT, 10, 4),
        sample("p", WRONG, 10, 8, number=1),
        sample("q", RIGHT, 10, 2),
        sample("q", WRONG, 30),
    ]
    for records in (tied, tied[::-1]):
        assert Curve.of(records, INDEX).tokens_at(0.5, EVEN) == pytest.approx((14 + 18) / 4 + (12 + 10) / 4)


def test_at_equal_accuracy_the_more_accurate_model_is_stopped_where_it_is_no_more_accurate():
    base, half, short = (Curve.of(records, INDEX) for records in (BASE, HALF, SHORT))
    assert equal_accuracy(base, base, EVEN) == 1
    assert equal_accuracy(base, half, EVEN) == pytest.approx(0.5)
    # SHORT is right in a half of its samples, 12 tokens each; BASE reaches that with 204 / 4
    assert equal_accuracy(base, short, EVEN) == pytest.approx(12 / 51)
    assert equal_accuracy(short, base, EVEN) == pytest.approx(51 / 12)


def test_a_model_that_is_never_right_has_no_equal():
    never = [sample(p, WRONG, 10) for p in "pq"]
    assert np.isnan(equal_accuracy(Curve.of(BASE, INDEX), Curve.of(never, INDEX), EVEN))
    found = scores(BASE, never, 100)
    assert found.as_dict()["equal_accuracy"] == {"mean": None, "low": None, "high": None}
    assert found.e3.mean == 0
    assert scores(never, BASE, 100).as_dict()["aes"]["mean"] is None


def test_aes_weighs_a_loss_more_than_a_gain():
    # 40 % of the tokens saved; accuracy from 0.5 to 0.6 is 20 % more, to 0.4 is 20 % less
    assert aes(0.5, 100, 0.6, 60) == pytest.approx(0.4 + 3 * 0.2)
    assert aes(0.5, 100, 0.4, 60) == pytest.approx(0.4 - 5 * 0.2)


def test_e3_is_a_harmonic_mean_of_odds_and_tokens():
    assert e3(0.6, 100, 0.6, 100) == pytest.approx(1)
    # odds of 0.9 / 1 against 1, ten times fewer tokens: 1 / (0.5 / 0.9 + 0.5 / 10), above 1 at a loss of accuracy
    assert e3(0.5, 100, 0.9 / 1.9, 10) == pytest.approx(1 / (0.5 / 0.9 + 0.5 / 10))
    assert e3(0.8, 100, 1.0, 50) == pytest.approx(1 / (0.2 * 0.5))
    assert np.isnan(e3(1.0, 100, 0.9, 50))


def test_a_gap_is_the_distance_from_the_best_model_at_every_budget():
    # from 10 on SHORT has 0.5 until BASE has 0.75 at 100, which is the limit: the front is 0.5 from 10 to 100
    found = gaps({"base": BASE, "short": SHORT}, 100)
    assert found["short"].mean == pytest.approx(0)
    assert found["base"].mean == pytest.approx(0.5 * 0.9 - 0.3)
    # up to 200 BASE is best from 100 on: the front has 90 budgets at 0.5 and 100 at 0.75, BASE 40, 40 and 100
    found = gaps({"base": BASE, "short": SHORT}, 200)
    assert found["short"].mean == pytest.approx(100 * (0.75 - 0.5) / 200)
    assert found["base"].mean == pytest.approx((90 * 0.5 - 40 * 0.25 - 40 * 0.5) / 200)


def test_what_is_longer_than_the_limit_is_right_at_no_budget():
    assert at_budgets(BASE, 50).area.mean == pytest.approx(((30 / 50) / 2 + 0) / 2)
    found = gaps({"base": BASE, "short": SHORT}, 50)
    assert found["base"].mean == pytest.approx(0.5 * 0.8 - 0.15)


def copies(records: list[Sample], count: int) -> list[Sample]:
    return [r.model_copy(update={"problem": f"{r.problem}{i}"}) for i in range(count) for r in records]


def test_scores_are_paired_and_have_intervals():
    found = scores(copies(BASE, 20), copies(HALF, 20), 100)
    assert found.level == 0.75
    # every question is answered as well in a half of its tokens, whichever questions are drawn
    assert found.equal_accuracy == pytest.approx((0.5, 0.5, 0.5))
    assert found.aes == pytest.approx((0.5, 0.5, 0.5))
    # p from 0.4 to 0.45, q from 0.2 to 0.6
    assert found.area.mean == pytest.approx(0.225)
    assert 0.15 < found.area.low < 0.2
    assert 0.25 < found.area.high < 0.3
    longer = scores(copies(BASE, 20), copies(SHORT, 20), 100)
    assert longer.equal_accuracy.low < 12 / 51 < longer.equal_accuracy.high < 1


def test_a_question_counts_the_same_however_many_samples_it_has():
    thrice = BASE + [
        r.model_copy(update={"sample": r.sample + 2 * k}) for k in (1, 2) for r in BASE if r.problem == "q"
    ]
    assert scores(thrice, HALF, 100).equal_accuracy.mean == pytest.approx(0.5)


def test_a_comparison_tells_scores_gaps_and_curves_of_what_no_stop_has_ended():
    found = compare_all([side("a", BASE), side("b", HALF)])
    first, second = found.tasks["t"].rows
    assert first.scores is None
    assert second.scores.equal_accuracy.mean == pytest.approx(0.5)
    assert second.gap.mean == 0
    assert first.gap.mean == pytest.approx(second.at_budgets.area.mean - first.at_budgets.area.mean)


def test_curves_are_compared_up_to_the_lowest_limit():
    high = evaluation(HALF, "b", "t", protocol=protocol(400))
    found = compare_all([side("a", BASE), Side("b", {"t": {"": high}})])
    assert [row.at_budgets.limit for row in found.tasks["t"].rows] == [100, 100]


def test_thinking_that_moved_into_the_answer_is_told():
    def answered(answer: int) -> list[Sample]:
        return [sample(f"p{i}", RIGHT, 20 + i % 3, answer + i % 2) for i in range(20)]

    longer = [each.model_copy(update={"thought_tokens": each.thought_tokens - 12}) for each in answered(9)]
    _, note = compare_all([side("a", answered(2)), side("b", longer)]).tasks["t"].notes
    assert note.startswith("b: part of the thinking has moved into the answer: thinking tokens −12.0 (")
    assert "answer tokens +7.0 (" in note
    (note,) = compare_all([side("a", answered(2)), side("b", answered(9))]).tasks["t"].notes
    assert "moved" not in note
    # an answer longer by one token is no thought of twelve
    shorter = [each.model_copy(update={"answer_tokens": each.answer_tokens - 6}) for each in longer]
    (note,) = compare_all([side("a", answered(2)), side("b", shorter)]).tasks["t"].notes
    assert "moved" not in note


def test_sides_that_were_asked_in_other_words_are_told_and_those_of_another_gold_are_refused():
    reworded = [each.model_copy(update={"prompt": f"{each.prompt} Think."}) for each in HALF if each.problem == "p"]
    found = compare_all([side("a", BASE), side("b", reworded + HALF[2:])])
    words, scored = found.tasks["t"].notes
    assert words == "b was asked 1 of 2 questions in other words than a"
    assert scored.startswith(
        "b: 50.0 % (50.0 to 50.0) of the generated tokens, both cut where they reach 75.0 % accuracy"
    )
    others = [each.model_copy(update={"gold": "8"}) for each in HALF]
    with pytest.raises(
        DataError, match="problem p of t has the gold answer '7' in a and '8' in b; evaluate both on the"
    ):
        compare_all([side("a", BASE), side("b", others)])
