"""A real vLLM, where one is at hand: SUFFICE_VLLM_URL is the address of one that serves the parrot under its folder.

    python tests/parrot.py parrot        (PYTHONPATH=src:tests)
    vllm serve $PWD/parrot --port 8000 --max-model-len 512 --enforce-eager [--reasoning-parser qwen3 | deepseek_r1]
    SUFFICE_VLLM_URL=http://localhost:8000/v1 pytest tests/test_vllm.py

On a machine without a GPU vLLM's build for CPUs does, with `--dtype float32` and VLLM_CPU_KVCACHE_SPACE=1. The claims
hold with either parser and with none. Seen with vLLM 0.32.
"""

from __future__ import annotations

import json
import math
import os
from urllib.request import urlopen

import pytest

from parrot import REPLIES
from suffice.config import DEFAULT_INDUCER
from suffice.errors import UnfitError
from suffice.evaluation.doubts import doubts
from suffice.evaluation.local import LocalSource
from suffice.evaluation.server import ServerSource, examine, fitting
from suffice.evaluation.source import Sampling
from suffice.groups import Problem
from suffice.loops import repeated_characters
from suffice.model.load import load_chat, load_model

URL = os.environ.get("SUFFICE_VLLM_URL")
pytestmark = pytest.mark.skipif(URL is None, reason="SUFFICE_VLLM_URL is not the address of a vLLM with the parrot")
PROTOCOL = Sampling(1, 0.0, 1.0, 100, 20)
PROBLEMS = {prompt: Problem(prompt, "parrot", prompt, "4", "math", None) for prompt in REPLIES}
BOTH = pytest.mark.parametrize("opened", [False, True], ids=["model opens", "prompt opens"])


@pytest.fixture(scope="module")
def folder():
    with urlopen(f"{URL}/models", timeout=10) as reply:
        return json.load(reply)["data"][0]["id"]


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def parsed(folder):
    """Whether the server separates thoughts."""
    served = ServerSource(URL, folder, chat=None, api_key=None)
    return sampled(served, "Answer plainly.").thought != ""


def chat_of(folder, opened):
    return load_chat(folder, DEFAULT_INDUCER, options={"opened": opened})


def source(folder, opened, *, tokenizer=True):
    chat = chat_of(folder, opened) if tokenizer else None
    return ServerSource(URL, folder, chat=chat, options={"opened": opened}, api_key=None)


def sampled(source, prompt, exits=None, protocol=PROTOCOL):
    ((trace,),) = source.sample([(PROBLEMS[prompt], 0)], protocol, exits, lambda count: None)
    return trace


