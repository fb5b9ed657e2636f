"""Evaluation, comparison and diagnosis: figures by hand from records."""

from __future__ import annotations

import pytest

from sides import evaluation, sample
from suffice.errors import DataError
from suffice.evaluation.compare import compare
from suffice.evaluation.diagnose import conclude, cut_thought, diagnose, exits, safe_fraction, sentence
from suffice.evaluation.evaluate import evaluate
from suffice.evaluation.local import LocalSource
from suffice.evaluation.source import Forced, Sampling, Trace
from suffice.evaluation.summary import levels_of, metrics_of
from suffice.groups import Problem, Verdict
from suffice.interval import Interval
from suffice.run.directory import Run

RIGHT, WRONG = "CORRECT", "WRONG"


def test_metrics_by_hand():
    records = [
        sample("p", RIGHT, 10),
        sample("p", WRONG, 30, closed=False, truncated=True),
        sample("q", RIGHT, 20, level="2"),
        sample("q", "UNPARSED", 40, 0, level="2"),
    ]
    figures = {name: figure for name, figure in metrics_of(records) if name != "together"}
    assert {name: figure.mean for name, figure in figures.items()} == {
        "accuracy": 0.5,
        "thought_tokens": 25.0,
        "answer_tokens": 1.5,
        "tokens": 26.5,
        "thought_tokens_correct": 15.0,
        "thought_tokens_wrong": 35.0,
        "truncated": 0.25,
        "unclosed": 0.25,
        "unclosed_tokens": 30 / 4,
        "looping": 0.0,
        "loop_tokens": 0.0,
        "unparsed": 0.25,
    }
    levels = levels_of(records)
    assert levels["2"].thought_tokens.mean == 30.0
    assert levels["1"].problems == 1


def test_one_question_has_a_mean_and_no_interval():
    figure = metrics_of([sample("p", RIGHT), sample("p", WRONG)]).accuracy
    assert figure.as_dict() == {"mean": 0.5, "low": None, "high": None}


def test_no_right_answer_leaves_the_length_of_right_answers_open():
    figure = metrics_of([sample("p", WRONG), sample("q", WRONG)]).thought_tokens_correct
    assert figure.as_dict() == {"mean": None, "low": None, "high": None}


def answered(**right: tuple[int, int]):
    """Records of questions, each with so many right of so many samples."""
    return [sample(name, RIGHT if i < c else WRONG, number=i) for name, (c, n) in right.items() for i in range(n)]


def test_what_samples_come_to_together_is_the_mean_over_all_subsets():
    # p: 1 of 4 right, q: 3 of 4. Two of four are 6 pairs: p has any right in 3, all in none; q in 6 and 3.
    two, four = metrics_of(answered(p=(1, 4), q=(3, 4))).together
    assert (two.k, two.any_correct.mean, two.all_correct.mean) == (2, (3 / 6 + 1) / 2, (0 + 3 / 6) / 2)
    assert (four.k, four.any_correct.mean, four.all_correct.mean) == (4, 1.0, 0.0)


def test_samples_are_taken_together_by_twos_up_to_as_many_as_every_question_has():
    assert [each.k for each in metrics_of(answered(p=(1, 12), q=(3, 12))).together] == [2, 4, 8, 12]
    assert [each.k for each in metrics_of(answered(p=(1, 5), q=(3, 3))).together] == [2, 3]
    assert metrics_of(answered(p=(1, 1), q=(0, 1))).together == []
    assert [each.k for each in metrics_of(answered(p=(1, 2), q=(3, 4))).together] == [2]


def test_of_one_question_it_is_known_without_an_interval():
    (found,) = metrics_of(answered(p=(1, 2))).together
    assert found.any_correct.as_dict() == {"mean": 1.0, "low": None, "high": None}


def test_that_any_is_right_everywhere_is_not_certain():
    (found,) = metrics_of(answered(**{f"p{i}": (1, 2) for i in range(30)})).together
    assert (found.any_correct.mean, found.any_correct.high, found.all_correct.low) == (1.0, 1.0, 0.0)
    # 30 questions that agree, one outcome each: Wilson with t = 2.04523 at 29 degrees of freedom, 30 / (30 + t²)
    assert found.any_correct.low == pytest.approx(30 / (30 + 2.045230**2), abs=1e-6)


