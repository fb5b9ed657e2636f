"""Comparisons: what is read, figures by hand, the outcome against training-free stops, the table and the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from browser import measured
from sides import BUDGETS, PROTOCOL, evaluation, sample, write, write_eval
from suffice.cli import screen, tables
from suffice.config import load_recipe
from suffice.errors import DataError, RunError
from suffice.evaluation.compare import compare_all, on_front
from suffice.evaluation.sides import Side, read_side, read_sides, short
from suffice.evaluation.stops import Point, Rival, along, beside, contest, rival, sentence
from suffice.interval import UNKNOWN, Interval
from suffice.report import write_comparison
from suffice.report.examples import CLASSES, compared_examples, shortened
from suffice.run.directory import Run
from suffice.run.records import Sample, Step, Stop
from suffice.statistics import mean_of

RIGHT, WRONG = "CORRECT", "WRONG"
T_1 = 12.706205  # Student's quantile for 95 % and one degree of freedom


def two(first: str, second: str, **lengths: int) -> list[Sample]:
    return [sample("p", first, **lengths), sample("q", second, **lengths)]


def side(name: str = "a", **tasks: list[Sample]) -> Side:
    return Side(name, {task: {"": evaluation(records, name, task)} for task, records in tasks.items()})


def with_stop(plain: Side, task: str, label: str, records: list[Sample]) -> Side:
    kind, _, number = label.partition("-")
    stop = Stop(kind=kind, threshold=float(number)) if kind == "deer" else Stop(kind=kind, budget=int(number))
    stopped = evaluation(records, plain.name, task, stop)
    return replace(plain, evaluations=plain.evaluations | {task: plain.evaluations[task] | {label: stopped}})


# ---------------------------------------------------------------------------------------------------- what is read


def test_a_directory_of_eval_is_its_tasks_with_stops_from_the_smallest(tmp_path: Path) -> None:
    write_eval(tmp_path, "Qwen/Qwen3-8B", ["math500", "amc23"], rechecks=1, stopped=True, questions=3)
    found = read_side(tmp_path)
    assert found.name == "Qwen3-8B"
    assert list(found.evaluations) == ["amc23", "math500"]
    stops = [f"{kind}-{budget}" for kind in ("budget", "inducer") for budget in BUDGETS]
    assert list(found.evaluations["math500"]) == ["", *stops, "deer-0.95"]


def test_a_training_run_is_its_model_after_and_alone_is_before_and_after(tmp_path: Path) -> None:
    run = tmp_path / "my-run"
    for label in ("before", "after", "step-000010", "after-greedy"):
        write(run / "evaluations" / label, two(RIGHT, WRONG), model=label, task="arithmetic")
    found = read_side(run)
    assert found.name == "my-run"
    assert {task: list(each) for task, each in found.evaluations.items()} == {"arithmetic": [""]}
    assert found.plain("arithmetic").summary.model == "after"
    assert [each.name for each in read_sides([run])] == ["before", "after"]


def train_run(run: Path, spines: int, groups: int, tokens: int, steps: dict[int, list[Sample]]) -> Path:
    """A training run of 40 steps, each of so many groups and generated tokens, evaluated after some."""
    run.mkdir()
    (run / "recipe.toml").write_text(load_recipe("lab-grpo", [f"group.spines={spines}"]).dump())
    Run(run).append(
        [Step(step=i, groups=groups - 1, dropped=1, tokens_decode=tokens, tokens_guard=1) for i in range(1, 41)]
    )
    write(run / "evaluations/before", two(RIGHT, WRONG), task="arithmetic")
    for step, records in steps.items():
        write(run / f"evaluations/step-{step:06d}", records, task="arithmetic", model=f"step {step}")
    write(run / "evaluations/after", two(RIGHT, RIGHT), task="arithmetic")
    return run


def test_arms_that_were_trained_here_are_compared_at_equal_rollouts_and_tokens(tmp_path: Path) -> None:
    cheap = train_run(tmp_path / "cheap", 4, 8, 999, {20: two(WRONG, WRONG)})
    dear = train_run(
        tmp_path / "dear", 8, 8, 1999, {10: two(WRONG, WRONG), 20: two(RIGHT, WRONG), 30: two(RIGHT, RIGHT)}
    )
    more = train_run(tmp_path / "more", 4, 8, 2999, {10: two(RIGHT, WRONG), 15: two(WRONG, WRONG)})
    found = compare_all(read_sides([cheap, dear, more]))
    # 32 rollouts and 1,000 tokens a step for 40 steps; 64 and 2,000 reach that after 20; 3,000 tokens after 13
    assert {name: (each.rollouts, each.tokens) for name, each in found.trained.items()} == {
        "cheap": (1280, 40_000),
        "dear": (2560, 80_000),
        "more": (1280, 120_000),
    }
    rows = found.tasks["arithmetic"].rows
    assert [(row.side, row.variant, row.metrics.accuracy.mean) for row in rows] == [
        ("cheap", None, 1.0),
        ("dear", None, 1.0),
        ("dear", "step 20, equal rollouts and tokens", 0.5),
        ("more", None, 1.0),
        ("more", "step 10, equal tokens", 0.5),
    ]
    assert [row.kind for row in rows] == [None] * 5
    assert rows[2].change is not None
    assert rows[2].change.accuracy.mean == -0.5
    assert rows[2].scores is None
    page = write_comparison(read_sides([cheap, dear]), compare_all(read_sides([cheap, dear])), tmp_path).read_text()
    assert "step 20, equal rollouts and tokens" in page
    assert "Trained on: cheap 40,000 generated tokens, dear 80,000 generated tokens" in page


def test_an_arm_that_was_never_evaluated_within_the_cost_has_no_control(tmp_path: Path) -> None:
    cheap = train_run(tmp_path / "cheap", 4, 8, 999, {})
    dear = train_run(tmp_path / "dear", 8, 8, 1999, {30: two(RIGHT, RIGHT)})
    assert [row.variant for row in compare_all(read_sides([cheap, dear])).tasks["arithmetic"].rows] == [None, None]


def test_a_folder_of_one_evaluation_is_that(tmp_path: Path) -> None:
    write_eval(tmp_path, "m", ["t"], rechecks=1, stopped=True, questions=3)
    plain, stopped = read_sides([tmp_path / "evaluations/t", tmp_path / "evaluations/t@inducer-512"])
    assert (plain.name, stopped.name) == ("m", "m inducer-512")
    assert list(stopped.evaluations["t"]) == [""]


def test_an_unfinished_task_and_the_stops_without_it_are_left_out(tmp_path: Path) -> None:
    write_eval(tmp_path, "m", ["t"], rechecks=1, questions=3)
    write(tmp_path / "evaluations/u@inducer-8", two(RIGHT, WRONG), task="u", variant=Stop(kind="inducer", budget=8))
    write(tmp_path / "evaluations/.v.aside", two(RIGHT, WRONG), task="v")
    assert list(read_side(tmp_path).evaluations) == ["t"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-8B", "Qwen3-8B"),
        ("/data/models/r1/", "r1"),
        ("runs/a/checkpoints/step-000100", "a/step-000100"),
        ("step-000100", "step-000100"),
        ("/", "/"),
    ],
)
def test_a_model_is_called_by_what_tells_it_apart(model: str, name: str) -> None:
    assert short(model) == name


def test_sides_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_eval(Path(name), "Qwen/Qwen3-8B", ["t"], rechecks=1, questions=2)
    write_eval(Path("c"), "other", ["t"], rechecks=1, questions=2)
    assert [each.name for each in read_sides([Path("a"), Path("c"), Path("b")])] == [
        "Qwen3-8B (a)",
        "other",
        "Qwen3-8B (b)",
    ]
    assert [each.name for each in read_sides([Path("a"), Path("a")])] == ["Qwen3-8B (a) 1", "Qwen3-8B (a) 2"]


def spoil_record(run: Path) -> None:
    write(run / "evaluations/t", two(RIGHT, RIGHT))
    lines = (run / "evaluations/t/records.jsonl").read_text().replace('"sample"', '"simple"')
    (run / "evaluations/t/records.jsonl").write_text(lines)


def spoil_type(run: Path) -> None:
    write(run / "evaluations/t", two(RIGHT, RIGHT))
    records = run / "evaluations/t/records.jsonl"
    records.write_text(re.sub('"thought_tokens": [0-9]+', '"thought_tokens": {}', records.read_text()))


def spoil_line(run: Path) -> None:
    write(run / "evaluations/t", two(RIGHT, RIGHT))
    (run / "evaluations/t/records.jsonl").write_text("3\n")


def older_line(run: Path) -> None:
    write(run / "evaluations/t", two(RIGHT, RIGHT))
    records = run / "evaluations/t/records.jsonl"
    records.write_text(records.read_text().replace('"trial_tokens"', '"probe_tokens"'))


def hide_variant(run: Path) -> None:
    write(run / "evaluations/t", two(RIGHT, RIGHT))
    write(run / "evaluations/t@deer-0.9", two(RIGHT, RIGHT))


def only_before(run: Path) -> None:
    write(run / "evaluations/before", two(RIGHT, RIGHT))


def same_twice(run: Path) -> None:
    write(run / "evaluations/one", two(RIGHT, RIGHT))
    write(run / "evaluations/two", two(RIGHT, RIGHT))


def other_json(run: Path) -> None:
    run.joinpath("summary.json").write_text('{"model": "m"}')
    run.joinpath("records.jsonl").write_text("")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: run.rmdir(), "is missing; give what suffice eval or suffice train wrote"),
        (lambda run: None, r"a finished evaluation is missing in .*continue it: suffice eval --resume .*/run$"),
        (only_before, "after training is missing in .*suffice train --resume"),
        (spoil_record, "records.jsonl:1 lacks sample"),
        (spoil_type, "records.jsonl:1 has a bad thought_tokens"),
        (spoil_line, "records.jsonl:1 is not valid JSON"),
        (older_line, "records.jsonl:1 has probe_tokens, which this version of suffice does not know"),
        (hide_variant, "does not say how it was stopped"),
        (same_twice, "holds two evaluations of t"),
        (other_json, "summary.json lacks task"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, spoil: Any, message: str) -> None:
    (tmp_path / "run").mkdir()
    spoil(tmp_path / "run")
    with pytest.raises(RunError, match=message) as caught:
        read_side(tmp_path / "run")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- figures


def test_compression_counts_all_that_was_generated() -> None:
    first = side(t=[sample("p", RIGHT, 80, 20), sample("q", WRONG, 180, 20)])
    first = with_stop(first, "t", "deer-0.95", [sample("p", RIGHT, 40, 10, trials=10), sample("q", WRONG, 40, 30)])
    found = compare_all([first, side("b", t=two(RIGHT, RIGHT, thought=50, answer=10))])
    plain, stopped, last = found.tasks["t"].rows
    assert plain.compression == (1.0, 1.0, 1.0)
    assert plain.change is None
    assert stopped.metrics.tokens.mean == 65
    assert stopped.compression.mean == pytest.approx(130 / 300)
    assert last.compression.mean == pytest.approx(120 / 300)
    assert last.change.accuracy.mean == 0.5
    assert last.change.thought_tokens_change.mean == pytest.approx(100 / 260 - 1)
    assert [row.variant for row in (plain, stopped, last)] == [None, "deer-0.95", None]


def test_the_overall_column_counts_every_task_the_same() -> None:
    many = [sample(str(i), RIGHT, 10) for i in range(50)]
    first = side(easy=many, hard=two(WRONG, WRONG, thought=98, answer=2))
    last = side(
        "b",
        easy=[each.model_copy(update={"thought_tokens": 4}) for each in many],
        hard=two(RIGHT, WRONG, thought=48, answer=2),
    )
    found = compare_all([first, last])
    assert [row.metrics.accuracy.mean for row in found.overall] == [0.5, 0.75]
    assert found.overall[1].compression.mean == pytest.approx((6 / 12 + 50 / 100) / 2)
    assert found.overall[1].change.accuracy.mean == 0.25
    assert found.overall[0].change is None


def test_a_single_task_needs_no_overall_column() -> None:
    assert compare_all([side(t=two(RIGHT, WRONG)), side("b", t=two(RIGHT, WRONG))]).overall == []


def test_the_interval_of_a_mean_over_tasks_adds_distances_in_squares() -> None:
    figures = [Interval(1.0, -2.0, 2.0), Interval(5.0, 1.0, 5.0)]
    assert mean_of(figures) == (3.0, 3 - 5 / 2, 3 + 1 / 2)
    assert not mean_of([*figures, UNKNOWN._replace(mean=1.0)]).known


def test_tasks_that_not_all_have_are_named() -> None:
    found = compare_all([side(t=two(RIGHT, WRONG), u=two(RIGHT, WRONG)), side("b", t=two(RIGHT, WRONG))])
    assert list(found.tasks) == ["t"]
    assert found.left_out == {"u": ["a"]}


def test_sides_that_share_no_task_say_what_each_has() -> None:
    with pytest.raises(DataError, match="a has t; b has u, v; evaluate all on the same task"):
        compare_all([side(t=two(RIGHT, WRONG)), side("b", u=two(RIGHT, WRONG), v=two(RIGHT, WRONG))])


def test_sides_that_answered_different_questions_are_not_compared() -> None:
    with pytest.raises(DataError, match="a and b differ in 2 questions of t; evaluate both on the same task"):
        compare_all([side(t=two(RIGHT, WRONG)), side("b", t=[sample("p", RIGHT), sample("r", RIGHT)])])


def test_one_side_is_compared_with_its_stops_if_it_has_any() -> None:
    alone = side(t=two(RIGHT, WRONG))
    with pytest.raises(DataError, match="a is alone; give another evaluation"):
        compare_all([alone])
    found = compare_all([with_stop(alone, "t", "inducer-4", two(RIGHT, WRONG, thought=4))])
    assert len(found.tasks["t"].rows) == 2
    assert found.tasks["t"].outcomes == {}


def test_a_first_side_that_never_thinks_leaves_relative_changes_open() -> None:
    found = compare_all([side(t=two(RIGHT, WRONG, thought=0, answer=0)), side("b", t=two(RIGHT, WRONG))])
    row = found.tasks["t"].rows[1].as_dict()
    assert row["compression"] == row["change"]["thought_tokens_change"] == {"mean": None, "low": None, "high": None}
    assert row["change"]["thought_tokens"]["difference"] == 10


def test_settings_that_differ_are_told() -> None:
    protocol = PROTOCOL.model_copy(update={"temperature": 1.0, "samples": 9})
    hot = evaluation(two(RIGHT, WRONG), "b", protocol=protocol)
    found = compare_all([side(t=two(RIGHT, WRONG)), Side("b", {"t": {"": hot}})])
    assert found.tasks["t"].protocols == {"temperature": {"a": 0.6, "b": 1.0}}


def test_the_pareto_front_keeps_ties_and_drops_what_is_no_better() -> None:
    points = [(10, 0.5), (10, 0.5), (20, 0.5), (20, 0.9), (30, 0.8), (5, 0.1)]
    assert on_front(points) == [True, True, False, True, False, True]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_every_point_is_reached_by_one_on_the_front(points: list[tuple[int, int]]) -> None:
    front = [point for point, keeps in zip(points, on_front(points), strict=True) if keeps]
    assert all(any(t <= tokens and a >= accuracy for t, a in front) for tokens, accuracy in points)


# ---------------------------------------------------------------------------------------------------- the outcome


def point(name: str, accuracy: list[float], thought: list[float], tokens: list[float] | None = None) -> Point:
    by_question = [{str(i): [float(v)] for i, v in enumerate(each)} for each in (accuracy, thought, tokens or thought)]
    return Point(name, *by_question)


def test_between_two_budgets_a_mixture_is_met_at_the_sides_own_length() -> None:
    low, high = point("inducer-1", [0, 1], [100, 100]), point("inducer-3", [1, 1], [300, 300])
    found = along("inducer", point("b", [1, 1], [150, 250]), [high, low])
    assert found.between == ("inducer-1", "inducer-3")
    assert found.weight == 0.5
    # one question's mixture is .5, at 50 tokens less than the side's mean; the other's is 1, at 50 more; slope 1/400
    half = T_1 * 0.375
    assert found.accuracy == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-5)
    assert found.length_difference is None


@pytest.mark.slow
def test_the_interval_at_the_same_length_covers_95_percent() -> None:
    # the side's lengths vary by more than their mean: an interval that took them for known would cover 92 %
    rng, covered, repeats, questions = np.random.default_rng(0), 0, 800, 150
    for _ in range(repeats):
        skill = rng.uniform(-0.2, 0.2, questions)
        answers = [list(rng.random(questions) < chance + skill) for chance in (0.3, 0.7, 0.6)]
        low, high = point("low", answers[0], [100.0] * questions), point("high", answers[1], [500.0] * questions)
        tuned = point("tuned", answers[2], list(200 * rng.lognormal(-0.5, 1, questions)))
        found = along("inducer", tuned, [low, high]).accuracy
        covered += found.low <= 0.6 - (0.3 + 0.4 * 100 / 400) <= found.high
    assert 0.93 <= covered / repeats <= 0.97


def test_a_curve_that_is_flat_still_has_an_interval() -> None:
    curve = [point("inducer-1", [1, 1, 1], [1, 1, 1]), point("the untouched model", [1, 1, 1], [3, 3, 3])]
    found = along("inducer", point("b", [1, 1, 1], [2, 2, 2]), curve)
    assert found.accuracy.mean == 0
    assert found.accuracy.low < -0.5
    assert found.outcome == "matched"


@pytest.mark.parametrize(("tokens", "nearest", "longer"), [(5, "inducer-1", -5), (50, "the untouched model", 10)])
def test_beyond_the_curve_its_nearest_end_is_met(tokens: int, nearest: str, longer: int) -> None:
    curve = [point("inducer-1", [0, 1], [10, 10]), point("the untouched model", [1, 1], [40, 40])]
    found = along("inducer", point("b", [1, 1], [tokens, tokens]), curve)
    assert found.between == (nearest,)
    assert found.length_difference is not None
    assert found.length_difference.mean == longer


def test_of_points_of_one_length_the_most_accurate_counts() -> None:
    curve = [point("inducer-9", [1, 0], [40, 40]), point("the untouched model", [1, 1], [40, 40])]
    found = along("inducer", point("b", [1, 1], [40, 40]), curve)
    assert (found.between, found.accuracy.mean, found.length_difference) == (("the untouched model",), 0, None)


def test_deer_is_met_by_all_tokens_at_its_best_point_that_spends_no_more() -> None:
    cheap, dear = point("deer-0.9", [1, 0], [5, 5], [20, 20]), point("deer-0.99", [1, 1], [9, 9], [60, 60])
    assert beside(point("b", [1, 1], [9, 9], [50, 50]), [dear, cheap]).between == ("deer-0.9",)
    assert beside(point("b", [1, 1], [9, 9], [60, 60]), [dear, cheap]).between == ("deer-0.99",)
    assert beside(point("b", [1, 1], [9, 9], [10, 10]), [dear, cheap]).between == ("deer-0.9",)


UP, DOWN = Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01)
HELD, OPEN = Interval(0.0, -0.02, 0.02), Interval(0.01, -0.08, 0.1)
MORE, FEWER, UNSURE = Interval(9, 5, 13), Interval(-9, -13, -5), Interval(-1, -3, 1)


@pytest.mark.parametrize(
    ("accuracy", "length", "outcome"),
    [
        (UP, None, "beats"),
        (DOWN, None, "loses"),
        (OPEN, None, "matched"),
        (UP, FEWER, "beats"),
        (UP, UNSURE, "beats"),
        (UP, MORE, "trades"),
        (DOWN, FEWER, "trades"),
        (DOWN, UNSURE, "loses"),
        (HELD, FEWER, "beats"),
        (HELD, MORE, "loses"),
        (OPEN, FEWER, "matched"),
        (OPEN, MORE, "matched"),
        (HELD, UNSURE, "matched"),
    ],
)
def test_fewer_tokens_win_only_where_accuracy_surely_held(
    accuracy: Interval, length: Interval | None, outcome: str
) -> None:
    assert rival("deer", "tokens", ("deer-0.9",), 0.0, accuracy, length).outcome == outcome


def test_a_stop_dominates_where_it_is_as_accurate_with_no_more_tokens() -> None:
    assert rival("deer", "tokens", ("d",), 0.0, Interval(0.0, -1, 1), MORE).dominates
    assert not rival("deer", "tokens", ("d",), 0.0, Interval(0.0, -1, 1), FEWER).dominates
    assert not rival("deer", "tokens", ("d",), 0.0, UP, MORE).dominates


@pytest.mark.parametrize(
    ("met", "said"),
    [
        (
            rival("inducer", "thought_tokens", ("a", "b"), 0.5, Interval(0.031, 0.012, 0.05), None),
            "beats every training-free stop: +3.1 points (+1.2 to +5.0) at the same thinking tokens",
        ),
        (
            rival("budget", "thought_tokens", ("a", "b"), 0.5, Interval(-0.031, -0.05, -0.012), None),
            "loses to cutting at a budget: −3.1 points (−5.0 to −1.2) at the same thinking tokens",
        ),
        (
            rival("inducer", "thought_tokens", ("inducer-512",), 0.0, HELD, Interval(-1234.4, -1300, -1200)),
            "beats every training-free stop: +0.0 points (−2.0 to +2.0) with 1,234 fewer thinking tokens than "
            "inducer-512, the nearest that was measured",
        ),
        (
            rival("deer", "tokens", ("deer-0.95",), 0.0, UP, MORE),
            "neither beats nor loses to deer-0.95: +2.0 points (+1.0 to +3.0) with 9 more generated tokens",
        ),
        (
            rival("budget", "thought_tokens", ("the untouched model",), 0.0, OPEN, None),
            "is matched by the untouched model: +1.0 points (−8.0 to +10.0) at the same thinking tokens",
        ),
    ],
)
def test_a_sentence_says_points_and_at_what_length(met: Rival, said: str) -> None:
    assert sentence(met) == said


def test_the_outcome_is_that_against_the_stop_that_does_best() -> None:
    n = 40
    untouched = point("the untouched model", [1] * n, [100.0] * n)
    stops = {
        "budget": [point("budget-40", [0] * n, [40.0] * n)],
        "inducer": [point("inducer-40", [0, 1] * (n // 2), [40.0] * n)],
    }
    found = contest(point("b", [1] * (n - 1) + [0], [70.0] * n), untouched, stops)
    assert found.outcome == "beats"
    assert found.sentence.startswith("beats every training-free stop: +22.5 points")  # .975 over (.5 + 1)/2
    assert [each.kind for each in found.rivals] == ["budget", "inducer"]
    assert found.rivals[0].accuracy.mean == pytest.approx(0.475)
    lost = contest(point("b", [0] * n, [70.0] * n), untouched, stops)
    assert lost.sentence.startswith("loses to the inducer at a budget: −75.0 points")


def test_a_trained_model_is_judged_by_the_first_sides_stops(tmp_path: Path) -> None:
    write_eval(tmp_path / "base", "base", ["t"], rechecks=1.5, stopped=True, questions=200)
    write_eval(tmp_path / "tuned", "tuned", ["t"], rechecks=0.2, skill=0.95)
    with pytest.raises(DataError, match="differ in 140 questions"):
        compare_all(read_sides([tmp_path / "base", tmp_path / "tuned"]))
    write_eval(tmp_path / "tuned", "tuned", ["t"], rechecks=0.2, skill=0.95, questions=200)
    found = compare_all(read_sides([tmp_path / "base", tmp_path / "tuned"]))
    outcomes = found.tasks["t"].outcomes
    assert list(outcomes) == ["tuned"]
    assert outcomes["tuned"].outcome == "beats"
    assert {each.kind: each.length for each in outcomes["tuned"].rivals} == {
        "budget": "thought_tokens",
        "inducer": "thought_tokens",
        "deer": "tokens",
    }
    json.dumps(found.as_dict(), allow_nan=False)


# ---------------------------------------------------------------------------------------------------- on a terminal


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Side]:
    """A base with its stops on two tasks, and two trained models, of which one was also evaluated on a third task."""
    root = tmp_path_factory.mktemp("three")
    write_eval(root / "base", "Qwen/Qwen3-8B", ["aime24", "math500"], rechecks=1.5, stopped=True)
    write_eval(root / "grpo", "runs/grpo/checkpoints/step-000100", ["aime24", "math500", "gpqa"], rechecks=1.4)
    write_eval(root / "s-grpo", "runs/s-grpo/checkpoints/step-000100", ["aime24", "math500"], rechecks=0.2, skill=0.97)
    return read_sides([root / "base", root / "grpo", root / "s-grpo"])


def printed(three: list[Side], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    for module in (tables, screen):
        monkeypatch.setattr(module, "say", Console(soft_wrap=True, width=width, color_system=None))
    tables.show_comparison(compare_all(three).as_dict())
    return capsys.readouterr().out


def test_a_wide_terminal_shows_all_tasks_side_by_side(
    three: list[Side], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(three, 140, monkeypatch, capsys)
    [heading] = [line for line in said.splitlines() if "aime24" in line and "overall" in line]
    assert heading.split() == ["┃", "aime24", "┃", "┃", "┃", "math500", "┃", "┃", "┃", "overall", "┃", "┃"]
    assert "inducer-512" in said
    assert "Not compared: only grpo/step-000100 has gpqa" in said
    assert re.search(r"math500, s-grpo/step-000100: paired, accuracy \+[\d.]+ points \(", said)
    assert re.search(r"math500, s-grpo/step-000100: beats every training-free stop: \+", said)


def test_a_narrow_terminal_shows_one_table_a_task_and_cuts_nothing(
    three: list[Side], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(three, 60, monkeypatch, capsys)
    headings = [line for line in said.splitlines() if line.rstrip().endswith("┃") and "Acc" not in line]
    assert [line.split()[1] for line in headings] == ["aime24", "math500", "overall"]
    assert said.count("s-grpo/step-000100 │") == 3
    assert "…" not in said.partition("Not compared")[0]


# ---------------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def page(three: list[Side], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_comparison(three, compare_all(three), tmp_path_factory.mktemp("page")).read_text()


def section(page: str, title: str) -> str:
    return page.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


@pytest.mark.slow
def test_every_part_of_a_comparison_is_there(page: str) -> None:
    assert "s-grpo/step-000100 against Qwen3-8B" in page
    assert re.search(r"<h1>Thinking tokens fell by \d\d\u202f%, accuracy rose by [\d.]+ points</h1>", page)
    assert "Not compared: gpqa (only grpo/step-000100)" in page
    assert "2 of 2" in page
    for title in ("Over all tasks", "aime24", "math500", "How to read this", "Protocol"):
        assert section(page, title), title
    task = section(page, "math500")
    assert task.count("<svg") == 3
    assert '<li class="beats"><b>s-grpo/step-000100</b> beats every training-free stop: +' in task
    assert "\u2003inducer-512 ●" in task
    assert "On the Pareto front: " in task
    assert "DEER" in section(page, "How to read this")


@pytest.mark.slow
def test_the_page_loads_nothing_and_holds_no_script(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!["'#])""", page)
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_figures_are_wellformed_and_share_no_id(page: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        own = {element.get("id") for element in ElementTree.fromstring(figure).iter()}
        assert own.issuperset(re.findall(r'(?:href="|url\()#([^")]+)', figure))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_the_same_sides_give_the_same_page(three: list[Side], page: str, tmp_path: Path) -> None:
    assert write_comparison(three, compare_all(three), tmp_path / "again.html").read_text() == page


@pytest.mark.slow
def test_a_page_goes_to_the_file_or_into_the_folder_that_is_named(three: list[Side], tmp_path: Path) -> None:
    found = compare_all(three)
    assert write_comparison(three, found, tmp_path / "x/page.html") == tmp_path / "x/page.html"
    assert write_comparison(three, found, tmp_path / "y") == tmp_path / "y/comparison.html"
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_comparison(three, found, tmp_path / "file")


@pytest.mark.slow
def test_one_side_with_its_stops_makes_a_page_too(three: list[Side], tmp_path: Path) -> None:
    page = write_comparison(three[:1], compare_all(three[:1]), tmp_path).read_text()
    assert "<h1>Qwen3-8B and its training-free stops</h1>" in page
    assert "Samples" not in page
    assert '<dl class="cards">' not in page


def test_pairs_are_lost_mended_saved_or_other() -> None:
    def samples(*each: tuple[str, int]) -> list[Sample]:
        return [sample(str(i), verdict, thought) for i, (verdict, thought) in enumerate(each)]

    first = samples((RIGHT, 9), (WRONG, 9), (RIGHT, 9), (RIGHT, 9), (WRONG, 9), (RIGHT, 9))
    last = samples((WRONG, 9), (RIGHT, 9), (RIGHT, 8), (RIGHT, 9), (WRONG, 1))
    chosen, totals = compared_examples([{"a": first, "b": last}], 40, 1000)
    assert {name: [example.problem for example in each] for name, each in chosen.items() if name != "other"} == {
        "lost": ["0"],
        "mended": ["1"],
        "saved": ["2"],
    }
    assert {example.problem for example in chosen["other"]} == {"3", "4"}
    assert totals == {"lost": 1, "mended": 1, "saved": 1, "other": 2}


def test_tasks_take_turns_and_no_problem_comes_twice_in_a_class() -> None:
    def samples(task: str, verdict: str) -> list[Sample]:
        return [sample(f"{task}-{i}", verdict, number=n) for i in range(9) for n in range(3)]

    tasks = [{"a": samples(task, RIGHT), "b": samples(task, WRONG)} for task in ("t", "u")]
    chosen, totals = compared_examples(tasks, 6, 1000)
    problems = [example.problem for example in chosen["lost"]]
    assert totals == {"lost": 54}
    assert len(set(problems)) == 6
    assert [problem[0] for problem in problems] == ["t", "u"] * 3


@given(st.text(max_size=80), st.integers(8, 40))
def test_a_shortened_text_keeps_its_ends_and_counts_what_is_gone(text: str, longest: int) -> None:
    shown = shortened(text, longest)
    gone = re.search(r"\n\n\[… ([\d,]+) characters left out …\]\n\n", shown)
    if gone is None:
        assert shown == text
        return
    head, tail = shown[: gone.start()], shown[gone.end() :]
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) + int(gone[1]) == len(text)
    assert len((head + tail).encode()) <= longest


