"""Where a model runs: the device, what memory it has left, and torch's threads."""

from __future__ import annotations

import os
from typing import Any

import psutil
import torch

from suffice.errors import ModelError

WORK = 2**39  # parameters times tokens of one forward on a CPU: some ten seconds on two cores
LARGEST = 2**14  # tokens of one forward anywhere
SMALL = 10_000_000  # parameters below which a second thread gains little and, on a busy machine, costs much


def resolve_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"unknown device {device!r}; use auto, cpu or cuda")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda but torch sees no GPU; set model.device = auto, or install a CUDA torch")
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device. A container's own limit is not known to it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def tokens_at_once(model: Any) -> int:
    """Tokens that one forward reads at most, so that progress is seen and memory lasts."""
    return min(LARGEST, max(1, WORK // model.num_parameters())) if model.device.type == "cpu" else LARGEST


def set_threads(model: Any, threads: int = 0) -> None:
    """Torch threads: as `threads_for` says."""
    torch.set_num_threads(threads_for(model.num_parameters(), threads))


def threads_for(parameters: int, threads: int = 0) -> int:
    """As asked; else one for a small model, one per core that this process may use for others."""
    return threads or (1 if parameters < SMALL else len(os.sched_getaffinity(0)))
