"""Sampling from a server: a real one, seen through a proxy that fails on purpose or speaks another dialect."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest
from benchmarks.serving import (
    MODEL,
    Handler,
    Json,
    faulty,
    forwarding,
    free_port,
    proxied,
    transformers_serve,
    wait_until,
)

from making import closest_call
from suffice.config import DEFAULT_INDUCER as INDUCER
from suffice.errors import ServerError
from suffice.evaluation.local import LocalSource
from suffice.evaluation.server import ServerSource
from suffice.evaluation.server.forcing import blank_of
from suffice.evaluation.server.source import seed_of
from suffice.evaluation.source import Sampling, Trace
from suffice.lab import base_path, problems
from suffice.model.load import load_chat, load_model

pytestmark = pytest.mark.slow

CHAT, RAW = "/v1/chat/completions", "/v1/completions"
PROBLEMS = problems("test", 6)


@pytest.fixture(scope="session")
def upstream(tmp_path_factory):
    """The address of `transformers serve` with the lab's base."""
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
    pytest.importorskip("uvicorn", reason="transformers serve needs uvicorn")
    with transformers_serve(base_path(), tmp_path_factory.mktemp("hub")) as url:
        yield url


@pytest.fixture(scope="module")
def chat():
    return load_chat(MODEL, INDUCER)


def protocol(temperature=1.0, thought=200, answer=8):
    return Sampling(1, temperature, 1.0, thought, answer)


def source(url, chat=None, **options):
    return ServerSource(url, MODEL, chat=chat, **{"api_key": None, "concurrency": 4, "retries": 0} | options)


def drawn(lots):
    return {(trace.problem, trace.sample): trace for lot in lots for trace in lot}


def keep(lots, found):
    for lot in lots:
        found += lot


def ignore(count, note=""):
    pass


