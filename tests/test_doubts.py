"""What an evaluation says of figures that may not be what they seem."""

from __future__ import annotations

import json
import sys

import pytest
from benchmarks.serving import MODEL, proxied

from suffice import cli
from suffice.config import DEFAULT_INDUCER as INDUCER
from suffice.errors import UnfitError
from suffice.evaluation.doubts import doubts
from suffice.evaluation.server import ServerSource, fitting
from suffice.evaluation.source import Sampling, Trace
from suffice.groups import Problem
from suffice.model.load import load_chat

PROTOCOL = Sampling(1, 0.6, 0.95, 800, 200)


def trace(thought="so it is", answer="4", thought_tokens=None, answer_tokens=1, closed=True, truncated=False):
    tokens = len(thought.split()) if thought_tokens is None else thought_tokens
    return Trace("p", 0, thought, answer, tokens, answer_tokens, closed, truncated)


def said(traces, served=True):
    return doubts(traces, PROTOCOL, served=served)


THINKING, STOPPED = trace(), trace("", "The sum is 4.")
CUT = trace(thought_tokens=1000, closed=False, truncated=True, answer="", answer_tokens=0)
LEFT = trace("The answer is 4.", "", answer_tokens=0, closed=False)


def test_ordinary_samples_raise_no_doubt():
    assert said([THINKING, STOPPED, CUT]) == []
    assert said([STOPPED] * 9) == []  # a model that was taught to stop at once
    assert said([THINKING, STOPPED, CUT], served=False) == []
    assert said([CUT] * 3) == []


def test_samples_without_a_word_are_told():
    (doubt,) = said([trace("", ""), THINKING])
    assert doubt.startswith("1 of 2 samples ended by themselves without a word")
    assert said([trace("", "", thought_tokens=40), THINKING]) == []  # a thought that the server only counts


def test_samples_that_ended_inside_the_thought_are_told_with_the_parser_that_may_be_to_blame():
    (doubt,) = said([LEFT, THINKING])
    assert doubt.startswith("1 of 2 samples ended by themselves inside the thought")
    assert "--reasoning-parser" in doubt
    (doubt,) = said([LEFT, THINKING], served=False)
    assert "parser" not in doubt


@pytest.mark.parametrize(
    "answer",
    [
        "Okay, so I need to add 2 and 2. That gives 4.",
        "The sum is 5. Wait, no, it is 4.",
        "analysisWe need to add.assistantfinal4",  # harmony's channels without their marks
        "<reflection>Adding.</reflection>4",
        "[REASON]Adding.[/REASON]4",
        "<|thinking|>Adding.<|answer|>4",
        "Alternatively, 4.",
    ],
)
def test_answers_that_read_like_thoughts_are_told_where_no_thought_was_found(answer):
    spoken = trace("", answer)
    (doubt,) = said([spoken, STOPPED, STOPPED])
    assert "no thought was found in any of 3 samples, though 1 answers" in doubt
    assert "--reasoning-parser" in doubt
    assert said([spoken, THINKING]) == []  # thoughts are found where there are some
    assert said([spoken] + [STOPPED] * 19) == []  # once in twenty is chance


def test_a_mark_that_no_family_has_is_shown():
    (doubt,) = said([trace("", "<reflection>Adding.</reflection>4")] * 2)
    assert "begin with a mark such as <reflect" in doubt


def test_samples_that_were_cut_below_the_budget_are_told():
    short = trace(thought_tokens=480, answer="", answer_tokens=0, closed=False, truncated=True)
    (doubt,) = said([short, THINKING, CUT])
    assert doubt.startswith("1 of 3 samples were cut after at most 480 tokens, though 1,000 were asked for")
    assert said([short, THINKING, CUT], served=False) == []  # locally thought and answer have limits of their own


def test_samples_beyond_the_budget_are_told():
    (doubt,) = said([trace(answer_tokens=1500), THINKING])
    assert doubt.startswith("1 of 2 samples have up to 1,503 tokens, though 1,000 were asked for")


def test_cut_samples_are_not_silently_thoughts_where_no_other_sample_thinks():
    (doubt,) = said([CUT, STOPPED, STOPPED])
    assert "1 of 3 samples were cut and are counted as thoughts" in doubt
    assert "--tokenizer" in doubt


# budgets that fit

PROBLEMS = [Problem("a", "t", "x" * 100, "1", "math", None), Problem("b", "t", "é" * 150, "1", "math", None)]


def test_budgets_are_as_asked_or_what_the_server_holds_beside_the_longest_prompt():
    assert fitting(None, None, PROBLEMS, None, None) == (8192, 1024)
    assert fitting(None, None, PROBLEMS, 7, 5) == (7, 5)
    assert fitting(100_000, None, PROBLEMS, None, None) == (8192, 1024)
    # the longest prompt has 300 bytes, and a template at most 128 tokens: 4096 − 428 − 1024
    assert fitting(4096, None, PROBLEMS, None, None) == (2644, 1024)
    assert fitting(1024, None, PROBLEMS, None, None) == (340, 256)  # a quarter for the answer: 1024 − 428 − 256
    assert fitting(4096, None, PROBLEMS, None, 96) == (3572, 96)


def test_a_tokenizer_says_what_fits():
    chat = load_chat(MODEL, INDUCER)
    question = Problem("a", "arithmetic", "a = 5 ;", "1", "math", None)
    prompt = len(chat.render(question.prompt))
    assert fitting(512, chat, [question], None, 12) == (512 - 12 - prompt - len(chat.inducer), 12)
    assert fitting(512, chat, [question], 400, 12) == (400, 12)


