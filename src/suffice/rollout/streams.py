"""What the model has seen of the rows that are being sampled: keys and values, and how they are reused.

`PromptStream` samples full rollouts: every distinct prompt of those that begin together is pushed once, however many
rollouts start from it, prompts that wait take the places of rows that finish, and the keys and values of finished rows
can be kept. `BranchStream` samples answers at exits from kept keys and values: no thought is pushed twice, and branches
of one spine read the same copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from suffice.model.attention import no_mask, use_layouts
from suffice.model.cache import KeyValues, growing_cache, is_plain, is_recurrent, joined
from suffice.model.device import tokens_at_once
from suffice.rollout.decode import Ask, Count, sampling_dtype

PADDED = 1.25  # times its own length that a prefix is padded to at most, where padding is harmless
SPARE = 1 / 4  # of the columns: those at the left that nobody needs are let go when they are so many


@dataclass
class PromptStream:
    """Rows that start from their prefixes, padded on the left where the model may see padding. `keep` keeps finished
    rows' keys and values in `kept`, by result: prefix and all sampled tokens but the last, without padding.

    At most `slots` rows run at once, all by default, and the rest wait: for models with full attention in every layer
    alone (`is_plain`).
    """

    model: Any
    asks: Sequence[Ask]
    pad_id: int
    keep: bool = False
    slots: int | None = None
    kept: dict[int, KeyValues] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return len(self.asks) - self.begun

    def start(self, count: Count) -> tuple[Tensor, Tensor]:
        empty = growing_cache(self.model)
        self.plain, self.recurrent = is_plain(empty), is_recurrent(empty)
        if self.plain and self.model.config._attn_implementation == "sdpa":
            use_layouts(self.model)  # which reads a cache where it lies
        self.begun = self.slots or len(self.asks)
        read = self._read(self.asks[: self.begun], count)
        self.cache, self.width = read.cache, read.width
        self.padding = read.width - read.length
        self._take(read.place)
        return read.logits[read.place], torch.arange(len(read.place), device=read.place.device)

    def refill(self, row_N: Tensor, count: Count) -> tuple[Tensor, Tensor]:
        first, self.begun = self.begun, self.begun + len(row_N)
        read = self._read(self.asks[first : self.begun], count)
        self.padding[row_N] = self.width  # nobody there needs a column of theirs
        spare = int(self.padding.min())
        if read.width > self.width or spare > self.width * SPARE:
            self._widen(max(read.width, self.width - spare) - self.width)
        for layer, new in zip(self.cache.layers, read.cache.layers, strict=True):
            layer.put(row_N, new.keys[read.place], new.values[read.place])
        self.padding[row_N] = self.width - read.length[read.place]
        return read.logits[read.place], torch.arange(first, self.begun, device=read.place.device)

    def _read(self, asks: Sequence[Ask], count: Count) -> Read:
        """Push the distinct prefixes of some asks, in lots of similar length."""
        distinct = sorted(dict.fromkeys(tuple(ask.prefix) for ask in asks), key=len)
        row = {prefix: i for i, prefix in enumerate(distinct)}
        device, caches, widths, logits = self.model.device, [], [], []
        padded = 1.0 if self.recurrent else PADDED
        for prefixes in read_together(distinct, padded, tokens_at_once(self.model)):
            width = len(prefixes[-1])
            tokens = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p in prefixes], device=device)
            padding = torch.tensor([width - len(p) for p in prefixes], device=device)[:, None]
            columns = torch.arange(width, device=device)
            mask, positions = columns >= padding, (columns - padding).clamp(min=0)
            caches.append(growing_cache(self.model))
            widths.append(width)
            logits.append(self._push(caches[-1], tokens, mask.long(), positions))
            count.add(prefill=sum(map(len, prefixes)))
        length = torch.tensor([len(p) for p in distinct], device=device)
        place = torch.tensor([row[tuple(ask.prefix)] for ask in asks], device=device)
        return Read(joined(caches, widths), widths[-1], length, torch.cat(logits), place)

    def step(self, token_B: Tensor) -> Tensor:
        self.width += 1
        mask = torch.arange(self.width, device=token_B.device) >= self.padding[:, None]
        # a mask ready as it is: the model need not make one at every token
        mask = mask[:, None, None] if self.plain else mask.long()
        return self._push(self.cache, token_B[:, None], mask, (self.width - 1 - self.padding)[:, None])

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
        self.padding = self.padding[order]
        self.cache.reorder_cache(order)

    def _widen(self, columns: int) -> None:
        """Columns more, or fewer, at the left of all rows."""
        self.width += columns
        self.padding = (self.padding + columns).clamp(min=0)
        for layer in self.cache.layers:
            layer.widen(columns)

    def _push(self, cache: DynamicCache, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


class Read(NamedTuple):
    """Distinct prefixes in one cache, how many columns it has and how many of them each takes, and logits of what
    follows each; of every ask the place of its prefix among them."""

    cache: DynamicCache
    width: int
    length: Tensor
    logits: Tensor
    place: Tensor


def read_together(prefixes: Sequence[tuple[int, ...]], padded: float, tokens: int) -> list[list[tuple[int, ...]]]:
    """Prefixes, the shortest first, in lots none of which is longer than `padded` times the shortest of its lot, nor
    has more `tokens` with its padding, unless it is alone."""
    lots: list[list[tuple[int, ...]]] = []
    for prefix in prefixes:
        if not lots or len(prefix) > padded * len(lots[-1][0]) or len(prefix) * (len(lots[-1]) + 1) > tokens:
            lots.append([])
        lots[-1].append(prefix)
    return lots


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
    waiting: int = 0

    def start(self, count: Count) -> tuple[Tensor, Tensor]:
        result = self._open()
        logits = self._push(torch.tensor(self.inducer, device=result.device).expand(len(result), -1))[:, -1]
        count.add(prefill=sum(map(len, self.exits)) * len(self.inducer))
        return logits, result

    def read(self, own: Sequence[list[int]], temperature: float, count: Count) -> list[list[float]]:
        """Log-probs of each branch's tokens after its first, at the temperature; they are given, not sampled."""
        result = self._open()
        tokens = torch.zeros(len(result), max(map(len, own)), dtype=torch.long)
        places = [(place, which) for place, which in enumerate(result.tolist()) if which >= 0]
        for place, which in places:
            tokens[place, : len(own[which])] = torch.tensor(own[which])
        tokens = tokens.to(result.device)
        logprobs = given(self._push(tokens, keep=tokens.shape[1]), tokens, temperature)
        count.add(prefill=sum(map(len, own)))
        by_result = {which: logprobs[place, : len(own[which]) - 1].tolist() for place, which in places}
        return [by_result[which] for which in range(len(own))]

    def _open(self) -> Tensor:
        """Lay the grid out; which result each place writes (−1: none)."""
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
        return result.flatten().to(device)

    def refill(self, row_N: Tensor, count: Count) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("no branch waits")

    def step(self, token_B: Tensor) -> Tensor:
        return self._push(token_B[:, None])[:, -1]

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
        self.cache.reorder_cache(order)
        return order.masked_fill(filler.flatten(), -1)

    def _push(self, tokens_B_T: Tensor, keep: int = 1) -> Tensor:
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
            logits_to_keep=keep,
            suffice_layout=self,
        )
        logits: Tensor = output.logits
        return logits

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, dropout: float
    ) -> Tensor:
        """Branches see their spine up to the exit, and themselves: one softmax over both parts.

        The spine's keys [S, H_kv, P, D] are read by all m branches at once and never copied.
        """
        spine_key, spine_value = self.layers[module.layer_idx]
        (S, M), (_, H, T, D), G = self.kept_S_M.shape, query.shape, key.shape[1]
        # heads of one key/value head lie together: [S, G, m, H/G, T, D]; a value need not be as wide as a key
        q = query.view(S, M, G, H // G, T, D).transpose(1, 2)
        own_key, own_value = (x.view(S, M, G, 1, -1, x.shape[-1]).transpose(1, 2) for x in (key, value))
        sees_spine, sees_own = self.visible
        to_spine = (q.reshape(S, G, -1, D) @ spine_key.transpose(2, 3)).view(S, G, M, H // G, T, -1)
        to_spine = to_spine.masked_fill(~sees_spine[:, None, :, None, None], -torch.inf)
        to_own = (q @ own_key.transpose(-1, -2)).masked_fill(~sees_own, -torch.inf)
        exact = torch.promote_types(query.dtype, torch.float32)
        weight = torch.cat([to_spine, to_own], -1).mul(scaling).softmax(-1, dtype=exact).to(query.dtype)
        spine_weight, own_weight = weight.split([to_spine.shape[-1], to_own.shape[-1]], -1)
        on_spine = (spine_weight.reshape(S, G, -1, to_spine.shape[-1]) @ spine_value).view(S, G, M, H // G, T, -1)
        found = on_spine + own_weight @ own_value
        return found.transpose(1, 2).reshape(S * M, H, T, -1).transpose(1, 2)


def _padded(rows: list[Tensor]) -> Tensor:
    """[H, n, D] of several lengths → [S, H, longest, D], zeros at the end."""
    longest = max(row.shape[1] for row in rows)
    return torch.stack([nn.functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])


@torch.inference_mode()
def read_alone(
    model: Any, prefixes: Sequence[list[int]], own: Sequence[list[int]], temperature: float, count: Count
) -> list[list[float]]:
    """As `BranchStream.read`, for models whose keys and values are not kept: each branch with its prefix, by itself."""
    found = []
    for prefix, tokens in zip(prefixes, own, strict=True):
        row = torch.tensor([prefix + tokens], device=model.device)
        logits = model(input_ids=row, use_cache=False).logits[:, len(prefix) :]
        found.append(given(logits, row[:, len(prefix) :], temperature)[0].tolist())
        count.add(prefill=row.shape[1])
    return found


def given(logits: Tensor, tokens_B_T: Tensor, temperature: float) -> Tensor:
    """Log-probs [B, T − 1] of all tokens but the first, from logits [B, T, V] at every token."""
    logprobs = torch.log_softmax(logits[:, :-1].to(sampling_dtype(logits)) / temperature, -1)
    return logprobs.gather(-1, tokens_B_T[:, 1:, None])[..., 0]
