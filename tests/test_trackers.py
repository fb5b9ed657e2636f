"""Trackers: what they are told is what metrics.jsonl and the evaluations say, also across a resumption."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from running import small
from suffice import cli
from suffice.config import load_recipe
from suffice.engines.local import train
from suffice.engines.trackers import KNOWN, Trackers
from suffice.errors import RecipeError
from suffice.extras import install_command
from suffice.run.files import read_json, read_jsonl
from suffice.run.start import start_run

Points = dict[str, list[tuple[int, float]]]


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def points(run: Path) -> Points:
    """(step, value) of every scalar that TensorBoard would show."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


RECIPE = load_recipe("lab-s-grpo").model_dump()


def test_tensorboard_holds_every_figure_of_metrics_jsonl_and_of_the_evaluations(tmp_path: Path):
    run = tmp_path / "run"
    train(small(train__eval_every=1, run__track=["tensorboard"]), run)
    found = points(run)
    rows = read_jsonl(run / "metrics.jsonl")
    plain = {name for row in rows for name in row if name != "step" and not name.startswith("eval_")}
    assert {tag for tag in found if not tag.startswith("eval/")} == plain
    for name in plain:
        assert found[name] == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows if name in row]
    for tag, metric, suffix in (
        ("eval/accuracy", "accuracy", ""),
        ("eval/thought_tokens", "thought_tokens", ""),
        ("eval/greedy_accuracy", "accuracy", "-greedy"),
        ("eval/greedy_thought_tokens", "thought_tokens", "-greedy"),
    ):
        labels = ["before", "step-000001", "after"]
        summaries = [read_json(run / "evaluations" / f"{label}{suffix}" / "summary.json") for label in labels]
        means = [summary["metrics"][metric]["mean"] for summary in summaries]
        assert found[tag] == [(step, pytest.approx(mean, rel=1e-6)) for step, mean in enumerate(means)]


def test_steps_done_again_after_a_resumption_replace_what_they_were(tmp_path: Path):
    run = start_run(tmp_path / "run", "")
    for done, last, value in ((0, 5, 1.0), (3, 6, 2.0)):
        with Trackers(["tensorboard"], RECIPE) as trackers:
            trackers.open(run, done)
            if not done:
                trackers.log(0, {"eval_accuracy": 0.5})
            for step in range(done + 1, last + 1):
                trackers.log(step, {"loss": value})
    found = points(run)
    assert found["loss"] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
    assert found["eval/accuracy"] == [(0, 0.5)]


def test_evaluating_again_at_the_end_keeps_the_last_step(tmp_path: Path):
    run = start_run(tmp_path / "run", "")
    for done, figures in ((0, {"loss": 1.0}), (2, {"eval_accuracy": 0.5})):
        with Trackers(["tensorboard"], RECIPE) as trackers:
            trackers.open(run, done)
            trackers.log(2, figures)
    assert points(run) == {"loss": [(2, 1.0)], "eval/accuracy": [(2, 0.5)]}


@pytest.mark.parametrize("name", [name for name in KNOWN if installed(name)])
def test_every_installed_tracker_takes_a_run_and_its_resumption(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", "")  # so that what stands there is put back
    monkeypatch.delenv("TRACKIO_DIR")
    run = start_run(tmp_path / "run", "")
    for done in (0, 1):
        with Trackers([name], RECIPE) as trackers:
            trackers.open(run, done)
            trackers.log(done + 1, {"loss": 0.5, "eval_accuracy": 0.25})
    assert any(path.is_file() for path in (run / name).rglob("*"))


def test_nothing_is_tracked_unless_it_is_asked_for(tmp_path: Path):
    run = start_run(tmp_path / "run", "")
    with Trackers([], RECIPE) as trackers:
        trackers.open(run, 0)
        trackers.log(1, {"loss": 0.5})
    assert sorted(path.name for path in run.iterdir()) == ["manifest.json", "recipe.toml"]


@pytest.mark.parametrize("name", [name for name in KNOWN if not installed(name)])
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # as the tool itself leaves behind: not to be taken for a package
    monkeypatch.setattr(
        sys, "argv", ["suffice", "train", "lab-s-grpo", "--out", "run", "--set", f'run.track=["{name}"]']
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert install_command(name) in complaint
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match=r"run\.track\.0 = 'mlflow'.*'tensorboard', 'trackio' or 'wandb'"):
        load_recipe("lab-s-grpo", ['run.track=["mlflow"]'])
