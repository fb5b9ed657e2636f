"""Random models and groups for the tests of objective, rollout and engines."""

from __future__ import annotations

import random

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from suffice.groups import Branch, Group, Problem, Spine, Verdict

VOCABULARY, PAD, END, CLOSE, OPEN = 32, 0, 1, 2, 3
INDUCER = [5, 6, CLOSE, 7]

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


def tiny_model(kind: str = "qwen3", seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
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


def exact_norms(model: torch.nn.Module) -> torch.nn.Module:
    """transformers' RMS norms compute in float32 whatever the model's dtype; these keep float64, for exact oracles."""

    def forward(self, hidden):
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = forward.__get__(module)
    return model
