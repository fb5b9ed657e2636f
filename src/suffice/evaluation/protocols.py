"""Published ways to sample an evaluation: the settings that each fixes. What is left open is the user's to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROTOCOLS: dict[str, Mapping[str, Any]] = {
    # S-GRPO's evaluation (arXiv 2505.07686, §4.1)
    "paper": {
        "samples": "paper",
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
    },
    # what Qwen3's model cards recommend for thinking; thought and answer together are their 32,768 tokens
    "qwen3": {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "max_thought_tokens": 31744,
        "max_answer_tokens": 1024,
    },
}
"""By name, fields of `Request`."""

PAPER_SAMPLES = {"aime24": 16, "aime25": 16, "amc23": 16, "math500": 8, "gpqa": 8, "gsm8k": 4}
"""Samples a problem by task, where `samples` is "paper"; GRPO-λ's are not stated."""
