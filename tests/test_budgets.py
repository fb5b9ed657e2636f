"""Which thinking budget to serve: every figure by hand."""

from __future__ import annotations

import shlex
from itertools import pairwise

import pytest

from sides import evaluation, sample
from suffice.config import DEFAULT_INDUCER
from suffice.errors import DataError
from suffice.evaluation.budgets import (
    Terms,
    advise,
    advise_cut,
    advise_stops,
    check_budgets,
    overall,
    round_budgets,
    smallest_safe,
    worth,
)
from suffice.evaluation.compare import compare_all
from suffice.evaluation.serving import serve_lines
from suffice.evaluation.sides import PLAIN, Side
from suffice.evaluation.stops import Point
from suffice.groups import Verdict
from suffice.interval import Interval
from suffice.run.directory import Evaluation
from suffice.run.records import BudgetAdvice, CutThought, Exit, Stop, Stopped

Said = dict[int, tuple[bool, str | None, float | None]]
"""What was forced at each position: whether it is right, its text and its confidence."""


def cut(question: str, tokens: int, said: Said, right: bool = True) -> CutThought:
    def verdict(good: bool) -> Verdict:
        return Verdict.CORRECT if good else Verdict.WRONG

    exits = [
        Exit(fraction=at / tokens, exit=at, verdict=verdict(good), answer=answer, confidence=confidence)
        for at, (good, answer, confidence) in said.items()
    ]
    return CutThought(
        problem=question, difficulty=None, sample=0, thought_tokens=tokens, full_verdict=verdict(right), exits=exits,
        sufficient=1.0 if right else None, saveable_tokens=0, prompt="", gold="7", thought="", sufficient_text=None,
        answer="7" if right else "8",
    )  # fmt: skip


def point(name: str, right: list[int], tokens: list[int]) -> Point:
    """One sample a question."""
    accuracy = {f"q{i}": [float(each)] for i, each in enumerate(right)}
    lengths = {f"q{i}": [float(each)] for i, each in enumerate(tokens)}
    return Point(name, accuracy, lengths, lengths)


def stopped(budget: int, accuracy: tuple[float, float, float], changed: int = 1) -> Stopped:
    nothing = Interval(0.0, 0.0, 0.0)
    return Stopped(
        rule="", budget=budget, accuracy=Interval(*accuracy), changed=changed, thought_tokens=1.0, saved_tokens=nothing,
        saved_fraction=nothing,
    )  # fmt: skip


def chosen(advice: BudgetAdvice) -> int | None:
    return advice.recommended.budget if advice.recommended else None


# -- from a diagnosis


def test_at_a_budget_a_longer_thought_gives_the_answer_of_its_last_exit_within():
    said: Said = {40: (True, None, None), 80: (False, None, None)}
    records = [cut("p", 100, said), cut("q", 50, {}, right=False)]
    advice = advise_cut(records, Terms(budgets=[30, 50, 90]))
    # p: nothing by 30, right by 50, wrong by 90; q: as it is from 50 on. As they are: 1 of 2 right, 150 tokens
    assert [each.accuracy.mean for each in advice.budgets] == [-0.5, 0.0, -0.5]
    assert [each.thought_tokens for each in advice.budgets] == [30.0, 50.0, 70.0]
    assert [each.saved_tokens.mean for each in advice.budgets] == [45.0, 25.0, 5.0]
    assert [each.saved_fraction.mean for each in advice.budgets] == pytest.approx([90 / 150, 50 / 150, 10 / 150])
    assert [each.changed for each in advice.budgets] == [1, 0, 1]
    assert advice.longest == 100


