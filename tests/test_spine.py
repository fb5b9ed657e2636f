"""The spine layout against plain rows: the same loss, the same log-probs, the same gradient of every parameter."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from making import CLOSE, INDUCER, SHAPE, exact, random_group, tiny_model
from suffice import get_method
from suffice.groups import Branch, Group, Problem, Spine
from suffice.model.attention import use_layouts
from suffice.objective import Objective, SpineBatch, policy_loss, row_batches, spine_batches, to_batch
from suffice.objective.spine import check_model

CLIP = {"clip_low": 0.2, "clip_high": 0.28}


SHIFTS = torch.tensor([0.0, 0.4, -0.5, 0.15, -0.1], dtype=torch.float64)
"""log ρ within and beyond both clips, log 1.28 = 0.247 and log 0.8 = −0.223, and far from either."""


def targets(batch):
    """The trained tokens [T] of a batch of either layout."""
    if isinstance(batch, SpineBatch):
        return batch.target
    return torch.cat([row.tokens[-len(row.weight) :][row.weight != 0] for row in batch.rows])


def gradients(model, batches):
    """Loss and gradients of some batches, whose old log-probs are such that ρ hangs on the token alone."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        new_T, _ = batch.logprobs(model, 0.7)
        old_T = new_T.detach() - SHIFTS[targets(batch) % len(SHIFTS)].to(new_T)
        loss = policy_loss(new_T, old_T, batch.plus, batch.minus, **CLIP)
        loss.backward()
        total += float(loss.detach())
    return total, [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]


def assert_equal(model, groups, advantage_P_G, objective, tolerance, micro=200):
    """‖g_spine − g_rows‖ ≤ tolerance · Σ_i ‖g_i‖ for every parameter, g_i the gradient of member i alone."""
    rows = row_batches(groups, advantage_P_G, objective, micro)
    if not rows:
        assert spine_batches(groups, advantage_P_G, objective, micro) == []
        return
    rows_loss, rows_grad = gradients(model, rows)
    spine_loss, spine_grad = gradients(model, spine_batches(groups, advantage_P_G, objective, micro))
    alone = [gradients(model, [type(batch)([row])])[1] for batch in rows for row in batch.rows]
    scale = [sum(float(g[i].norm()) for g in alone) for i in range(len(rows_grad))]
    for ours, theirs, size in zip(spine_grad, rows_grad, scale, strict=True):
        assert float((ours - theirs).norm()) <= tolerance * size + 1e-30
    assert spine_loss == pytest.approx(rows_loss, abs=max(1e-12, 10 * tolerance))


# What float32 allows. u = 2⁻²⁴ = 6e-8 is the error of one operation, and √k·u usually that of a sum of k. A token's two
# layers, head and softmaxes are sums of 4 to 40 terms whose √k add up to about 80; with the way back, to about 240.
# Logits of up to 10 make the log-prob's absolute error ten times its relative one. Two layouts, with an error each:
# 2 · 240 · 10 · u = 3e-4. A wrong mask, position or weight is off by 1e-2 and more.
FLOAT32 = 3e-4


def drawn(problems, members, seed=0):
    """Advantages [P, G]."""
    return torch.randn(problems, members, generator=torch.Generator().manual_seed(seed))


groups_of = st.builds(
    lambda seed, count, spines, exits, longest: [
        random_group(random.Random(f"{seed}{i}"), spines, exits, longest) for i in range(count)
    ],
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.shared(st.integers(1, 4), key="spines"),
    st.shared(st.integers(0, 16), key="exits"),
    st.integers(1, 24),
)


@settings(max_examples=40, deadline=None)
@given(
    groups=groups_of,
    spines=st.shared(st.integers(1, 4), key="spines"),
    exits=st.shared(st.integers(0, 16), key="exits"),
    seed=st.integers(0, 10**6),
    aggregate=st.sampled_from(["sequence", "constant", "token"]),
    train_on=st.sampled_from(["all", "sampled", "sampled+close"]),
    kind=st.sampled_from(["qwen3", "llama", "qwen2", "phi"]),
)
def test_any_groups_give_the_rows_loss_and_gradient_in_float64(groups, spines, exits, seed, aggregate, train_on, kind):
    model = exact(tiny_model(kind))
    advantage = drawn(len(groups), spines * (exits + 1), seed)
    assert_equal(model, groups, advantage, Objective(aggregate, train_on, CLOSE, exits, 20), 1e-10)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "phi"])
@pytest.mark.parametrize(("method", "spines", "exits"), [("s-grpo", 1, 8), ("s-grpo", 3, 4), ("grpo-lambda", 4, 0)])
def test_real_advantages_give_the_rows_gradient_in_float32(kind, method, spines, exits):
    model = tiny_model(kind, dtype=torch.float32)
    groups = [random_group(random.Random(i), spines, exits, 30) for i in range(4)]
    advantage = get_method(method).score(to_batch(groups, spines, exits)).advantage
    assert_equal(model, groups, advantage, Objective("sequence", "all", CLOSE, exits), FLOAT32)


def serial_group(thought, exits, answers):
    """A group with exits (repeated ones too) and answers (empty ones too) as given."""
    tokens = [3, *range(8, 8 + thought), CLOSE, 20, 1]
    spine = Spine(tokens, [-1.0] * len(tokens), 1, 1 + thought, True, False)
    spine.branches = [Branch(e, a, [-1.0] * len(a), False) for e, a in zip(exits, answers, strict=True)]
    return Group(Problem("p", "t", "?", "!"), [4, 5, 6], INDUCER, [spine])


