"""How many tokens one forward and backward pass may hold: measured on the model, since no formula knows its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from suffice.config import MICRO_BATCH
from suffice.model.device import free_memory
from suffice.objective.head import LOGITS_PER_CHUNK, backbone_and_head

SHARE = 0.5  # of the memory that is left: the backward pass makes of its own what it goes through
SHORT, LONG = 16, 48  # tokens of the passes that are looked at


def activation_bytes(model: Any) -> float:
    """What the backward pass keeps of a token, the head apart: what autograd saves of a longer pass and not of a
    shorter one."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    backbone = backbone_and_head(model)[0]

    def kept(tokens: int) -> int:
        found: dict[int, int] = {}

        def save(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(save, lambda tensor: tensor):
            # held until all is counted: the place of what is let go is given to something else
            output = backbone(input_ids=torch.zeros(1, tokens, dtype=torch.long, device=model.device), use_cache=False)
        del output
        return sum(found.values())

    return (kept(LONG) - kept(SHORT)) / (LONG - SHORT)


def micro_batch_tokens(model: Any) -> int:
    """Tokens of a micro-batch that fits what memory is left, once gradients, AdamW's moments and a chunk of logits
    have theirs. A longer member is a micro-batch of its own."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    left = free_memory(model.device) - 12 * trained - 16 * LOGITS_PER_CHUNK
    return max(1, min(MICRO_BATCH, int(SHARE * left / activation_bytes(model))))