def thirds(trace):
    return sorted({trace.thought_tokens * i // 3 for i in range(4)})


@BOTH
@pytest.mark.parametrize("prompt", ["Add two and two.", "Stop at once.", "Never stop."])
def test_a_served_sample_is_the_local_one(folder, model, prompt, opened):
    served = sampled(source(folder, opened), prompt)
    local = sampled(LocalSource(folder, model, chat_of(folder, opened)), prompt)
    assert (served.closed, served.truncated) == (local.closed, local.truncated)
    assert served.answer == local.answer
    if served.truncated:  # by one limit of thought and answer, where there are two here
        assert served.thought.strip().startswith(local.thought.strip())
        return
    assert served.thought.strip() == local.thought.strip()
    assert (served.thought_tokens, served.answer_tokens) == (local.thought_tokens, local.answer_tokens)


@BOTH
def test_a_thought_that_closed_at_once_is_an_answer(folder, opened):
    for tokenizer in (True, False):
        trace = sampled(source(folder, opened, tokenizer=tokenizer), "Stop at once.")
        assert (trace.thought, trace.answer, trace.closed) == ("", "The sum is \\boxed{5}.", True)
        assert trace.thought_tokens == 0


@BOTH
def test_an_answer_without_a_thought_is_one_or_is_said_to_be_swallowed(folder, parsed, opened):
    trace = sampled(source(folder, opened), "Answer plainly.")
    found = doubts([trace], PROTOCOL, served=True)
    if parsed:
        assert (trace.answer, trace.closed, trace.truncated) == ("", False, False)
        assert "--reasoning-parser" in found[0]
    else:
        assert (trace.answer, trace.closed, found) == ("The sum is \\boxed{6}.", True, [])


def test_a_turn_that_ends_inside_the_thought_has_no_answer(folder):
    trace = sampled(source(folder, False), "Leave the thought.")
    assert (trace.thought.strip(), trace.answer) == ("I have had enough of this.", "")
    assert (trace.closed, trace.truncated) == (False, False)


@BOTH
def test_without_a_tokenizer_the_server_counts(folder, opened):
    """14 tokens of thought; the server's sum holds the marks and the end of turn too."""
    served = source(folder, opened, tokenizer=False)
    trace = sampled(served, "Add two and two.")
    exact = sampled(source(folder, opened), "Add two and two.")
    assert abs(trace.thought_tokens - exact.thought_tokens) <= 6
    whole = trace.thought_tokens + trace.answer_tokens
    assert 1 <= whole - exact.thought_tokens - exact.answer_tokens <= 3
    assert served.counts in ("server", "characters")


@BOTH
def test_forced_answers_are_those_of_the_local_model(folder, model, opened):
    served = sampled(source(folder, opened), "Add two and two.", thirds)
    local = sampled(LocalSource(folder, model, chat_of(folder, opened)), "Add two and two.", thirds)
    assert [forced.position for forced in served.forced] == [forced.position for forced in local.forced]
    assert [forced.answer for forced in served.forced] == [forced.answer for forced in local.forced]
    for ours, theirs in zip(served.forced, local.forced, strict=True):
        # a probability is a product of at most 20, each exact to about 1e-4 over two implementations in float32
        assert math.isclose(ours.confidence, theirs.confidence, abs_tol=0.02)


def test_a_thought_that_closed_at_once_has_one_exit(folder):
    trace = sampled(source(folder, True), "Stop at once.", thirds)
    assert [forced.position for forced in trace.forced] == [0]


def test_the_system_turn_is_the_models(folder):
    """Without the turn that it learnt as well, or with it, the parrot knows its reply."""
    served = ServerSource(URL, folder, chat=None, system="Be brief.", api_key=None)
    assert sampled(served, "Add two and two.").answer == "The sum is \\boxed{4}."


def test_budgets_that_the_server_does_not_hold_are_refused_with_what_it_does(folder):
    served = source(folder, False)
    assert served.positions == 512
    assert sum(fitting(served.positions, served.chat, list(PROBLEMS.values()), None, None)) < 512
    with pytest.raises(UnfitError, match=r"smaller --max-thought-tokens .* must fit in 512 tokens"):
        sampled(served, "Never stop.", protocol=Sampling(1, 0.0, 1.0, 2000, 100))


@BOTH
def test_the_doctor_says_what_this_server_honours(folder, parsed, opened):
    options = {"opened": opened}
    rows = {row.what: row for row in examine(URL, folder, chat=chat_of(folder, opened), options=options)}
    assert rows["engine"].found.startswith("vLLM ")
    assert rows["context"].found == "512 tokens of prompt and reply"
    for what in (
        *("limit of tokens", "greedy", "chat template", "raw completions", "token-id prompts", "log-probs", "seeds"),
        "n > 1",
    ):
        assert rows[what].state == "honoured", rows[what]
    assert rows["thoughts"].found.startswith("separated, in reasoning" if parsed else "not separated")
    assert rows["thoughts"].found.endswith("14 tokens")


def test_a_thinking_budget_is_kept_with_a_parser_and_refused_without(folder, parsed):
    """And what ends by itself is left alone, as long as no reasoning_end_str is served."""
    rows = {row.what: row for row in examine(URL, folder)}
    if not parsed:
        assert rows["thinking budget"].state == "refused"
        assert "--reasoning-parser" in rows["thinking budget"].means
        return
    assert rows["thinking budget"].found == (
        "thinking_token_budget: asked for 0, 1, 3 thinking tokens, 0, 1, 3 came; 14 without a budget"
    )
    assert rows["budget above the thought"].state == "honoured"


def test_a_thought_that_never_stops_is_a_loop(folder):
    short = Sampling(1, 0.0, 1.0, 60, 10)  # it knows 16 copies, and stumbles after them
    trace = sampled(source(folder, False), "Never stop.", protocol=short)
    block = len("Wait, once more. ")
    assert repeated_characters(trace.thought) > 3 * block
    assert repeated_characters(sampled(source(folder, False), "Add two and two.").thought) == 0
