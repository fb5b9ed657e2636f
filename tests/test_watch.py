"""Watching a run: what is shown is what the directory says, whatever state it is in."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from running import PATIENCE
from sides import evaluation, sample
from suffice import watch as watching
from suffice.config import load_recipe
from suffice.errors import SufficeError
from suffice.run.directory import Run
from suffice.watch import HEIGHT, WIDTH, plot, read_state, watch

STEPS = 4


def row(step: int) -> str:
    values = {"step": step, "accuracy": step / 8, "thought_tokens": 100.0 - step, "reward": 0.25, "seconds": 2.0}
    return json.dumps(values) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four steps without evaluations, of which none is done."""
    return make_run(tmp_path / "run")


def make_run(run: Path, *settings: str) -> Path:
    run.mkdir()
    recipe = load_recipe("lab-s-grpo", [f"train.steps={STEPS}", "train.eval_every=0", *settings])
    (run / "recipe.toml").write_text(recipe.dump(), encoding="utf-8")
    return run


def log(run: Path, text: str) -> None:
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


def finish(run: Path) -> None:
    (run / "checkpoints" / f"step-{STEPS:06d}").mkdir(parents=True)


def evaluated(run: Path, label: str, text: str | None = None) -> None:
    records = [sample("p", "CORRECT", 70), sample("q", "WRONG", 90)]
    summary = evaluation(records).summary.as_dict()
    summary["metrics"] |= {
        "accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6},
        "thought_tokens": {"mean": 80.0, "low": None, "high": None},
    }
    folder = run / "evaluations" / label
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(text or json.dumps(summary), encoding="utf-8")


def shown(run: Path, *, once: bool = True, terminal: bool = False) -> str:
    out = io.StringIO()
    watch(run, Console(file=out, width=100, force_terminal=terminal), once=once)
    return out.getvalue()


def complete(run: Path) -> bool:
    return read_state(Run(run), Run(run).recipe()).complete


# -- what is shown


def test_the_state_shows_steps_figures_and_what_is_left(run: Path):
    log(run, row(1) + row(2))
    said = shown(run)
    assert "step 2 of 4" in said
    assert "2.0 s a step, about 4.0 s left" in said
    assert "accuracy, %" in said
    assert "25.0" in said  # the last step's accuracy
    assert "18.8" in said  # the mean of 1/8 and 2/8
    assert "thinking tokens" in said
    assert "98.5" in said


def test_a_run_that_has_not_made_a_step_can_be_watched(run: Path):
    said = shown(run)
    assert "step 0 of 4" in said
    assert "no step yet" in said


def test_a_line_that_is_still_being_written_is_not_shown_yet(run: Path):
    log(run, row(1) + row(2)[:-20])
    assert "step 1 of 4" in shown(run)
    log(run, row(2)[-20:])
    assert "step 2 of 4" in shown(run)


def test_evaluations_stand_in_order_of_step_and_greedy_ones_are_left_out(tmp_path: Path):
    run = make_run(tmp_path / "run", "train.eval_every=2")
    for label in ("step-000002", "before", "before-greedy", "after"):
        evaluated(run, label)
    state = read_state(Run(run), Run(run).recipe())
    assert [step for step, _ in state.evaluations] == [0, 2, 4]
    assert "50.0 (40.0 to 60.0)" in shown(run)
    assert "80.0 " in shown(run)


def test_metrics_that_are_missing_or_not_finite_leave_gaps_only(run: Path):
    log(run, '{"step": 1, "accuracy": NaN}\n{"step": 2, "accuracy": null, "seconds": 1.0}\n')
    assert "step 2 of 4" in shown(run)


def test_a_plot_puts_the_lowest_at_the_bottom_and_the_highest_at_the_top():
    top, *middle, bottom = plot([0.0, 1.0]).splitlines()
    assert top == " █ 1.0"
    assert all(line == " █" for line in middle)
    assert bottom == "▁█ 0.0"


