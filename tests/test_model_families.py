"""Real architectures, tiny and random: sampled as `generate` writes them, trained as they were sampled."""

from __future__ import annotations

import random

import pytest
import torch
from benchmarks.families import FAMILIES, PAGE, Family, greedy, random_model, rendered

from suffice.errors import ModelError
from suffice.model.cache import footprint, growing_cache, is_plain, is_recurrent
from suffice.model.load import without_noise
from suffice.objective.check import check_rows, check_trainable
from suffice.objective.rows import Row, RowBatch
from suffice.objective.spine import check_model
from suffice.rollout import Ask, Count, Decoder
from suffice.rollout.check import ROWS, check_sampling, chunks, decoded_difference
from suffice.rollout.streams import PromptStream, read_together

VOCABULARY, END = 64, 1
RECURRENT = ("Qwen3-Next", "Qwen3.5", "Qwen3.5, sees", "LFM2", "Granite hybrid", "Falcon-H1", "Jamba", "Nemotron-H")
OTHERS = ("DeepSeek V3", "Gemma 4", "gpt-oss", "Cohere 2", "Granite", "Seed-OSS", "Qwen3 MoE")


def model_of(case: str, **config):
    found = next(family for family in FAMILIES if family.case == case)
    changed = Family(found.case, found.models, found.kind, found.config | config, found.sees)
    return without_noise(random_model(changed, VOCABULARY, END))


@pytest.mark.parametrize("case", RECURRENT + OTHERS)
def test_rows_are_sampled_as_generate_writes_them_and_trained_as_they_were_sampled(case):
    model = model_of(case)
    assert greedy(model) == "yes"
    assert decoded_difference(model) < 1e-4  # float32: rounding alone
    check_rows(model)
    assert gradients_differ(model) < 1e-4
    if case in RECURRENT:
        with pytest.raises(ValueError, match="layers"):
            check_model(model)


def gradients_differ(model) -> float:
    """Of a padded batch and of the same rows one by one through the model's own logits: largest relative difference."""
    draw = random.Random(3)
    texts = [torch.tensor([draw.randrange(8, VOCABULARY) for _ in range(n)]) for n in (14, 5, 9)]
    rows = [Row(text, torch.ones(len(text) - 1), *(torch.zeros(len(text) - 1),) * 2) for text in texts]
    found = []
    for batched in (True, False):
        model.zero_grad()
        if batched:
            RowBatch(rows).logprobs(model.train(), 1.0)[0].sum().backward()
        else:
            for text in texts:
                logits = model.eval()(input_ids=text[None], use_cache=False).logits[0, :-1]
                torch.log_softmax(logits, -1).gather(-1, text[1:, None]).sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    assert found[0].keys() == found[1].keys()
    norm = torch.cat([gradient.flatten() for gradient in found[1].values()]).norm()
    return max(float((found[0][name] - found[1][name]).norm() / norm) for name in found[0])


def test_recurrent_layers_never_read_padding(monkeypatch):
    model, masks = model_of("Qwen3-Next"), []
    inner = type(model.model.layers[0].linear_attn)
    forward = inner.forward

    def look(self, hidden_states, *arguments, **options):
        masks.append(options.get("attention_mask"))
        return forward(self, hidden_states, *arguments, **options)

    monkeypatch.setattr(inner, "forward", look)
    asks = [Ask([9] * n, "", answer) for n, answer in ((3, 2), (7, 5), (3, 4))]
    Decoder(-1, -1, frozenset(), 0.0, 1.0).run(PromptStream(model, asks, 0), asks, Count())
    assert masks
    assert all(mask is None or bool(mask.all()) for mask in masks)


def test_prefixes_are_read_with_little_padding_or_none():
    prefixes = [(9,) * n for n in (4, 4, 5, 6, 10, 12, 13)]

    def lots(padded, tokens):
        return [[len(p) for p in lot] for lot in read_together(prefixes, padded, tokens)]

    assert lots(1.25, 99) == [[4, 4, 5], [6], [10, 12], [13]]
    assert lots(1.0, 99) == [[4, 4], [5], [6], [10], [12], [13]]
    assert lots(1.25, 12) == [[4, 4], [5, 6], [10], [12], [13]]  # with padding, three of five are fifteen tokens


