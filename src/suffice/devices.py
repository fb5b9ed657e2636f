"""Kinds of GPU by their data sheets, what software reaches of them, and which of them is here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import psutil

from suffice.model.shape import Shape

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """Memory in GiB, its bandwidth in bytes a second, dense bfloat16 operations a second; `few_rows` where products of
    few rows, as decoding makes, reach less."""

    name: str
    memory: float
    bandwidth: float
    flops: float
    few_rows: float | None = None


# the makers' data sheets, memory as drivers report it; the last is one CPU core in float32, as docs/performance.md
DEVICES = {
    device.name: device
    for device in (
        Device("H200", 139, 4.8e12, 989e12),
        Device("H100", 79, 3.35e12, 989e12),
        Device("A100", 79, 2.04e12, 312e12),
        Device("L40S", 44, 0.864e12, 362e12),
        Device("4090", 23.5, 1.008e12, 165e12),
        Device("3090", 23.5, 0.936e12, 71e12),
        Device("A10", 22, 0.6e12, 125e12),
        Device("L4", 22, 0.3e12, 121e12),
        Device("cpu", 16.0, 6e9, 70e9, few_rows=45e9),
    )
}


@dataclass(frozen=True, slots=True)
class Speed:
    """What an engine's software reaches of a device, and the seconds of a decoding pass that no device makes shorter.

    None of it was measured on a GPU with suffice; `bandwidth` and `flops` are shares of the data sheet.
    """

    pass_seconds: float
    bandwidth: float
    flops: float


SPEEDS = {
    "local": Speed(pass_seconds=0.04, bandwidth=0.5, flops=0.3),  # transformers, a kernel launch at a time
    "verl": Speed(pass_seconds=0.005, bandwidth=0.6, flops=0.35),  # vLLM with CUDA graphs; FSDP2
    "cpu": Speed(pass_seconds=0.002, bandwidth=1.0, flops=1.0),  # the shares are in the device's figures
}

NEEDS_GPU = 500_000_000  # parameters from which training on a CPU is out of the question
ASSUMED_GPU = "H100"  # for the estimate, where no GPU is here and none was named


class Gpu(NamedTuple):
    name: str
    gib: float


def gpus_here() -> list[Gpu]:
    import torch

    if not torch.cuda.is_available():
        return []
    each = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [Gpu(one.name, one.total_memory / GIB) for one in each]


def memory_here() -> float:
    """Of this machine, in GiB."""
    return psutil.virtual_memory().total / GIB


def cpu_here(threads: int) -> Device:
    """This machine's processor with so many torch threads, measured in a second or two: float32 products with a matrix
    larger than its caches. With few rows the matrix is what takes time: 4 say how fast it is read (one alone is read
    faster than any two), 64 how fast a pass of many thoughts computes, 512 how fast prompts are read and updates made.
    """
    import torch
    from torch.nn.functional import linear

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        matrix = torch.randn(2**13, 2**12)
        seconds = {rows: _seconds(partial(linear, torch.randn(rows, 2**12), matrix)) for rows in (4, 64, 512)}
    finally:
        torch.set_num_threads(before)
    return Device(
        "cpu",
        memory=memory_here(),
        bandwidth=matrix.nbytes / seconds[4],
        flops=2 * 512 * matrix.numel() / seconds[512],
        few_rows=2 * 64 * matrix.numel() / seconds[64],
    )


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of a few runs, which other work on the machine lengthens least."""
    found = []
    for _ in range(4):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def device_for(here: list[Gpu], shape: Shape) -> Device:
    """The kind of GPU that is here; where none is, the CPU for a model that can do with it, else what is assumed."""
    for device in DEVICES.values():
        if here and device.name in here[0].name:
            return device
    return DEVICES["cpu" if not here and shape.parameters < NEEDS_GPU else ASSUMED_GPU]
