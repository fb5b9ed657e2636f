"""What a run will take, by hand-computed numbers, and held to transformers where it can say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks.flops import Work
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    MixtralConfig,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
)

from suffice.config import DEFAULT_INDUCER, load_recipe, recipe_names
from suffice.devices import DEVICES, GIB, SPEEDS, Device, Speed
from suffice.errors import ModelError
from suffice.estimate import (
    Assumptions,
    disk_bytes,
    engine_of,
    estimate,
    local_seconds,
    memory_of,
    pass_seconds,
    served_seconds,
    tokens_of,
    width_of,
)
from suffice.groups import Problem
from suffice.lab import base_path
from suffice.model.load import load_chat
from suffice.model.positions import longest_prompt, mean_prompt
from suffice.model.shape import KNOWN, read_shape, shape_of

QWEN3_8B = KNOWN["Qwen/Qwen3-8B"]
REAL = [name for name in recipe_names() if not name.startswith("lab-")]


def qwen3(shape=QWEN3_8B, **changes):
    """The config of a Qwen3 of this shape."""
    return Qwen3Config(
        **{
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "max_position_embeddings": shape.positions,
            "tie_word_embeddings": shape.tied,
        }
        | changes
    )


# -- the model's shape


def test_qwen3_8b_by_hand():
    # a layer: 2·4096·4096 of query and output, 2·4096·1024 of key and value, 3·4096·12288 of the feed-forward
    assert QWEN3_8B.linear == 36 * 192_937_984
    assert QWEN3_8B.parameters == 36 * 192_937_984 + 2 * 151_936 * 4096 == 8_190_427_136
    assert QWEN3_8B.cache_bytes == 147_456
    # rank 1: 8192 each of query and output, 5120 each of key and value, 16384 each of gate, up and down
    assert QWEN3_8B.adapters(1) == 36 * (2 * 8192 + 2 * 5120 + 3 * 16384)


@pytest.mark.parametrize("name", [name for name in KNOWN if "Qwen3" in name])
def test_parameters_are_transformers_but_for_norms(name: str):
    with torch.device("meta"):
        there = Qwen3ForCausalLM(qwen3(KNOWN[name])).num_parameters()
    assert KNOWN[name].parameters == pytest.approx(there, rel=3e-4)
    assert KNOWN[name].parameters < there


MIXTURES = {
    # Qwen3-30B-A3B; Mixtral-8x7B; a made one with a shared expert: every layer a mixture
    "qwen3-moe": Qwen3MoeConfig(
        vocab_size=151_936, hidden_size=2048, num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4,
        head_dim=128, moe_intermediate_size=768, intermediate_size=6144, num_experts=128, num_experts_per_tok=8,
    ),
    "mixtral": MixtralConfig(),
    "qwen2-moe": Qwen2MoeConfig(num_hidden_layers=4, shared_expert_intermediate_size=5632),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_holds_all_experts_and_a_token_passes_through_a_few(name: str):
    config = MIXTURES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = read_shape(config.to_dict())
    assert shape.parameters == pytest.approx(model.num_parameters(), rel=3e-4)
    apart = shape.experts - shape.active
    unused = shape.layers * 3 * shape.hidden * shape.feed_forward * apart
    assert shape.linear == shape.parameters - unused - shape.head * (1 if shape.tied else 2)
    assert shape.read(1) == shape.linear
    assert shape.read(10_000) == shape.linear + unused


def test_qwen3_30b_a3b_by_hand():
    shape = read_shape(MIXTURES["qwen3-moe"].to_dict())
    attention, expert, router = 2 * 2048 * 128 * (32 + 4), 3 * 2048 * 768, 2048 * 128
    assert shape.linear == 48 * (attention + 8 * expert + router)
    assert shape.parameters == 48 * (attention + 128 * expert + router) + 2 * 151_936 * 2048 == 30_531_911_680


@pytest.mark.parametrize(
    "change",
    [{"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}, {"first_k_dense_replace": 1}, {"kv_lora_rank": 512}],
)
def test_a_mixture_in_some_layers_only_is_not_estimated(change: dict):
    with pytest.raises(ValueError, match=r"some layers only|latent"):
        read_shape(MIXTURES["qwen3-moe"].to_dict() | change)


def test_operations_are_those_of_the_benchmarks():
    with torch.device("meta"):
        model = Qwen3ForCausalLM(qwen3())
    assert 3 * QWEN3_8B.flops(1000, 500_500, 700) == Work(tokens=1000, pairs=500_500, scored=700).flops(model)


def kept_bytes(layers: int, tokens: int, *, half: bool) -> int:
    """What autograd keeps for the backward pass of a model of 512 hidden units, its weights apart."""
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64}
    model = Qwen3ForCausalLM(qwen3(**shape, intermediate_size=1536, num_hidden_layers=layers)).train()
    kept = {}
    weights = sum(parameter.numel() for parameter in model.model.layers.parameters())

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    precision = torch.autocast("cpu", torch.bfloat16, enabled=half)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), precision:
        model.model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    return sum(storage.nbytes() for place, storage in kept.items() if place not in own) - half * 2 * weights


@pytest.mark.parametrize("width", [2, 4])
def test_activations_are_what_autograd_keeps(width: int):
    shape = read_shape(
        {
            "vocab_size": 64,
            "hidden_size": 512,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "intermediate_size": 1536,
            "num_hidden_layers": 2,
            "max_position_embeddings": 512,
        }
    )
    measured = kept_bytes(4, 256, half=width == 2) - kept_bytes(2, 256, half=width == 2)
    assert shape.activation_bytes(256, checkpointing=False, width=width) == pytest.approx(measured, rel=0.1)


def test_checkpointing_keeps_an_input_a_layer_and_one_layer_whole():
    layer = 10 * 128 * 40 + 27 * 4096 + 8 * 12288
    assert QWEN3_8B.activation_bytes(1, checkpointing=False) == 36 * layer
    assert QWEN3_8B.activation_bytes(1, checkpointing=True) == 36 * 4 * 4096 + layer


def test_a_shape_is_read_from_a_folder_and_head_dim_may_be_left_to_be_divided(tmp_path: Path):
    config = qwen3().to_dict() | {"head_dim": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_of(str(tmp_path)) == QWEN3_8B


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"hidden_size": 8}', json.dumps(qwen3().to_dict() | {"num_experts": 128})]
)
def test_a_config_of_something_else_is_one_line(text: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="not the config of a decoder that can be estimated") as refusal:
        shape_of(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_an_unknown_model_is_told_what_is_known():
    with pytest.raises(ModelError, match="Qwen/Qwen3-8B"):
        shape_of("nobody/nothing")


# -- tokens

S_GRPO, LAMBDA = load_recipe("qwen3-8b-s-grpo"), load_recipe("qwen3-8b-grpo-lambda")
A = Assumptions(thought=8192, answer=480, prompt=256, longest_prompt=256)


def test_defaults_are_half_the_thoughts_budget_and_a_published_answer():
    assert Assumptions.of(S_GRPO) == A
    said = Assumptions.of(S_GRPO, mean_thought=5000, prompts=(70.5, 99))
    assert said == Assumptions(thought=5000, answer=480, prompt=70.5, longest_prompt=99)
    assert Assumptions.of(load_recipe("lab-s-grpo")).answer == 4


def test_a_serial_step_by_hand():
    found = tokens_of(S_GRPO, A, "rows")
    assert found.sampled == 128 * (8192 + 9 * 480)
    assert found.prefilled == 128 * (256 + 8 * 13)
    # a branch's row: 256 + 8192/2 + 13 + 480 = 4845
    assert found.pushed == 128 * (8928 + 8 * 4845) == 6_104_064
    assert found.scored == 128 * (8672 + 8 * (4096 + 480))
    spine = tokens_of(S_GRPO, A, "spine")
    assert spine.pushed == 128 * (8928 + 8 * 493) == 1_647_616
    assert spine.scored == 128 * (8672 + 8 * 480)
    # each token of a branch sees 256 + 4096 of the spine, and half of its branch
    assert spine.pairs == 128 * (8928**2 / 2 + 8 * (493 * 4352 + 493**2 / 2))


def test_a_parallel_step_by_hand():
    rows, spine = tokens_of(LAMBDA, A, "rows"), tokens_of(LAMBDA, A, "spine")
    assert rows.sampled == spine.sampled == 128 * 16 * 8672
    assert rows.prefilled == 128 * 256
    assert rows.pushed - spine.pushed == 128 * 15 * 256  # the prompt is shared
    assert rows.pairs == spine.pairs


def test_the_inducer_is_scored_only_where_it_is_trained():
    literally = load_recipe("qwen3-8b-s-grpo", ["objective.train_on=all"])
    for layout in ("rows", "spine"):
        more = tokens_of(literally, A, layout).scored - tokens_of(S_GRPO, A, layout).scored
        assert more == 128 * 8 * 13


def test_pairs_of_rows_are_the_mean_over_exits():
    # by summing over every exit 1…n
    n, cut = 600, 256 + 13 + 480
    mean = sum((cut + exit) ** 2 / 2 for exit in range(1, n + 1)) / n
    found = tokens_of(S_GRPO, Assumptions(thought=n, answer=480, prompt=256, longest_prompt=256), "rows")
    assert found.pairs == pytest.approx(128 * ((n + 736) ** 2 / 2 + 8 * mean), rel=2e-3)


def test_the_mean_prompt_is_judged_by_some_and_the_longest_found():
    chat = load_chat(str(base_path()), DEFAULT_INDUCER)
    problems = [Problem(str(i), "t", "1+" * i + "1", "1") for i in range(1, 202)]
    own = [len(chat.render(problem.prompt)) for problem in problems]
    assert longest_prompt(chat, problems) == max(own) == own[-1]
    assert mean_prompt(chat, problems) == pytest.approx(sum(own) / len(own), rel=0.01)
    # of few every one counts
    assert mean_prompt(chat, [problems[0], problems[9], problems[100]]) == (own[0] + own[9] + own[100]) / 3


# -- memory


def test_full_training_with_verl_shards_sixteen_bytes_a_parameter():
    found = memory_of(S_GRPO, QWEN3_8B, "verl", 8, A)
    assert found.weights * 8 * GIB == 4 * 8_190_427_136
    assert found.gradients == found.weights
    assert found.optimizer == 2 * found.weights
    assert found.logits * GIB == 8 * 18432 * 151_936
    assert found.sampler * GIB == 2 * 8_190_427_136
    state = 16 * 8_190_427_136 / 8 / GIB
    assert found.needed == pytest.approx(state + max(found.activations + found.logits, found.sampler + 30) + 3)


def test_the_local_engine_adds_a_bfloat16_copy_and_shards_nothing():
    found = memory_of(S_GRPO, QWEN3_8B, "local", 1, A)
    assert found.weights * GIB == 6 * 8_190_427_136
    assert found.sampler == 0
    assert found.logits == 1.0


def test_lora_keeps_weights_in_two_bytes_and_pays_only_for_adapters():
    recipe, shape = load_recipe("qwen3-1.7b-s-grpo-lora"), KNOWN["Qwen/Qwen3-1.7B"]
    # a layer of rank 32: q and o 2·4096, k and v 2·3072, the feed-forward 3·8192
    adapters = 32 * 28 * (8192 + 6144 + 24576)
    found = memory_of(recipe, shape, "local", 1, Assumptions.of(recipe))
    assert found.weights * GIB == 2 * shape.parameters + 4 * adapters
    assert (found.gradients + found.optimizer) * GIB == 12 * adapters
    assert disk_bytes(recipe, shape, "local", 2) == 4 * (2 * shape.parameters + 12 * adapters)
    # shards of verl hold one type: the frozen weights too are in float32
    sharded = memory_of(recipe, shape, "verl", 1, Assumptions.of(recipe))
    assert sharded.weights * GIB == 4 * shape.parameters + 4 * adapters
    assert (sharded.gradients, sharded.optimizer) == (found.gradients, found.optimizer)


def test_what_leaves_the_gpu_while_a_server_samples_is_not_beside_it():
    recipe = load_recipe("qwen3-8b-s-grpo", ["cluster.gpus=1", "model.lora=32", "cluster.offload=rollout"])
    found = memory_of(recipe, QWEN3_8B, "verl", 1, A)
    state = found.weights + found.gradients + found.optimizer
    assert found.needed == pytest.approx(state + found.activations + found.logits + 3)
    assert found.sampler + found.cache + state + 3 > 80  # together they would not fit
    assert found.needed < 79


def test_what_is_always_in_the_hosts_memory_leaves_the_layer_at_work_and_the_head():
    shape = KNOWN["Qwen/Qwen3-1.7B"]
    recipe = load_recipe("qwen3-1.7b-s-grpo-lora", ["model.lora=0", "cluster.gpus=1", "cluster.offload=always"])
    found = memory_of(recipe, shape, "verl", 1, Assumptions.of(recipe))
    # a layer: 2·2048·128·(16 + 8) of attention, 3·2048·6144 of the feed-forward; the head is the embedding
    at_work = 2 * 2048 * 128 * 24 + 3 * 2048 * 6144 + 151_936 * 2048
    assert found.weights * GIB == 2 * at_work
    assert found.gradients * GIB == 4 * at_work
    assert found.optimizer == 0


def test_one_gpu_with_verl_holds_what_the_documents_say():
    """1.7B, whole and with adapters, in 24 GB; 8B with adapters in 80 GB."""
    one = ["cluster.gpus=1"]
    for name, overrides, device in (
        ("qwen3-1.7b-s-grpo-lora", [], "4090"),
        ("qwen3-1.7b-s-grpo-lora", ["model.lora=0", "cluster.offload=always"], "4090"),
        ("qwen3-8b-s-grpo", ["model.lora=32", "cluster.offload=rollout"], "H100"),
    ):
        recipe = load_recipe(name, [*one, *overrides])
        found = estimate(recipe, KNOWN[recipe.model.path], DEVICES[device])
        assert (found.engine, found.gpus) == ("verl", 1)
        assert found.memory.needed < DEVICES[device].memory, (name, overrides, found.memory)


def test_machines_are_copies_and_shards_stay_inside_one():
    two = load_recipe("qwen3-8b-s-grpo-2-nodes")
    assert memory_of(two, QWEN3_8B, "verl", 16, A).weights == memory_of(S_GRPO, QWEN3_8B, "verl", 8, A).weights
    halved = load_recipe("qwen3-8b-s-grpo", ["cluster.tensor_parallel=2"])
    assert memory_of(halved, QWEN3_8B, "verl", 8, A).sampler * GIB == 8_190_427_136


def test_a_cache_holds_no_more_than_all_rows_fill():
    recipe, shape = load_recipe("lab-s-grpo"), shape_of(str(base_path()))
    rows = 32 * (256 + 256 + 8) * shape.cache_bytes
    assert memory_of(recipe, shape, "local", 1, Assumptions.of(recipe)).cache == pytest.approx(2 * rows / GIB)


@pytest.mark.parametrize("name", REAL)
def test_a_shipped_recipe_fits_the_gpu_it_names(name: str):
    recipe = load_recipe(name)
    device = DEVICES["4090" if recipe.model.lora else "A100"]
    found = estimate(recipe, shape_of(recipe.model.path), device)
    assert found.memory.needed < device.memory
    assert found.gpus == recipe.cluster.nodes * max(1, recipe.cluster.gpus)


# -- time

PLAIN = Device("plain", 80, bandwidth=1e12, flops=1e15)
WHOLE = Speed(pass_seconds=0.0, bandwidth=1.0, flops=1.0)


def test_a_pass_reads_all_weights_and_every_rows_keys_and_values():
    weights = 2 * (QWEN3_8B.linear + QWEN3_8B.head)
    assert pass_seconds(QWEN3_8B, PLAIN, WHOLE, 1, 0) == weights / 1e12
    assert pass_seconds(QWEN3_8B, PLAIN, WHOLE, 10, 1000) == (weights + 10 * 1000 * 147_456) / 1e12
    slow = Device("slow", 80, bandwidth=1e15, flops=1e12)
    assert pass_seconds(QWEN3_8B, slow, WHOLE, 10, 0) == 10 * 2 * (QWEN3_8B.linear + QWEN3_8B.head) / 1e12


def test_a_pass_computes_at_the_rate_of_few_rows_and_reading_at_that_of_many():
    slow = Device("slow", 80, bandwidth=1e15, flops=1e12, few_rows=1e11)
    assert pass_seconds(QWEN3_8B, slow, WHOLE, 10, 0) == 10 * 2 * (QWEN3_8B.linear + QWEN3_8B.head) / 1e11
    recipe = load_recipe("lab-s-grpo", ["train.eval_every=0"])
    many, few = (
        estimate(recipe, QWEN3_8B, Device("plain", 80, bandwidth=1e15, flops=1e15, few_rows=rate), prompts=(100, 200))
        for rate in (None, 1e12)
    )
    assert few.seconds_rollout > 10 * many.seconds_rollout
    assert few.seconds_update == many.seconds_update


def test_prompts_and_inducers_are_read_before_anything_is_sampled():
    # 32 problems a step, eight exits of 13 tokens each: 32·(100 + 104) against 32·(300 + 104)
    recipe = load_recipe("lab-s-grpo", ["train.eval_every=0"])
    device = Device("plain", 1e9, bandwidth=1e30, flops=1e12, few_rows=1e30)
    short, long = (estimate(recipe, QWEN3_8B, device, prompts=(mean, 300)) for mean in (100, 300))
    read = [QWEN3_8B.flops(32 * (mean + 104), 32 * (mean + 104) * mean / 2, 0) for mean in (100, 300)]
    rate = 1e12 * SPEEDS["local"].flops
    assert long.seconds_rollout - short.seconds_rollout == pytest.approx((read[1] - read[0]) / rate)
    assert long.memory == short.memory  # the longest prompt is what memory must hold


def test_a_server_that_holds_all_rows_takes_as_many_passes_as_the_longest_has_tokens():
    cost = served_seconds(
        QWEN3_8B, PLAIN, WHOLE, rows=10, mean=2000, longest=5000, prompt=100, cache=1e15, branched=5000, kept=900
    )
    # on average 4 spines and 1 branch run; a spine holds 100 + 1.25·1000
    weights = 2 * (QWEN3_8B.linear + QWEN3_8B.head)
    read = 20_000 * 1350 + 5000 * 900
    assert cost == pytest.approx((5000 * weights + read * QWEN3_8B.cache_bytes) / 1e12)


def test_a_server_whose_cache_is_small_takes_more_passes_but_reads_as_much():
    known = {"rows": 100, "mean": 2000, "longest": 5000, "prompt": 0}
    slots = 8 * 1250 * QWEN3_8B.cache_bytes
    few = served_seconds(QWEN3_8B, PLAIN, WHOLE, cache=slots, **known)
    many = served_seconds(QWEN3_8B, PLAIN, WHOLE, cache=1e15, **known)
    weights = 2 * (QWEN3_8B.linear + QWEN3_8B.head)
    assert few - many == pytest.approx((100 * 2000 / 8 + 2500 - 5000) * weights / 1e12)


def test_rows_that_wait_take_the_places_of_others_in_the_local_sampler():
    known = {"mean": 2000, "longest": 2900, "prompt": 100, "cache": 10 * 3000 * QWEN3_8B.cache_bytes}
    together = 2900 * pass_seconds(QWEN3_8B, PLAIN, WHOLE, 10 * 2000 / 2900, 1550)
    assert local_seconds(QWEN3_8B, PLAIN, WHOLE, rows=10, **known) == pytest.approx(together)
    # ten places: 25 · 2000 / 10 passes, and half of the longest while places stand empty
    waiting = 6450 * pass_seconds(QWEN3_8B, PLAIN, WHOLE, 50_000 / 6450, 1550)
    assert local_seconds(QWEN3_8B, PLAIN, WHOLE, rows=25, **known) == pytest.approx(waiting)
    # with branches only half as many spines have room
    half = 11_450 * pass_seconds(QWEN3_8B, PLAIN, WHOLE, 50_000 / 11_450, 1550)
    answers = 500 * pass_seconds(QWEN3_8B, PLAIN, WHOLE, 5 * 8 * 0.4, 1100)
    branching = local_seconds(QWEN3_8B, PLAIN, WHOLE, rows=25, exits=8, answer=200, most=500, **known)
    assert branching == pytest.approx(half + 5 * answers)


def test_float32_reads_and_keeps_twice_as_much():
    weights = 4 * (QWEN3_8B.linear + QWEN3_8B.head)
    assert pass_seconds(QWEN3_8B, PLAIN, WHOLE, 10, 1000, 4) == (weights + 10 * 1000 * 294_912) / 1e12
    layer = 16 * 128 * 40 + 24 * 4096 + 16 * 12288
    assert QWEN3_8B.activation_bytes(1, checkpointing=False, width=4) == 36 * layer
    known = {"rows": 25, "mean": 2000, "longest": 3000, "prompt": 0, "cache": 10 * 3000 * QWEN3_8B.cache_bytes}
    # five places
    slow = 11_500 * pass_seconds(QWEN3_8B, PLAIN, WHOLE, 50_000 / 11_500, 1500, 4)
    assert local_seconds(QWEN3_8B, PLAIN, WHOLE, width=4, **known) == pytest.approx(slow)


@pytest.mark.parametrize(
    ("device", "dtype", "width"),
    [("cpu", "auto", 4), ("H100", "auto", 2), ("H100", "float32", 4), ("cpu", "bfloat16", 2)],
)
def test_the_estimate_is_in_the_type_that_the_engine_takes(device, dtype, width):
    recipe = load_recipe("lab-s-grpo", [f"model.dtype={dtype}", "model.lora=8"])
    assert width_of(recipe, DEVICES[device]) == width
    found = estimate(recipe, QWEN3_8B, DEVICES[device])
    adapters = QWEN3_8B.adapters(8)
    assert found.memory.weights * GIB == pytest.approx(width * QWEN3_8B.parameters + 4 * adapters)


def test_a_measured_speed_takes_the_place_of_the_data_sheet():
    found = estimate(S_GRPO, QWEN3_8B, DEVICES["H100"], tokens_per_second=2000)
    assert found.seconds_rollout == pytest.approx(128 * (8192 + 9 * 480) / (2000 * 8))
    assert found.hours_pass_rates == pytest.approx(8192 * 8 * 8672 / 2000 / 3600)


def test_an_update_is_four_passes_with_checkpointing():
    found = estimate(S_GRPO, QWEN3_8B, DEVICES["H100"])
    work = 4 * QWEN3_8B.flops(found.tokens.pushed, found.tokens.pairs, found.tokens.scored)
    assert found.seconds_update == pytest.approx(work / (8 * 989e12 * SPEEDS["verl"].flops))
    assert found.hours_steps == pytest.approx(100 * (found.seconds_rollout + found.seconds_update) / 3600)
    assert found.gpu_hours == pytest.approx(8 * found.hours_steps)
    # four published in bfloat16; three whole in float32 while the last is saved, and that once more
    assert found.checkpoints_gib == pytest.approx((4 * 2 + 3 * 12 + 4) * 8_190_427_136 / GIB)


def test_frozen_weights_get_no_gradient():
    whole, adapters = (
        estimate(load_recipe("qwen3-8b-s-grpo", [f"model.lora={rank}"]), QWEN3_8B, DEVICES["H100"]) for rank in (0, 32)
    )
    assert adapters.seconds_update == pytest.approx(whole.seconds_update * 3 / 4)


def test_an_update_on_verl_is_in_spines_each_with_a_prompt_of_its_own():
    found = estimate(load_recipe("qwen3-8b-s-grpo", ["group.spines=2"]), QWEN3_8B, DEVICES["H100"])
    # prompt 256, thought 8192, answer 480, eight branches of 13 + 480
    assert found.tokens.pushed == 128 * 2 * (256 + 8192 + 480 + 8 * 493)
    rows = load_recipe("qwen3-8b-s-grpo", ["objective.layout=rows"])
    assert estimate(rows, QWEN3_8B, DEVICES["H100"]).tokens.pushed == 128 * (8928 + 8 * (256 + 493 + 4096))


def test_several_updates_pay_for_one_more_pass():
    rows = load_recipe("qwen3-8b-s-grpo", ["objective.layout=rows"])
    twice = load_recipe("qwen3-8b-s-grpo", ["train.updates_per_batch=2"])  # on verl in rows
    once, found = (estimate(recipe, QWEN3_8B, DEVICES["H100"]) for recipe in (rows, twice))
    assert found.seconds_update == pytest.approx(once.seconds_update * (2 * 4 + 1) / 4)


def test_a_recipe_of_several_gpus_is_for_verl():
    assert engine_of(S_GRPO) == engine_of(load_recipe("qwen3-8b-s-grpo-2-nodes")) == "verl"
    assert engine_of(load_recipe("lab-s-grpo")) == engine_of(load_recipe("qwen3-1.7b-s-grpo-lora")) == "local"


def test_an_estimate_is_plain_json():
    found = estimate(S_GRPO, QWEN3_8B, DEVICES["H100"]).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["memory"]["needed"] < 79


@given(
    spines=st.integers(1, 32),
    exits=st.integers(0, 32),
    thought=st.integers(1, 100_000),
    problems=st.integers(1, 4096),
    speed=st.none() | st.floats(1, 1e6),
)
def test_whatever_the_group_the_spine_layout_pushes_no_more_and_all_is_positive(
    spines: int, exits: int, thought: int, problems: int, speed: float | None
):
    recipe = S_GRPO.model_copy(deep=True)
    recipe.group.spines, recipe.group.exits, recipe.train.problems_per_step = spines, exits, problems
    a = Assumptions(thought=thought, answer=480, prompt=256, longest_prompt=256)
    rows, spine = tokens_of(recipe, a, "rows"), tokens_of(recipe, a, "spine")
    assert spine.pushed <= rows.pushed
    assert spine.pairs <= rows.pairs * (1 + 1e-9)
    found = estimate(recipe, QWEN3_8B, DEVICES["H100"], mean_thought=thought, tokens_per_second=speed)
    assert min(found.seconds_rollout, found.seconds_update, found.gpu_hours) > 0
