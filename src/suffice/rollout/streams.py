"""What the model has seen of the rows that are being sampled: keys and values, and how they are reused.

`PromptStream` samples full rollouts: every distinct prompt is pushed once, however many rollouts start from it, and the
keys and values of finished rows can be kept. `BranchStream` samples answers at exits from kept keys and values: no
thought is pushed twice, and branches of one spine read the same copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from suffice.model.attention import no_mask, use_layouts
from suffice.rollout.decode import Ask, Count

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values by layer."""


class GrowingLayer(DynamicLayer):
    """A key/value layer that writes into a buffer of doubling size instead of copying the past at every token."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Tensor] = []
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self.length = self.length, self.length + key_states.shape[-2]
        fresh = (key_states, value_states)
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

    def batch_select_indices(self, indices: Tensor) -> None:
        self.buffers = [self._selected(buffer, indices) for buffer in self.buffers]
        self._show()

    def _selected(self, buffer: Tensor, indices: Tensor) -> Tensor:
        fresh = buffer.new_empty(len(indices), *buffer.shape[1:])
        fresh[:, :, : self.length] = buffer[:, :, : self.length][indices]  # room that is not used yet is not copied
        return fresh


def growing_cache(model: Any) -> DynamicCache:
    """The model's own kind of cache, its full-attention layers growing without copies."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def cache_bytes_per_token(model: Any) -> int:
    """Key and value bytes that one token takes over all layers (Qwen3-8B in bfloat16: 147,456)."""
    config = model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head_dim * model.dtype.itemsize)


@dataclass
class PromptStream:
    """Rows that start from their prefixes, padded on the left. `keep` keeps finished rows' keys and values in `kept`,
    by result: prefix and all sampled tokens but the last, without padding."""

    model: Any
    asks: Sequence[Ask]
    pad_id: int
    keep: bool = False
    kept: dict[int, KeyValues] = field(default_factory=dict)

    def start(self, count: Count) -> tuple[Tensor, Tensor]:
        device = self.model.device
        distinct = list(dict.fromkeys(tuple(ask.prefix) for ask in self.asks))
        rows = torch.tensor([distinct.index(tuple(ask.prefix)) for ask in self.asks], device=device)
        self.width = max(map(len, distinct))
        longest = max(ask.longest for ask in self.asks)
        tokens = torch.tensor([[self.pad_id] * (self.width - len(p)) + list(p) for p in distinct], device=device)
        self.padding = torch.tensor([self.width - len(p) for p in distinct], device=device)
        columns = torch.arange(self.width + longest, device=device)
        self.mask = (columns >= self.padding[:, None]).long()
        self.cache = growing_cache(self.model)
        self.plain = all(isinstance(layer, GrowingLayer) for layer in self.cache.layers)
        if self.plain and self.model.config._attn_implementation == "sdpa":
            use_layouts(self.model)  # which reads a cache where it lies
        count.prefill += sum(map(len, distinct))
        logits = self._push(tokens, (columns[: self.width] - self.padding[:, None]).clamp(min=0))
        self._take(rows)
        return logits[rows], torch.arange(len(self.asks), device=device)

    def step(self, token_B: Tensor) -> Tensor:
        self.width += 1
        return self._push(token_B[:, None], (self.width - 1 - self.padding)[:, None])

    def finish(self, row: int, result: int) -> None:
        if self.keep:
            start = int(self.padding[row])
            layers = ((layer.keys, layer.values) for layer in self.cache.layers)
            self.kept[result] = [(k[row, :, start:].clone(), v[row, :, start:].clone()) for k, v in layers]

    def size(self, alive_B: Tensor) -> int:
        return int(alive_B.sum())

    def select(self, alive_B: Tensor) -> Tensor:
        order = alive_B.nonzero()[:, 0]
        self._take(order)
        return order

    def _take(self, order: Tensor) -> None:
        self.mask, self.padding = self.mask[order], self.padding[order]
        self.cache.batch_select_indices(order)

    def _push(self, tokens: Tensor, positions: Tensor) -> Tensor:
        mask = self.mask[:, : self.width]
        if tokens.shape[1] == 1 and self.plain:
            mask = mask[:, None, None].bool()  # ready as it is: the model need not make one at every token
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


