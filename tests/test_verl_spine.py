"""The spine layout in verl's actor: trees worked out by hand, and verl's own update in rows as their oracle."""

from __future__ import annotations

import random
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from making import CLOSE, END, INDUCER, OPEN, SHAPE, tiny_model
from suffice.objective.ranges import ranges
from suffice.objective.rows import Row
from suffice.run.files import read_json

pytest.importorskip("verl", reason="verl is not installed: pip install '.[verl]'")

from suffice.engines.verl.trees import Stretches, as_batch, padding, tree, within

pytestmark = pytest.mark.slow


def row(tokens: list[int], weights: list[float], injected: int = 0) -> Row:
    """A member after the prompt 4, 5; its behaviour counts down, and the first so many of its last tokens were not
    sampled."""
    length = len(weights)
    drawn = torch.ones(length, dtype=torch.bool)
    drawn[length - injected :] = False
    return Row(torch.tensor([4, 5, *tokens]), torch.tensor(weights).double(), -torch.arange(1.0, length + 1), drawn)


FULL = row([OPEN, 8, 9, CLOSE, 20, END], [0.5] * 6), 6
EARLY = row([OPEN, 8, *INDUCER, 21, END], [-0.5] * 2 + [0.0] * 4 + [-0.5] * 2, injected=6), 2
LATE = row([OPEN, 8, 9, *INDUCER, 22, END], [0.25] * 3 + [0.0] * 4 + [0.25] * 2, injected=6), 3


def test_a_tree_holds_a_thought_once_and_adds_up_its_members():
    found = tree(2, [EARLY, LATE, FULL])
    assert found.tokens.tolist() == [4, 5, OPEN, 8, 9, CLOSE, 20, END, *INDUCER, 21, END, *INDUCER, 22, END]
    # a branch goes on where it left: after prompt and 2 tokens at 4, after 3 at 5
    assert found.positions.tolist() == [*range(8), *range(4, 10), *range(5, 11)]
    assert found.stretches == Stretches(8, [(4, 6), (5, 6)])
    # OPEN and 8 are all three's, 0.5 − 0.5 + 0.25; 9 is LATE's and FULL's, 0.5 + 0.25
    assert found.weight.tolist() == [0.25, 0.25, 0.75, 0.5, 0.5, 0.5, *[0.0] * 4, -0.5, -0.5, *[0.0] * 4, 0.25, 0.25]
    assert found.trained.tolist() == [True] * 6 + ([False] * 4 + [True] * 2) * 2
    assert found.sampled.tolist() == [True] * 6 + [False] * 12
    assert found.behaviour.tolist() == [*range(-1, -7, -1), *range(-3, -9, -1), *range(-4, -10, -1)]


def test_weights_that_add_up_to_nothing_are_trained_all_the_same():
    found = tree(2, [EARLY, FULL])
    assert found.weight[:2].tolist() == [0.0, 0.0]
    assert found.trained[:2].all()


def test_a_tree_reaches_as_far_as_its_members_where_the_full_rollout_has_nothing_to_say():
    found = tree(2, [EARLY, LATE])
    assert found.tokens.tolist() == [4, 5, OPEN, 8, 9, *INDUCER, 21, END, *INDUCER, 22, END]
    assert found.stretches == Stretches(5, [(4, 6), (5, 6)])


def test_members_beyond_a_micro_batch_are_trees_of_their_own_and_lose_no_weight():
    whole = tree(2, [EARLY, LATE, FULL])
    for room, sizes in ((20, [20]), (19, [14, 10]), (14, [14, 10]), (13, [8, 11, 10]), (1, [8, 11, 10])):
        found = within(room, 2, [EARLY, LATE, FULL])
        assert [part.stretches.tokens for part in found] == sizes
        assert sum(float(part.weight.sum()) for part in found) == pytest.approx(float(whole.weight.sum()))


def test_stretches_come_back_from_a_batch():
    trees = [tree(2, [EARLY, LATE, FULL]), padding(END), tree(2, [FULL])]
    batch = as_batch(trees)
    assert [Stretches.of_tensor(found) for found in batch["stretches"].unbind()] == [t.stretches for t in trees]
    assert batch["response_mask"].unbind()[1].tolist() == [0]


def test_a_branchs_first_token_is_predicted_at_its_exit():
    from suffice.engines.verl.spine import predictors

    # tokens 0…7 and 8…13 and 14…19 are the first tree, 20…27 a second. What stands before 8 and 14 predicts neither:
    # they are predicted after prompt and 2 tokens, at 3, and after 3 tokens, at 4
    wanted = [*range(7), 3, *range(8, 13), 4, *range(14, 28)]
    assert predictors([Stretches(8, [(4, 6), (5, 6)]), Stretches(8, [])]).tolist() == wanted


