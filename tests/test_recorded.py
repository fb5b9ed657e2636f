"""Recorded exits, diagnosed without a model: every figure by hand, and every file that is none refused in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import real_models

from disk import names
from suffice import cli
from suffice.errors import DataError
from suffice.evaluation.budgets import Terms
from suffice.evaluation.recorded import diagnose_recorded, fraction_of, holds_exits, read_thoughts
from suffice.grading import Grader
from suffice.groups import Verdict
from suffice.run.directory import Diagnosis, Run

R, W, NONE = Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSED


def thought(question: str, tokens: int, said: dict[int, Any], answer: Any = "7", **more: Any) -> dict[str, Any]:
    """A record whose gold answer is 7; `said` at each position."""
    exits = [[position, forced] for position, forced in said.items()]
    return {"id": question, "gold": "7", "thought_tokens": tokens, "exits": exits, "answer": answer} | more


def written(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "exits.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def found(path: Path, fields: dict[str, str] | None = None, terms: Terms | None = None) -> Diagnosis:
    with Grader() as grader:
        return diagnose_recorded(path, fields or {}, grader, terms or Terms())


def refusal(path: Path, fields: dict[str, str] | None = None, terms: Terms | None = None) -> str:
    with pytest.raises(DataError) as error:
        found(path, fields, terms)
    assert "\n" not in str(error.value)
    return str(error.value)


SETTLED = thought("p", 100, {0: "1", 20: "7", 40: "2", 60: "7", 80: "7"})
"""Right from 60 on; right at 20 by luck."""
SLOW = thought("q", 200, {50: None, 100: "ERR", 150: "3"})
"""Right only in the end."""
LOST = thought("r", 100, {50: "7"}, "8")
"""Right at 50 and wrong in the end."""


# -- figures by hand


def test_what_is_saveable_by_hand(tmp_path: Path):
    summary = found(written(tmp_path, SETTLED, SLOW, LOST)).summary
    # 400 tokens, of which 300 in right thoughts; settled at 60 of 100: 40 saved; first right at 20: 80 saved
    assert summary.saveable_fraction.mean == pytest.approx(40 / 400)
    assert summary.saveable_right.mean == pytest.approx(40 / 300)
    assert summary.first_right.mean == pytest.approx(80 / 400)
    assert summary.first_right_right.mean == pytest.approx(80 / 300)
    assert summary.luck.mean == pytest.approx(1 / 3)  # 7 at 20, 2 at 40
    assert summary.lost.mean == pytest.approx(1 / 3)
    assert summary.saveable_tokens.mean == pytest.approx(40 / 3)
    assert summary.full.accuracy.mean == pytest.approx(2 / 3)
    assert summary.sufficient_fraction.mean == pytest.approx((0.6 + 1.0) / 2)
    assert summary.saveable_fraction.bounded


def test_the_interval_of_a_part_is_the_delta_methods(tmp_path: Path):
    # parts 40, 50 and 60 of 100, R = 0.5; residuals −10, 0 and 10 over 100: s = 0.1, SE = 0.1/√3; t(2 df) = 4.30265
    records = [thought(name, 100, {at: "7"}) for name, at in {"p": 60, "q": 50, "r": 40}.items()]
    half = 4.3026527 * 0.1 / 3**0.5
    assert found(written(tmp_path, *records)).summary.saveable_fraction == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    # with 20 and 60 alone the half width is 12.7 · 0.2, beyond what a part can be
    assert found(written(tmp_path, records[0], thought("s", 100, {80: "7"}))).summary.saveable_fraction[1:] == (0, 1)


def test_the_curve_takes_the_last_exit_within_each_fraction(tmp_path: Path):
    summary = found(written(tmp_path, SETTLED, SLOW, LOST)).summary
    right = [round(3 * point.accuracy.mean) for point in summary.curve]
    # p: right at 20 and 30 %, wrong at 40 and 50 %, right from 60 % on; q never by an exit; r from 50 % on
    assert right == [0, 0, 1, 1, 0, 1, 2, 2, 2, 2, 2]
    # kept at 50 %: 40, 100 and 50 tokens
    assert summary.curve[5].thought_tokens == pytest.approx(190 / 3)
    assert summary.curve[10].mended.mean == pytest.approx(1 / 3)  # q
    assert summary.curve[10].lost.mean == pytest.approx(1 / 3)  # r


def test_an_exit_in_the_token_into_which_a_tenth_falls_is_that_of_the_tenth():
    assert fraction_of(177, 1768) == 0.1  # 176.8
    assert fraction_of(176, 1768) == 176 / 1768
    assert fraction_of(178, 1768) == 178 / 1768
    assert [fraction_of(position, 3) for position in range(4)] == [0.0, 0.1, 0.4, 0.7]
    assert fraction_of(0, 0) == 0.0


@pytest.mark.parametrize("nothing", [None, "", "  ", "ERR", "err", "error", "None", "NaN", "N/A"])
def test_an_unreadable_forced_answer_is_no_answer_and_no_luck(tmp_path: Path, nothing: Any):
    records = found(written(tmp_path, thought("p", 10, {2: "7", 4: nothing}), SLOW)).records
    assert [each.verdict for each in records[0].exits] == [R, NONE]
    assert found(written(tmp_path, thought("p", 10, {2: "7", 4: nothing}), SLOW)).summary.luck.mean == 0
    assert records[0].sufficient == 1.0  # it was not settled at 2


def test_no_answer_may_be_the_answer(tmp_path: Path):
    none = {"id": "p", "gold": "none", "kind": "exact", "thought_tokens": 9, "exits": [[3, "none"]], "answer": "None"}
    records = found(written(tmp_path, none, SLOW)).records
    assert records[0].exits[0].verdict is R


def test_answers_are_graded_and_not_compared_as_text(tmp_path: Path):
    half = {"id": "p", "gold": "\\frac{1}{2}", "thought_tokens": 9, "exits": [[3, "1/2"], [6, "0.4"]], "answer": "0.5"}
    letter = thought("q", 9, {3: "A", 6: "B"}, "B", gold="B", kind="choice")
    first, second = found(written(tmp_path, half, letter)).records
    assert [each.verdict for each in first.exits] == [R, W]
    assert (first.full_verdict, second.full_verdict) == (R, R)
    assert [each.verdict for each in second.exits] == [W, R]


def test_by_pass_rate_each_question_counts_in_the_band_of_its_own_samples(tmp_path: Path):
    # p: 2 of 2 right, 50 of 100 saveable; q: 1 of 2, 20 of 200; r: 0 of 2
    records = [
        thought("p", 50, {25: "7"}), thought("p", 50, {25: "7"}),
        thought("q", 100, {80: "7"}), thought("q", 100, {80: "1"}, "1"),
        thought("r", 100, {80: "1"}, "1"), thought("r", 100, {80: "7"}, "1"),
    ]  # fmt: skip
    parts = found(written(tmp_path, *records)).summary.parts["pass rate"]
    assert list(parts) == ["at least 95 %", "50 to 95 %", "below 5 %"]
    assert parts["at least 95 %"].saveable_fraction.mean == pytest.approx(0.5)
    assert parts["50 to 95 %"].saveable_fraction.mean == pytest.approx(0.1)
    assert parts["50 to 95 %"].saveable_right.mean == pytest.approx(0.2)
    assert not parts["50 to 95 %"].saveable_fraction.bounded  # one question
    assert parts["below 5 %"].saveable_fraction.mean == 0
    assert not parts["below 5 %"].saveable_right.known  # nothing right


def test_one_sample_a_question_has_no_pass_rate(tmp_path: Path):
    assert found(written(tmp_path, SETTLED, SLOW)).summary.parts == {}


def test_levels_and_subjects_are_told_apart(tmp_path: Path):
    records = [SETTLED | {"level": 5, "subject": "algebra"}, SLOW | {"level": 5}, LOST | {"difficulty": "2"}]
    parts = found(written(tmp_path, *records)).summary.parts
    assert {kind: {name: part.problems for name, part in own.items()} for kind, own in parts.items()} == {
        "level": {"2": 1, "5": 2},
        "subject": {"algebra": 1},
    }


def test_a_weak_model_that_overthinks_is_worth_training(tmp_path: Path):
    # one right thought in nine, each known at a quarter: 75 % of right thoughts' tokens, 8.3 % of all
    right = [thought(f"p{i}", 100, {25: "7", 75: "7"}) for i in range(20)]
    wrong = [thought(f"q{i}", 100, {25: "1", 75: "1"}, "1") for i in range(160)]
    summary = found(written(tmp_path, *right, *wrong)).summary
    assert summary.worth_training
    # all 20 alike: u = 1 − 0.05^(1/20) = 0.13911; 0.86089 · 0.75 = 0.64567, and 0.78478
    assert summary.saveable_right == pytest.approx((0.75, 0.64567, 0.78478), abs=1e-5)
    assert "75 % (65 to 78) of the thinking tokens of right thoughts" in summary.conclusion
    assert ", 8 % (5 to 12) of those of all" in summary.conclusion


def test_two_right_questions_that_agree_leave_a_wide_interval(tmp_path: Path):
    records = [thought(name, 100, {40: "7"}) for name in "pq"] + [thought("r", 100, {40: "1"}, "1")]
    summary = found(written(tmp_path, *records)).summary
    # u = 1 − √0.05 = 0.77639: 0.22361 · 0.6 = 0.13416, and 0.91056
    assert summary.saveable_right == pytest.approx((0.6, 0.13416, 0.91056), abs=1e-5)
    assert not summary.worth_training


def test_a_single_right_question_proves_nothing(tmp_path: Path):
    summary = found(written(tmp_path, thought("p", 100, {10: "7"}), thought("q", 100, {10: "1"}, "1"))).summary
    assert summary.saveable_right.as_dict() == {"mean": 0.9, "low": None, "high": None}
    assert not summary.worth_training
    assert summary.conclusion.startswith("Perhaps worth training: 90 % of")


def test_a_diagnosis_of_recorded_exits_comes_back_from_the_disk(tmp_path: Path):
    made = found(written(tmp_path, SETTLED, SLOW, LOST))
    Run(tmp_path).write_diagnosis("exits", made)
    back = Run(tmp_path).diagnosis("exits")
    assert back.records == made.records
    assert back.summary.as_dict() == made.summary.as_dict()


# -- other layouts


def test_fields_are_found_under_other_names(tmp_path: Path):
    record = {
        "task": {"qid": 3, "truth": 7}, "run": 0, "n": 10, "at": [2, 4], "said": ["1", "7"], "final": "7"
    }  # fmt: skip
    fields = {
        "id": "task.qid", "gold": "task.truth", "sample": "run", "thought_tokens": "n", "exits": "at+said",
        "answer": "final",
    }  # fmt: skip
    path = written(tmp_path, record, record | {"run": 1})
    assert holds_exits(path, fields)
    assert [(t.id, t.sample, t.gold, t.exits) for t in read_thoughts(path, fields)] == [
        ("3", 0, "7", [(2, "1"), (4, "7")]),
        ("3", 1, "7", [(2, "1"), (4, "7")]),
    ]


def test_samples_without_a_number_are_numbered_and_more_in_an_exit_is_ignored_and_json_is_read(tmp_path: Path):
    thoughts = read_thoughts(written(tmp_path, thought("p", 5, {}), thought("q", 5, {}), thought("p", 5, {})), {})
    assert [(t.id, t.sample) for t in thoughts] == [("p", 0), ("q", 0), ("p", 1)]
    path = written(tmp_path, thought("p", 5, {}) | {"exits": [[2, "7", 0.5]]})
    assert read_thoughts(path, {})[0].exits == [(2, "7")]
    path = written(tmp_path, thought("p", 5, {}) | {"exits": '[[2, "7"]]'})
    assert read_thoughts(path, {})[0].exits == [(2, "7")]


def test_records_of_an_evaluation_hold_no_exits(tmp_path: Path):
    assert not holds_exits(written(tmp_path, {"problem": "p", "verdict": "CORRECT"}), {})


# -- what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exits": [[50, "7"], [101, "7"]]}, "an exit at 101 lies beyond the thought of 100 tokens"),
        ({"exits": [[50, "7"], [50, "7"]]}, "an exit at 50 follows one at 50"),
        ({"exits": [[50, "7"], [10, "7"]]}, "an exit at 10 follows one at 50"),
        ({"exits": [[-1, "7"]]}, "whole number from 0 on"),
        ({"exits": [[0.5, "7"]]}, "whole number from 0 on"),
        ({"exits": [["50", "7"]]}, "whole number from 0 on"),
        ({"exits": [[True, "7"]]}, "whole number from 0 on"),
        ({"exits": [50, 60]}, "a list of pairs"),
        ({"exits": [[50]]}, "a list of pairs"),
        ({"exits": {"50": "7"}}, "a list of pairs"),
        ({"exits": None}, "a list of pairs"),
        ({"exits": [[50, ["7"]]]}, "an answer must be text or a number"),
        ({"thought_tokens": "long"}, "thought_tokens must be a whole number"),
        ({"thought_tokens": 1e400}, "thought_tokens"),
        ({"gold": ""}, "gold is blank"),
        ({"gold": None}, "gold is blank"),
        ({"id": None}, "id is blank"),
        ({"kind": "poem"}, "unknown kind 'poem'"),
        ({"kind": "choice"}, "7"),
        ({"sample": -1}, "sample must be a whole number"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], said: str):
    text = "".join(json.dumps(each) + "\n" for each in (SLOW, SETTLED | change)).replace("Infinity", "1e400")
    path = tmp_path / "exits.jsonl"
    path.write_text(text)
    told = refusal(path)
    assert f"{path}:2" in told
    assert said in told


@pytest.mark.parametrize("name", ["id", "gold", "thought_tokens", "answer"])
def test_a_missing_field_is_named_with_the_way_to_map_it(tmp_path: Path, name: str):
    record = {key: value for key, value in SETTLED.items() if key != name}
    assert f"--fields {name}=COLUMN" in refusal(written(tmp_path, SLOW, record))


def test_a_field_that_is_none_is_refused(tmp_path: Path):
    assert "unknown name 'prompt'" in refusal(written(tmp_path, SETTLED, SLOW), {"prompt": "id"})
    assert "no 'where'" in refusal(written(tmp_path, SETTLED, SLOW), {"level": "where"})
    assert "+" in refusal(written(tmp_path, SETTLED, SLOW), {"gold": "gold+id"})


def test_positions_and_answers_must_be_as_many(tmp_path: Path):
    record = SETTLED | {"at": [1, 2], "said": ["7"]}
    assert "2 positions and 1 forced answers" in refusal(written(tmp_path, record), {"exits": "at+said"})


def test_two_records_that_contradict_each_other_are_refused(tmp_path: Path):
    assert "stands at" in refusal(written(tmp_path, SETTLED | {"sample": 0}, SETTLED | {"sample": 0}, SLOW))
    assert "'8' here and '7'" in refusal(written(tmp_path, SETTLED, SETTLED | {"gold": "8"}, SLOW))


def test_one_question_is_refused_since_it_has_no_interval(tmp_path: Path):
    assert "an interval needs at least 2" in refusal(written(tmp_path, SETTLED, SETTLED))


def test_a_file_without_exits_or_thoughts_is_refused(tmp_path: Path):
    assert "no record has an exit" in refusal(written(tmp_path, thought("p", 5, {}), thought("q", 5, {})))
    assert "no thought has a token" in refusal(written(tmp_path, thought("p", 0, {0: "7"}), thought("q", 0, {0: "7"})))


def test_a_budget_above_every_thought_is_refused(tmp_path: Path):
    told = refusal(written(tmp_path, SETTLED, SLOW), terms=Terms(budgets=[100, 200]))
    assert "a thinking budget of 200 stops nothing: the longest thought has 200 tokens" in told


# -- what the page of real models shows


def test_the_page_of_real_models_shows_what_was_recorded():
    page = real_models.PAGE.read_text(encoding="utf-8")
    assert real_models.rendered(page) == page
    assert all(f"<!-- real {name} -->\n|" in page for name in real_models.TABLES)


# -- from the command line


@pytest.fixture
def suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line in an empty working folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["suffice", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_recorded_exits_are_diagnosed_without_a_model(tmp_path: Path, suffice: Any):
    records = [SETTLED | {"id": f"p{i}"} for i in range(200)]  # right at 20 and from 60 on, of 100
    path = written(tmp_path, *records)
    code, out, err = suffice("diagnose", "--from", path, "--out", "found", "--price", "0.6", "--speed", "50")
    assert code == 0, err
    assert names(tmp_path / "found") == ["data.json", "diagnosis", "diagnosis.png", "manifest.json"]
    assert "Serve a thinking budget of" in out
    assert "vllm serve MODEL" in out
    code, out, _ = suffice("diagnose", "--from", path, "--out", "again", "--json")
    assert json.loads(out)["first_right"]["mean"] == pytest.approx(0.8)
    assert suffice("report", "found")[0] == 0
    page = (tmp_path / "found" / "report.html").read_text()
    assert "Serve a thinking budget of 60 tokens" in page
    assert "thinking_token_budget" in page
    assert "where they sufficed" not in page  # no thought was recorded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lab/arithmetic"], "leave MODEL out"),
        (["--base-url", "http://localhost:1/v1"], "leave --base-url out"),
        (["--max-thought-tokens", "5"], "leave --max-thought-tokens out"),
        (["--task", "gsm8k"], "leave --task out"),
        (["--budgets", "300"], "a thinking budget of 300 stops nothing: the longest thought has 200 tokens"),
        (["--fields", "gold"], "is not a list of pairs"),
        (["--fields", "gold=label"], "no gold: there is no 'label' among its columns"),
        (["--fields", "prompt=gold"], "unknown name 'prompt'"),
        (["--price", "0"], "--price 0 is not a number above 0"),
        (["--speed", "inf"], "--speed inf is not a number above 0"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path: Path, suffice: Any, options: list[str], said: str):
    path = written(tmp_path, SETTLED, SLOW)
    code, out, err = suffice("diagnose", "--from", path, *options, "--out", "found")
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert names(tmp_path) == ["exits.jsonl"]


def test_records_without_exits_need_a_model(tmp_path: Path, suffice: Any):
    path = written(tmp_path, {"problem": "p"})
    code, _, err = suffice("diagnose", "--from", path, "--out", "found")
    assert code == 2
    assert "holds no exits: give the MODEL" in err
    assert "leave --fields out" in suffice("diagnose", "m", "--from", path, "--fields", "gold=g")[2]
