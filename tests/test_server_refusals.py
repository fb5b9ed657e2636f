"""What servers refuse, break off or keep to less than they were asked: done otherwise, or said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from benchmarks.serving import MODEL, Handler, Json, proxied

from suffice.config import DEFAULT_INDUCER as INDUCER
from suffice.errors import ServerError, UnfitError
from suffice.evaluation.server import ServerSource
from suffice.evaluation.server.transport import Transport
from suffice.evaluation.source import Sampling
from suffice.lab import problems
from suffice.model.load import load_chat

CHAT, RAW = "/v1/chat/completions", "/v1/completions"
PROBLEMS = problems("test", 6)
ANSWER = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}


@pytest.fixture(scope="module")
def chat():
    return load_chat(MODEL, INDUCER)


Reply = Callable[[Json], tuple[int, Json]]


def answering(reply: Reply, raw: Reply | None = None) -> Handler:
    async def handler(path: str, body: Json) -> tuple[int, Json]:
        if path == "/v1/models":
            return 200, {"data": [{"id": MODEL}]}
        if path == RAW:
            return raw(body) if raw else (404, {})
        return reply(body)

    return handler


def source(url, chat=None, **options):
    return ServerSource(url, MODEL, chat=chat, **{"api_key": None, "concurrency": 4, "retries": 0} | options)


def sampled(served, sampling, asks=None, exits=None):
    lots = served.sample(asks or [(problem, 0) for problem in PROBLEMS], sampling, exits, lambda count: None)
    return [trace for lot in lots for trace in lot]


GREEDY = Sampling(1, 0.0, 1.0, 100, 20, top_k=20, min_p=0.1)
DRAWN = Sampling(1, 0.6, 0.95, 100, 20)
PLAIN = Sampling(1, 1.0, 1.0, 100, 20)
CUT = Sampling(1, 0.6, 0.95, 100, 20, top_k=20, min_p=0.1, presence_penalty=1.0)
COLD = Sampling(1, 0.0, 1.0, 100, 20, presence_penalty=1.0)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# parameters


def openai(name: str, words: str, other: str | None = None) -> Reply:
    """A server that refuses a parameter in OpenAI's way, for as long as it is sent."""

    def reply(body: Json) -> tuple[int, Json]:
        if name in body and other not in body:
            return 400, {"error": {"message": words, "param": name, "type": "invalid_request_error", "code": None}}
        return 200, ANSWER

    return reply


INSTEAD = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


def test_the_limit_of_tokens_is_sent_under_the_name_that_a_server_takes():
    with proxied(answering(openai("max_tokens", INSTEAD))) as proxy:
        served = source(proxy.url)
        assert len(sampled(served, DRAWN)) == 6
        assert len(sampled(served, DRAWN)) == 6
        bodies = [exchange.body for exchange in proxy.of(CHAT)]
    taken = [body for body in bodies if "max_tokens" not in body]
    assert [body["max_completion_tokens"] for body in taken] == [120] * 12
    assert len(bodies) - len(taken) <= 4  # those that were in flight before it was known
    refused = next(body for body in bodies if "max_tokens" in body)
    assert set(taken[0]) == set(refused) - {"max_tokens"} | {"max_completion_tokens"}


def pydantic(name: str) -> Reply:
    """The same as FastAPI's servers say it: the request is quoted, with all its names."""

    def reply(body: Json) -> tuple[int, Json]:
        if name in body:
            wrong = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
            return 422, {"detail": [wrong | {"input": body}]}
        return 200, ANSWER

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        openai("seed", "Unknown parameter: 'seed'."),
        pydantic("seed"),
        lambda body: (400, {"error": "property 'seed' is unsupported"}) if "seed" in body else (200, ANSWER),
        lambda body: (400, {"message": "Unrecognized argument supplied: seed"}) if "seed" in body else (200, ANSWER),
    ],
)
def test_a_seed_that_is_refused_is_left_out_and_said(reply, capsys):
    with proxied(answering(reply)) as proxy:
        assert len(sampled(source(proxy.url), DRAWN)) == 6
        taken = [exchange.body for exchange in proxy.of(CHAT) if exchange.whole]
    assert all(body["temperature"] == 0.6 and body["top_p"] == 0.95 and "seed" not in body for body in taken)
    assert capsys.readouterr().err == "the server takes no seed: it is left out; samples cannot be drawn again\n"


