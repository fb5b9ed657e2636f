"""Attention by a layout: the one place where suffice reaches into a model, through transformers' public interface.

A model told to `use_layouts` attends as a layout says wherever it is called with `suffice_layout=…`, and by plain SDPA
everywhere else, masks and caches included. It stays that way: gradient checkpointing calls again in the backward pass.
One new token a row is the exception: the query heads that share a key head become the rows of one product, so that a
cache is read where it lies instead of being copied once for every query head.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "suffice"


class Layout(Protocol):
    """Which token sees which, by other means than an N×N mask."""

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, dropout: float
    ) -> Tensor:
        """Query [B, H, T, D], key and value [B, H_kv, T_all, D] of an attention layer → [B, T, H, D]."""


def use_layouts(model: Any) -> None:
    """Let a model, or its backbone, be called with `suffice_layout`."""
    if model.config._attn_implementation != NAME:
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def no_mask(device: torch.device) -> Tensor:
    """What to pass as `attention_mask` beside a layout: models hand on a mask of four dimensions as it is, and would
    build their own N×N if they got none."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    suffice_layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every attention layer.

    Raises:
        ValueError: the model asks for an attention that layouts do not know (sliding window, soft cap, sinks).
    """
    if suffice_layout is None and query.shape[2] == 1:
        (B, H, _, D), G = query.shape, key.shape[1]
        grouped = query.view(B, G, H // G, D)
        found = scaled_dot_product_attention(grouped, key, value, attention_mask, dropout, scale=scaling)
        return found.reshape(B, 1, H, value.shape[-1]), None
    if suffice_layout is None:
        plain = AttentionInterface()["sdpa"]
        return plain(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    for name in ("sliding_window", "softcap", "s_aux"):
        if kwargs.get(name) is not None:
            raise ValueError(f"its attention uses {name}")
    return suffice_layout.attend(module, query, key, value, scaling=scaling, dropout=dropout), None
