"""The bench: plans and their mistakes, what is reused, equal budgets and collapses by hand, a small one for real."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from running import PATIENCE
from suffice.bench import record
from suffice.bench.cell import wanted
from suffice.bench.figures import spread, whisker
from suffice.bench.found import Budget
from suffice.bench.plan import (
    Plan,
    digest,
    load_plan,
    make_plan,
    methods_plan,
    plan_names,
    resolve,
    with_overrides,
    with_seeds,
)
from suffice.bench.result import collapse, spending, widened, within
from suffice.bench.run import run_bench
from suffice.bench.tables import blocks, gained, markdown, notes, signed
from suffice.cli import main
from suffice.errors import RecipeError
from suffice.interval import UNKNOWN, Interval
from suffice.run.records import Step
from suffice.statistics import over_seeds

TINY: dict[str, Any] = {
    "recipe": "lab-ballots-grpo",
    "set": {"train.steps": 2, "train.problems_per_step": 2},
    "evaluate": {"problems": 6, "samples": 1, "at": [1], "greedy": True},
    "arm": [{"name": "GRPO", "method": "grpo"}, {"name": "cut", "method": "s-grpo"}],
}


def changed(**keys: Any) -> Plan:
    return make_plan(TINY | keys)


# ---------------------------------------------------------------------------------------------------- plans


def test_an_arm_of_a_method_takes_the_packaged_recipe_of_the_same_model_and_task():
    cells = {cell.arm: cell.recipe for cell in resolve(changed()).cells}
    assert cells["cut"].method.name == "s-grpo"
    assert cells["cut"].model.path == "lab/ballots"
    assert cells["cut"].group.exits == 8
    assert cells["GRPO"].group.exits == 0


def test_a_method_without_a_recipe_of_its_own_takes_one_that_samples_as_it_does():
    arms = [{"name": name, "method": name} for name in ("all-one", "dapo")]
    cells = {cell.arm: cell.recipe for cell in resolve(changed(arm=arms)).cells}
    assert cells["all-one"].method.name == "all-one"
    assert cells["all-one"].group.exits == 8
    assert cells["dapo"].group.exits == 0
    assert cells["dapo"].objective.clip_high == 0.28


def test_the_last_step_is_always_evaluated_and_checkpoints_meet_every_step():
    plan = make_plan({"recipe": "lab-grpo", "evaluate": {"at": [20, 50]}, "arm": [{"name": "a"}]})
    (cell,) = resolve(plan).cells
    assert cell.at == (20, 50, 100)
    assert cell.recipe.train.checkpoint_every == 10
    assert cell.recipe.train.eval_every == 0


def test_a_greedy_end_is_evaluated_beside_the_others_and_trains_nothing_else():
    plain, greedy = (resolve(changed(evaluate=TINY["evaluate"] | {"greedy": each})) for each in (False, True))
    assert [cell.folder for cell in plain.cells] == [cell.folder for cell in greedy.cells]
    assert wanted(plain.cells[0].at, plain.cells[0].greedy) == [(1, False), (2, False)]
    assert wanted(greedy.cells[0].at, greedy.cells[0].greedy) == [(1, False), (2, False), (2, True)]
    assert wanted(greedy.base.at, greedy.base.greedy) == [(0, False), (0, True)]


def test_steps_default_to_the_checkpoints_of_the_recipe():
    (cell,) = resolve(make_plan({"recipe": "lab-grpo", "arm": [{"name": "a"}]})).cells
    assert cell.at == (25, 50, 75, 100)


def test_all_arms_are_evaluated_by_the_plan_at_temperature_1_with_the_recipes_budgets():
    plan = changed(set={"train.steps": 2, "rollout.max_thought_tokens": 40})
    longer = {"name": "longer", "set": {"rollout.max_thought_tokens": 50}}
    bench = resolve(plan.model_copy(update={"arm": [*plan.arm, *changed(arm=[longer]).arm]}))
    assert {cell.recipe.eval.max_thought_tokens for cell in bench.cells} == {40}
    assert {(cell.recipe.eval.temperature, cell.recipe.eval.top_p) for cell in bench.cells} == {(1.0, 1.0)}
    assert {cell.recipe.rollout.max_thought_tokens for cell in bench.cells} == {40, 50}


def test_keys_may_be_dotted_or_nested_and_an_arm_overrides_the_plan():
    dotted, nested = changed(set={"train.steps": 3}), changed(set={"train": {"steps": 3}})
    assert resolve(dotted).cells == resolve(nested).cells
    own = changed(set={"train.steps": 3}, arm=[{"name": "a", "set": {"train": {"steps": 4}}}])
    assert resolve(own).cells[0].recipe.train.steps == 4


def test_the_command_line_overrides_the_plan():
    assert resolve(with_overrides(changed(), ["train.steps=7"])).cells[0].recipe.train.steps == 7


def test_an_arm_may_have_fewer_seeds_and_the_command_line_gives_all_the_same():
    plan = changed(seeds=[0, 1, 2], arm=[{"name": "a"}, {"name": "b", "method": "s-grpo", "seeds": [1]}])
    assert [(cell.arm, cell.seed) for cell in resolve(plan).cells] == [("a", 0), ("a", 1), ("a", 2), ("b", 1)]
    assert [(cell.arm, cell.seed) for cell in resolve(with_seeds(plan, [4])).cells] == [("a", 4), ("b", 4)]


def test_another_method_begins_with_its_own_parameters():
    arms = [{"name": "a", "recipe": "lab-ballots-grpo-lambda", "set": {"method.name": "grpo"}}]
    assert resolve(changed(arm=arms)).cells[0].recipe.method.name == "grpo"


def test_every_packaged_plan_resolves():
    assert {"quick", "full", "lab"} <= set(plan_names())
    for name in plan_names():
        bench = resolve(load_plan(name))
        assert len({cell.folder for cell in bench.cells}) == len(bench.cells)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"sed": [1]}, "unknown key sed; did you mean seeds?"),
        ({"evaluate": {"sampels": 1}}, "unknown key evaluate.sampels; did you mean samples?"),
        ({"arm": [{"nam": "a", "name": "b"}]}, "unknown key arm.0.nam; did you mean name?"),
        ({"arm": []}, "arm"),
        ({"arm": [{"name": "a"}, {"name": "a"}]}, "arms whose names differ"),
        ({"seeds": [1, 1]}, "different numbers"),
        ({"seeds": []}, "seeds"),
        ({"evaluate": {"at": [4, 2]}}, "in order"),
    ],
)
def test_a_mistake_in_a_plan_is_named(keys: dict[str, Any], words: str):
    with pytest.raises(RecipeError) as error:
        changed(**keys)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"recipe": "lab-ballots-grop"}, "did you mean lab-ballots-grpo?"),
        ({"set": {"train.eval_every": 5}}, "evaluate.at decides it"),
        ({"set": {"eval.samples": 5}}, "belongs into [evaluate]"),
        ({"set": {"steps": 5}}, "give section.key"),
        ({"arm": [{"name": "x", "set": {"train.stepz": 5}}]}, "arm x: unknown key train.stepz"),
        ({"arm": [{"name": "x", "method": "grop"}]}, "arm x: unknown method 'grop'; did you mean 'grpo'?"),
        ({"arm": [{"name": "x", "recipe": "lab-grpo"}]}, "a bench has one base"),
        ({"arm": [{"name": "x"}, {"name": "y"}]}, "arms x and y train by the same recipe"),
        ({"evaluate": {"at": [9]}}, "the longest arm trains 2 steps"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_before_anything_runs(keys: dict[str, Any], words: str):
    with pytest.raises(RecipeError) as error:
        resolve(changed(**keys))
    assert words in str(error.value)


def test_a_file_that_is_no_plan_is_named(tmp_path: Path):
    broken = tmp_path / "plan.toml"
    broken.write_text("recipe = ")
    with pytest.raises(RecipeError, match="is not valid TOML"):
        load_plan(str(broken))
    with pytest.raises(RecipeError, match="did you mean quick"):
        load_plan("quikc")
    with pytest.raises(RecipeError, match="--methods"):
        load_plan("lab-grpo")
    with pytest.raises(RecipeError, match="quick is a plan, which names its methods"):
        methods_plan("quick", ["grpo"])


def test_the_digest_is_of_the_recipe_and_not_of_the_seed():
    one, other = (resolve(changed(seeds=[seed])).cells[0] for seed in (0, 1))
    assert digest(one.recipe) == digest(other.recipe)
    assert one.folder != other.folder
    longer = resolve(changed(set={"train.steps": 3, "train.problems_per_step": 2})).cells[0]
    sampled = resolve(changed(evaluate={"problems": 6, "samples": 2, "at": [1]})).cells[0]
    assert len({one.folder, longer.folder, sampled.folder}) == 3


def test_what_is_said_to_be_the_default_leaves_the_digest():
    plain, said = (
        resolve(changed(arm=[{"name": "a", "method": "s-grpo", "set": given}])) for given in ({}, {"method.decay": 0.5})
    )
    assert plain.cells == said.cells


def test_an_interval_that_leaves_the_scale_has_no_whiskers():
    assert whisker(Interval(0.8, 0.7, 0.9), 1.0) == [[pytest.approx(0.1)], [pytest.approx(0.1)]]
    assert whisker(Interval(0.8, 0.5, 1.1), 1.0) is None
    assert whisker(Interval(9.0, -3.0, 21.0), float("inf")) is None
    assert whisker(Interval(0.8, float("nan"), float("nan")), 1.0) is None  # one question


# ---------------------------------------------------------------------------------------------------- figures by hand


def test_the_budget_brings_every_arm_to_an_evaluation_and_arms_stand_at_their_last_step_within_it():
    spent = {
        "cheap": {10: 40.0, 20: 100.0},
        "dear": {10: 90.0, 20: 101.5},
        "dearest": {10: 101.0, 20: 200.0},
    }
    assert within(spent) == Budget(budget=101.0, steps={"cheap": 20, "dear": 10, "dearest": 10})


def test_spending_is_summed_up_to_a_step_and_a_guards_probes_count():
    lines = [
        Step(step=step, tokens_decode=10, tokens_train=3, seconds=0.5, tokens_guard=guard)
        for step, guard in ((1, 0), (2, 7), (3, 0))
    ]
    assert spending(lines, [1, 3]) == [
        {"tokens_decode": 10, "tokens_train": 3, "seconds": 0.5},
        {"tokens_decode": 37, "tokens_train": 9, "seconds": 1.5},
    ]


def test_a_collapse_is_marked_where_ten_steps_first_lie_ten_points_below_the_best_ten():
    # ten at .9, then .4: the mean of ten falls by .05 a step, so that two steps later it is .1 below
    assert collapse([0.9] * 10 + [0.4] * 12) == 12
    assert collapse([0.9] * 10 + [0.8] * 9) is None  # 9 of 10 have fallen by .1: .09 in all
    assert collapse([0.9] * 10 + [0.8] * 10) == 20


def test_a_dip_that_mends_within_ten_steps_is_no_collapse():
    # one step at 0 lowers ten means by .09, two lower nine of them by .18
    assert collapse([0.9] * 12 + [0.0] + [0.9] * 20) is None
    assert collapse([0.9] * 12 + [0.0] * 2 + [0.9] * 20) is None
    assert collapse([0.9] * 12 + [0.0] * 4 + [0.9] * 20) == 14


def test_too_few_steps_say_nothing_of_a_collapse():
    assert collapse([1.0] * 5 + [0.0] * 4) is None


def test_seeds_that_agree_leave_the_interval_of_the_questions():
    assert over_seeds(Interval(0.5, 0.4, 0.62), [0.5, 0.5]) == (0.5, 0.4, 0.62)
    assert over_seeds(Interval(0.5, 0.4, 0.62), [0.5]) == (0.5, 0.4, 0.62)


def test_where_questions_are_sure_the_interval_is_students_of_the_seeds():
    # 1, 2, 3: mean 2, s = 1, half = t(.975; 2)/√3 = 4.302653/1.732051 = 2.484138
    mean, low, high = over_seeds(Interval(2.0, 2.0, 2.0), [1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 2.484138, 2 + 2.484138), abs=1e-5)


def test_both_sources_add_in_squares_with_satterthwaites_degrees_of_freedom():
    # SE² of the questions 1 on either side, s²/S = 1/3: freedom 2·(4/3)²/(1/9) = 32, t = 2.036933, √(4/3) = 1.154701
    half = 1.959964
    mean, low, high = over_seeds(Interval(2.0, 2 - half, 2 + half), [1.0, 2.0, 3.0])
    assert (mean, high - mean, mean - low) == pytest.approx((2.0, 2.352048, 2.352048), abs=1e-5)


@example([0.0, 8e-156], 0.0, 0.0625)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_more_than_one_seed_never_narrows_an_interval(means: list[float], below: float, above: float):
    mean = sum(means) / len(means)
    _, low, high = over_seeds(Interval(mean, mean - below, mean + above), means)
    assert low <= mean - below + 1e-12
    assert high >= mean + above - 1e-12
    assert math.isfinite(low)


def test_no_interval_stays_none():
    assert widened(UNKNOWN, [UNKNOWN]) is UNKNOWN
    assert signed(UNKNOWN) == gained(UNKNOWN, 0.8, 2) == "n/a"


def test_no_interval_of_accuracy_reaches_beyond_what_can_be():
    assert gained(Interval(-0.1, -0.79, 0.19), 0.8, 2) == "−10.0 (−79.0 to +19.0)"  # from 1 to 99 %
    assert gained(Interval(-0.1, -0.81, 0.0), 0.8, 2) == "−10.0 (−80.0 to +0.0)"
    assert gained(Interval(0.18, 0.16, 0.21), 0.8, 3) == "+18.0 (+16.0 to +20.0)"  # seeds that agree near 100 %
    assert gained(Interval(-0.1, -0.81, 0.21), 0.8, 1) == "−10.0 (−80.0 to +20.0)"
    assert gained(Interval(-0.1, -0.81, 0.21), 0.8, 2) == "−10.0 (two seeds: no interval)"
    assert gained(Interval(-0.1, -0.9, 0.2), 0.8, 6) == "−10.0 (6 seeds: no interval)"


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.01, 0.3))
def test_spread_names_keep_their_order_and_distance(values: list[float], gap: float):
    values = sorted(values)
    places = spread(values, gap)
    assert len(places) == len(values)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(places))
    if all(b - a >= gap for a, b in pairwise(values)):
        assert places == pytest.approx(values)


# ---------------------------------------------------------------------------------------------------- for real


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of the tiny plan, whose process was killed while its first arm trained, and then called again."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "plan.toml").write_text(
        'recipe = "lab-ballots-grpo"\nset = { "train.steps" = 2, "train.problems_per_step" = 2 }\n'
        "[evaluate]\nproblems = 6\nsamples = 1\nat = [1]\ngreedy = true\n"
        '[[arm]]\nname = "GRPO"\nmethod = "grpo"\n[[arm]]\nname = "cut"\nmethod = "s-grpo"\n'
    )
    out = folder / "out"
    command = [sys.executable, "-m", "suffice", "bench", "plan.toml", "--out", "out", "--jobs", "2"]
    with subprocess.Popen(command, cwd=folder) as process:
        while not list(out.glob("runs/*/checkpoints/step-000001")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (out / "bench.json").exists()
    wait_for_cells(out)
    assert run_bench(resolve(changed()), out, jobs=2) == {}
    record(resolve(changed()), out, {})
    return out


def wait_for_cells(out: Path) -> None:
    """Until no process works below OUT: a cell whose bench is gone saves its step and ends."""
    deadline = time.monotonic() + PATIENCE
    while any(str(out.resolve()) in command_of(each) for each in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def command_of(process: Path) -> str:
    """Where the standard error of a process goes, which for a cell is its log."""
    try:
        return os.readlink(process / "fd" / "2")
    except OSError:
        return ""


def stamps(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json*")}


@pytest.mark.slow
def test_a_bench_killed_and_called_again_ends_with_everything(killed_and_resumed: Path):
    found = json.loads((killed_and_resumed / "bench.json").read_text())
    assert [arm["arm"] for arm in found["arms"]] == ["GRPO", "cut"]
    for cell in found["cells"]:
        assert cell["failed"] is None
        assert cell["curve"]["step"] == [1, 2]
        assert [step["step"] for step in cell["steps"]] == [1, 2]
        run = killed_and_resumed / cell["run"]
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert cell["steps"][1]["tokens_decode"] == sum(line["tokens_decode"] for line in logged)
        greedy = json.loads((run / "evaluations" / "step-000002-greedy" / "summary.json").read_text())
        assert (greedy["protocol"]["temperature"], greedy["protocol"]["samples"]) == (0.0, 1)
        assert cell["greedy"]["metrics"]["accuracy"] == greedy["metrics"]["accuracy"]
    for arm, cell in zip(found["arms"], found["cells"], strict=True):  # one seed: the arm's figures are its cell's
        assert arm["greedy"] == {"step": 2} | cell["greedy"]
    assert found["questions"] == 6
    assert set(found["budgets"]) == {"tokens_decode", "tokens_train", "seconds"}
    for kind, budget in found["budgets"].items():
        assert budget["budget"] == max(arm["steps"][0][kind] for arm in found["arms"])


@pytest.mark.slow
def test_what_is_unfinished_is_said_and_the_rest_shown(killed_and_resumed: Path):
    seeds = [{**arm, "seeds": [0, 1]} for arm in TINY["arm"]]
    found = record(resolve(changed(arm=seeds)), killed_and_resumed, {})
    assert [arm.unfinished for arm in found.arms] == [[1], [1]]
    assert notes(found) == ["GRPO: unfinished for seed 1", "cut: unfinished for seed 1"]


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(killed_and_resumed: Path):
    before = stamps(killed_and_resumed)
    assert run_bench(resolve(changed()), killed_and_resumed, jobs=2) == {}
    assert stamps(killed_and_resumed) == before


@pytest.mark.slow
def test_a_changed_arm_alone_runs_and_a_failed_one_stops_no_other(killed_and_resumed: Path):
    arms = [
        TINY["arm"][0],
        {"name": "cut", "method": "s-grpo", "set": {"method.decay": 0.25}},
        {"name": "greedy for problems", "set": {"train.problems_per_step": 5000}},
    ]
    bench, before = resolve(changed(arm=arms)), stamps(killed_and_resumed)
    failed = run_bench(bench, killed_and_resumed, jobs=2)
    assert list(failed) == [bench.cells[2].folder]
    assert "train.problems_per_step is 5000" in failed[bench.cells[2].folder]
    after = stamps(killed_and_resumed)
    assert {path.split("/")[1] for path in after.keys() - before.keys()} == {bench.cells[1].folder}
    assert {path: after[path] for path in before} == before

    found = record(bench, killed_and_resumed, failed)
    assert [arm.arm for arm in found.arms] == ["GRPO", "cut"]
    assert "greedy for problems, seed 0, failed: train.problems_per_step" in notes(found)[0]
    table = markdown(found)
    assert [re.sub(r"[\d.]+ (k |M )?", "", block.title) for block in blocks(found)] == [
        "After the last step",
        "After the last step, greedy",
        "Within generated tokens",
        "Within trained tokens",
        "Within seconds of training",
    ]
    assert all(len(row) == len(block.heads) for block in blocks(found) for row in block.rows)
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {9, 10}  # with what was spent


@pytest.mark.slow
def test_the_command_line_writes_tables_and_figures(
    killed_and_resumed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    plan = killed_and_resumed.parent / "plan.toml"
    monkeypatch.setattr(sys, "argv", ["suffice", "bench", str(plan), "--out", str(killed_and_resumed), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert [arm["arm"] for arm in json.loads(capsys.readouterr().out)["arms"]] == ["GRPO", "cut"]
    for name in ("bench.json", "table.md", "dynamics.png", "dynamics.svg", "pareto.png"):
        assert (killed_and_resumed / name).stat().st_size > 0


def test_a_dry_run_lists_the_cells_of_methods_on_a_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    asked = ["bench", "lab-grpo", "--methods", "grpo,s-grpo", "--seeds", "0,1", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["suffice", *asked])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("-seed-")[0] for line in lines] == ["grpo", "grpo", "s-grpo", "s-grpo"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seeds", ["0,x", "", "0,0", "-1", "0,"])
def test_seeds_that_are_no_different_numbers_are_refused(
    seeds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["suffice", "bench", "quick", "--seeds", seeds])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "numbers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_of_another_recipe_is_not_taken_for_this_one(killed_and_resumed: Path):
    plan = methods_plan("lab-ballots-grpo", ["grpo"])
    bench = resolve(plan)
    run = killed_and_resumed.parent / "other" / "runs" / bench.cells[0].folder
    run.mkdir(parents=True)
    wrong = bench.cells[0].recipe.model_copy(deep=True)
    wrong.train.learning_rate = 1.0
    (run / "recipe.toml").write_text(wrong.dump())
    with pytest.raises(Exception, match="a run of another recipe; remove it"):
        run_bench(bench, run.parent.parent, jobs=1)