def thirds(trace):
    return sorted({trace.thought_tokens * i // 3 for i in range(4)})


def serving(chat_reply: Json | tuple[int, Json], raw_reply: tuple[int, Json] = (404, {}), models=(MODEL,)) -> Handler:
    """A server that always says the same."""

    async def handler(path: str, body: Json) -> tuple[int, Json]:
        if path == "/v1/models":
            return 200, {"data": [{"id": model} for model in models]}
        if path == RAW:
            return raw_reply
        return chat_reply if isinstance(chat_reply, tuple) else (200, chat_reply)

    return handler


def said(message: Json, finish="stop", **more):
    return {"choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}], **more}


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# what comes back


def test_greedy_samples_and_forced_answers_are_those_of_the_local_model(upstream, chat):
    asks = [(problem, 0) for problem in PROBLEMS[:3]]
    local = LocalSource(MODEL, load_model(MODEL), chat)
    with closest_call() as least:
        expected = drawn(local.sample(asks, protocol(0.0), thirds, ignore))
    assert least() > 1e-3  # rounding, of which the server has its own, decides no token
    served = source(upstream, chat)
    assert served.counts == "tokenizer"
    found = drawn(served.sample(asks, protocol(0.0), thirds, ignore))
    assert found.keys() == expected.keys()
    for key, trace in found.items():
        for name in ("answer", "thought_tokens", "answer_tokens", "closed", "truncated", "switches"):
            assert getattr(trace, name) == getattr(expected[key], name), name
        for ours, theirs in zip(trace.forced, expected[key].forced, strict=True):
            for name in ("position", "answer", "answer_tokens", "truncated"):
                assert getattr(ours, name) == getattr(theirs, name), name
            assert ours.confidence is None  # which this server does not tell


def test_a_recorded_thought_is_answered_like_the_one_just_sampled(upstream, chat):
    served = source(upstream, chat)
    sampled = drawn(served.sample([(PROBLEMS[0], 0)], protocol(0.0), thirds, ignore))[PROBLEMS[0].id, 0]
    recorded = Trace(PROBLEMS[0].id, 0, sampled.thought, sampled.answer, 1, 7, True, False)
    again = drawn(served.force([(PROBLEMS[0], recorded)], protocol(0.0), thirds, ignore))[PROBLEMS[0].id, 0]
    assert again.thought_tokens == sampled.thought_tokens
    assert (again.answer, again.answer_tokens) == (sampled.answer, 7)
    assert again.forced == sampled.forced
    assert recorded.forced == []


def dialect(forward: Handler, change) -> Handler:
    async def handler(path, body):
        status, reply = await forward(path, body)
        if path == CHAT:
            message = reply["choices"][0]["message"]
            change(message, message.pop("reasoning_content"))
        return status, reply

    return handler


DIALECTS = {
    "reasoning_content": lambda message, thought: message.update(reasoning_content=thought),
    "reasoning": lambda message, thought: message.update(reasoning=thought),
    "raw": lambda message, thought: message.update(content=f"<think>{thought}</think>{message['content']}"),
    "raw, opened by the template": lambda message, thought: message.update(
        content=f"{thought}</think>{message['content']}"
    ),
}


def test_a_thought_is_the_same_in_every_dialect(upstream, chat):
    found = {}
    for name, change in DIALECTS.items():
        with proxied(dialect(forwarding(upstream), change)) as proxy:
            found[name] = drawn(source(proxy.url, chat).sample([(PROBLEMS[0], 0)], protocol(0.0), None, ignore))
    first = found["reasoning_content"][PROBLEMS[0].id, 0]
    assert first.thought
    assert first.closed
    assert first.thought_tokens > first.answer_tokens > 0
    assert all(each == found["reasoning_content"] for each in found.values())


@pytest.mark.parametrize(
    ("written", "blank"),
    [("<think>\nOkay", "\n"), ("<think>so", ""), (" <think>\n\n", "\n\n"), ("Okay, <think>", "\n"), ("", "\n")],
)
def test_the_blank_after_the_open_mark_is_the_models_own(written, blank):
    assert blank_of(written, "<think>") == blank


def test_a_sample_that_is_cut_says_so(upstream, chat):
    trace = drawn(source(upstream, chat).sample([(PROBLEMS[0], 0)], protocol(0.0, 10, 4), None, ignore))
    trace = trace[PROBLEMS[0].id, 0]
    assert (trace.closed, trace.truncated, trace.answer, trace.answer_tokens) == (False, True, "", 0)
    assert trace.thought_tokens == 13  # of 14, the open mark left out


# counts


def counted(reply, chat=None):
    with proxied(serving(reply)) as proxy:
        served = source(proxy.url, chat)
        (trace,) = drawn(served.sample([(PROBLEMS[0], 0)], protocol(), None, ignore)).values()
    return served.counts, trace.thought_tokens, trace.answer_tokens


def test_counts_are_the_servers_where_it_tells_them():
    usage = {"completion_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 25}}
    assert counted(said({"content": "4", "reasoning": "so"}, usage=usage)) == ("server", 25, 5)


def test_counts_are_shared_out_by_characters_where_the_server_tells_only_the_sum():
    reply = said({"content": "four", "reasoning": "twelve chars"}, usage={"completion_tokens": 8})
    assert counted(reply) == ("characters", 6, 2)


def test_an_answer_without_a_thought_needs_no_sharing_out():
    assert counted(said({"content": "four"}, usage={"completion_tokens": 2})) == ("server", 0, 2)


def test_a_tokenizer_counts_whatever_the_server_says(chat):
    reply = said({"content": "\n\n5 0", "reasoning": "a = 5 ;"}, usage={"completion_tokens": 99})
    assert counted(reply, chat) == ("tokenizer", 4, 3)


def test_a_server_that_tells_no_counts_needs_a_tokenizer():
    with pytest.raises(ServerError) as error:
        counted(said({"content": "four"}))
    assert "--tokenizer" in one_line(error)


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_a_thought_that_is_kept_back_is_not_counted_as_none(chat, with_tokenizer):
    with pytest.raises(ServerError) as error:
        counted(said({"content": "5 0"}, usage={"completion_tokens": 156}), chat if with_tokenizer else None)
    assert "156 tokens" in one_line(error)


# faults


def test_every_sample_comes_once_whatever_fails_on_the_way(upstream, chat):
    asks = [(problem, k) for problem in PROBLEMS for k in range(2)]
    with proxied(forwarding(upstream), faulty(seed=6)) as proxy:
        seen = []
        served = source(proxy.url, chat, concurrency=6, retries=8)
        found = [trace for lot in served.sample(asks, protocol(1.0, 20, 4), None, seen.append) for trace in lot]
        wait_until(lambda: proxy.open == 0)
    assert sorted((trace.problem, trace.sample) for trace in found) == sorted((p.id, k) for p, k in asks)
    assert sum(seen) == len(asks)
    assert {exchange.fault for exchange in proxy.of(CHAT)} >= {"drop", "truncate", "throttle", "break", "garble"}
    assert sum(exchange.whole for exchange in proxy.of(CHAT)) == len(asks)


def test_forced_answers_come_once_whatever_fails_on_the_way(upstream, chat):
    with proxied(forwarding(upstream), faulty(seed=2, most=2)) as proxy:
        served = source(proxy.url, chat, retries=8)
        asks = [(problem, 0) for problem in PROBLEMS[:3]]
        found = drawn(served.sample(asks, protocol(0.0, 60, 4), lambda trace: [0, 5], ignore))
        wait_until(lambda: proxy.open == 0)
    assert [[forced.position for forced in trace.forced] for trace in found.values()] == [[0, 5]] * 3
    assert sum(exchange.whole for exchange in proxy.of(RAW)) == 1 + 2 * 3  # one to find out what is accepted


def test_what_fails_for_good_loses_nothing_that_was_done(upstream, chat):
    forward = forwarding(upstream)
    refused = PROBLEMS[2].prompt

    async def handler(path, body):
        if path == CHAT and body["messages"][0]["content"] == refused:
            return 400, {"error": {"message": "maximum context length\nis 512 tokens"}}
        return await forward(path, body)

    with proxied(handler) as proxy:
        asks = [(problem, 0) for problem in PROBLEMS]
        found = []
        with pytest.raises(ServerError) as error:
            keep(source(proxy.url, chat).sample(asks, protocol(1.0, 10, 4), None, ignore), found)
        asked = [exchange.body["messages"][0]["content"] for exchange in proxy.of(CHAT)]
    assert "answers 400 (maximum context length is 512 tokens)" in one_line(error)
    prompts = {problem.id: problem.prompt for problem in PROBLEMS}
    assert len(found) >= 3  # those that were in flight beside it
    assert sorted([refused, *(prompts[trace.problem] for trace in found)]) == sorted(asked)


def test_requests_in_flight_are_bounded(upstream):
    most = 0
    forward, three = forwarding(upstream), asyncio.Barrier(3)

    async def handler(path, body):
        nonlocal most
        if path == CHAT:
            await three.wait()  # all that may be in flight are: none is answered before
            most = max(most, proxy.open)
        return await forward(path, body)

    with proxied(handler) as proxy:
        asks = [(problem, 0) for problem in PROBLEMS]
        assert len(drawn(source(proxy.url, concurrency=3).sample(asks, protocol(1.0, 4, 4), None, ignore))) == 6
    assert most == 3


def silence(asked: Callable[[], None] = lambda: None) -> Handler:
    """A server that answers the first problem and thinks about the others for ever, once it has told of them."""

    async def handler(path: str, body: Json) -> tuple[int, Json]:
        if path == CHAT and body["messages"][0]["content"] != PROBLEMS[0].prompt:
            asked()
            await asyncio.Event().wait()
        return await serving(said({"content": "4"}, usage={"completion_tokens": 1}))(path, body)

    return handler


def test_to_leave_early_cancels_what_is_in_flight():
    with proxied(silence()) as proxy:
        lots = source(proxy.url).sample([(problem, 0) for problem in PROBLEMS], protocol(), None, ignore)
        assert [trace.problem for trace in next(lots)] == [PROBLEMS[0].id]
        wait_until(lambda: len(proxy.of(CHAT)) == 5 and proxy.open == 4)  # the first one's connection is gone
        lots.close()
        wait_until(lambda: proxy.open == 0)
        assert len(proxy.of(CHAT)) == 5


def test_ctrl_c_is_heard_while_waiting():
    with proxied(silence(lambda: os.kill(os.getpid(), signal.SIGINT))) as proxy:
        served = source(proxy.url)
        with pytest.raises(KeyboardInterrupt):
            list(served.sample([(PROBLEMS[1], 0)], protocol(), None, ignore))
        wait_until(lambda: proxy.open == 0)


# the wire


def test_a_request_says_all_that_is_sampled_by():
    with proxied(serving(said({"content": "4"}, usage={"completion_tokens": 1}))) as proxy:
        list(source(proxy.url).sample([(PROBLEMS[0], 3)], Sampling(4, 0.6, 0.95, 100, 20, seed=7), None, ignore))
        (exchange,) = proxy.of(CHAT)
    assert exchange.body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROBLEMS[0].prompt}],
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 120,
        "seed": seed_of(f"7/{PROBLEMS[0].id}/3"),
    }


def test_what_not_every_server_knows_is_sent_where_it_is_asked_for():
    sampling = Sampling(1, 0.6, 0.95, 100, 20, top_k=20, min_p=0.05, presence_penalty=1.5)
    with proxied(serving(said({"content": "4"}, usage={"completion_tokens": 1}))) as proxy:
        list(source(proxy.url).sample([(PROBLEMS[0], 3)], sampling, None, ignore))
        (exchange,) = proxy.of(CHAT)
    assert {name: exchange.body[name] for name in ("top_k", "min_p", "presence_penalty")} == {
        "top_k": 20,
        "min_p": 0.05,
        "presence_penalty": 1.5,
    }


def test_seeds_are_distinct_and_of_31_bits():
    seeds = {seed_of(f"{seed}/{problem.id}/{k}") for seed in range(9) for problem in PROBLEMS for k in range(9)}
    assert len(seeds) == 9 * 9 * len(PROBLEMS)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_key_meant_for_openai_goes_to_no_other_server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with proxied(serving(said({"content": "4"}))) as proxy:
        source(proxy.url)
        source(proxy.url, api_key="given")
    assert [exchange.headers["authorization"] for exchange in proxy.exchanges] == ["Bearer none", "Bearer given"]


def test_ids_are_sent_only_to_find_out_that_a_server_takes_text(upstream, chat):
    with proxied(forwarding(upstream)) as proxy:
        asks = [(problem, 0) for problem in PROBLEMS[:2]]
        found = drawn(source(proxy.url, chat).sample(asks, protocol(0.0), thirds, ignore))
    prompts = [exchange.body["prompt"] for exchange in proxy.of(RAW)]
    assert [isinstance(prompt, list) for prompt in prompts[:3]] == [True, True, False]
    assert all(isinstance(prompt, str) for prompt in prompts[2:])
    assert len(prompts) == 3 + sum(len(trace.forced) for trace in found.values())


def taking_ids(forward: Handler, chat) -> Handler:
    """A server that takes prompts as ids and tells log-probs: -0.5 for every token of an answer, -9 for its end."""

    async def handler(path, body):
        if path != RAW:
            return await forward(path, body)
        text = chat.tokenizer.decode(body["prompt"], skip_special_tokens=False)
        assert chat.tokenizer.encode(text, add_special_tokens=False) == body["prompt"]
        status, reply = await forward(path, body | {"prompt": text})
        choice = reply["choices"][0]
        tokens = chat.tokenizer.tokenize(choice["text"])
        if body.get("logprobs"):
            choice["logprobs"] = {
                "tokens": [*tokens, "<|im_end|>"],
                "token_logprobs": [-0.5] * len(tokens) + [-9.0],
            }
        return status, reply

    return handler


def test_ids_are_sent_where_a_server_takes_them_and_its_log_probs_are_read(upstream, chat):
    with proxied(taking_ids(forwarding(upstream), chat)) as proxy:
        (by_ids,) = drawn(source(proxy.url, chat).sample([(PROBLEMS[1], 0)], protocol(0.0), thirds, ignore)).values()
    (by_text,) = drawn(source(upstream, chat).sample([(PROBLEMS[1], 0)], protocol(0.0), thirds, ignore)).values()
    assert [forced.answer for forced in by_ids.forced] == [forced.answer for forced in by_text.forced]
    assert [forced.confidence for forced in by_ids.forced] == [pytest.approx(math.exp(-0.5))] * len(by_ids.forced)
    probe, *prompts = [exchange.body["prompt"] for exchange in proxy.of(RAW)]
    head = chat.render(PROBLEMS[1].prompt)
    assert probe == head
    thought = chat.tokenizer.encode(by_ids.thought, add_special_tokens=False)
    assert prompts == [[*head, chat.open_id, *thought[: forced.position], *chat.inducer] for forced in by_ids.forced]
    assert all(exchange.body["logprobs"] == 1 and exchange.body["temperature"] == 0 for exchange in proxy.of(RAW))
    assert [exchange.body["max_tokens"] for exchange in proxy.of(RAW)] == [4] + [8] * len(prompts)


def test_a_thought_whose_blanks_were_cut_gets_the_models_own_back(chat):
    raw = {"choices": [{"text": "<think>\na = 5", "finish_reason": "length"}]}
    with proxied(serving(said({}), (200, raw))) as proxy:
        recorded = [Trace("p", k, thought, "5 0", 0, 0, True, False) for k, thought in enumerate(("so 5", "\nso 5"))]
        served = source(proxy.url, chat, concurrency=1)
        list(served.force([(PROBLEMS[0], trace) for trace in recorded], protocol(), lambda trace: [1, 2], ignore))
    head = chat.render(PROBLEMS[0].prompt)
    line, so, five = chat.tokenizer.encode("\nso 5", add_special_tokens=False)
    after = [exchange.body["prompt"][len(head) + 1 : -len(chat.inducer)] for exchange in proxy.of(RAW)[1:]]
    assert after == [[line, so], [line, so, five], [line], [line, so]]


def test_switches_and_characters_are_those_of_the_tokenizer(chat):
    raw = {"choices": [{"text": "5 0<|im_end|>and on", "finish_reason": "length"}]}
    thought = "a = 5 ; wait , a = 6"
    with proxied(serving(said({}), (200, raw))) as proxy:
        recorded = Trace("p", 0, thought, "5 0", 99, 2, True, False)
        lots = source(proxy.url, chat).force([(PROBLEMS[0], recorded)], protocol(), lambda t: t.switches, ignore)
        (trace,) = drawn(lots).values()
    assert (trace.thought_tokens, trace.switches) == (9, [4])
    (forced,) = trace.forced
    assert (forced.position, thought[: forced.characters]) == (4, "a = 5 ;")
    assert (forced.answer, forced.answer_tokens, forced.truncated) == ("5 0", 2, False)


# what is refused


def test_a_server_without_raw_completions_cannot_force_answers(chat):
    with proxied(serving(said({"content": "4"}))) as proxy:
        with pytest.raises(ServerError) as error:
            list(source(proxy.url, chat).sample([(PROBLEMS[0], 0)], protocol(), thirds, ignore))
        assert "no raw completions endpoint" in one_line(error)
        assert proxy.of(CHAT) == []  # nothing was paid for


def test_answers_cannot_be_forced_without_a_tokenizer():
    with proxied(serving(said({"content": "4"}))) as proxy, pytest.raises(ServerError) as error:
        list(source(proxy.url).sample([(PROBLEMS[0], 0)], protocol(), thirds, ignore))
    assert "--tokenizer" in one_line(error)


def test_a_model_that_is_not_served_is_named_with_those_that_are(upstream):
    with pytest.raises(ServerError) as error:
        ServerSource(upstream, "lab/arithmetics", chat=None, api_key=None)
    assert one_line(error).endswith("does not serve lab/arithmetics; choose of lab/arithmetic")


def test_a_folder_may_be_served_without_being_listed(upstream, chat):
    served = ServerSource(upstream, str(base_path()), chat=chat, api_key=None)
    assert len(drawn(served.sample([(PROBLEMS[0], 0)], protocol(0.0, 4, 4), None, ignore))) == 1


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("http://127.0.0.1:{port}/v1", "cannot reach http://127.0.0.1"),
        ("127.0.0.1:{port}/v1", "is no address of a server"),
        ("http://127.0.0.1:99999/v1", "is no address of a server"),
        ("http:///v1", "is no address of a server"),
        ("http://\n/v1", "is no address of a server"),
    ],
)
def test_a_server_that_cannot_be_reached_is_said_in_one_line(address, part):
    with pytest.raises(ServerError) as error:
        source(address.format(port=free_port()))
    assert part in one_line(error)


