"""Log-probabilities of the tokens that the loss needs, and of no others.

The head runs only where a loss token is predicted, in chunks whose logits are recomputed in the backward pass, so that
vocabulary × tokens never dominates memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_PER_CHUNK = 2**26  # 256 MiB of float32; what fits one chunk is not computed twice


def backbone_and_head(model: Any) -> tuple[Any, Any]:
    """The transformer without its head, and the head; LoRA layers stay where peft put them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.base_model, causal.get_output_embeddings()


def head_logprobs(head: Any, hidden_T_D: Tensor, target_T: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of targets from the hidden states that predict them, chunked over tokens."""
    vocabulary = head.weight.shape[0]
    chunk = max(1, LOGITS_PER_CHUNK // vocabulary)

    def one(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden)
        # half precision is raised to float32; float64 stays
        logprobs = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs.gather(-1, target[:, None])[:, 0], entropy

    if len(target_T) <= chunk:
        return one(hidden_T_D, target_T)
    parts = [
        checkpoint(one, hidden, target, use_reentrant=False)
        for hidden, target in zip(hidden_T_D.split(chunk), target_T.split(chunk), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
