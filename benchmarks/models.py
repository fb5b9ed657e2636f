"""Random Qwen3 models and synthetic serial groups: the update's cost depends on shapes alone, not on what is said."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from suffice.groups import Branch, Group, Problem, Spine
from suffice.objective import Objective, RowBatch, SpineBatch, policy_loss, row_batches, spine_batches

VOCABULARY = 8192
PROMPT, ANSWER, BRANCH, INDUCER = 128, 32, 32, 8  # tokens; a branch's own are the inducer and its answer
MICRO_BATCH_TOKENS = 4096  # the padded rows of a batch; on a CPU larger ones were slower

SIZES = {  # parameters: (hidden, layers, query heads, key-value heads, feed-forward); head_dim is 64
    "6M": (256, 4, 4, 2, 1024),
    "21M": (384, 8, 6, 3, 1536),
    "57M": (640, 10, 10, 5, 2048),
}


def random_model(size: str = "21M") -> Any:
    """A random fp32 Qwen3 with tied embeddings in training mode."""
    hidden, layers, heads, kv_heads, feed_forward = SIZES[size]
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=64,
            intermediate_size=feed_forward,
            max_position_embeddings=16384,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
    ).train()


def serial_group(thought: int, exits: int = 8) -> Group:
    """A prompt of 128 tokens, a thought of `thought`, an answer of 32, branches of 32 own tokens at even distances."""
    draw = random.Random(thought)
    prompt, response, inducer = (
        [draw.randrange(VOCABULARY) for _ in range(n)] for n in (PROMPT, thought + ANSWER, INDUCER)
    )
    spine = Spine(response, [-9.0] * len(response), 0, thought, closed=True, truncated=False)
    for i in range(1, exits + 1):
        answer = [draw.randrange(VOCABULARY) for _ in range(BRANCH - INDUCER)]
        spine.branches.append(Branch(thought * i // (exits + 1), answer, [-9.0] * len(answer), truncated=False))
    return Group(Problem("synthetic", "none", "", ""), prompt, inducer, [spine])


def advantages(exits: int) -> Tensor:
    """[1, exits + 1], of both signs, none of them 0: every member is trained."""
    return torch.linspace(1.0, -0.9, exits + 1)[None]


def spines(group: Group, micro_batch_tokens: int = MICRO_BATCH_TOKENS) -> list[SpineBatch]:
    exits = len(group.spines[0].branches)
    return spine_batches([group], advantages(exits), _objective(exits), micro_batch_tokens)


def rows(group: Group, micro_batch_tokens: int = MICRO_BATCH_TOKENS) -> list[RowBatch]:
    """The group's members as padded batches; `micro_batch_tokens = 1` runs them one by one, without padding."""
    exits = len(group.spines[0].branches)
    return row_batches([group], advantages(exits), _objective(exits), micro_batch_tokens)


def _objective(exits: int) -> Objective:
    return Objective("constant", "all", close_id=0, exits=exits, constant_length=1024)


def update(model: Any, batches: list[Any]) -> None:
    """Forward and backward of the policy loss; gradients are left in the model."""
    model.zero_grad()
    for batch in batches:
        new_T, _ = batch.logprobs(model, 1.0)
        plus_T, minus_T = batch.plus.to(new_T), batch.minus.to(new_T)
        policy_loss(new_T, new_T.detach(), plus_T, minus_T, clip_low=0.2, clip_high=0.2).backward()