@pytest.mark.parametrize(
    ("name", "sampling"),
    [("top_p", PLAIN), ("top_p", GREEDY), ("temperature", PLAIN), ("top_k", GREEDY), ("min_p", GREEDY)],
)
def test_what_changes_no_sampling_is_left_out_and_said(name, sampling, capsys):
    with proxied(answering(openai(name, f"`{name}` must be > 0.0 and < 1.0"))) as proxy:
        assert len(sampled(source(proxy.url), sampling)) == 6
    assert capsys.readouterr().err == f"the server takes no {name}: it is left out, which changes nothing here\n"


@pytest.mark.parametrize(
    ("name", "words", "sampling", "advice"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0.6 here.", DRAWN, "--temperature"),
        ("temperature", "`temperature` must be strictly positive", GREEDY, "--temperature"),
        ("top_p", "Unsupported parameter: 'top_p'", DRAWN, "--top-p"),
        ("top_k", "Unrecognized request argument supplied: top_k", CUT, "without --top-k"),
        ("min_p", "Unrecognized request argument supplied: min_p", CUT, "without --min-p"),
        ("presence_penalty", "presence_penalty is not supported", CUT, "without --presence-penalty"),
        ("presence_penalty", "presence_penalty is not supported", COLD, "without --presence-penalty"),
        ("chat_template_kwargs", "Unrecognized request argument supplied: chat_template_kwargs", DRAWN, "started"),
    ],
)
def test_what_changes_the_sampling_is_never_left_out(name, words, sampling, advice):
    with proxied(answering(openai(name, words))) as proxy:
        with pytest.raises(UnfitError) as error:
            sampled(source(proxy.url, options={"enable_thinking": True}), sampling)
        assert all(name in exchange.body for exchange in proxy.of(CHAT))
    assert words in one_line(error)
    assert "start again with" in one_line(error)
    assert advice in one_line(error)


def test_a_limit_that_is_refused_under_both_names_is_refused():
    def reply(body):
        return 400, {"error": {"message": "Unsupported parameter: 'max_tokens'/'max_completion_tokens'"}}

    with proxied(answering(reply)) as proxy, pytest.raises(ServerError) as error:
        sampled(source(proxy.url, concurrency=1), DRAWN)
    assert "answers 400 (Unsupported parameter" in one_line(error)
    assert len(proxy.of(CHAT)) == 2


# lengths


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 512 tokens. However, you requested 9216 output tokens."),
        (400, "the request exceeds the available context size, try increasing it"),
        (400, "max_tokens is too large: 9216. This model supports at most 4096 completion tokens."),
        (400, "Requested token count exceeds the model's maximum context length of 512 tokens."),
        (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096; it exceeds them"),
        (413, "Input length (600) exceeds model's maximum context length (512)."),
    ],
)
def test_what_does_not_fit_is_no_matter_of_going_on(status, words):
    handler = answering(lambda body: (status, {"error": {"message": words, "param": "max_tokens"}}))
    with proxied(handler) as proxy, pytest.raises(UnfitError) as error:
        sampled(source(proxy.url), DRAWN)
    assert "start again with a smaller --max-thought-tokens or --max-answer-tokens" in one_line(error)


# replies that were broken off


def broken(reason: str, times: int) -> Reply:
    """Breaks off the first replies to each request."""
    seen: dict[str, int] = {}

    def reply(body: Json) -> tuple[int, Json]:
        key = json.dumps(body, sort_keys=True)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= times:
            half = {"message": {"content": "The answer is 4, or ra"}, "finish_reason": reason}
            return 200, {"choices": [half], "usage": {"completion_tokens": 9}}
        return 200, ANSWER

    return reply


