"""How servers are told of a thinking budget. What each line rests on is in docs/budgets.md."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from suffice.config import DEFAULT_INDUCER
from suffice.run.files import read_json

CLOSE = "</think>"


REASONING_PARSERS = {"qwen3": "qwen3", "qwen3_moe": "qwen3", "qwen2": "deepseek_r1", "llama": "deepseek_r1"}
"""vLLM's parser of thoughts by model type. A qwen2 or llama that writes `<think>` is a QwQ or an R1-Distill. SGLang
spells the same ones with a hyphen."""


class Served(NamedTuple):
    """An engine, how it is started, and what every request then holds beside its messages."""

    engine: str
    start: str
    request: dict[str, object]


def parser_of(checkpoint: Path) -> str | None:
    """vLLM's parser for a checkpoint folder; None where it is none, or its model type does not tell."""
    config = checkpoint / "config.json"
    return REASONING_PARSERS.get(read_json(config).get("model_type", "")) if config.is_file() else None


def serve_lines(budget: int, model: str, parser: str | None) -> list[Served]:
    """The lines for each engine, with our inducer where the engine can be told what to say at the end.

    Args:
        budget: in thought tokens.
        model: a folder or hub id; llama.cpp takes a GGUF file of it.
        parser: vLLM's of the model's thoughts; None leaves it for the reader to name.
    """
    parser = parser or "PARSER"
    said = DEFAULT_INDUCER.partition(CLOSE)[0].strip()
    vllm = ["vllm", "serve", model, "--reasoning-parser", parser]
    sglang = [
        "python",
        "-m",
        "sglang.launch_server",
        "--model-path",
        model,
        "--reasoning-parser",
        parser.replace("_", "-"),
    ]
    llama = ["llama-server", "-m", "MODEL.gguf", "--reasoning-budget", str(budget), "--reasoning-budget-message", said]
    return [
        Served("vLLM", shlex.join(vllm), {"thinking_token_budget": budget}),
        Served(
            "SGLang",
            shlex.join([*sglang, "--enable-strict-thinking"]),
            {"custom_params": {"thinking_budget": budget}},
        ),
        Served("llama.cpp", shlex.join(llama), {"reasoning_budget_tokens": budget}),
        Served("NIM", "docker run -e NIM_ENABLE_BUDGET_CONTROL=1 …", {"nvext": {"max_thinking_tokens": budget}}),
    ]
