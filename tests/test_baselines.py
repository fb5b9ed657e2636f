"""Training-free stops, read off forced answers: by hand, and on the lab's base against sampling that really stops."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from making import exact
from suffice.config import DEFAULT_INDUCER
from suffice.evaluation.baselines import at_budget, baselines, default_budgets, stops, when_confident, with_inducer
from suffice.evaluation.collect import collect, grade
from suffice.evaluation.evaluate import evaluate, evaluation_of, owned
from suffice.evaluation.local import LocalSource
from suffice.evaluation.source import Forced, Sampling, Trace, switches
from suffice.grading import Grader
from suffice.groups import Verdict
from suffice.model.load import load_chat, load_model
from suffice.run.directory import Run
from suffice.run.records import Stop
from suffice.tasks import load_task

RIGHT, WRONG = Verdict.CORRECT, Verdict.WRONG


def trace(**changes):
    """Ten thought tokens of two characters each; answers forced after 3, 5 and 8 of them; it turns after 3 and 8."""
    forced = [
        Forced(3, 6, "1", 4, False, 0.90, WRONG),
        Forced(5, 10, "2", 3, False, 0.99, RIGHT),
        Forced(8, 16, "2", 2, False, 0.95, RIGHT),
    ]
    made = Trace("p", 0, "aabbccddeeffgghhiijj", "9", 10, 1, True, False, [3, 8], forced, WRONG)
    return replace(made, **changes)


def test_a_thought_within_the_budget_stays_as_it_is():
    assert at_budget(trace(), 10) == trace()
    assert with_inducer(trace(), 10) == trace()


def test_a_thought_beyond_a_hard_budget_is_cut_and_wrong():
    cut = at_budget(trace(verdict=RIGHT), 5)
    assert (cut.thought, cut.thought_tokens, cut.answer_tokens) == ("aabbccddee", 5, 0)
    assert (cut.verdict, cut.closed, cut.truncated) == (WRONG, False, True)


def test_a_thought_beyond_the_inducers_budget_answers_there():
    cut = with_inducer(trace(), 5)
    assert (cut.thought, cut.thought_tokens, cut.answer, cut.answer_tokens) == ("aabbccddee", 5, "2", 3)
    assert (cut.verdict, cut.closed) == (RIGHT, True)


def test_deer_answers_at_the_first_turn_of_which_it_is_sure_and_pays_for_its_trials():
    left, trials = when_confident(trace(), 0.95)
    assert (left.thought_tokens, left.verdict, trials) == (8, RIGHT, 4)  # after 5 tokens the thought does not turn
    assert when_confident(trace(), 0.5)[0].thought_tokens == 3
    stayed, trials = when_confident(trace(), 0.96)
    assert (stayed.thought_tokens, stayed.verdict, trials) == (10, WRONG, 6)


def test_answers_are_forced_at_turns_and_at_budgets_within_the_thought():
    assert stops([2, 8, 10, 64])(trace()) == [2, 3, 8]


def test_default_budgets_halve_the_limit():
    assert default_budgets(8192) == [256, 512, 1024, 2048, 4096]
    assert default_budgets(2) == [1]


def test_a_turn_is_counted_in_tokens_that_lie_wholly_before_it():
    text = "so 4 . Wait , 5 . hmm"
    assert switches(text, [2, 4, 6, 11, 13, 15, 17, 21]) == [3, 7]
    assert switches("wait", [4]) == []  # nothing was thought yet
    assert switches("awaiting", [8]) == []


def test_many_turns_are_tried_at_sixteen_even_places():
    found = switches(" wait" * 160, [5 * (i + 1) for i in range(160)])
    assert len(found) == 15  # the first lies before any token
    assert {later - earlier for earlier, later in pairwise(found)} == {10}


@pytest.fixture(scope="module")
def lab():
    model, chat = exact(load_model("lab/arithmetic", device="cpu")), load_chat("lab/arithmetic", DEFAULT_INDUCER)
    return LocalSource("base", model, chat), load_task("arithmetic", split="test", limit=60)


PROTOCOL = Sampling(samples=2, temperature=1.0, top_p=1.0, max_thought_tokens=256, max_answer_tokens=8)


def test_baselines_stop_the_very_samples_of_the_plain_evaluation(lab, tmp_path):
    source, problems = lab
    run = Run(tmp_path)
    with Grader() as grader:
        traces = collect(source, problems, PROTOCOL, stops([16, 64]))
        grade(traces, problems, grader)
        alone = evaluate(source, problems, PROTOCOL, grader, run, "alone")
        short = evaluate(source, problems, replace(PROTOCOL, max_thought_tokens=64), grader, run, "short")
    plain = evaluation_of(source, problems, PROTOCOL, traces)
    assert plain.records == alone.records
    found = baselines(plain, owned(problems, traces), [16, 64])
    assert list(found) == ["budget-16", "inducer-16", "budget-64", "inducer-64", "deer-0.95"]
    accuracy = {label: each.summary.metrics.accuracy.mean for label, each in found.items()}
    tokens = {label: each.summary.metrics.thought_tokens.mean for label, each in found.items()}
    # a budget of 64 read off whole thoughts is what sampling with that limit gives
    assert accuracy["budget-64"] == short.summary.metrics.accuracy.mean
    assert tokens["budget-64"] == short.summary.metrics.thought_tokens.mean
    assert accuracy["inducer-64"] > accuracy["budget-64"]
    assert tokens["deer-0.95"] < plain.summary.metrics.thought_tokens.mean
    assert found["deer-0.95"].summary.variant == Stop(kind="deer", threshold=0.95)
    assert any(record.trial_tokens for record in found["deer-0.95"].records)
    assert all(record.trial_tokens == 0 for record in found["inducer-64"].records)