@pytest.mark.parametrize("reason", ["error", "abort", "content_filter", "tool_calls", "cancelled"])
def test_a_reply_that_was_broken_off_is_asked_for_again(reason):
    with proxied(answering(broken(reason, 1))) as proxy:
        assert [trace.answer for trace in sampled(source(proxy.url, retries=1), DRAWN)] == ["4"] * 6


@pytest.mark.parametrize("reason", ["error", "abort", "content_filter", "tool_calls", "cancelled"])
def test_a_reply_that_is_always_broken_off_is_refused_and_not_graded(reason):
    with proxied(answering(broken(reason, 99))) as proxy, pytest.raises(ServerError) as error:
        sampled(source(proxy.url), DRAWN)
    assert f"with finish_reason '{reason}'" in one_line(error)
    assert any(f"breaks off every reply to problem {problem.id}" in one_line(error) for problem in PROBLEMS)


def test_a_forced_answer_that_was_broken_off_is_asked_for_again(chat):
    def raw(body):
        whole = len(chat.tokenizer.encode(body["prompt"])) if isinstance(body["prompt"], str) else len(body["prompt"])
        turns.append(None)
        reason = "abort" if len(turns) % 2 else "stop"
        return 200, {"choices": [{"text": "5 0", "finish_reason": reason}], "usage": {"prompt_tokens": whole}}

    turns: list[None] = []
    with proxied(answering(lambda body: (200, ANSWER), raw)) as proxy:
        found = sampled(source(proxy.url, chat, retries=1, concurrency=1), GREEDY, exits=lambda trace: [0])
    assert [forced.answer for trace in found for forced in trace.forced] == ["5 0"] * 6
    assert len(turns) == 2 * 7  # the handshake, and one exit a sample


@pytest.mark.parametrize(("completion", "truncated"), [(120, True), (119, False)])
def test_a_reply_without_a_reason_was_cut_if_it_fills_the_budget(completion, truncated):
    choice = {"message": {"content": "so " * 100, "reasoning": None}, "finish_reason": None}
    reply = {"choices": [choice], "usage": {"completion_tokens": completion}}
    with proxied(answering(lambda body: (200, reply))) as proxy:
        (trace,) = sampled(source(proxy.url), DRAWN, [(PROBLEMS[0], 0)])
    assert trace.truncated is truncated


# raw completions


def raw_seeing(tokens: Callable[[int], int], chat, *, takes_ids: bool) -> Reply:
    """Raw completions of a server that says how many tokens of a prompt it saw."""

    def raw(body: Json) -> tuple[int, Json]:
        prompt = body["prompt"]
        if isinstance(prompt, list) and not takes_ids:
            return 400, {"error": {"message": "json: cannot unmarshal array into Go struct field of type string"}}
        ids = prompt if isinstance(prompt, list) else chat.tokenizer.encode(prompt, add_special_tokens=False)
        choice = {"text": "<think>\nso", "finish_reason": "length"}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": tokens(len(ids)), "completion_tokens": 4}}

    return raw


@pytest.mark.parametrize("takes_ids", [True, False])
@pytest.mark.parametrize("more", [9, -2, 2])
def test_raw_completions_that_are_not_raw_are_refused_before_anything_is_sampled(chat, more, takes_ids):
    """Ollama wraps the prompt of /v1/completions in the chat template once more."""
    handler = answering(lambda body: (200, ANSWER), raw_seeing(lambda n: n + more, chat, takes_ids=takes_ids))
    with proxied(handler) as proxy:
        with pytest.raises(ServerError) as error:
            sampled(source(proxy.url, chat), GREEDY, exits=lambda trace: [0])
        assert proxy.of(CHAT) == []
    sent = len(chat.render(PROBLEMS[0].prompt))
    assert f"saw {sent + more} tokens of a prompt of {sent}" in one_line(error)
    assert "llama-server" in one_line(error)


