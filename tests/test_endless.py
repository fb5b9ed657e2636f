"""What thoughts that never end come to: in an evaluation, a comparison, a diagnosis and a training step, by hand."""

from __future__ import annotations

import pytest

from sides import evaluation, sample
from suffice.cli.tables import endless, endless_change
from suffice.evaluation.compare import compare, compare_all
from suffice.evaluation.diagnose import conclude, cut_thought
from suffice.evaluation.sides import PLAIN, Side
from suffice.evaluation.source import Forced, Trace
from suffice.evaluation.summary import metrics_of
from suffice.groups import Group, Problem, Spine, Verdict
from suffice.lab import base_path
from suffice.model.load import load_chat
from suffice.rollout.metrics import rollout_metrics

RIGHT, WRONG = "CORRECT", "WRONG"
LOOP = "x" * 10 + "ab" * 95  # 200 characters; of the 190 that loop all but the first two repeat


def endless_samples():
    """Two questions with two samples each."""
    return [
        sample("p", RIGHT, 20),
        sample("p", WRONG, 100, text=LOOP, closed=False, truncated=True),
        sample("q", WRONG, 60, text="no loop, but cut", closed=False, truncated=True),
        sample("q", WRONG, 40, text=LOOP),  # something closed it
    ]


def test_rates_and_tokens_of_an_evaluation():
    found = metrics_of(endless_samples())
    assert (found.unclosed.mean, found.looping.mean) == (2 / 4, 2 / 4)
    assert found.unclosed_tokens.mean == (100 + 60) / 4
    assert found.loop_tokens.mean == pytest.approx(188 / 200 * (100 + 40) / 4)
    assert found.unclosed_tokens.low < 40 < found.unclosed_tokens.high


def test_what_was_not_kept_or_shown_is_not_known_to_be_no_loop():
    found = metrics_of([sample("p", RIGHT, 20, text=""), sample("q", RIGHT, 20)])
    assert not found.looping.known
    assert not found.loop_tokens.known
    assert found.unclosed.mean == 0
    assert metrics_of([sample("p", RIGHT, 0, text=""), sample("q", RIGHT, 20)]).looping.mean == 0  # no thought at all


def test_changes_of_a_comparison_are_paired():
    before = evaluation(endless_samples(), model="before")
    after = evaluation([sample("p", RIGHT, 20), sample("q", RIGHT, 30, closed=False)], model="after")
    change = compare(before, after)
    # by question: unclosed .5 → 0 and .5 → 1; looping .5 → 0 twice
    assert change.unclosed.mean == pytest.approx(0.0)
    assert change.looping.mean == pytest.approx(-0.5)
    # 50 → 0 and 30 → 30
    assert change.unclosed_tokens.mean == pytest.approx(-25.0)
    # .94 · 100 / 2 → 0 and .94 · 40 / 2 → 0
    assert change.loop_tokens.mean == pytest.approx(-(47 + 18.8) / 2)


def test_a_comparison_says_it_only_of_thoughts_that_do_not_end():
    def lines(after):
        sides = [
            Side(name, {"t": {PLAIN: evaluation(records, model=name)}})
            for name, records in (("a", endless_samples()), ("b", after))
        ]
        return endless_change(compare_all(sides).as_dict()["tasks"]["t"]["rows"][1])

    closed, looped = lines([sample("p", RIGHT), sample("q", RIGHT)])
    assert closed.startswith("thoughts that never close −50.0 points")
    assert "−40.0" in closed  # 160 of four samples
    assert looped.startswith("thoughts that loop −50.0 points")
    never = [sample("p", RIGHT), sample("q", RIGHT)]
    sides = [Side(name, {"t": {PLAIN: evaluation(never, model=name)}}) for name in ("a", "b")]
    assert endless_change(compare_all(sides).as_dict()["tasks"]["t"]["rows"][1]) == []


def test_rates_and_tokens_of_a_diagnosis():
    def cut(name: str, tokens: int, text: str, closed: bool):
        forced = [
            Forced(position, 0, "7", 1, False, verdict=Verdict.CORRECT)
            for position in {round(i / 10 * tokens) for i in range(11)}
        ]
        trace = Trace(name, 0, text, "7", tokens, 1, closed, not closed, [], forced, Verdict.CORRECT)
        return cut_thought(Problem(name, "t", "?", "7"), trace)

    records = [cut("p", 100, LOOP, False), cut("q", 20, "so it is", True)]
    found = conclude(records)
    assert {name: found[name].mean for name in ("unclosed", "unclosed_tokens", "looping", "loop_tokens")} == {
        "unclosed": 0.5,
        "unclosed_tokens": 50.0,
        "looping": 0.5,
        "loop_tokens": pytest.approx(47.0),
    }
    summary = {name: found[name].as_dict() for name in ("unclosed", "unclosed_tokens", "looping", "loop_tokens")}
    said = endless(summary)
    assert said.startswith("50.0 % (")
    assert "of thoughts never close: 50.0 (" in said
    assert "of thoughts loop: 47.0 (" in said
    assert endless({name: {"mean": 0.0, "low": 0.0, "high": 0.1} for name in summary}) == ""
    old = [each.model_copy(update={"closed": None}) for each in records]
    assert not conclude(old)["unclosed"].known  # records of before it was kept


def test_rates_and_tokens_of_a_training_step():
    chat = load_chat(str(base_path()), "\n</think>\n")
    looped = [chat.open_id, *[5, 6] * 30]
    plain = [chat.open_id, *range(5, 15), chat.close_id, 7]
    spines = [
        Spine(looped, [0.0] * len(looped), 1, len(looped), closed=False, truncated=True, verdict=Verdict.WRONG),
        Spine(plain, [0.0] * len(plain), 1, 11, closed=True, truncated=False, verdict=Verdict.CORRECT),
    ]
    group = Group(Problem("p", "t", "?", "7"), [1], chat.inducer, spines)
    found = rollout_metrics([group], chat)
    assert (found["unclosed"], found["looping"]) == (0.5, 0.5)
    assert found["unclosed_tokens"] == 60 / 2
    assert found["loop_tokens"] == 58 / 2