def test_an_all_right_model_is_not_said_to_be_certain():
    figure = metrics_of([sample(str(i), RIGHT) for i in range(50)]).accuracy
    assert figure.mean == figure.high == 1.0
    assert figure.low < 0.95


def test_a_paired_comparison_by_hand():
    before = evaluation([sample("p", RIGHT, 100), sample("q", WRONG, 50), sample("r", RIGHT, 60)])
    after = evaluation([sample("p", RIGHT, 40), sample("q", RIGHT, 25), sample("r", RIGHT, 40)])
    found = compare(before, after)
    assert found.accuracy.mean == pytest.approx(1 / 3)
    assert found.thought_tokens.mean == pytest.approx(-35.0)
    assert found.thought_tokens_change.mean == pytest.approx(105 / 210 - 1)
    assert found.thought_tokens.low < -35 < found.thought_tokens.high


def test_different_questions_are_not_compared():
    with pytest.raises(DataError, match="differ in 2 questions"):
        compare(
            evaluation([sample("p", RIGHT), sample("q", RIGHT)]), evaluation([sample("p", RIGHT), sample("r", RIGHT)])
        )


# ---------------------------------------------------------------------------------------------------- diagnosis


def thought_of(length, right_from, *, full=True, name="p"):
    """A thought of the words 10, 11, … whose forced answers are right from `right_from` kept tokens on."""
    words = [str(word) for word in range(10, 10 + length)]
    trace = Trace(name, 0, " ".join(words), "7", length, 1, closed=True, truncated=False)
    trace.verdict = Verdict.CORRECT if full else Verdict.WRONG
    for kept in exits(trace):
        verdict = Verdict.CORRECT if kept in right_from else Verdict.WRONG
        trace.forced.append(Forced(kept, len(" ".join(words[:kept])), "7", 1, False, 0.9, verdict))
    return trace


def diagnosed(length, right_from, *, full=True, name="p"):
    return cut_thought(Problem(name, "t", "?", "7"), thought_of(length, right_from, full=full, name=name))


def test_the_sufficient_point_is_the_earliest_from_which_every_forced_answer_is_right():
    found = diagnosed(20, range(8, 21))
    assert found.sufficient == 0.4
    assert found.saveable_tokens == 12
    assert found.sufficient_text == "10 11 12 13 14 15 16 17"


def test_a_lucky_early_answer_that_is_lost_again_does_not_count_as_knowing():
    assert diagnosed(20, [4, *range(12, 21)]).sufficient == 0.6


def test_a_thought_that_only_works_as_a_whole_saves_nothing():
    found = diagnosed(20, [])
    assert found.sufficient == 1.0
    assert found.saveable_tokens == 0


def test_an_answer_known_without_thinking_saves_everything():
    found = diagnosed(20, range(21))
    assert (found.sufficient, found.saveable_tokens) == (0.0, 20)


def test_a_wrong_answer_promises_no_saving():
    found = diagnosed(20, range(21), full=False)
    assert (found.sufficient, found.saveable_tokens) == (None, 0)


def test_a_thought_shorter_than_the_curve_reuses_its_exits():
    found = diagnosed(3, [2, 3])
    assert [each.exit for each in found.exits] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert found.sufficient == 0.5


def test_an_empty_thought_can_be_diagnosed():
    assert diagnosed(0, [0]).saveable_tokens == 0


def test_the_summary_by_hand():
    records = [diagnosed(20, range(8, 21), name=f"p{i}") for i in range(20)]
    records += [diagnosed(10, [10], name=f"q{i}") for i in range(20)]
    found = conclude(records)
    assert [point.accuracy.mean for point in found["curve"]] == [0] * 4 + [0.5] * 6 + [1]
    assert found["curve"][5].thought_tokens == 7.5
    assert [point.mended.mean for point in found["curve"]] == [1] * 4 + [0.5] * 6 + [0]
    assert found["lost"].mean == 0
    assert found["full"].accuracy.mean == 1.0
    assert found["saveable_fraction"].mean == pytest.approx(12 / 30)
    assert found["saveable_tokens"].mean == pytest.approx(6.0)
    assert found["sufficient_fraction"].mean == pytest.approx(0.7)
    assert found["worth_training"]


