"""Another processor's rounding: torch computes under it as one would that takes every sum in an order of its own.

Processors differ in how many terms their instructions add at once, and so in the order of sums, and in the last bit of
functions such as exp. Here the terms of products and sums are shuffled, and functions are off by up to a unit in the
last place. Both hang on the operation and its shape alone, as on a processor: the same work is rounded the same way, so
that what is claimed bit for bit must hold, and the same row in another batch is not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
MADE_OF_OTHERS = {  # and not taken apart by autograd, in inference mode
    *(aten.linear, aten.matmul, aten.softmax, aten.log_softmax, aten.layer_norm, aten.scaled_dot_product_attention),
}
FUNCTIONS = {
    *(aten.exp, aten.log, aten.sin, aten.cos, aten.rsqrt, aten.pow, aten.tanh, aten.sigmoid, aten.silu, aten.gelu),
    *(aten.silu_backward, aten._softmax, aten._softmax_backward_data, aten._log_softmax),
    *(aten._log_softmax_backward_data, aten.native_layer_norm, aten.native_layer_norm_backward),
    *(aten._scaled_dot_product_flash_attention_for_cpu, aten._scaled_dot_product_flash_attention_for_cpu_backward),
}


class OtherRounding(TorchDispatchMode):
    """While it is entered, in this thread. Every seed is another processor."""

    def __init__(self, seed: int) -> None:
        super().__init__()

        def drawn(*key: object) -> torch.Generator:
            return torch.Generator().manual_seed(zlib.crc32(repr((seed, *key)).encode()))

        @cache
        def order(count: int, *key: object) -> Tensor:
            return torch.randperm(count, generator=drawn(count, *key))

        @cache
        def error(shape: torch.Size, dtype: torch.dtype) -> Tensor:
            uniform = torch.rand(shape, dtype=torch.float64, generator=drawn(shape))
            return 1 + torch.finfo(dtype).eps * (uniform - 0.5)

        self.order, self.error = order, error

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, operation = kwargs or {}, func.overloadpacket
        if any(isinstance(each, Tensor) and each.device.type != "cpu" for each in args):
            return func(*args, **kwargs)
        if operation in MADE_OF_OTHERS:
            with self:
                return func.decompose(*args, **kwargs)
        shuffle = SUMS.get(operation)
        found = func(*(shuffle(self, *args) if shuffle else args), **kwargs)
        if operation not in FUNCTIONS:
            return found
        return tuple(map(self.rounded, found)) if isinstance(found, tuple) else self.rounded(found)

    def rounded(self, found: Any) -> Any:
        """Off by a unit in the last place at most."""
        if not isinstance(found, Tensor) or not found.is_floating_point():
            return found
        return (found.double() * self.error(found.shape, found.dtype)).to(found.dtype)

    def product(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        order = self.order(left.shape[-1], left.shape, right.shape)
        return left[..., order], right.index_select(-2, order)

    def product_and_sum(self, bias: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        return bias, *self.product(left, right)

    def sum(self, terms: Tensor, *args: Any) -> tuple[Any, ...]:
        axes = args[0] if args and isinstance(args[0], list) else None
        if axes is None or len(axes) != 1:
            return terms, *args
        order = self.order(terms.shape[axes[0]], terms.shape)
        return terms.index_select(axes[0], order), *args


SUMS: dict[Any, Callable[..., Any]] = {
    aten.mm: OtherRounding.product,
    aten.bmm: OtherRounding.product,
    aten.addmm: OtherRounding.product_and_sum,
    aten.sum: OtherRounding.sum,
    aten.mean: OtherRounding.sum,
}
