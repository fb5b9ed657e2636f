"""Attention of spines and branches as ranges of queries and keys, for kernels that take such (`flash_attn`'s varlen).

A spine's tokens see themselves causally. A branch's see the spine up to the exit and themselves, causally from the
bottom right: its last token sees all, the one before all but one. So neither needs a mask. Keys and values of a branch
are gathered from where its spine has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this machine's flash-attn computes ranges in that type."""
    return device.type == "cuda" and dtype in (torch.float16, torch.bfloat16) and find_spec("flash_attn") is not None


@dataclass(frozen=True, slots=True)
class Ranges:
    """S ranges of queries, which are the packed tokens in order, each with its range of gathered keys.

    `keys` [A] are the packed positions of all ranges' keys; range s has queries `query_ends[s]:query_ends[s + 1]` and
    keys `key_ends[s]:key_ends[s + 1]`, both int32 [S + 1].
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    longest_query: int
    longest_key: int

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, dropout: float
    ) -> Tensor:
        """As `Layout.attend`: query [1, H, N, D], key and value [1, H_kv, N, D] → [1, N, H, D]."""
        from flash_attn import flash_attn_varlen_func

        query_N_H_D, key_N_H_D, value_N_H_D = (x[0].transpose(0, 1) for x in (query, key, value))
        output_N_H_D: Tensor = flash_attn_varlen_func(
            query_N_H_D,
            key_N_H_D.index_select(0, self.keys),
            value_N_H_D.index_select(0, self.keys),
            self.query_ends,
            self.key_ends,
            self.longest_query,
            self.longest_key,
            dropout_p=dropout,
            softmax_scale=scaling,
            causal=True,
        )
        return output_N_H_D[None]


def ranges(strands: Iterable[tuple[int, Iterable[tuple[int, int]]]], device: torch.device) -> Ranges:
    """Of packed strands, one after the other: tokens of prompt and spine, then (kept, own) tokens of each branch."""
    keys, queries, start = list[Tensor](), list[int](), 0
    for trunk, branches in strands:
        keys.append(torch.arange(start, start + trunk))
        queries.append(trunk)
        place = start + trunk
        for kept, own in branches:
            keys.append(torch.cat([torch.arange(start, start + kept), torch.arange(place, place + own)]))
            queries.append(own)
            place += own
        start = place
    lengths = [len(of_range) for of_range in keys]
    query_ends, key_ends = (
        torch.tensor([0, *accumulate(found)], dtype=torch.int32, device=device) for found in (queries, lengths)
    )
    return Ranges(torch.cat(keys).to(device), query_ends, key_ends, max(queries), max(lengths))