@pytest.mark.parametrize(("lengths", "gpus"), [([], 2), ([9], 4), ([9, 3, 5], 2), ([3, 3, 9, 9], 2)])
def test_every_gpu_gets_as_many_trees_as_the_others_and_the_work_is_shared(lengths, gpus):
    from suffice.engines.verl.trainer import dealt

    trees = [tree(2, [(row([8] * n, [1.0] * n), n)]) for n in lengths]
    found = dealt(trees, gpus, END)
    assert len(found) == max(gpus, -(-len(lengths) // gpus) * gpus)
    assert sorted(len(each.tokens) for each in found if each.trained.any()) == sorted(n + 2 for n in lengths)
    if len(lengths) == 4:  # 9 and 3 for each
        assert [sum(len(each.tokens) for each in part) for part in (found[:2], found[2:])] == [16, 16]


def bottom_right(query: Tensor, key: Tensor, value: Tensor, *ends: Any, **said: Any) -> Tensor:
    """What `flash_attn_varlen_func` is documented to compute with `causal=True`: of each range the last query sees all
    keys, each before it one less. A key head serves neighbouring query heads."""
    query_ends, key_ends, longest_query, longest_key = ends
    assert said["causal"]
    assert query_ends.dtype == key_ends.dtype == torch.int32
    found, repeats = torch.full_like(query, torch.nan), query.shape[1] // key.shape[1]
    for (q, q_end), (k, k_end) in zip(pairwise(query_ends.tolist()), pairwise(key_ends.tolist()), strict=True):
        assert q_end - q <= longest_query
        assert k_end - k <= longest_key
        seen = torch.ones(q_end - q, k_end - k).tril(k_end - k - (q_end - q)).bool()
        keys, values = (x[k:k_end].repeat_interleave(repeats, 1) for x in (key, value))
        score = torch.einsum("qhd,khd->hqk", query[q:q_end], keys) * said["softmax_scale"]
        found[q:q_end] = torch.einsum("hqk,khd->qhd", score.masked_fill(~seen, -torch.inf).softmax(-1), values)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_ranges_see_what_the_masks_of_the_layout_let_see(seed, monkeypatch):
    from suffice.engines.verl.spine import strands

    rng, draw = random.Random(seed), torch.Generator().manual_seed(seed)
    trees = []
    for _ in range(rng.randint(1, 3)):
        trunk = rng.randint(1, 30)
        exits = sorted(rng.randint(1, trunk) for _ in range(rng.choice([0, 1, 8])))
        trees.append(Stretches(trunk, [(kept, rng.randint(1, 9)) for kept in exits]))
    count = sum(tree.tokens for tree in trees)
    query, key, value = (torch.randn(1, h, count, 4, dtype=torch.float64, generator=draw) for h in (4, 2, 2))
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=bottom_right))
    monkeypatch.setattr("suffice.objective.spine.CALL_KEYS", rng.choice([1, 60, 1024]))

    found = ranges(trees, torch.device("cpu")).attend(None, query, key, value, scaling=0.3, dropout=0.0)
    masked = strands(trees).attend(None, query, key, value, scaling=0.3, dropout=0.0)
    torch.testing.assert_close(found, masked, atol=1e-12, rtol=0)


# Errors in float32 are 6e-8 an operation, and those of a few hundred tokens and 4,000 parameters add up to some 3e-7 of
# the members' gradients. A wrong mask, position, predictor or weight is off by 1e-2 and more.
FLOAT32 = 1e-5


def test_verls_update_in_trees_has_the_loss_and_the_gradient_of_its_rows_and_of_the_local_engine(tmp_path):
    """On two FSDP2 processes, over groups whose thoughts, exits and answers are ragged, some members without weight."""
    from verl_update import compare, in_processes, random_case

    model = tmp_path / "model"
    tiny_model(dtype=torch.float32).save_pretrained(model)
    cases = [
        (random_case(0, 1, 8, "constant", "sampled"), 10_000),
        (random_case(1, 4, 3, "sequence", "all"), 40),  # of 35 tokens a member may be
        (random_case(2, 2, 5, "token", "sampled+close"), 40),
        (random_case(3, 3, 0, "sequence", "sampled"), 40),
        (random_case(4, 1, 8, "sequence", "sampled"), 60),
    ]
    misfits = [tmp_path / name for name in ("window", "cap")]
    window = Qwen3Config(**SHAPE, sliding_window=8, use_sliding_window=True, max_window_layers=1)
    Qwen3ForCausalLM(window).save_pretrained(misfits[0])
    Gemma2ForCausalLM(Gemma2Config(**SHAPE, layer_types=["full_attention"] * 2)).save_pretrained(misfits[1])
    in_processes(compare, 2, tmp_path, model, cases, misfits)
    found = read_json(tmp_path / "found.json")
    assert len(found) == 2 * len(cases)
    assert max(case["trees"]["micro-batches"] for case in found) > 1
    for case in found:
        for name in ("verl's rows", "trees", "local spines"):
            assert case[name]["loss"] <= FLOAT32, case
            assert case[name]["gradient"] <= FLOAT32, case
    for rank in range(2):  # each says so, or the other would wait for it
        assert read_json(tmp_path / f"said-{rank}.json") == [
            f'the spine layout would be wrong for {model}: its attention uses {what}; set objective.layout = "rows"'
            for model, what in zip(misfits, ("sliding_window", "softcap"), strict=True)
        ]