def test_an_answer_that_thinking_on_loses_is_counted_where_it_was_right():
    records = [diagnosed(20, [8, 10], full=False, name="p"), diagnosed(20, range(21), name="q")]
    found = conclude(records)
    assert [point.lost.mean for point in found["curve"]] == [0] * 4 + [0.5, 0.5] + [0] * 5
    assert [point.mended.mean for point in found["curve"]] == [0] * 11
    assert found["lost"].mean == 0.5


def test_an_early_stop_is_safe_only_where_the_loss_is_surely_small():
    early = [diagnosed(20, range(8, 21), name=f"p{i}") for i in range(300)]
    assert safe_fraction(early) == 0.4
    some_late = early[:270] + [diagnosed(20, range(18, 21), name=f"q{i}") for i in range(30)]
    assert safe_fraction(some_late) == 0.9
    assert safe_fraction([diagnosed(20, [], name=f"p{i}") for i in range(30)]) is None


def test_the_conclusion_follows_the_interval():
    none = Interval(0.02, 0.01, 0.03)  # of all thoughts: a weak model's are mostly wrong
    said = [sentence(Interval(*ends), none, None) for ends in [(0.5, 0.4, 0.6), (0.05, 0.02, 0.08), (0.2, 0.1, 0.3)]]
    assert [text.partition(":")[0] for text in said] == [
        "Worth training",
        "Not worth training",
        "Perhaps worth training",
    ]


# ---------------------------------------------------------------------------------------------------- the real thing


@pytest.fixture(scope="module")
def lab():
    from making import exact
    from suffice.config import DEFAULT_INDUCER
    from suffice.model.load import load_chat, load_model
    from suffice.tasks import load_task

    model, chat = exact(load_model("lab/arithmetic", device="cpu")), load_chat("lab/arithmetic", DEFAULT_INDUCER)
    return LocalSource("base", model, chat), load_task("arithmetic", split="test", limit=40)


PROTOCOL = Sampling(samples=2, temperature=1.0, top_p=1.0, max_thought_tokens=256, max_answer_tokens=8)


def test_the_shipped_base_is_evaluated_and_the_records_give_the_summary_again(lab, tmp_path):
    from suffice.grading import Grader

    source, problems = lab
    with Grader() as grader:
        found = evaluate(source, problems, PROTOCOL, grader, Run(tmp_path), "e")
        again = evaluate(source, problems[:7], PROTOCOL, grader, Run(tmp_path), "less")
    assert len(found.records) == 80
    assert again.records == found.records[:14]  # what is sampled does not depend on the company
    assert found.summary.seconds > 0
    back = Run(tmp_path).evaluation("e")
    assert back == found
    assert metrics_of(back.records) == found.summary.metrics


def test_an_evaluation_that_was_stopped_goes_on_where_it_was(lab, tmp_path):
    from suffice.grading import Grader

    source, problems = lab
    run, asked = Run(tmp_path), []

    class Stopped(LocalSource):
        lot = 16

        def sample(self, draws, *more):
            asked.append(len(draws))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return super().sample(draws, *more)

    stopped = Stopped("base", source.model, source.chat)
    with Grader() as grader:
        with pytest.raises(KeyboardInterrupt):
            evaluate(stopped, problems, PROTOCOL, grader, run, "e")
        assert not run.is_evaluated("e")
        found = evaluate(stopped, problems, PROTOCOL, grader, run, "e")
        whole = evaluate(source, problems, PROTOCOL, grader, run, "whole")
    assert asked == [16] * 6  # five lots, the third of which was begun twice
    assert found.records == whole.records
    assert found.summary.seconds is None  # nobody knows
    assert not (tmp_path / "journal").exists()


def test_the_shipped_base_overthinks(lab):
    from suffice.grading import Grader

    source, problems = lab
    with Grader() as grader:
        found = diagnose(source, problems, PROTOCOL, grader).summary
    assert found.curve[0].accuracy.mean < 0.2  # the task needs its thought
    assert found.saveable_fraction.mean > 0.2