def test_a_server_that_does_not_count_prompts_is_taken_at_its_word_and_that_is_said(chat, capsys):
    raw = {"choices": [{"text": "5 0", "finish_reason": "stop"}]}
    with proxied(answering(lambda body: (200, ANSWER), lambda body: (200, raw))) as proxy:
        assert len(sampled(source(proxy.url, chat), GREEDY, exits=lambda trace: [0])) == 6
    assert "goes unchecked" in capsys.readouterr().err


@pytest.mark.parametrize("more", [0, 1, -1])
def test_a_token_that_starts_a_text_is_no_template(chat, more):
    handler = answering(lambda body: (200, ANSWER), raw_seeing(lambda n: n + more, chat, takes_ids=True))
    with proxied(handler) as proxy:
        assert len(sampled(source(proxy.url, chat), GREEDY, exits=lambda trace: [0])) == 6


def test_ids_that_are_miscounted_give_way_to_text(chat):
    def raw(body):
        seen = 1 if isinstance(body["prompt"], list) else len(chat.tokenizer.encode(body["prompt"]))
        return 200, {"choices": [{"text": "so", "finish_reason": "stop"}], "usage": {"prompt_tokens": seen}}

    with proxied(answering(lambda body: (200, ANSWER), raw)) as proxy:
        assert len(sampled(source(proxy.url, chat), GREEDY, exits=lambda trace: [0])) == 6
        assert all(isinstance(exchange.body["prompt"], str) for exchange in proxy.of(RAW)[2:])


def test_a_long_prompt_that_is_cut_is_noticed(chat):
    """Ollama keeps num_ctx tokens of a prompt and says nothing of it."""
    thought = "a = 5 ; " * 40
    reply = {"choices": [{"message": {"content": "4", "reasoning": thought}, "finish_reason": "stop"}]}
    handler = answering(lambda body: (200, reply), raw_seeing(lambda n: min(n, 64), chat, takes_ids=True))
    with proxied(handler) as proxy, pytest.raises(ServerError) as error:
        sampled(source(proxy.url, chat), GREEDY, exits=lambda trace: [0, trace.thought_tokens])
    assert "saw 64 tokens of a prompt of" in one_line(error)
    assert "longer context" in one_line(error)


def test_exits_are_forced_only_after_the_prompt_that_the_chat_had(chat):
    """A template of the server's own, or a system turn, would make the exits those of another conversation."""
    sent = len(chat.render(PROBLEMS[0].prompt))
    reply = ANSWER | {"usage": {"prompt_tokens": sent + 20, "completion_tokens": 1}}
    handler = answering(lambda body: (200, reply), raw_seeing(lambda n: n, chat, takes_ids=True))
    with proxied(handler) as proxy:
        with pytest.raises(ServerError) as error:
            sampled(source(proxy.url, chat), GREEDY, [(PROBLEMS[0], 0)], lambda trace: [0])
        assert len(sampled(source(proxy.url, chat), GREEDY, [(PROBLEMS[0], 0)])) == 1  # to count is another matter
    assert f"saw {sent + 20} tokens of a question that --tokenizer renders to {sent}" in one_line(error)
    assert "--chat-template-kwargs" in one_line(error)


# turns and options


def test_system_turn_and_template_options_are_sent():
    with proxied(answering(lambda body: (200, ANSWER))) as proxy:
        sampled(source(proxy.url, system="Be brief.", options={"enable_thinking": True}), DRAWN, [(PROBLEMS[0], 0)])
        (exchange,) = proxy.of(CHAT)
    user = {"role": "user", "content": PROBLEMS[0].prompt}
    assert exchange.body["messages"] == [{"role": "system", "content": "Be brief."}, user]
    assert exchange.body["chat_template_kwargs"] == {"enable_thinking": True}


def test_an_address_may_end_in_a_slash():
    with proxied(answering(lambda body: (200, ANSWER))) as proxy:
        assert len(sampled(source(f"{proxy.url}/"), DRAWN)) == 6


def test_a_transport_refuses_what_is_no_address():
    with pytest.raises(ServerError, match="is no address of a server"):
        Transport("localhost:8000/v1", api_key=None, timeout=1, retries=0)