def test_the_smallest_safe_budget_by_hand():
    # 200 questions of 100 tokens, known at 50, of which 10 need 90
    known: Said = {50: (True, None, None)}
    late: Said = {50: (False, None, None), 90: (True, None, None)}
    records = [cut(f"p{i}", 100, late if i < 10 else known) for i in range(200)]
    advice = advise_cut(records, Terms(budgets=[50, 90]))
    # at 90 all are right, d = 0: low = −(1 − 0.05^(1/200)) = −0.01487; at 50 d = −10/200, s² = 0.0475·200/199,
    # SE = √(0.0475/199) = 0.015450, t(199) = 1.97196: low = −0.05 − 0.030466
    assert advice.budgets[1].accuracy == pytest.approx((0.0, -0.0148670, 0.0148670), abs=1e-6)
    assert advice.budgets[0].accuracy == pytest.approx((-0.05, -0.0804660, -0.0195340), abs=1e-6)
    assert chosen(advice) == 90
    assert chosen(advise_cut(records, Terms(budgets=[50, 90], points=9))) == 50
    assert advice.sentence == (
        "Serve a thinking budget of 90 tokens: +0.0 points (−1.5 to +1.5) of accuracy, 10 % (10 to 10) fewer tokens, "
        "both with 95 % intervals."
    )


def test_no_budget_is_safe_where_every_one_may_cost_too_much():
    advice = advise_cut([cut(f"p{i}", 100, {50: (False, None, None)}) for i in range(40)], Terms(budgets=[50, 80]))
    assert advice.recommended is None
    assert advice.sentence.startswith("No budget is safe: none that was weighed surely keeps accuracy within 2 points;")
    assert "−100.0 points" in advice.sentence


def test_leaving_when_answers_agree_by_hand():
    # three in a row: p leaves at 40 with 7; of q the missing answer breaks the row, and it goes on to its end
    p: Said = {10: (False, "1", None), 20: (True, "7", None), 30: (True, "7", None), 40: (True, "7", None)}
    q: Said = {10: (False, "3", None), 20: (False, "3", None), 30: (False, None, None), 40: (False, "3", None)}
    records = [cut("p", 100, p), cut("q", 100, q)]
    (other,) = advise_cut(records, Terms(budgets=[50])).others
    assert other.rule == "an exit when 3 forced answers in a row agree, tries not counted"
    assert (other.accuracy.mean, other.thought_tokens) == (0.0, 70.0)
    # two in a row would leave q at 20, wrong: half of all lost; of rows without a safe one the least costly is kept


def test_leaving_when_sure_by_hand():
    # p is 0.96 sure at 20, q never: (20 + 100) / 2
    p: Said = {10: (False, None, 0.5), 20: (True, None, 0.96)}
    q: Said = {10: (False, None, 0.94)}
    (other,) = advise_cut([cut("p", 100, p), cut("q", 100, q)], Terms(budgets=[50])).others
    assert other.rule == "an exit when 95 % sure, tries not counted"
    assert other.thought_tokens == 60.0


def test_budgets_are_round_and_near_each_other():
    budgets = round_budgets(1000)
    assert budgets[:5] == [10, 11, 12, 13, 14]
    assert budgets[-3:] == [850, 900, 950]
    assert all(b <= 1.1001 * a for a, b in pairwise(budgets))
    assert set(round_budgets(500)) >= {budget for budget in budgets if budget < 500}
    assert round_budgets(3) == [1, 2]
    assert round_budgets(1) == round_budgets(0) == []


def test_a_budget_above_every_thought_is_refused_or_said():
    with pytest.raises(DataError, match="a thinking budget of 100 stops nothing: the longest thought has 100 tokens"):
        check_budgets([50, 100, 200], 100)
    advice = advise(point("", [1, 1], [10, 20]), {20: point("", [1, 1], [10, 20]), 15: point("", [1, 1], [10, 15])})
    assert [each.budget for each in advice.budgets] == [15]
    assert "budgets from 20 on are above every thought and stop nothing" in advice.sentence


# -- the search


def test_a_budget_that_is_safe_by_luck_below_one_that_is_not_is_not_recommended():
    row = [stopped(20, (0.0, -0.01, 0.01)), stopped(30, (-0.02, -0.05, 0.01)), stopped(40, (0.0, -0.01, 0.01))]
    found = smallest_safe(row, 2.0)
    assert found is not None
    assert found.budget == 40


