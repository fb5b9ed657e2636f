"""How servers are told of a thinking budget. What each line rests on is in docs/budgets.md."""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple

from suffice.config import DEFAULT_INDUCER

OPEN, CLOSE = "<think>", "</think>"


class Served(NamedTuple):
    """An engine, how it is started, and what every request then holds beside its messages."""

    engine: str
    start: str
    request: dict[str, object]


def serve_lines(budget: int, model: str = "MODEL", parser: str = "PARSER") -> list[Served]:
    """The lines for each engine, with our inducer where the engine can be told what to say at the end.

    Args:
        budget: in thought tokens.
        model: a folder or hub id; of llama.cpp its GGUF file.
        parser: vLLM's of the model's thoughts.
    """
    said = DEFAULT_INDUCER.partition(CLOSE)[0]
    marks = json.dumps({"reasoning_start_str": OPEN, "reasoning_end_str": said + CLOSE})
    vllm = ["vllm", "serve", model, "--reasoning-parser", parser, "--reasoning-config", marks]
    sglang = ["python", "-m", "sglang.launch_server", "--model-path", model, "--reasoning-parser", parser]
    llama = ["llama-server", "-m", model, "--reasoning-budget", str(budget), "--reasoning-budget-message", said]
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