@pytest.mark.parametrize("train_on", ["all", "sampled"])
def test_first_last_and_repeated_exits_and_empty_answers(train_on):
    group = serial_group(10, [1, 1, 5, 5, 10], [[21, 1], [], [22], [22], [23, 24, 1]])
    advantage = torch.tensor([[1.0, -0.5, 0.3, 0.3, -0.7, 0.2]])
    assert_equal(exact(tiny_model()), [group], advantage, Objective("constant", train_on, CLOSE, 5, 20), 1e-10)


def test_a_long_spine_takes_its_branches_in_several_calls(monkeypatch):
    monkeypatch.setattr("suffice.objective.spine.CALL_KEYS", 40)
    group = serial_group(20, [2, 4, 9, 15, 20], [[21, 1]] * 5)
    advantage = drawn(1, 6)
    batch = spine_batches([group], advantage, Objective("token", "all", CLOSE, 5), 999)[0]
    assert len(batch.layout.strands[0].calls) > 2
    assert_equal(exact(tiny_model()), [group], advantage, Objective("token", "all", CLOSE, 5), 1e-10)


def test_every_shared_token_is_packed_once():
    group = serial_group(20, [5, 10], [[21, 1], [22, 1]])
    batch = spine_batches([group], torch.tensor([[1.0, -1.0, 0.5]]), Objective("token", "all", CLOSE, 2), 999)[0]
    assert batch.tokens == 3 + 24 + 2 * (4 + 2)
    rows = row_batches([group], torch.tensor([[1.0, -1.0, 0.5]]), Objective("token", "all", CLOSE, 2), 999)
    assert sum(b.tokens for b in rows) == (3 + 24) + (3 + 6 + 6) + (3 + 11 + 6)


def test_a_shared_token_adds_up_its_members_by_sign():
    group = serial_group(4, [2], [[21, 1]])
    batch = spine_batches([group], torch.tensor([[1.0, -0.5]]), Objective("constant", "all", CLOSE, 1, 10), 999)[0]
    # two members, constant length 10: weights 1/20 and −0.5/20; the branch keeps the open token and two thought tokens
    assert batch.plus.tolist() == pytest.approx([0.05] * 3 + [0.0] * 5 + [0.05] * 6)
    assert batch.minus.tolist() == pytest.approx([-0.025] * 8 + [0.0] * 6)


def test_members_without_weight_are_left_out():
    group = serial_group(20, [5, 10], [[21, 1], [22, 1]])
    objective = Objective("token", "all", CLOSE, 2)
    assert spine_batches([group], torch.zeros(1, 3), objective, 999) == []
    batch = spine_batches([group], torch.tensor([[0.0, 1.0, -1.0]]), objective, 999)[0]
    assert batch.tokens == 3 + 24 + (4 + 2)


def test_gradient_checkpointing_changes_nothing():
    groups = [random_group(random.Random(i), 2, 4, 20) for i in range(2)]
    advantage, objective = drawn(2, 10), Objective("sequence", "all", CLOSE, 4)
    model = exact(tiny_model())
    _, plain = gradients(model, spine_batches(groups, advantage, objective, 999))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    _, checkpointed = gradients(model, spine_batches(groups, advantage, objective, 999))
    for a, b in zip(plain, checkpointed, strict=True):
        assert (a - b).norm() <= 1e-10 * a.norm()


def test_lora_has_the_rows_gradient():
    peft = pytest.importorskip("peft")
    model = exact(tiny_model())
    model = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    ).double()
    groups = [random_group(random.Random(i), 1, 4, 20) for i in range(2)]
    adapters = [p for p in model.parameters() if p.requires_grad]
    objective, advantage = Objective("sequence", "all", CLOSE, 4), drawn(2, 5)
    found = []
    for layout in (row_batches, spine_batches):
        gradients(model, layout(groups, advantage, objective, 999))
        found.append([p.grad.clone() for p in adapters])
    for rows, spine in zip(*found, strict=True):
        assert (rows - spine).norm() <= 1e-10 * rows.norm()


def test_without_a_layout_the_attention_is_plain_sdpa():
    model, ids = tiny_model(), torch.randint(8, 30, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    use_layouts(model.base_model)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, before, atol=0, rtol=0)


def test_models_that_fit_are_accepted():
    for kind in ("qwen3", "llama", "qwen2", "phi"):
        check_model(tiny_model(kind, dtype=torch.float32))


def test_models_that_do_not_fit_are_refused_for_their_reason():
    window = SHAPE | {"sliding_window": 8}
    refused = {
        "sliding_attention layers": Qwen3ForCausalLM(
            Qwen3Config(**window, use_sliding_window=True, max_window_layers=1)
        ),
        "uses sliding_window": MistralForCausalLM(MistralConfig(**window)),
        "RoPE is dynamic": Qwen3ForCausalLM(
            Qwen3Config(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
        ),
        "sliding_attention": Gemma2ForCausalLM(Gemma2Config(**SHAPE)),
    }
    for reason, model in refused.items():
        with pytest.raises(ValueError, match=reason):
            check_model(model)
    soft = Gemma2Config(**SHAPE, layer_types=["full_attention"] * 2)
    with pytest.raises(ValueError, match="softcap"):
        check_model(Gemma2ForCausalLM(soft))
