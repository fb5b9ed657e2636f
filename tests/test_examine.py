"""Whether a server does what it is asked: a server of ours that honours, ignores or refuses each wish on purpose."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from benchmarks.serving import Handler, Json, free_port, proxied

from suffice import cli
from suffice.errors import ServerError
from suffice.evaluation.server import Row, examine
from suffice.evaluation.server.examine import IDS, QUESTIONS
from suffice.evaluation.server.honoured import (
    Judged,
    Said,
    answer_untouched,
    budget_beyond,
    budgets_for,
    budgets_kept,
    logprobs_told,
    seed_kept,
)
from suffice.evaluation.server.replies import Logprobs

CHAT, RAW = "/v1/chat/completions", "/v1/completions"
THOUGHT = [f"step{i}" for i in range(40)]
ANSWER = ["so", "the", "sum", "of", "two", "and", "two", "is", "four", ",", "as", "I", "said"]
END = ["time", "is", "up", "."]
TEMPLATE = 9  # tokens of a chat beside the words of the question

Faults = Mapping[str, str]


def refusal(name: str) -> tuple[int, Json]:
    return 400, {"error": {"message": f"{name} is not supported", "param": name}}


@dataclass
class Pretender:
    """A server whose tokens are words. It thinks 40 and answers 13, greedily; at temperature 1 it says random words.

    Args:
        faults: a row of the examination and what becomes of that wish: ignored or refused.
        dialect: how thoughts are told apart: a field, marks in the text, or none, as there is no thought.
    """

    faults: Faults
    models: tuple[str, ...] = ("it",)
    owner: str = "vllm"
    context: int | None = 512
    dialect: str = "field"
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    async def __call__(self, path: str, body: Json) -> tuple[int, Json]:
        if path == "/v1/models":
            listed = {"owned_by": self.owner, "max_model_len": self.context}
            return 200, {"data": [{"id": name} | listed for name in self.models]}
        if path == "/version":
            return 200, {"version": "0.32.0"}
        return self.chat(body) if path == CHAT else self.raw(body) if path == RAW else (404, {})

    def ignores(self, what: str) -> bool:
        return self.faults.get(what) == "ignored"

    def refuses(self, what: str) -> bool:
        return self.faults.get(what) == "refused"

    def generated(self, body: Json) -> tuple[list[str], list[str]]:
        if body.get("temperature", 1) > 0 or self.ignores("greedy"):
            seeded = "seed" in body and not self.ignores("seeds")
            draw = random.Random(body["seed"]) if seeded else self.rng
            return [], [draw.choice("abcdefgh") for _ in range(48)]
        budget = body.get("thinking_token_budget")
        if self.dialect == "none":
            return [], ANSWER
        if budget is None or self.ignores("thinking budget"):
            return THOUGHT, ANSWER
        if budget < len(THOUGHT):
            return [*THOUGHT[:budget], *END], ANSWER
        left = budget - len(THOUGHT)
        counts_on = self.ignores("budget above the thought")
        return THOUGHT, [*ANSWER[:left], *END, "</think>", *ANSWER] if counts_on else ANSWER

    def chat(self, body: Json) -> tuple[int, Json]:
        for row, name in {"seeds": "seed", "n > 1": "n", "thinking budget": "thinking_token_budget"}.items():
            if name in body and self.refuses(row):
                return refusal(name)
        if body.get("temperature") == 0 and self.refuses("greedy"):
            return refusal("temperature")
        asked = 999 if self.ignores("limit of tokens") else body["max_tokens"]
        choices = []
        for _ in range(1 if self.ignores("n > 1") else body.get("n", 1)):
            thought, answer = self.generated(body)
            cut = asked < len(thought) + len(answer)
            thought, answer = thought[:asked], answer[: max(0, asked - len(thought))]
            message: Json = {"role": "assistant", "content": " ".join(answer)}
            if self.dialect == "field":
                message["reasoning"] = " ".join(thought)
            elif thought:
                message["content"] = f"<think> {' '.join(thought)} </think> {message['content']}"
            choices.append({"message": message, "finish_reason": "length" if cut else "stop"})
        usage = {
            "prompt_tokens": len(body["messages"][0]["content"].split()) + TEMPLATE,
            "completion_tokens": len(thought) + len(answer),
            "completion_tokens_details": {"reasoning_tokens": len(thought)},
        }
        return 200, {"choices": choices, "usage": usage}

    def raw(self, body: Json) -> tuple[int, Json]:
        prompt = body["prompt"]
        what = "raw completions" if isinstance(prompt, str) else "token-id prompts"
        if self.refuses(what):
            return refusal("prompt")
        seen = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
        if self.ignores(what):
            seen += TEMPLATE
        choice: Json = {"text": "a", "finish_reason": "length"}
        if "logprobs" in body:
            if self.refuses("log-probs"):
                return refusal("logprobs")
            if not self.ignores("log-probs"):
                choice["logprobs"] = {"tokens": ["a"], "token_logprobs": [-0.5]}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": seen, "completion_tokens": 1}}


def pretending(faults: Faults | None = None, **more: Any) -> Handler:
    return Pretender(faults or {}, **more)


def examined(handler: Handler, **options: Any) -> dict[str, Row]:
    with proxied(handler) as proxy:
        return {row.what: row for row in examine(proxy.url, **{"retries": 0} | options)}


# what is seen


WISHES = (
    "limit of tokens",
    "greedy",
    "raw completions",
    "token-id prompts",
    "log-probs",
    "seeds",
    "n > 1",
    "thinking budget",
    "budget above the thought",
)


def test_a_server_that_does_all_it_is_asked_is_said_to():
    rows = examined(pretending())
    assert {what: row.state for what, row in rows.items() if row.state} == dict.fromkeys(WISHES, "honoured")
    assert rows["engine"].found == "vLLM 0.32.0"
    assert rows["model"].found == "it"
    assert rows["context"].found == "512 tokens of prompt and reply"
    assert rows["thoughts"].found == "separated, in reasoning; 40 tokens"
    assert rows["limit of tokens"].found == "asked for 8 at most, 8 came"
    # "Add two and two." is four words
    assert rows["raw completions"].found == "4 prompt tokens, in a chat 13"
    assert rows["token-id prompts"].found == f"{len(IDS)} tokens meant, {len(IDS)} seen"
    # an eighth and a quarter of 40, and END's four words beside them
    assert rows["thinking budget"].found == (
        "thinking_token_budget: asked for 0, 5, 10 thinking tokens, 4, 9, 14 came; 40 without a budget"
    )
    assert rows["budget above the thought"].found == "a budget of 46 for a thought of 40 changed nothing"
    assert all(row.means for row in rows.values() if row.what != "engine")


@pytest.mark.parametrize("what", WISHES)
def test_a_wish_that_is_ignored_is_said_to_be_and_nothing_else(what: str):
    rows = examined(pretending({what: "ignored"}))
    ignored = {row.what for row in rows.values() if row.state == "ignored"}
    assert ignored == {what}
    if what != "greedy":  # where it is, this server writes no thought
        expected = {*WISHES} - {what} - ({"budget above the thought"} if what == "thinking budget" else set())
        assert {row.what for row in rows.values() if row.state == "honoured"} == expected


@pytest.mark.parametrize("what", ["greedy", "raw completions", "token-id prompts", "log-probs", "seeds", "n > 1"])
def test_a_wish_that_is_refused_is_said_to_be_in_the_servers_words(what: str):
    rows = examined(pretending({what: "refused"}))
    assert rows[what].state == "refused"
    assert rows[what].found == "the server takes no seed" if what == "seeds" else "is not supported" in rows[what].found
    if what != "greedy":
        assert {row.what for row in rows.values() if row.state == "honoured"} == {*WISHES} - {what}


def test_a_budget_that_is_refused_is_said_with_how_to_serve_it():
    row = examined(pretending({"thinking budget": "refused"}))["thinking budget"]
    assert row.state == "refused"
    assert row.found.startswith("thinking_token_budget: answers 400")
    assert "--reasoning-parser" in row.means


def test_what_becomes_of_a_raw_prompt_decides_whether_diagnose_works():
    means = {
        state: examined(pretending({"raw completions": state}))["raw completions"].means for state in ("", "ignored")
    }
    assert means[""].startswith("diagnose and eval --baselines can force answers")
    assert means["ignored"].startswith("diagnose and eval --baselines refuse this server")


@pytest.mark.parametrize("taken", ["max_thinking_tokens", "nothing"])
def test_an_engine_that_is_not_known_is_asked_for_a_budget_in_every_way(taken: str):
    inner = pretending(owner="someone")

    async def handler(path: str, body: Json) -> tuple[int, Json]:
        budget = {"thinking_token_budget": body["nvext"][taken]} if taken in body.get("nvext", {}) else {}
        return await inner(path, {key: value for key, value in body.items() if "thinking" not in key} | budget)

    rows = examined(handler)
    assert rows["engine"].found == "not told (its models are owned by someone)"
    row = rows["thinking budget"]
    if taken == "nothing":
        assert row.state == "ignored"
        assert row.found.startswith("thinking_token_budget: asked for 0, 5, 10 thinking tokens, 40, 40, 40 came")
        assert row.found.endswith(
            "reasoning_budget_tokens: ignored, thinking_budget_tokens: ignored, nvext.max_thinking_tokens: ignored"
        )
    else:
        assert row.state == "honoured"
        assert row.found.startswith("nvext.max_thinking_tokens: asked for 0, 5, 10 thinking tokens, 4, 9, 14 came")


def test_thoughts_between_marks_are_told_with_the_mark():
    row = examined(pretending(dialect="text"))["thoughts"]
    assert row.found == "not separated: in the text, up to </think>; 40 tokens"


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"reasoning": "Two and two is four.", "content": ""}, "--reasoning-parser took the answer for thought"),
        ({"reasoning": "Two and two is four.", "content": ""}, "or with that of the model's family"),
        ({"content": "Okay, so two and two. Hmm, four."}, "read like thinking aloud"),
        ({"content": "<scratchpad> so four </scratchpad> 4"}, "begin with a mark such as <scratch"),
    ],
)
def test_a_reply_that_eval_would_doubt_is_doubted_here(message: Json, part: str):
    inner = pretending()

    async def handler(path: str, body: Json) -> tuple[int, Json]:
        status, reply = await inner(path, body)
        if path == CHAT:
            usage = {"prompt_tokens": 13, "completion_tokens": 8}
            reply = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        return status, reply

    assert part.replace("--reasoning-parser", "reasoning parser") in examined(handler)["thoughts"].means


def test_a_model_without_a_thought_is_told_how_to_switch_it_on():
    rows = examined(pretending(dialect="none"))
    assert rows["thoughts"].found == "none seen"
    assert "enable_thinking" in rows["thoughts"].means
    assert rows["thinking budget"].state == "unknown"


def test_a_server_that_counts_nothing_is_said_to_and_leaves_the_rest_open():
    inner = pretending()

    async def handler(path: str, body: Json) -> tuple[int, Json]:
        status, reply = await inner(path, body)
        return status, {key: value for key, value in reply.items() if key != "usage"}

    rows = examined(handler)
    assert rows["thoughts"].found == "the server does not tell how many tokens it generates; give --tokenizer"
    open_ = {"limit of tokens", "raw completions", "token-id prompts", "thinking budget"}
    assert {row.what for row in rows.values() if row.state == "unknown"} == open_


@pytest.mark.parametrize("owner", [None, 7, ["vllm"], {"of": "vllm"}])
def test_an_owner_of_any_kind_is_no_error(owner: object):
    assert examined(pretending(owner=owner))["engine"].found.startswith("not told")


def test_a_context_that_is_not_told_is_said():
    row = examined(pretending(context=None))["context"]
    assert row.found == "not told"
    assert "8,192 thinking and 1,024 answer tokens" in row.means


# how it is judged, by hand


def said(thought: str, rest: str = "the answer is 4", closed: bool = True) -> Said:
    return Said(thought, rest, closed, False, len(thought.split()), len(rest.split()))


FREE = said(" ".join(THOUGHT))


def test_budgets_are_an_eighth_and_a_quarter_of_the_thought_and_none():
    assert budgets_for(40) == [0, 5, 10]
    assert budgets_for(5) == [0, 1]
    assert budgets_for(1) == [0]


@pytest.mark.parametrize(
    ("steady", "thoughts", "state"),
    [
        # cut after N words, with and without an end
        (True, {0: "", 5: THOUGHT[:5], 10: THOUGHT[:10]}, "honoured"),
        (True, {0: END, 5: [*THOUGHT[:5], *END], 10: [*THOUGHT[:10], *END]}, "honoured"),
        # another thought each time, at most half of the free one: 5 and 10 words
        (False, {0: "", 5: ["x"] * 5, 10: ["y"] * 10}, "honoured"),
        # the same thought whatever is asked for
        (True, {0: THOUGHT, 5: THOUGHT, 10: THOUGHT}, "ignored"),
        # only 0 is kept
        (True, {0: "", 5: THOUGHT, 10: THOUGHT}, "ignored"),
        # other thoughts, as long as the free one: 40 − 0 > 10 + 10/4 + 8
        (False, {0: "", 5: ["x"] * 40, 10: ["y"] * 40}, "ignored"),
        # too long even for what a server may write at the end: 100 − 64 > 0 + 8
        (False, {0: ["x"] * 100, 5: ["x"] * 100, 10: ["x"] * 100}, "ignored"),
        # within what END and the slack allow (22 − 4 ≤ 10 + 10/4 + 8), yet more than half of the free one, and another
        (False, {0: END, 5: [*THOUGHT[:5], *END], 10: ["x"] * 22}, "unknown"),
        (True, {0: END, 5: [*THOUGHT[:5], *END], 10: ["x"] * 22}, "ignored"),
    ],
)
def test_a_budget_is_kept_where_the_thought_is_cut(steady: bool, thoughts: dict[int, list[str]], state: str):
    by_budget = {budget: said(" ".join(words)) for budget, words in thoughts.items()}
    assert budgets_kept(FREE, by_budget, steady=steady).state == state


def test_a_short_thought_with_a_long_end_is_judged_by_how_it_begins():
    """As vLLM 0.32 with our inducer: 14 tokens without a budget, 35 and more with one."""
    end = " ".join(["end"] * 35)
    free = said("two and two , so 2 + 2 = 4 . Yes , four")
    cut = {0: said(end), 1: said(f"two {end}"), 3: said(f"two and two {end}")}
    assert budgets_kept(free, cut, steady=True).state == "honoured"
    assert budgets_kept(free, cut, steady=False).state == "unknown"
    assert budgets_kept(free, dict.fromkeys(cut, free), steady=True).state == "ignored"


def test_a_budget_without_an_answer_is_said_so():
    by_budget = {0: said("", ""), 5: said(" ".join(THOUGHT[:5]), "", closed=False)}
    assert budgets_kept(FREE, by_budget, steady=True).found.endswith("no answer followed")


def test_a_budget_is_beyond_the_thought_and_within_the_answer():
    assert budget_beyond(FREE) == 40 + 4 // 2
    assert budget_beyond(said("so", "4")) is None  # no room in the answer
    assert budget_beyond(said("so", "the answer is 4", closed=False)) is None


@pytest.mark.parametrize(
    ("rest", "steady", "state"),
    [
        ("the answer is 4", True, "honoured"),
        ("the answer </think> the answer is 4", False, "ignored"),
        ("the answer time is up . is 4", False, "ignored"),
        ("it is 4", True, "ignored"),
        ("it is 4", False, "unknown"),
    ],
)
def test_an_answer_under_a_budget_that_was_not_reached_is_the_free_one(rest: str, steady: bool, state: str):
    found = answer_untouched(FREE, said(FREE.thought, rest), 42, said(" ".join(END)), steady=steady)
    assert found.state == state


def test_draws_that_are_all_alike_say_nothing_of_seeds():
    assert seed_kept(["a", "a"], ["a", "a"]).state == "unknown"
    assert seed_kept(["a", "a"], ["a", "b"]).state == "honoured"
    assert seed_kept(["a", "b"], ["a", "a"]).state == "ignored"


def test_a_log_prob_is_not_above_zero():
    assert logprobs_told(Logprobs(token_logprobs=[None, -0.1])) == Judged("honoured", "came for 1 tokens")
    assert logprobs_told(Logprobs(token_logprobs=[0.9])).state == "ignored"
    assert logprobs_told(Logprobs(token_logprobs=[])).state == "ignored"
    assert logprobs_told(None).state == "ignored"


# wrong use


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["suffice", "doctor", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def complained(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error, beside the bar's."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("examine ")]
    return line


def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "--base-url", f"http://127.0.0.1:{free_port()}/v1") == 2
    assert "cannot reach" in complained(capsys)


@pytest.mark.parametrize("survived", [1, 2, 9])
def test_a_server_that_dies_between_calls_is_one_line(
    survived: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    seen: list[None] = []

    def dying(body: Json, attempt: int) -> str | None:
        seen.append(None)
        return "drop" if len(seen) > survived else None

    with proxied(pretending(), dying) as proxy:
        assert command(monkeypatch, "--base-url", proxy.url) == 2
    assert "cannot reach" in complained(capsys)


def test_a_server_that_wants_a_key_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    async def handler(path: str, body: Json) -> tuple[int, Json]:
        return 401, {"error": {"message": "no key"}}

    async def late(path: str, body: Json) -> tuple[int, Json]:
        return (401, {"error": {"message": "no key"}}) if "n" in body else await pretending()(path, body)

    for each in (handler, late):
        with proxied(each) as proxy:
            assert command(monkeypatch, "--base-url", proxy.url) == 2
        assert "answers 401 (no key); give the key it asks for" in complained(capsys)


def test_a_server_of_other_models_or_of_several_is_one_line():
    with proxied(pretending(models=("a", "b"))) as proxy:
        with pytest.raises(ServerError, match=r"does not serve c; choose of a, b$"):
            examine(proxy.url, "c")
        with pytest.raises(ServerError, match=r"serves a, b; choose with --model$"):
            examine(proxy.url)
        assert {row.what: row for row in examine(proxy.url, "b")}["model"].found == "b"


def test_a_server_that_lists_nothing_is_asked_by_name():
    inner = pretending()

    async def handler(path: str, body: Json) -> tuple[int, Json]:
        return (404, {}) if path == "/v1/models" else await inner(path, body)

    with (
        proxied(handler) as proxy,
        pytest.raises(ServerError, match=r"does not list what it serves; choose with --model"),
    ):
        examine(proxy.url)
    assert examined(handler, model="it")["limit of tokens"].state == "honoured"


def test_what_has_no_chat_is_refused():
    async def handler(path: str, body: Json) -> tuple[int, Json]:
        return (404, {"detail": "Not Found"}) if path == CHAT else await pretending()(path, body)

    with pytest.raises(ServerError, match=r"answers 404 \(Not Found\); check the address"):
        examined(handler)


def test_options_that_do_not_go_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, "--model", "it") == 2
    assert "leave --model out" in complained(capsys)
    assert command(monkeypatch, "lab-s-grpo", "--base-url", "http://localhost:1/v1") == 2
    assert "leave RECIPE out" in complained(capsys)
    assert command(monkeypatch, "--base-url", "http://localhost:1/v1", "--chat-template-kwargs", "[") == 2
    assert "is not a JSON object" in complained(capsys)


def test_the_table_and_its_json_say_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with proxied(pretending({"seeds": "ignored"})) as proxy:
        assert not command(monkeypatch, "--base-url", proxy.url, "--json")
    out, err = capsys.readouterr()
    rows = {row["what"]: row for row in json.loads(out)}
    assert rows["seeds"]["state"] == "ignored"
    assert rows["thoughts"]["state"] is None
    assert all(what in err for what in rows)


def test_the_questions_are_put_as_they_stand():
    with proxied(pretending()) as proxy:
        examine(proxy.url, options={"enable_thinking": True})
        bodies = [exchange.body for exchange in proxy.of(CHAT)]
    assert {body["messages"][0]["content"] for body in bodies} >= {*QUESTIONS}
    assert all(body["chat_template_kwargs"] == {"enable_thinking": True} for body in bodies)
