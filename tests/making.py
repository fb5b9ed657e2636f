"""Random models, groups and checkpoints for the tests of objective, rollout and engines."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from suffice.groups import Branch, Group, Problem, Spine, Verdict
from suffice.rollout.decode import Decoder

VOCABULARY, PAD, END, CLOSE, OPEN = 32, 0, 1, 2, 3
INDUCER = [5, 6, CLOSE, 7]

CORPUS = """
Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.
How many clips did Natalia sell altogether in April and May? Please reason step by step, and put your final answer
within \\boxed{}. Time is limited, stop thinking and start answering. Let me think about this again. Wait, so she sold
48 / 2 = 24 clips in May, and 48 + 24 = 72 clips altogether. The final answer is \\boxed{72}.
A farmer has 12 hens, and each hen lays 5 eggs a week. How many eggs are there after 3 weeks? In one week there are
12 * 5 = 60 eggs, and in 3 weeks there are 60 * 3 = 180 eggs. Let me check: 180 / 3 = 60. The answer is \\boxed{180}.
"""
CHAT_TEMPLATE = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "bos_token_id": None,
}


def tiny_model(kind: str = "qwen3", seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """A random model with weights large enough that every token matters."""
    torch.manual_seed(seed)
    model = {
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
        # attention beside the feed-forward, half of each head rotated, LayerNorm, a head with a bias
        "phi": lambda: PhiForCausalLM(PhiConfig(**SHAPE)),
    }[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model.to(dtype).eval()


def random_tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(8, VOCABULARY) for _ in range(count)]


def random_logprobs(rng: random.Random, count: int) -> list[float]:
    return [-rng.uniform(1.0, 6.0) for _ in range(count)]


def random_group(rng: random.Random, spines: int, exits: int, longest: int = 12) -> Group:
    """A graded group with ragged thoughts, some unclosed, some with fewer exits than asked, some answers empty."""
    group = Group(
        Problem(str(rng.random()), "test", "prompt", "gold"), random_tokens(rng, rng.randint(1, 6)), INDUCER, []
    )
    for _ in range(spines):
        length = rng.randint(1, longest)
        closed = rng.random() < 0.8
        tokens = [
            OPEN,
            *random_tokens(rng, length),
            *([CLOSE, *random_tokens(rng, rng.randint(0, 3)), END] if closed else []),
        ]
        spine = Spine(tokens, random_logprobs(rng, len(tokens)), 1, length + 1, closed, not closed, random_verdict(rng))
        for position in sorted(rng.sample(range(1, length + 1), min(exits, length))):
            answer = random_tokens(rng, rng.randint(0, 3)) + ([END] if rng.random() < 0.8 else [])
            spine.branches.append(
                Branch(position, answer, random_logprobs(rng, len(answer)), False, random_verdict(rng))
            )
        group.spines.append(spine)
    return group


def random_verdict(rng: random.Random) -> Verdict:
    return rng.choice([Verdict.CORRECT, Verdict.WRONG])


def exact(model: Any) -> Any:
    """The model in float64 throughout, in place: transformers has norms and RoPE in float32 whatever a model's type.

    Two orders of the same operations then differ by some 1e-13 on any processor. So an oracle can be held to 1e-10, and
    what is sampled both ways is the same: no draw lies that near the edge of its token's interval.
    """

    def norm(self: Any, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def rope(self: Any, hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        assert self.rope_type == "default"
        angle_B_N_D = position_ids[:, :, None].double() * self.inv_freq.double()
        angle_B_N_D = torch.cat([angle_B_N_D, angle_B_N_D], -1)
        return angle_B_N_D.cos() * self.attention_scaling, angle_B_N_D.sin() * self.attention_scaling

    for module in model.double().modules():
        for kind, forward in (("RMSNorm", norm), ("RotaryEmbedding", rope)):
            if type(module).__name__.endswith(kind):
                module.forward = forward.__get__(module)
    return model


@contextmanager
def closest_call() -> Iterator[Callable[[], float]]:
    """Yields `least()`: of all tokens chosen meanwhile the smallest distance to another choice. For a draw that is the
    distance to the nearest edge of an interval, in probability; where greedy, to the runner-up, in log-prob.

    Samples that were drawn by two ways in float32 may differ where this is within rounding, 1e-5 or so. A test that
    compares such samples takes a seed of which it is far more.
    """
    choose, found = Decoder.choose, [float("inf")]

    def watched(self: Decoder, logits: Tensor, noise: Tensor, said: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert said is None, "the distances are those of choices without a penalty"
        logprobs = torch.log_softmax(logits.double() / (self.temperature or 1.0), -1)
        first, second = logprobs.topk(2).values.T
        edges = logprobs.exp().cumsum(-1)[:, :-1]
        found.append(float(((first - second) if self.temperature == 0 else (edges - noise[:, None]).abs()).min()))
        return choose(self, logits, noise, said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "choose", watched)
        yield lambda: min(found)


def make_qwen3(folder: Path, corpus: list[str], vocabulary: int, width: int) -> Path:
    """A Qwen3 checkpoint: 2 random layers of 4 heads, a BPE tokenizer learnt from a corpus, Qwen3's chat format."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet))
    bpe.add_special_tokens(special)
    bpe.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT_TEMPLATE.strip()

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=width // 4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