def test_a_plot_of_more_values_than_columns_averages_them():
    lines = plot([1.0] * WIDTH + [3.0] * WIDTH).splitlines()
    assert lines[0] == " " * (WIDTH // 2) + "█" * (WIDTH // 2) + " 3.0"
    assert lines[-1] == "▁" * (WIDTH // 2) + "█" * (WIDTH // 2) + " 1.0"


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=3 * WIDTH))
def test_a_plot_has_a_mark_in_every_column_whatever_the_values(values: list[float]):
    lines = plot(values).splitlines()
    assert len(lines) == HEIGHT
    marks = lines[-1].rpartition(" ")[0]
    assert len(marks) == min(WIDTH, len(values))
    assert " " not in marks


# -- following


@pytest.mark.parametrize("terminal", [False, True])
def test_following_shows_every_new_step_and_ends_with_the_run(
    run: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch
):
    log(run, row(1) + row(2))
    meanwhile = iter([lambda: log(run, row(3) + row(4)[:9]), lambda: log(run, row(4)[9:]), lambda: finish(run)])
    # the run goes on while watch sleeps, a bit at a time; that is all of the clock that is not real
    clock = SimpleNamespace(time=time.time, sleep=lambda seconds: next(meanwhile)())
    monkeypatch.setattr(watching, "time", clock)
    said = shown(run, once=False, terminal=terminal)
    if terminal:
        assert "step 4 of 4" in said
        assert "complete" in said
    else:
        assert [line.partition(",")[0] for line in said.splitlines()] == ["step 2/4", "step 3/4", "step 4/4"]
        assert said.splitlines()[0].endswith(
            "accuracy 0.25, thinking tokens 98, reward 0.25, seconds 2.00, about 4.0 s left"
        )


def test_a_run_is_complete_with_its_last_checkpoint_and_if_it_evaluates_its_comparison(tmp_path: Path):
    plain, evaluating = make_run(tmp_path / "plain"), make_run(tmp_path / "evaluating", "train.eval_every=2")
    for run in (plain, evaluating):
        log(run, "".join(map(row, range(1, STEPS + 1))))
        assert not complete(run)
        finish(run)
    assert complete(plain)
    assert not complete(evaluating)
    (evaluating / "comparison.json").write_text("{}", encoding="utf-8")
    assert complete(evaluating)


def test_ctrl_c_ends_the_watching_in_good_order(run: Path):
    log(run, row(1))
    command = [sys.executable, "-u", "-m", "suffice", "watch", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("step 1/4")
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaint) == (0, "")


def test_watching_does_not_load_torch(run: Path):
    log(run, row(1))
    script = "import sys; from suffice.cli import app; app(standalone_mode=False); print('torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script, "watch", str(run), "--once"], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[-1] == "False"


# -- mistakes


def no_recipe(run: Path) -> None:
    (run / "recipe.toml").unlink()


def broken_recipe(run: Path) -> None:
    (run / "recipe.toml").write_text("[train", encoding="utf-8")


def unknown_key(run: Path) -> None:
    (run / "recipe.toml").write_text("[train]\nspeed = 9", encoding="utf-8")


def line_without_step(run: Path) -> None:
    log(run, '{"accuracy": 1}\n')


def line_that_is_a_list(run: Path) -> None:
    log(run, "[1]\n")


def broken_line(run: Path) -> None:
    log(run, "{step: 1}\n" + row(2))


def broken_evaluation(run: Path) -> None:
    evaluated(run, "before", "{")


def evaluation_without_metrics(run: Path) -> None:
    evaluated(run, "before", "[]")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "spoil",
    [
        no_recipe,
        broken_recipe,
        unknown_key,
        line_without_step,
        line_that_is_a_list,
        broken_line,
        broken_evaluation,
        evaluation_without_metrics,
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(run: Path, spoil: Callable[[Path], None], terminal: bool):
    spoil(run)
    with pytest.raises(SufficeError) as caught:
        shown(run, once=False, terminal=terminal)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)
