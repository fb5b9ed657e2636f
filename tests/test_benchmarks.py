"""The benchmarks: FLOPs by hand-computed numbers, the dense mask's rules, and a page that says what was recorded."""

from __future__ import annotations

import pytest
import torch
from benchmarks.dense_mask import dense, dense_mask
from benchmarks.flops import Work, rows_work, spine_work
from benchmarks.models import rows, serial_group, spines, update
from benchmarks.performance import PAGE, REAL, RELIABILITY, SCALE, SERVERS, rendered
from benchmarks.record import merged
from benchmarks.spine import compare
from transformers import Qwen3Config, Qwen3ForCausalLM

from making import SHAPE, exact, tiny_model


def test_rows_count_every_member_whole():
    # thought 9, two exits at 3 and 6; prompt 128, answer 32, branches of 32 own tokens
    work = rows_work(rows(serial_group(9, 2)))
    assert work.tokens == (128 + 41) + (128 + 3 + 32) + (128 + 6 + 32)
    assert work.pairs == 169 * 170 // 2 + 163 * 164 // 2 + 166 * 167 // 2
    assert work.scored == 41 + 35 + 38


def test_padding_counts_nothing():
    group = serial_group(9, 2)
    assert rows_work(rows(group, 1)) == rows_work(rows(group, 9999))


def test_a_spine_counts_each_shared_token_once_and_each_branch_with_its_prefix():
    work = spine_work(spines(serial_group(9, 2)))
    assert work.tokens == 128 + 41 + 2 * 32
    # a branch of 32 sees its prefix 32 times, and 1 + 2 + … + 32 = 528 of itself
    assert work.pairs == 169 * 170 // 2 + (131 * 32 + 528) + (134 * 32 + 528)
    assert work.scored == 41 + 2 * 32


def test_flops_of_a_model_by_hand():
    # hidden 16, 4 query and 2 key-value heads of 4, feed-forward 24, 2 layers, vocabulary 32
    linear = 2 * (16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 24)
    forward = 2 * linear * 10 + 4 * 4 * 4 * 2 * 55 + 2 * 16 * 32 * 7
    assert Work(tokens=10, pairs=55, scored=7).flops(tiny_model()) == 3 * forward


def wide_model():
    """Random weights over the benchmarks' vocabulary."""
    torch.manual_seed(0)
    return exact(Qwen3ForCausalLM(Qwen3Config(**SHAPE | {"vocab_size": 8192})))


def test_the_dense_mask_lets_through_the_pairs_that_are_counted():
    group = serial_group(9, 2)
    assert int(dense_mask(spines(group)[0]).sum()) == spine_work(spines(group)).pairs


def test_the_dense_mask_gives_the_spine_gradient():
    model, group, found = wide_model(), serial_group(9, 2), []
    for layout in (spines, dense):
        update(model, layout(group))
        found.append([p.grad.clone() for p in model.parameters()])
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


def test_a_comparison_names_its_ratio_and_finds_equal_gradients():
    row = compare(wide_model(), serial_group(9, 2), rounds=1, batched=True)
    assert row["ratio"] == row["seconds_rows"] / row["seconds_spine"]
    assert row["grad_rel_err"] <= 1e-10


def test_a_case_measured_again_takes_the_place_of_its_row():
    old = {"machine": {"cpu": "a"}, "rows": [{"case": "x", "ratio": 1}, {"case": "y", "ratio": 2}]}
    again = {"machine": {"cpu": "a"}, "rows": [{"case": "x", "ratio": 3}]}
    assert merged(old, again) == [{"case": "x", "ratio": 3}, {"case": "y", "ratio": 2}]
    assert merged(old, again | {"machine": {"cpu": "b"}}) == [{"case": "x", "ratio": 3}]


@pytest.mark.parametrize("page", [PAGE, REAL, RELIABILITY, SCALE, SERVERS])
def test_the_page_says_what_was_recorded(page):
    assert rendered(page.read_text()) == page.read_text()