def test_what_is_no_openai_server_is_said_in_one_line():
    async def handler(path, body):
        return 200, {"hello": "world"}

    with proxied(handler) as proxy, pytest.raises(ServerError) as error:
        source(proxy.url)
    assert "does not answer as an OpenAI-compatible server" in one_line(error)


@pytest.mark.parametrize(
    ("status", "body", "part"),
    [
        (401, {"error": {"message": "no\nsuch key"}}, "answers 401 (no such key); give the key"),
        (403, {"error": {"message": "not yours"}}, "answers 403 (not yours); give a key that may use"),
        (404, {"detail": "Not Found"}, "answers 404 (Not Found); check the address"),
        (400, {"error": "\x1b[2J" + "x" * 999}, "answers 400 ([2Jxxx"),
        (500, {}, "see the server's log"),
        (429, {"error": {"message": "slow"}}, "answers 429 (slow); lower the concurrency"),
        (200, {"error": {"message": "overloaded"}}, 'cannot be read ({"error": {"message": "overloaded"}})'),
    ],
)
def test_what_a_server_refuses_for_good_is_said_in_one_line(status, body, part):
    async def handler(path, asked):
        return (404, {}) if path == "/v1/models" else (status, body)

    with proxied(handler) as proxy, pytest.raises(ServerError) as error:
        list(source(proxy.url).sample([(PROBLEMS[0], 0)], protocol(), None, ignore))
    assert part in one_line(error)


def test_a_key_that_is_refused_is_said_before_anything_is_asked():
    async def handler(path, body):
        return 401, {"error": {"message": "Invalid key"}}

    with proxied(handler) as proxy, pytest.raises(ServerError) as error:
        source(proxy.url)
    assert "answers 401 (Invalid key); give the key it asks for" in one_line(error)


def test_every_prompt_of_a_thought_extends_the_one_before(upstream, chat):
    """What a server that caches prefixes needs."""
    with proxied(taking_ids(forwarding(upstream), chat)) as proxy:
        list(source(proxy.url, chat).sample([(PROBLEMS[0], 0)], protocol(0.0), thirds, ignore))
    kept = [exchange.body["prompt"][: -len(chat.inducer)] for exchange in proxy.of(RAW)[1:]]
    assert all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(kept))