@pytest.mark.slow
def test_a_page_stays_within_three_megabytes_whatever_the_thoughts(tmp_path: Path) -> None:
    long = "思考 " * 20_000
    for name in ("a", "b"):
        write_eval(tmp_path / name, name, ["t", "u", "v", "w"], rechecks=1, questions=90, text=long, skill=0.6)
    sides = read_sides([tmp_path / "a", tmp_path / "b"])
    written = write_comparison(sides, compare_all(sides), tmp_path / "page.html")
    assert all(f'class="trace {name}"' in written.read_text() for name in CLASSES)
    assert written.stat().st_size < 3e6


SCRIPT = '<script>document.title="owned"</script>'
HOSTILE = f'{SCRIPT}"><img src=x onerror=a()></pre></details></style>{{{{ 7 * 7 }}}}$x^2${"x" * 300}'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose names, prompts, thoughts and answers all attack it."""
    root = tmp_path_factory.mktemp("hostile")
    sides = []
    for name, verdicts in (("a", (RIGHT, WRONG, RIGHT)), ("b", (WRONG, RIGHT, RIGHT))):
        records = [
            sample(
                f"{i}{HOSTILE}", verdict, 200 if name == "a" else 90, level=f"{i}{HOSTILE}", text=f"{HOSTILE}\ud800"
            ).model_copy(update={"answer": HOSTILE, "gold": HOSTILE, "prompt": HOSTILE})
            for i, verdict in enumerate(verdicts)
        ]
        sides.append(side(f"{name}{HOSTILE}", **{f"t{HOSTILE}": records, "plain": records}))
    sides[0] = with_stop(
        sides[0], "plain", "inducer-50", [each.model_copy(update={"thought_tokens": 50}) for each in records]
    )
    return write_comparison(sides, compare_all(sides), root)


@pytest.mark.slow
def test_text_of_models_is_escaped_wherever_it_appears(hostile: Path) -> None:
    page = hostile.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 20
    assert "{{ 7 * 7 }}" in page


MEASURE = """<!doctype html><title>measuring</title><pre id="out"></pre>
{frames}
<script>
onload = () => {{
  const frames = [...document.querySelectorAll("iframe")].map(frame => frame.contentDocument);
  const page = frames[0];
  const seen = () => [...page.querySelectorAll(".trace")].filter(t => t.offsetParent).map(t => t.classList[1]);
  const result = {{
    title: page.title,
    planted: page.querySelectorAll("script, img, [onerror]").length,
    closed: page.querySelectorAll("details[open]").length,
    all: seen(),
  }};
  page.querySelectorAll("details").forEach(each => each.open = true);
  for (const kind of ["lost", "mended", "saved"]) {{ page.getElementById(kind).click(); result[kind] = seen(); }}
  page.getElementById("all").click();
  frames.forEach(each => each.querySelectorAll("details").forEach(trace => trace.open = true));
  result.widths = frames.map(each => each.documentElement.scrollWidth);
  result.reachable = [...page.querySelectorAll("summary, .choice, pre[tabindex]")].every(each => each.tabIndex === 0);
  const radio = page.getElementById("lost");
  radio.focus();
  result.focused = page.activeElement === radio;
  document.getElementById("out").textContent = JSON.stringify(result);
}};
</script>"""


@pytest.fixture(scope="module")
def in_browser(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The hostile page in frames 390 and 1280 pixels wide."""
    frame = f'<iframe src="{hostile.as_uri()}" style="border:0;height:2000px;width:{{}}px"></iframe>'
    harness = MEASURE.format(frames="".join(frame.format(width) for width in (390, 1280)))
    found: dict[str, Any] = measured(harness, tmp_path_factory.mktemp("browser"))
    return found


@pytest.mark.slow
def test_hostile_text_runs_nothing_in_a_browser(in_browser: dict[str, Any]) -> None:
    assert in_browser["title"].endswith("· suffice")
    assert in_browser["planted"] == 0


@pytest.mark.slow
def test_phone_and_desktop_show_all_without_sideways_scrolling(in_browser: dict[str, Any]) -> None:
    phone, desktop = in_browser["widths"]
    assert phone <= 390
    assert desktop <= 1280


@pytest.mark.slow
def test_a_class_of_traces_hides_the_others_without_script(in_browser: dict[str, Any]) -> None:
    assert in_browser["closed"] == 0
    assert sorted(set(in_browser["all"])) == ["lost", "mended", "saved"]
    for kind in ("lost", "mended", "saved"):
        assert set(in_browser[kind]) == {kind}


@pytest.mark.slow
def test_a_keyboard_reaches_choices_and_traces(in_browser: dict[str, Any]) -> None:
    assert in_browser["reachable"]
    assert in_browser["focused"]
