"""Log-probabilities of the tokens that the loss needs, and of no others.

The head runs only where a loss token is predicted, in chunks, so that vocabulary × tokens never dominates memory. The
logits of a head that is trained are recomputed in the backward pass; of one that is frozen, as under LoRA, they are
needed once: what the hidden states will get of a token's log-prob is formed where the logits are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
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


class Hidden(NamedTuple):
    """A model's head, and the hidden states [T, D] that it is to read."""

    head: Head
    states: Tensor


def head_logprobs(head: Head, hidden_T_D: Tensor, target_T: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of targets from the hidden states that predict them, chunked over tokens."""
    chunk = max(1, LOGITS_PER_CHUNK // head.weight.shape[0])
    if torch.is_grad_enabled() and _is_frozen(head):
        found: tuple[Tensor, Tensor] = _FrozenHead.apply(hidden_T_D, head, target_T, temperature, chunk)
        return found

    def one(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = log_softmax(head(hidden), temperature)
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


def log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Half precision is raised to float32; float64 stays."""
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)


def _is_frozen(head: Head) -> bool:
    """Whether a head is a linear map of which nothing is trained."""
    layer = head.layer
    return type(layer) is nn.Linear and not head.cap and not any(each.requires_grad for each in layer.parameters())


class _FrozenHead(torch.autograd.Function):
    """d log p / d hidden = scale · (W[target] − Σ_v p_v W[v]) / temperature, kept [T, D] in place of logits [T, V]."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden_T_D: Tensor, head: Head, target_T: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies, slopes = [], [], []
        for hidden, target in zip(hidden_T_D.split(chunk), target_T.split(chunk), strict=True):
            logits = head(hidden)
            logprob = log_softmax(logits, temperature)
            probability = logprob.exp()
            logprobs.append(logprob.gather(-1, target[:, None])[:, 0])
            entropies.append(-(probability * logprob).sum(-1))
            ahead = probability.neg_().scatter_add_(-1, target[:, None], torch.ones_like(logprob[:, :1]))
            slope = (head.scale / temperature * ahead).to(logits.dtype) @ head.weight.to(logits.dtype)
            slopes.append(slope.to(hidden.dtype))
        ctx.save_for_backward(torch.cat(slopes))
        entropy_T = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy_T)  # type: ignore[attr-defined]
        return torch.cat(logprobs), entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_logprob_T: Tensor, into_entropy_T: Tensor) -> tuple[Tensor | None, ...]:
        (slope_T_D,) = ctx.saved_tensors
        return into_logprob_T[:, None].to(slope_T_D.dtype) * slope_T_D, None, None, None, None
