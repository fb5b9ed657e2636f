"""The simulation of rollout and update: by hand where a hand can, and beside the closed form of the estimate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks import balance
from benchmarks.balance import DEVICE, ENGINE, GRPO, S_GRPO, SHAPE, one_step, serve, split_seconds, work
from benchmarks.flops import rows_work, spine_work
from benchmarks.models import ANSWER, PROMPT, rows, serial_group, spines
from benchmarks.performance import SCALE, rendered

from suffice.config import load_recipe
from suffice.estimate import estimate, pass_seconds


def pass_of(rows: int, context: float) -> float:
    return pass_seconds(SHAPE, DEVICE, ENGINE, rows, context)


def test_one_row_alone_takes_a_pass_a_token():
    seconds, ended = serve([1000], GRPO, 30)
    assert seconds == pytest.approx(1480 * pass_of(1, 256 + 740))
    assert ended == [seconds]


def test_branches_start_when_their_spine_ends_and_run_together():
    setting = replace(S_GRPO, exits=3)
    seconds, ended = serve([1000], setting, 30)
    spine = 1480 * pass_of(1, 256 + 740)
    # exits at 250, 500 and 750
    branches = 480 * pass_of(3, 256 + 500 + 13 + 240)
    assert ended == pytest.approx([spine, *[spine + branches] * 3])
    assert seconds == ended[-1]


def test_a_cache_for_one_row_takes_rows_in_turn():
    together, _ = serve([1000, 1000], GRPO, 30)
    in_turn, ended = serve([1000, 1000], GRPO, 0.001)
    assert together == pytest.approx(1480 * pass_of(2, 256 + 740))
    assert ended == pytest.approx([in_turn / 2, in_turn])


def test_every_member_of_every_problem_is_served():
    for setting in (S_GRPO, GRPO):
        _, ended = serve(setting.thoughts(0)[:50].tolist(), setting, 30)
        assert len(ended) == 50 * (1 + setting.exits)
        assert ended == sorted(ended)


@pytest.mark.parametrize(("layout", "counted"), [("rows", rows_work), ("spine", spine_work)])
def test_the_update_pushes_what_the_benchmarks_count(layout, counted):
    setting = replace(S_GRPO, problems=1, exits=2, prompt=PROMPT, answer=ANSWER, inducer=0)
    batches = {"rows": rows, "spine": spines}[layout](serial_group(9, 2))
    assert work(np.array([9]), setting, layout) == counted(batches)


def test_a_prompt_is_pushed_once_for_all_spines_of_a_problem():
    setting = replace(GRPO, problems=2, spines=3)
    thoughts = np.full(6, 100)
    assert work(thoughts, setting, "rows").tokens - work(thoughts, setting, "spine").tokens == 2 * 2 * 256


def test_a_split_step_takes_as_long_as_the_slower_side():
    few, many = split_seconds(S_GRPO, 1), split_seconds(S_GRPO, 4)
    assert few > many
    update = balance.update_seconds(work(S_GRPO.thoughts(0), S_GRPO, "rows"), 7)
    assert few > update + S_GRPO.transfer_seconds


def test_training_does_not_fit_fewer_gpus_than_its_memory_says():
    # 122 GiB of weights, gradients and moments, 36 of activations and logits on each, 3 headroom, 79 there
    assert balance.fewest_trainers() == 4


def test_shares_are_shares_and_parts_make_the_step():
    found = one_step(replace(S_GRPO, problems=16), 0)
    assert 0 <= found["idle"] < 1
    assert 0 <= found["tail"] < 1
    parts = found["seconds_rollout"] + found["seconds_update_rows"] + S_GRPO.transfer_seconds
    assert found["seconds_step"] == pytest.approx(parts)


@pytest.mark.parametrize(("name", "setting"), [("qwen3-8b-s-grpo", S_GRPO), ("qwen3-8b-grpo-lambda", balance.LAMBDA)])
def test_the_estimates_closed_form_agrees_within_a_fifth(name: str, setting: balance.Setting):
    simulated = one_step(setting, 0)
    found = estimate(load_recipe(name), SHAPE, DEVICE, mean_thought=simulated["thought"])
    assert found.seconds_rollout == pytest.approx(simulated["seconds_rollout"], rel=0.2)
    assert found.seconds_update == pytest.approx(simulated["seconds_update_rows"], rel=0.2)


def test_the_page_says_what_was_simulated():
    page = SCALE.read_text(encoding="utf-8")
    assert rendered(page) == page
