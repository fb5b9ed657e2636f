"""Engines, how each spells a thinking budget, and what a finding means for the next command.

Sources: vLLM 0.32, `vllm/config/reasoning.py` and its chat protocol; llama.cpp, `tools/server`; NVIDIA NIM's
`nvext`. SGLang has no field for it: a request brings a logit processor of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from suffice.evaluation.server.honoured import Judged, Said, State
from suffice.evaluation.server.replies import Message
from suffice.model.marks import FAMILIES


class Engine(NamedTuple):
    """Where it tells its version, what its requests have called a thinking budget, and how it is served so that one is
    kept and does not reach into the answer."""

    name: str
    path: str
    key: str
    budget: tuple[str, ...] = ()
    serving: str | None = None
    sparing: str | None = None


ENGINES = {
    "vllm": Engine(
        "vLLM",
        "/version",
        "version",
        ("thinking_token_budget",),
        "with the --reasoning-parser of the model's family",
        "without a reasoning_end_str of your own",
    ),
    "sglang": Engine("SGLang", "/get_server_info", "version"),
    "llamacpp": Engine(
        "llama.cpp",
        "/props",
        "build_info",
        ("reasoning_budget_tokens", "thinking_budget_tokens"),
        "with --reasoning-format auto",
    ),
    "library": Engine("Ollama", "/api/version", "version"),
}
"""By `owned_by` of a model that they list."""

SPELLINGS: dict[str, Callable[[int], dict[str, Any]]] = {
    "thinking_token_budget": lambda budget: {"thinking_token_budget": budget},
    "reasoning_budget_tokens": lambda budget: {"reasoning_budget_tokens": budget},
    "thinking_budget_tokens": lambda budget: {"thinking_budget_tokens": budget},
    "nvext.max_thinking_tokens": lambda budget: {"nvext": {"max_thinking_tokens": budget}},
}
"""A thinking budget in a request."""

NO_FORCING = "diagnose and eval --baselines refuse this server: they force answers through raw completions"
UNCOUNTED = "nobody can tell from outside"

MEANINGS: dict[str, dict[State, str]] = {
    "limit of tokens": {
        "honoured": "budgets of eval and diagnose are kept",
        "ignored": "eval cannot bound a reply here, and will doubt its figures; mend the server first",
        "unknown": "eval says afterwards if replies are longer than asked for",
    },
    "greedy": {
        "honoured": "--temperature 0 gives the same figures again",
        "ignored": "--temperature 0 is not greedy here, or not steady: evaluate with several --samples",
        "refused": "give eval a --temperature that it takes, such as 0.6",
    },
    "chat template": {
        "honoured": "--tokenizer renders what the server sees: exits stand after the very prompt",
        "ignored": "diagnose refuses: give the tokenizer that is served, and the same --chat-template-kwargs",
        "unknown": "whether --tokenizer is the served one goes unchecked",
    },
    "raw completions": {
        "honoured": "diagnose and eval --baselines can force answers, with --tokenizer",
        "ignored": NO_FORCING,
        "refused": NO_FORCING,
        "unknown": "answers can be forced, but whether after the prompt as it was sent goes unchecked",
    },
    "token-id prompts": {
        "honoured": "forced answers follow the very tokens of the thought",
        "ignored": "answers are forced after text, which may be tokenized otherwise at its seams",
        "refused": "answers are forced after text, which may be tokenized otherwise at its seams",
        "unknown": "whether answers are forced after the very tokens goes unchecked",
    },
    "log-probs": {
        "honoured": "eval --baselines measures DEER, which stops by confidence",
        "ignored": "eval --baselines leaves DEER out",
        "refused": "eval --baselines leaves DEER out",
    },
    "seeds": {
        "honoured": "--seed draws the same samples again",
        "ignored": "samples cannot be drawn again; --resume still keeps those that were",
        "refused": "samples cannot be drawn again; --resume still keeps those that were",
        "unknown": "whether --seed draws the same samples again is not known",
    },
    "n > 1": {
        "honoured": "eval does without: it asks for one sample at a time",
        "ignored": "eval does without; other clients get fewer samples than they ask for",
        "refused": "eval does without: it asks for one sample at a time",
    },
    "thinking budget": {
        "honoured": "a recommended budget can be served",
        "ignored": "a recommended budget would do nothing: do not count on what it saves",
        "refused": "a recommended budget cannot be asked for",
        "unknown": "try it on a model that thinks longer before you count on a budget",
    },
    "budget above the thought": {
        "honoured": "thoughts that end by themselves are left alone",
        "ignored": "the server counts on into the answer and harms it: a budget costs more accuracy than thoughts show",
        "unknown": "compare eval's accuracy under a large budget with that without one",
    },
}


def meaning(what: str, state: State, engine: Engine | None) -> str:
    """What a row means for the next command."""
    means = MEANINGS[what].get(state, UNCOUNTED)
    if engine and state in ("ignored", "refused"):
        way = {"thinking budget": engine.serving, "budget above the thought": engine.sparing}.get(what)
        means += f"; serve {engine.name} {way}" if way else ""
    return means


def dialect(message: Message, said: Said | Judged) -> tuple[str, str]:
    """How a reply's thought is told apart from its answer, and what that means."""
    if isinstance(said, Judged):
        return said.found, "eval refuses this server until then"
    fields = [name for name in ("reasoning_content", "reasoning") if getattr(message, name) is not None]
    if message.thought is not None:
        found = f"separated, in {' and '.join(fields) or 'parts of content'}; {said.thought_tokens} tokens"
        return found, "eval and diagnose take them as they come"
    if said.thought:
        close = next((each.close.strip() for each in FAMILIES if each.close in message.said), "a mark that never came")
        return (
            f"not separated: in the text, up to {close}; {said.thought_tokens} tokens",
            "eval and diagnose read them by the marks; budgets of most servers need a reasoning parser",
        )
    return "none seen", (
        "nothing to shorten: switch thinking on, as by --chat-template-kwargs '{\"enable_thinking\": true}', or "
        "serve with the family's reasoning parser"
    )