def test_a_budget_that_changes_no_answer_ends_no_search():
    # with few questions what changes nothing is not proved safe, and proves nothing against smaller budgets
    row = [stopped(20, (-0.03, -0.09, 0.0)), stopped(30, (0.0, -0.01, 0.01)), stopped(40, (0.0, -0.095, 0.095), 0)]
    found = smallest_safe(row, 2.0)
    assert found is not None
    assert found.budget == 30
    assert smallest_safe(row[2:], 2.0) is None


def test_the_bound_itself_is_not_safe():
    assert smallest_safe([stopped(20, (0.0, -0.02, 0.02))], 2.0) is None


# -- money and time


def test_what_is_saved_in_money_and_time_by_hand():
    untouched, budget = point("", [1, 1], [100, 60]), point("", [1, 1], [50, 50])
    advice = advise(untouched, {50: budget}, terms=Terms(price=0.6, speed=25, points=100))
    assert advice.recommended is not None
    # 50 and 10 saved, mean 30, SE 20, t(1) = 12.7062: ±254.12. 30 tokens · 1,000 · 0.6 / 10⁶ = 0.018; 30 / 25 = 1.2 s
    assert worth(advice, advice.recommended) == [
        "saves 0.02 (−0.13 to 0.17) per 1,000 answers, at your price",
        "saves 1.2 (−9.0 to 11.4) s an answer, at your speed",
        "lets no thought take more than 2 s",
    ]


def test_without_price_and_speed_nothing_is_said_of_them():
    advice = advise(point("", [1, 1], [100, 60]), {50: point("", [1, 1], [50, 50])}, terms=Terms(points=100))
    assert advice.recommended is not None
    assert worth(advice, advice.recommended) == []


# -- over tasks


def test_over_tasks_each_counts_the_same_and_a_budget_above_a_task_changes_nothing_there():
    short = advise(point("", [1, 1], [40, 60]), {30: point("", [1, 0], [30, 30])})
    long = advise(
        point("", [1, 1], [100, 100]), {30: point("", [0, 0], [30, 30]), 80: point("", [1, 0], [80, 80])}
    )  # fmt: skip
    together = overall({"short": short, "long": long})
    assert together is not None
    at_30, at_80 = together.budgets
    assert at_30.accuracy.mean == pytest.approx((-0.5 - 1.0) / 2)
    assert at_30.saved_tokens.mean == pytest.approx((20 + 70) / 2)
    assert at_80.accuracy.mean == pytest.approx((0 - 0.5) / 2)
    assert at_80.thought_tokens == pytest.approx((50 + 80) / 2)
    assert at_80.saved_fraction.mean == pytest.approx((0 + 0.2) / 2)


def test_a_task_with_no_thought_as_long_as_any_budget_takes_part():
    short = advise(point("", [1, 1], [10, 20]), {30: point("", [1, 1], [10, 20])})
    long = advise(point("", [1, 1], [100, 100]), {30: point("", [1, 0], [30, 30])})
    together = overall({"short": short, "long": long})
    assert together is not None
    assert [(each.budget, each.accuracy.mean, each.thought_tokens) for each in together.budgets] == [(30, -0.25, 22.5)]


def test_one_task_has_no_overall():
    assert overall({"t": advise(point("", [1, 1], [100, 60]), {50: point("", [1, 1], [50, 50])})}) is None


# -- from an evaluation