def test_the_states_of_recurrent_layers_count_towards_a_wave():
    model = model_of("Qwen3-Next")
    cache = growing_cache(model)
    assert is_recurrent(cache)
    assert not is_plain(cache)
    row, token = footprint(model)
    # 2 layers of full attention × (key + value) × 2 heads × 8 wide × 4 bytes
    assert token == 2 * 2 * 2 * 8 * 4
    # 2 linear layers × 4 heads × 8 × 8 of state, and a convolution over 4 tokens of 2·8·2 + 4·8 channels, float32
    assert row == 2 * (4 * 8 * 8 + 4 * (2 * 8 * 2 + 4 * 8)) * 4


def test_a_cache_that_makes_its_layers_as_it_meets_them_is_not_taken_for_full_attention():
    model = model_of("Gemma 4")  # shares no layer's keys, which transformers reads as having no layers
    assert not is_plain(growing_cache(model))
    assert decoded_difference(model, ((20, 3), (9, 2))) < 1e-4  # beyond the window of 8


# ------------------------------------------------------------------------------------------- what cannot work


class Anything:
    """A chat that asks nothing of a model."""

    open_id = close_id = -1
    pad_id, end_ids, inducer = 0, frozenset(), []
    render = staticmethod(lambda prompt: [8])


@pytest.mark.parametrize("case", ["MiniMax", "Mamba", "RecurrentGemma"])
def test_a_model_whose_cache_is_its_own_is_refused_in_one_line(case):
    with pytest.raises(ModelError, match=r"cannot be sampled here.*evaluate it behind a server") as error:
        check_sampling(model_of(case), Anything(), 64)
    assert "\n" not in str(error.value)


def test_a_model_that_is_right_up_to_a_chunk_is_refused_for_longer_rows_alone():
    """transformers' own code for Zamba 2 and Nemotron-H, without kernels, forgets between chunks."""
    model = model_of("Nemotron-H", chunk_size=16)
    assert chunks(model) == [16, 64]
    check_sampling(model, Anything(), 16)
    with pytest.raises(ModelError, match="with its cache, log-probabilities from token 16 on differ"):
        check_sampling(model, Anything(), 17)
    check_sampling(model_of("Granite hybrid"), Anything(), 512)


def test_a_difference_beyond_rounding_is_refused(monkeypatch):
    model = model_of("Qwen3")
    plain = PromptStream.step

    def off(self, token_B):
        return plain(self, token_B) * 1.2

    check_sampling(model, Anything(), 64)
    monkeypatch.setattr(PromptStream, "step", off)
    assert decoded_difference(model, ROWS) > 1e-3
    with pytest.raises(ModelError, match="with its cache, log-probabilities differ by"):
        check_sampling(model, Anything(), 64)


# ------------------------------------------------------------------------------------------- heads and noise


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("Granite", {"logits_scaling": 3.0}),
        ("Cohere 2", {"logit_scale": 0.25}),
        ("Falcon-H1", {"lm_head_multiplier": 0.5}),
        ("Gemma 2", {"final_logit_softcapping": 2.0}),
    ],
)
def test_the_trainer_scales_and_caps_logits_as_the_model_does(case, config):
    model = model_of(case, **config)
    check_rows(model)
    (name, value), *_ = config.items()
    setattr(model.config, name, 2 * value)  # now the trainer's head would do something else
    if case in ("Cohere 2", "Falcon-H1"):  # which read it once, when they were made
        with pytest.raises(ValueError, match="log-probabilities of padded rows differ"):
            check_rows(model)


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("Seed-OSS", {"residual_dropout": 0.3, "attention_dropout": 0.3}),
        ("Mixtral", {"router_jitter_noise": 0.3}),
        ("gpt-oss", {"attention_dropout": 0.3}),
        ("Qwen3", {"attention_dropout": 0.3}),
    ],
)
def test_dropout_and_jitter_are_off_and_would_be_refused(case, config):
    check_trainable(model_of(case, **config), "it", "rows")
    found = next(family for family in FAMILIES if family.case == case)
    noisy = random_model(Family(found.case, "", found.kind, found.config | config), VOCABULARY, END)
    with pytest.raises(ModelError, match=r"it cannot be trained here: log-probabilities .* take another model"):
        check_trainable(noisy, "it", "rows")


# ------------------------------------------------------------------------------------------- the page


def test_the_page_says_what_was_tried():
    assert rendered(PAGE.read_text(encoding="utf-8")) == PAGE.read_text(encoding="utf-8")
