"""The floating-point operations that each layout's update cannot avoid.

    2 for each weight of a linear layer and each token
    4·head_dim·heads for each layer and each (query, key) pair that attention lets through
    2 for each weight of the head and each token that is scored

and the backward pass counts twice the forward. Softmax, norms, activations and recomputation count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from suffice.objective import RowBatch, SpineBatch
from suffice.objective.head import backbone_and_head

FORWARD_AND_BACKWARD = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What a layout pushes through a model: tokens, attended pairs, and tokens whose log-probability is scored."""

    tokens: int
    pairs: int
    scored: int

    def flops(self, model: Any) -> int:
        """Floating-point operations of one update, forward and backward."""
        config = model.config
        backbone, head = backbone_and_head(model)
        linear = sum(module.weight.numel() for module in backbone.modules() if isinstance(module, nn.Linear))
        pair = 4 * config.head_dim * config.num_attention_heads * config.num_hidden_layers
        forward = 2 * linear * self.tokens + pair * self.pairs + 2 * head.weight.numel() * self.scored
        return FORWARD_AND_BACKWARD * forward


def causal_pairs(tokens: int) -> int:
    return tokens * (tokens + 1) // 2


def rows_work(batches: Sequence[RowBatch]) -> Work:
    """Rows without their padding."""
    lengths = [len(row.tokens) for batch in batches for row in batch.rows]
    scored = sum(len(batch.plus) for batch in batches)
    return Work(sum(lengths), sum(map(causal_pairs, lengths)), scored)


def spine_work(batches: Sequence[SpineBatch]) -> Work:
    """Spines are causal; each token of a branch sees its branch's share of the spine and its branch so far."""
    strands = [strand for batch in batches for strand in batch.layout.strands]
    pairs = sum(causal_pairs(strand.tokens) for strand in strands)
    pairs += sum(int(call.mask.sum()) for strand in strands for call in strand.calls)
    return Work(sum(batch.tokens for batch in batches), pairs, sum(len(batch.plus) for batch in batches))