@dataclass
class BranchStream:
    """Branches of S spines on a grid [S, m], sampled from the spines' keys and values.

    `spines` holds each spine's keys and values by layer, `exits` how many of its tokens each of its branches keeps.
    The results are in the order of spines, then branches. All branches push the same inducer.
    """

    model: Any
    spines: list[KeyValues]
    exits: list[list[int]]
    inducer: list[int]

    def start(self, count: Count) -> tuple[Tensor, Tensor]:
        use_layouts(self.model)
        device, width = self.model.device, max(map(len, self.exits))
        longest = max(max(exits) for exits in self.exits)
        self.layers = [
            tuple(_padded([spine[layer][side][:, :longest] for spine in self.spines]) for side in (0, 1))
            for layer in range(len(self.spines[0]))
        ]
        first = 0
        result = torch.full((len(self.exits), width), -1)
        kept = torch.zeros(len(self.exits), width, dtype=torch.long)
        for s, exits in enumerate(self.exits):
            result[s, : len(exits)] = torch.arange(first, first + len(exits))
            kept[s, : len(exits)] = torch.tensor(exits)
            first += len(exits)
        self.kept_S_M = kept.to(device)
        self.cache = growing_cache(self.model)
        count.prefill += first * len(self.inducer)
        rows = result.numel()
        return self._push(torch.tensor(self.inducer, device=device).expand(rows, -1)), result.flatten().to(device)

    def step(self, token_B: Tensor) -> Tensor:
        return self._push(token_B[:, None])

    def finish(self, row: int, result: int) -> None:
        pass

    def size(self, alive_B: Tensor) -> int:
        grid = alive_B.view_as(self.kept_S_M)
        return int(grid.any(1).sum() * grid.sum(1).max())

    def select(self, alive_B: Tensor) -> Tensor:
        """A smaller grid: spines with branches left, their branches moved together."""
        grid = alive_B.view_as(self.kept_S_M)
        spines = grid.any(1).nonzero()[:, 0]
        width = int(grid.sum(1).max())
        # alive places first, in order; then whatever fills the row
        place = (~grid[spines]).int().argsort(dim=1, stable=True)[:, :width]
        filler = ~grid[spines].gather(1, place)
        order = (place + spines[:, None] * grid.shape[1]).flatten()
        self.kept_S_M = self.kept_S_M.flatten()[order].view(len(spines), width)
        if len(spines) < grid.shape[0]:
            self.layers = [(k[spines], v[spines]) for k, v in self.layers]
        self.cache.batch_select_indices(order)
        return order.masked_fill(filler.flatten(), -1)

    def _push(self, tokens_B_T: Tensor) -> Tensor:
        seen, width = self.cache.get_seq_length(), tokens_B_T.shape[1]
        positions = self.kept_S_M.flatten()[:, None] + seen + torch.arange(width, device=tokens_B_T.device)
        columns = torch.arange(self.layers[0][0].shape[2], device=tokens_B_T.device)
        own = torch.ones(width, seen + width, dtype=torch.bool, device=tokens_B_T.device).tril(seen)
        self.visible = (columns < self.kept_S_M[:, :, None], own)
        output = self.model(
            input_ids=tokens_B_T,
            attention_mask=no_mask(tokens_B_T.device),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
            suffice_layout=self,
        )
        return output.logits[:, -1]

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, dropout: float
    ) -> Tensor:
        """Branches see their spine up to the exit, and themselves: one softmax over both parts.

        The spine's keys [S, H_kv, P, D] are read by all m branches at once and never copied.
        """
        spine_key, spine_value = self.layers[module.layer_idx]
        (S, M), (_, H, T, D), G = self.kept_S_M.shape, query.shape, key.shape[1]
        # heads of one key/value head lie together: [S, G, m, H/G, T, D]
        q = query.view(S, M, G, H // G, T, D).transpose(1, 2)
        own_key, own_value = (x.view(S, M, G, 1, -1, D).transpose(1, 2) for x in (key, value))
        on_spine, on_own = self.visible
        to_spine = (q.reshape(S, G, -1, D) @ spine_key.transpose(2, 3)).view(S, G, M, H // G, T, -1)
        to_spine = to_spine.masked_fill(~on_spine[:, None, :, None, None], -torch.inf)
        to_own = (q @ own_key.transpose(-1, -2)).masked_fill(~on_own, -torch.inf)
        exact = torch.promote_types(query.dtype, torch.float32)
        weight = torch.cat([to_spine, to_own], -1).mul(scaling).softmax(-1, dtype=exact).to(query.dtype)
        spine_weight, own_weight = weight.split([to_spine.shape[-1], to_own.shape[-1]], -1)
        found = (spine_weight.reshape(S, G, -1, to_spine.shape[-1]) @ spine_value).view_as(q) + own_weight @ own_value
        return found.transpose(1, 2).reshape(S * M, H, T, D).transpose(1, 2)


def _padded(rows: list[Tensor]) -> Tensor:
    """[H, n, D] of several lengths → [S, H, longest, D], zeros at the end."""
    longest = max(row.shape[1] for row in rows)
    return torch.stack([nn.functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])
