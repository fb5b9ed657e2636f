"""The model that is trained, as it is sampled: with its chat, in its precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from suffice.config import ModelSection
from suffice.model.device import resolve_device
from suffice.rollout import Chat

MARKS = 3  # tokens of a response that no budget counts: open and close of the thought, end of turn

Precision = Callable[[], AbstractContextManager[Any]]
"""What every forward pass is made in."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A model, its chat, and what its forward passes are made in."""

    model: Any
    chat: Chat
    precision: Precision


def training_dtype(section: ModelSection) -> str:
    """float32 or bfloat16: what passes are computed in."""
    if section.dtype != "auto":
        return section.dtype
    return "bfloat16" if resolve_device(section.device) == "cuda" else "float32"


def weights_dtype(section: ModelSection) -> str:
    """Full training keeps float32 weights; adapters leave the frozen ones in the type of the passes."""
    return training_dtype(section) if section.lora else "float32"


def precision(section: ModelSection) -> AbstractContextManager[Any]:
    """Passes over float32 weights autocast to bfloat16; frozen weights are in their type already."""
    mixed = training_dtype(section) != weights_dtype(section)
    return torch.autocast(resolve_device(section.device), torch.bfloat16, enabled=mixed)