@pytest.mark.parametrize(("thought", "answer"), [(4096, None), (3000, 1096), (1, 4096)])
def test_budgets_that_cannot_fit_are_refused_before_anything_is_sampled(thought, answer):
    with pytest.raises(UnfitError, match="the server holds 4096; lower --max-thought-tokens or --max-answer-tokens"):
        fitting(4096, None, PROBLEMS, thought, answer)


# the command line

EVAL = ["eval", MODEL, "--task", "arithmetic", "--problems", "3", "--samples", "1", "--out", "new"]


@pytest.fixture
def suffice(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty working folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ServerSource.__init__.__kwdefaults__, "retries", 0)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["suffice", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


def serving(message, finish="stop", positions=None, **usage):
    async def handler(path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": MODEL, "max_model_len": positions}]}
        choice = {"message": message, "finish_reason": finish}
        return 200, {"choices": [choice], "usage": {"completion_tokens": 6} | usage}

    return handler


def test_an_answer_that_the_parser_swallowed_is_said_and_kept(suffice, tmp_path):
    with proxied(serving({"content": "", "reasoning_content": "The answer is 4."})) as proxy:
        code, out, err = suffice(*EVAL, "--base-url", proxy.url, "--json")
    assert code == 0
    (line,) = [line for line in err.splitlines() if "inside the thought" in line]
    assert line.startswith("arithmetic: 3 of 3 samples ended by themselves inside the thought")
    assert "--reasoning-parser" in line
    summary = json.loads(out)
    assert summary["metrics"]["accuracy"]["mean"] == 0
    assert summary["doubts"] == [line.removeprefix("arithmetic: ")]


@pytest.mark.parametrize("field", [{"reasoning": ""}, {"reasoning_content": None}, {}])
def test_a_thought_that_closed_at_once_is_graded_by_its_answer(suffice, field, tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n} + 4", "answer": "4"}) + "\n" for n in range(3)))
    task = ["eval", MODEL, "--task", "jsonl", "--path", path, "--samples", "1", "--out", "new", "--json"]
    with proxied(serving({"content": "The answer is \\boxed{4}."} | field)) as proxy:
        code, out, err = suffice(*task, "--base-url", proxy.url)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["metrics"]["accuracy"]["mean"] == 1
    assert summary["metrics"]["thought_tokens"]["mean"] == 0
    assert summary["doubts"] == []


def test_an_overflow_does_not_advise_to_ask_the_same_again(suffice):
    seen = []

    async def handler(path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": MODEL}]}
        seen.append(None)
        if len(seen) < 3:
            return await serving({"content": "4"})(path, body)
        return 400, {"error": {"message": "This model's maximum context length is 512 tokens."}}

    with proxied(handler) as proxy:
        code, _, err = suffice(*EVAL, "--base-url", proxy.url, "--concurrency", "1")
    assert code == 2
    line = err.splitlines()[-1]
    assert "start again with a smaller --max-thought-tokens or --max-answer-tokens" in line
    assert line.endswith("what was sampled stays in new")
    assert "--resume" not in line


def test_default_budgets_are_those_that_a_server_holds(suffice, tmp_path):
    with proxied(serving({"content": "4"}, positions=2048)) as proxy:
        code, _, err = suffice(*EVAL, "--base-url", proxy.url)
        bodies = [exchange.body for exchange in proxy.of("/v1/chat/completions")]
    assert code == 0, err
    kept = json.loads((tmp_path / "new" / "request.json").read_text())
    assert {body["max_tokens"] for body in bodies} == {kept["max_thought_tokens"] + kept["max_answer_tokens"]}
    assert 1024 < bodies[0]["max_tokens"] < 2048
    assert kept["max_answer_tokens"] == 512


TURNS = ["--system", "Be brief.", "--chat-template-kwargs", '{"enable_thinking": true}']


def test_system_turn_and_template_options_are_those_of_every_question_and_of_a_resumed_run(suffice, tmp_path):
    seen = []

    async def handler(path, body):
        if path == "/v1/chat/completions":
            seen.append(body)
            if len(seen) == 2:
                return 403, {"error": {"message": "not now"}}
        return await serving({"content": "4"})(path, body)

    with proxied(handler) as proxy:
        code, _, err = suffice(*EVAL, *TURNS, "--base-url", proxy.url, "--concurrency", "1")
        assert code == 2, err
        assert "continue with: suffice eval --resume new" in err.splitlines()[-1]
        assert suffice("eval", "--resume", "new")[0] == 0
    assert len(seen) == 4  # 3 problems, one of them asked twice
    assert all(body["messages"][0] == {"role": "system", "content": "Be brief."} for body in seen)
    assert all(body["chat_template_kwargs"] == {"enable_thinking": True} for body in seen)


def test_counting_asks_nothing_of_a_tokenizer_but_to_count(suffice, tmp_path):
    """Neither a chat template nor marks of a thought, which only forcing needs."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "four": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path / "words")
    (tmp_path / "words" / "config.json").write_text('{"model_type": "qwen3"}')
    message = {"content": "It is four.", "reasoning": "two and two"}
    with proxied(serving(message)) as proxy:
        code, out, err = suffice(*EVAL, "--json", "--base-url", proxy.url, "--tokenizer", tmp_path / "words")
        assert code == 0, err
        metrics = json.loads(out)["metrics"]
        assert (metrics["thought_tokens"]["mean"], metrics["answer_tokens"]["mean"]) == (3, 3)
        arguments = ["diagnose", *EVAL[1:-1], "other", "--base-url", proxy.url, "--tokenizer", tmp_path / "words"]
        code, _, err = suffice(*arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
