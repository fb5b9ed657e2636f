"""What this machine offers, each finding with what was looked at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    what: str
    found: str
    ok: bool = True


def examine() -> list[Finding]:
    """Versions, devices, memory, disk, and whether the shipped model and the grader work."""
    import platform
    from importlib.metadata import version

    import torch

    findings = [
        Finding("python", platform.python_version()),
        *(Finding(package, version(package)) for package in ("laconic", "torch", "transformers")),
        Finding("cores", f"{len(os.sched_getaffinity(0))}, torch threads {torch.get_num_threads()}"),
        Finding("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        Finding("disk here", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB free"),
        Finding("device", _device()),
        Finding("LoRA (peft)", _installed("peft", "laconic[lora]")),
    ]
    return [*findings, _shipped_model(), _grader()]


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu; a GPU is not needed for the lab, but is for real models"
    properties = torch.cuda.get_device_properties(0)
    return (
        f"cuda: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, bfloat16 {torch.cuda.is_bf16_supported()}"
    )


def _installed(package: str, extra: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed; pip install '{extra}' if you want it"


def _shipped_model() -> Finding:
    from laconic.config import DEFAULT_INDUCER
    from laconic.engines.local.model import SHIPPED, load_chat, load_model

    load_chat(SHIPPED, DEFAULT_INDUCER)
    parameters = load_model(SHIPPED, device="cpu").num_parameters()
    return Finding("shipped model", f"{SHIPPED} loads, {parameters:,} parameters")


def _grader() -> Finding:
    from laconic.grading import Grader
    from laconic.groups import Verdict

    with Grader() as grader:
        verdict = grader.grade_many([(r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", "math")])[0]
    return Finding("grader", f"2/4 against 1/2 is {verdict}", verdict is Verdict.CORRECT)
