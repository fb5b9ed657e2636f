"""What a model remembers of the rows it reads: keys and values of attention, states of recurrent layers.

Rows of different lengths are read apart and `joined`. Recurrent layers (linear attention, state spaces, short
convolutions) must never read padding, which would stay in their state; for others it is only work for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin, LinearAttentionLayer

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values by layer."""


def computed(states: Tensor) -> Tensor:
    """In the type in which attention computes: autocast leaves keys that were normed in float32, and would cast all of
    them again at every token."""
    device = states.device.type
    return states.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else states


class GrowingLayer(DynamicLayer):
    """A key/value layer that writes into a buffer of doubling size instead of copying the past at every token."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Tensor] = []
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self.length = self.length, self.length + key_states.shape[-2]
        fresh = tuple(map(computed, (key_states, value_states)))
        if not self.buffers:
            self.buffers, self.is_initialized = [self._grown(new, new[:, :, :0]) for new in fresh], True
        if self.length > self.buffers[0].shape[-2]:
            self.buffers = [self._grown(new, buffer) for new, buffer in zip(fresh, self.buffers, strict=True)]
        for buffer, new in zip(self.buffers, fresh, strict=True):
            buffer[:, :, start : self.length] = new
        self._show()
        return self.keys, self.values

    def _grown(self, new: Tensor, past: Tensor) -> Tensor:
        buffer = new.new_empty(*new.shape[:2], 2 * self.length, new.shape[3])
        buffer[:, :, : past.shape[-2]] = past
        return buffer

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)

    def put(self, row_N: Tensor, key: Tensor, value: Tensor) -> None:
        """Other keys and values [N, H, n, D] as the last n of some rows."""
        for buffer, new in zip(self.buffers, (key, value), strict=True):
            buffer[row_N, :, self.length - new.shape[-2] : self.length] = new

    def widen(self, columns: int) -> None:
        """Columns of zeros more at the left of all rows, or fewer columns there."""
        self.length += columns
        self.buffers = [
            nn.functional.pad(x[:, :, : self.length - columns], (0, 0, columns, 0)).contiguous() for x in self.buffers
        ]
        self._show()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        if self.buffers:  # a layer may stand for one that attends to nothing
            self.buffers = [self._selected(buffer, beam_idx) for buffer in self.buffers]
            self._show()

    def _selected(self, buffer: Tensor, indices: Tensor) -> Tensor:
        fresh = buffer.new_empty(len(indices), *buffer.shape[1:])
        fresh[:, :, : self.length] = buffer[:, :, : self.length][indices]  # room that is not used yet is not copied
        return fresh


def growing_cache(model: Any) -> DynamicCache:
    """The model's own kind of cache, its full-attention layers growing without copies. `reorder_cache` lets rows leave,
    whatever the layers."""
    cache = DynamicCache(config=model.config)
    kinds = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    # transformers takes feed-forward layers of their own for attention, and then their lengths, which are 0, for all
    for i, layer in enumerate(cache.layers):
        if i < len(kinds) and kinds[i] == "mlp":
            cache.layers[i] = LinearAttentionLayer()
        elif type(layer) is DynamicLayer:
            cache.layers[i] = GrowingLayer()
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """Whether all layers are full attention; not known of a cache that makes its layers as it meets them."""
    return bool(cache.layers) and all(isinstance(layer, GrowingLayer) for layer in cache.layers)


def is_recurrent(cache: DynamicCache) -> bool:
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)


def joined(caches: Sequence[DynamicCache], widths: Sequence[int]) -> DynamicCache:
    """Caches of rows that were read apart as one, the shorter padded on the left to the widest."""
    first, widest = caches[0], max(widths)
    if len(caches) == 1:
        return first
    for layer, *others in zip(*(cache.layers for cache in caches), strict=True):
        parts = [layer, *others]
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            for name in ("conv_states", "recurrent_states"):
                if getattr(layer, name) is not None:
                    setattr(layer, name, torch.cat([getattr(part, name) for part in parts]))
        if isinstance(layer, DynamicLayer) and layer.is_initialized:
            _join_keys(parts, widest)
    return first


def _join_keys(parts: Sequence[Any], widest: int) -> None:
    layer = parts[0]
    longest = max(part.keys.shape[-2] for part in parts)
    keys, values = (
        torch.cat([nn.functional.pad(x, (0, 0, longest - x.shape[-2], 0)) for x in (getattr(p, name) for p in parts)])
        for name in ("keys", "values")
    )
    if isinstance(layer, GrowingLayer):
        layer.buffers, layer.length = [keys, values], longest
    if hasattr(layer, "cumulative_length"):  # of a sliding window, which holds only the last of what it has seen
        layer.cumulative_length = widest
    layer.keys, layer.values = keys, values


class Footprint(NamedTuple):
    """Bytes that a row takes whatever its length, and with every token more."""

    row: int
    token: int


@torch.inference_mode()
def footprint(model: Any) -> Footprint:
    """What a row takes in the model's cache, by looking at one of two tokens (Qwen3-8B in bfloat16: 147,456 a token).
    Layers that forget beyond a window are counted as if they did not."""
    cache = growing_cache(model)
    tokens = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    token = row = 0
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            row += sum(state.nbytes for state in (layer.conv_states, layer.recurrent_states) if state is not None)
        if isinstance(layer, DynamicLayer) and layer.is_initialized:
            token += (layer.keys.nbytes + layer.values.nbytes) // 2
    return Footprint(row, token)
