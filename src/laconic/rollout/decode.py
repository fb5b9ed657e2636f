"""A lean batched decode loop on token ids: finished rows leave, buffers are reused, randomness is keyed per row.

Each row draws from a stream of its own, named by a key such as (seed, problem, sample), by inverse transform. What a
row samples therefore depends neither on its neighbours in the batch nor on any generator state, up to the rounding of
its logits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROWS = 512  # rows of a wave at most, however small the model
COMPACT = 7 / 8  # finished rows leave when so many of a wave are left


@dataclass(frozen=True, slots=True)
class Ask:
    """One sequence to sample: a prefix of token ids, what may follow, and the key of its random stream.

    `thought` and `answer` are budgets in tokens; `thought` is None where the prefix has closed its thought already.
    `opens` says that the model writes the open of the thought itself, which is not counted.
    """

    prefix: list[int]
    key: str
    answer: int
    thought: int | None = None
    opens: bool = False

    @property
    def room(self) -> int:
        """Tokens that may be generated before the budget decides: one more than it holds, to see whether it ends."""
        return self.answer + 1 if self.thought is None else self.thought + 1 + self.opens

    @property
    def longest(self) -> int:
        return self.room + (0 if self.thought is None else self.answer + 1)


@dataclass(slots=True)
class Sampled:
    """What followed: token ids, their log-probs (at temperature, before top-p), and whether a budget cut them."""

    tokens: list[int]
    logprobs: list[float]
    truncated: bool


@dataclass(slots=True)
class Count:
    """Tokens pushed through the model."""

    prefill: int = 0
    decode: int = 0


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
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._show()


@dataclass(frozen=True, slots=True)
class Decoder:
    """Samples asks from a causal model, in waves whose keys and values fit `cache_gb`.

    `temperature` 0 is greedy. `device` is where the model lies.
    """

    model: Any
    pad_id: int
    open_id: int
    close_id: int
    end_ids: frozenset[int]
    temperature: float
    top_p: float
    cache_gb: float

    def __call__(
        self, asks: Sequence[Ask], count: Count | None = None, advance: Callable[[int], None] | None = None
    ) -> list[Sampled]:
        """What follows each ask, in order. `advance(n)` is told of every n finished."""
        results: list[Sampled | None] = [None] * len(asks)
        for wave in self._waves(asks):
            for index, sampled in zip(wave, self._wave([asks[i] for i in wave], count or Count()), strict=True):
                results[index] = sampled
            if advance:
                advance(len(wave))
        return results  # type: ignore[return-value]

    def _waves(self, asks: Sequence[Ask]) -> Iterator[list[int]]:
        """Indices of asks of similar length, as many as the cache holds should all run to their budget."""
        token_bytes = cache_bytes_per_token(self.model)
        order = sorted(range(len(asks)), key=lambda i: (len(asks[i].prefix), asks[i].longest))
        wave: list[int] = []
        for i in order:
            peak = len(asks[i].prefix) + max(asks[j].longest for j in [*wave[:1], *wave[-1:], i])
            if wave and (len(wave) == ROWS or (len(wave) + 1) * peak * token_bytes > self.cache_gb * 2**30):
                yield wave
                wave = []
            wave.append(i)
        if wave:
            yield wave

    @torch.inference_mode()
    def _wave(self, asks: Sequence[Ask], count: Count) -> list[Sampled]:
        device = self.model.device
        rows, width, longest = len(asks), max(len(ask.prefix) for ask in asks), max(ask.longest for ask in asks)
        tokens = torch.tensor([[self.pad_id] * (width - len(ask.prefix)) + ask.prefix for ask in asks], device=device)
        starts = torch.tensor([width - len(ask.prefix) for ask in asks], device=device)
        columns = torch.arange(width + longest, device=device)
        mask = (columns >= starts[:, None]).long()
        room = torch.tensor([ask.room for ask in asks], device=device)
        answer = torch.tensor([ask.answer for ask in asks], device=device)
        opens = torch.tensor([ask.opens for ask in asks], device=device)
        thinking = torch.tensor([ask.thought is not None for ask in asks], device=device)
        ends = torch.tensor(sorted(self.end_ids), device=device)
        noise = torch.from_numpy(np.stack([keyed(ask.key).random(longest) for ask in asks])).to(device)
        sampled = torch.full((rows, longest), self.pad_id, device=device)
        logprobs = torch.zeros(rows, longest, device=device)
        lengths = torch.zeros(rows, dtype=torch.long, device=device)
        cut = torch.zeros(rows, dtype=torch.bool, device=device)

        cache = growing_cache(self.model)
        alive = torch.arange(rows, device=device)
        done = torch.zeros(rows, dtype=torch.bool, device=device)
        step_input, positions = tokens, (columns[:width] - starts[:, None]).clamp(min=0)
        count.prefill += sum(len(ask.prefix) for ask in asks)
        for t in range(longest):
            logits = self.model(
                input_ids=step_input,
                attention_mask=mask[:, : width + t],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            token, logprob = self._choose(logits, noise[:, t])
            sampled[alive, t], logprobs[alive, t] = token, logprob
            if t == 0:
                # what is not the open of the thought is its first token
                room = room - (opens & (token != self.open_id)).long()
            closes = thinking & (token == self.close_id)
            thinking &= ~closes
            room = torch.where(closes, answer + 1, room - 1)
            ended = torch.isin(token, ends)
            stops = (ended | (room == 0)) & ~done
            lengths[alive[stops]], cut[alive[stops]] = t + 1, ~ended[stops]
            done |= stops
            left = len(done) - int(done.sum())
            if left == 0:
                break
            count.decode += left
            if left <= COMPACT * len(done):
                keep = (~done).nonzero()[:, 0]
                alive, done, mask, room, answer, thinking, noise, starts, token = (
                    x[keep] for x in (alive, done, mask, room, answer, thinking, noise, starts, token)
                )
                cache.batch_select_indices(keep)
            step_input, positions = token[:, None], (width + t - starts)[:, None]
        return [
            # a cut row was given one token too many, to see whether it would end within its budget
            Sampled(sampled[b, : n - c].tolist(), logprobs[b, : n - c].tolist(), bool(c))
            for b, (n, c) in enumerate(zip(lengths.tolist(), cut.int().tolist(), strict=True))
        ]

    def _choose(self, logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """One token a row, and its log-prob at the temperature (at 1 where greedy), before top-p."""
        logprobs = torch.log_softmax(logits.float() / (self.temperature or 1.0), -1)
        greedy = self.temperature == 0
        token = logprobs.argmax(-1) if greedy else inverse_transform(logprobs.exp(), noise, self.top_p)
        return token, logprobs.gather(-1, token[:, None])[:, 0]


def inverse_transform(probability: Tensor, noise: Tensor, top_p: float = 1.0) -> Tensor:
    """Indices drawn from `probability` [B, V] by uniform `noise` [B] in [0, 1), from the nucleus `top_p` alone."""
    if top_p < 1:
        ranked, index = probability.sort(-1, descending=True)
        beyond = ranked.cumsum(-1) - ranked >= top_p
        probability = torch.zeros_like(probability).scatter(-1, index, ranked.masked_fill(beyond, 0.0))
    cumulative = probability.cumsum(-1, dtype=torch.float64)
    drawn = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)[:, 0]
    return drawn.clamp(max=probability.shape[-1] - 1)


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


def keyed(key: str) -> np.random.Generator:
    """The random stream of a key."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest)))