def measured() -> tuple[Evaluation, list[Evaluation]]:
    """Two questions right at 100 and 60 thinking tokens and an answer of 2; stopped at 50 with both right, and by DEER
    at 40 with 10 tokens of trials."""
    plain = evaluation([sample("p", "CORRECT", 100, 2), sample("q", "CORRECT", 60, 2)])
    hard = [sample("p", "WRONG", 50, 0), sample("q", "WRONG", 50, 0)]
    soft = [sample("p", "CORRECT", 50, 2), sample("q", "CORRECT", 50, 2)]
    deer = [sample("p", "CORRECT", 40, 2, trials=10), sample("q", "WRONG", 60, 2)]
    stops = [
        evaluation(hard, variant=Stop(kind="budget", budget=50)),
        evaluation(soft, variant=Stop(kind="inducer", budget=50)),
        evaluation(deer, variant=Stop(kind="deer", threshold=0.95)),
    ]
    return plain, stops


def test_an_evaluation_recommends_by_all_generated_tokens():
    plain, stops = measured()
    advice = advise_stops(plain, stops, Terms(points=100))
    assert advice is not None
    assert [each.budget for each in advice.budgets] == [50]  # not the cut, which makes answers wrong
    # as they are 102 and 62 tokens, at the budget 52 each, by DEER 52 and 62
    assert advice.budgets[0].saved_tokens.mean == pytest.approx(30)
    assert advice.budgets[0].saved_fraction.mean == pytest.approx(60 / 164)
    (deer,) = advice.others
    assert (deer.accuracy.mean, deer.saved_tokens.mean) == (-0.5, 25.0)
    assert chosen(advice) == 50


def test_an_evaluation_that_was_not_stopped_recommends_nothing():
    plain, stops = measured()
    assert advise_stops(plain, []) is None
    assert advise_stops(plain, stops[2:]) is None


def test_a_model_that_says_nothing_is_told_that_no_budget_is_safe():
    silent = evaluation([sample("p", "WRONG", 0, 0), sample("q", "WRONG", 0, 0)])
    stops = [
        evaluation(silent.records, variant=Stop(kind="inducer", budget=50)),
        evaluation(silent.records, variant=Stop(kind="deer", threshold=0.95)),
    ]
    advice = advise_stops(silent, stops)
    assert advice is not None
    assert advice.recommended is None
    assert advice.sentence.endswith("budgets from 50 on are above every thought and stop nothing.")


def test_a_comparison_sets_the_budget_beside_the_trained_model():
    plain, stops = measured()
    trained = evaluation([sample("p", "CORRECT", 30, 2), sample("q", "CORRECT", 30, 2)])
    named = {stop.summary.variant.label: stop for stop in stops if stop.summary.variant}
    base = Side("base", {"t": {PLAIN: plain} | named})
    found = compare_all([base, Side("trained", {"t": {PLAIN: trained}})]).tasks["t"].budget
    assert found is not None
    assert [each.rule for each in found.others] == ["DEER, an exit when sure", "trained"]
    assert found.others[1].saved_tokens.mean == pytest.approx((70 + 30) / 2)


# -- how to serve it


def test_serving_lines_carry_the_budget_and_the_inducer_where_it_does_no_harm():
    served = {each.engine: each for each in serve_lines(4096, "my model", "deepseek_r1")}
    vllm = shlex.split(served["vLLM"].start)
    # an end of its own would reach into answers: docs/servers.md
    assert vllm == ["vllm", "serve", "my model", "--reasoning-parser", "deepseek_r1"]
    assert served["vLLM"].request == {"thinking_token_budget": 4096}
    assert "--enable-strict-thinking" in served["SGLang"].start
    assert "--reasoning-parser deepseek-r1" in served["SGLang"].start
    assert served["SGLang"].request == {"custom_params": {"thinking_budget": 4096}}
    llama = shlex.split(served["llama.cpp"].start)
    assert llama[llama.index("--reasoning-budget") + 1] == "4096"
    assert llama[llama.index("--reasoning-budget-message") + 1] + "\n</think>\n\n" == DEFAULT_INDUCER
    assert served["llama.cpp"].request == {"reasoning_budget_tokens": 4096}
    assert served["NIM"].request == {"nvext": {"max_thinking_tokens": 4096}}
    assert all("\n" not in each.start for each in served.values())
