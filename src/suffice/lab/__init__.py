"""The micro-lab: tasks, tokenizers and base models small enough to watch every method at work on one CPU core.

A base is an ordinary Qwen3 checkpoint of about 100,000 parameters that really thinks, and thinks too long.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.lab.arithmetic import problems

if TYPE_CHECKING:
    from suffice.lab.training import build as build

__all__ = ["base_path", "build", "problems"]


def base_path(task: str = "arithmetic") -> Path:
    """The folder of a base model that ships, `arithmetic`, `ballots` or `sums`: weights, tokenizer, `lab.json`."""
    return Path(__file__).parent / "base" / task


def __getattr__(name: str) -> Any:
    if name == "build":  # only who trains a base pays for loading torch
        from suffice.lab.training import build

        return build
    raise AttributeError(f"module 'suffice.lab' has no attribute {name!r}")
