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


def backbone_and_head(model: Any) -> tuple[Any, Head]:
    """The transformer without its head, and the head; LoRA layers stay where peft put them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = causal.model if causal.base_model is causal else causal.base_model  # some name what they have not
    return backbone, Head(causal.get_output_embeddings(), causal.config.get_text_config())


class Head:
    """Hidden states [T, D] → logits [T, V] as the model makes them: some scale them (Granite, Cohere, Falcon-H1), some
    bend them towards a cap (Gemma)."""

    def __init__(self, layer: Any, config: Any) -> None:
        self.layer = layer
        self.weight = layer.weight
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.scale = (
            getattr(config, "logit_scale", None)
            or getattr(config, "lm_head_multiplier", None)
            or 1 / (getattr(config, "logits_scaling", None) or 1.0)
        )

    def __call__(self, hidden_T_D: Tensor) -> Tensor:
        logits: Tensor = self.layer(hidden_T_D)
        if self.scale != 1:
            logits = logits * self.scale
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits


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
