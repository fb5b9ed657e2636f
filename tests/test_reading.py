"""What a reply says: where its thought ends, however it is marked, and how many tokens it has."""

from __future__ import annotations

import pytest

from suffice.errors import ServerError
from suffice.evaluation.server.counting import counted
from suffice.evaluation.server.reading import separated, unwrapped
from suffice.evaluation.server.replies import ChatChoice, Message, Usage
from suffice.model.marks import FAMILIES, Turn, answer_of, read_turn

# where a thought ends


def read(message, *, cut=False, opened=None):
    return tuple(separated(Message(**message), cut=cut, opened=opened))


@pytest.mark.parametrize("marks", FAMILIES, ids=lambda marks: marks.open.strip())
def test_every_familys_marks_are_read_where_the_server_leaves_them_in(marks):
    said = f"{marks.open}so 2 + 2{marks.close}4"
    assert read({"content": said}) == ("so 2 + 2", "4", True)
    assert read({"content": "\n" + said}) == ("so 2 + 2", "4", True)  # GLM begins with a line break
    assert read({"content": f"{marks.open}so 2"}, cut=True) == ("so 2", "", False)
    assert read({"content": f"{marks.open}so 2"}) == ("so 2", "", False)  # ended by itself inside the thought
    assert read({"content": f"{marks.open}{marks.close}4"}) == ("", "4", True)


@pytest.mark.parametrize("marks", [marks for marks in FAMILIES if not marks.worded], ids=lambda marks: marks.close)
def test_a_close_alone_ends_a_thought_that_the_prompt_opened(marks):
    assert read({"content": f"so{marks.close}4"}, opened=True) == ("so", "4", True)
    assert read({"content": f"{marks.close}4"}) == ("", "4", True)


def test_ordinary_words_close_no_thought_that_they_did_not_open():
    said = "You asked for a reply. Here is my response: 4"
    assert read({"content": said}) == ("", said, True)


def test_no_family_begins_as_another_does():
    opens = [marks.open.lstrip() for marks in FAMILIES]
    assert [(a, b) for a in opens for b in opens if a is not b and a.startswith(b)] == []


PARSED = {"content": "4", "reasoning": "so"}


@pytest.mark.parametrize(
    ("message", "cut", "opened", "expected"),
    [
        # a server that separates thoughts, under either name
        (PARSED, False, None, ("so", "4", True)),
        ({"content": "4", "reasoning_content": "so", "reasoning": None}, False, None, ("so", "4", True)),
        ({"content": "4", "reasoning_content": "", "reasoning": "so"}, False, None, ("so", "4", True)),
        # a thought that closed at once: "" (vLLM, deepseek_r1) or null (vLLM, qwen3; SGLang)
        ({"content": "4", "reasoning": ""}, False, True, ("", "4", True)),
        ({"content": "4", "reasoning_content": ""}, False, None, ("", "4", True)),
        ({"content": "4", "reasoning_content": None}, False, True, ("", "4", True)),
        ({"content": "4", "reasoning": None}, False, False, ("", "4", True)),
        # and whose answer was cut
        ({"content": "4 is", "reasoning": ""}, True, True, ("", "4 is", True)),
        # cut inside the thought, which the server has separated or not
        ({"content": None, "reasoning": "so"}, True, None, ("so", "", False)),
        ({"content": "", "reasoning": "so"}, True, None, ("so", "", False)),
        ({"content": "so 2 + 2"}, True, True, ("so 2 + 2", "", False)),
        ({"content": "so 2 + 2"}, True, None, ("so 2 + 2", "", False)),  # nothing says that it was not a thought
        ({"content": "The sum"}, True, False, ("", "The sum", True)),  # neither the template nor the model opened one
        # no marks, ended by itself: an answer
        ({"content": "4"}, False, None, ("", "4", True)),
        ({"content": "4"}, False, True, ("", "4", True)),
        # the parser took all of it for thought, or the model ended there: no answer either way
        ({"content": None, "reasoning_content": "4"}, False, None, ("4", "", False)),
        # said twice, as llama.cpp's deepseek-legacy does
        ({"content": "<think>so</think>4", "reasoning_content": "so"}, False, None, ("so", "4", True)),
        ({"content": "<think>\nso\n</think>\n4", "reasoning_content": "so"}, False, None, ("\nso\n", "\n4", True)),
        # a second thought in the answer is not the first
        ({"content": "<think>hm</think>4", "reasoning": "so"}, False, None, ("so", "<think>hm</think>4", True)),
        ({"content": "no</think>4", "reasoning": "so"}, False, None, ("so", "no</think>4", True)),
        ({"content": "so</think>no</think>4"}, False, None, ("so", "no</think>4", True)),
        ({"content": "<think>\n\n</think>\n\n4"}, False, None, ("\n\n", "\n\n4", True)),
        ({"content": None}, False, None, ("", "", True)),
    ],
)
def test_where_a_thought_ends(message, cut, opened, expected):
    assert read(message, cut=cut, opened=opened) == expected


def test_a_thought_may_be_a_part_of_the_content():
    """As Mistral's own API has it."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "so "}, {"type": "text", "text": "2"}]}
    assert read({"content": [thought, {"type": "text", "text": "4"}]}) == ("so 2", "4", True)
    assert read({"content": [{"type": "thinking", "thinking": "so"}]}, cut=True) == ("so", "", False)
    assert read({"content": [{"type": "text", "text": "4"}]}) == ("", "4", True)


HARMONY = "<|channel|>analysis<|message|>so<|end|><|start|>assistant"


@pytest.mark.parametrize(
    ("said", "thought", "answer"),
    [
        (f"{HARMONY}<|channel|>final<|message|>4<|return|>", "so", "4"),
        ("<|channel|>final<|message|>4<|return|>", "", "4"),
        ("<|channel|>final<|message|>4", "", "4"),
        ("<think>\nso\n</think>\n<answer>\n4\n</answer>", "\nso\n", "4"),
        ("<think>so</think><response>4</response>", "so", "4"),
        ("<think>so</think>no</think>4", "so", "4"),
        ("<|START_THINKING|>so<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", "so", "4"),
        ("<|open|>think<|sep|>so<|close|>think<|sep|><|open|>response<|sep|>4<|close|>response<|sep|>", "so", "4"),
        ("<think>so</think>\n\nIf x < 4, then <answer> is a tag.", "so", "If x < 4, then <answer> is a tag."),
    ],
)
def test_what_a_family_puts_around_its_answer_is_no_answer(said, thought, answer):
    turn = separated(Message(content=said), cut=False, opened=None)
    assert (turn.thought, answer_of(turn.rest), turn.closed) == (thought, answer, True)


def test_blanks_around_an_answer_are_its_own():
    assert unwrapped("\n\n4\n") == "\n\n4\n"


def test_a_turn_without_marks_is_an_answer_unless_the_prompt_opened_a_thought():
    assert read_turn("4", begun=False) == Turn("", "4", True)
    assert read_turn("so", begun=True) == Turn("so", "", False)


@pytest.mark.parametrize(
    ("reason", "cut", "finished"),
    [
        ("stop", False, True),
        ("eos", False, True),
        ("end_turn", False, True),
        ("STOP", False, True),
        (None, False, True),
        ("", False, True),
        ("length", True, True),
        ("max_tokens", True, True),
        ("model_length", True, True),
        ("MAX_TOKENS", True, True),
        ("error", False, False),
        ("abort", False, False),
        ("content_filter", False, False),
        ("cancelled", False, False),
        ("tool_calls", False, False),
        ("insufficient_system_resource", False, False),
        ("SAFETY", False, False),
    ],
)
def test_only_the_model_and_a_limit_end_a_reply(reason, cut, finished):
    choice = ChatChoice(message=Message(content="4"), finish_reason=reason)
    assert (choice.cut, choice.finished) == (cut, finished)


# counts

SO = Turn("twelve chars", "four", True)


def usage(completion, *, reasoning=None, prompt=None, total=None):
    details = None if reasoning is None else {"reasoning_tokens": reasoning}
    return Usage(
        completion_tokens=completion, completion_tokens_details=details, prompt_tokens=prompt, total_tokens=total
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        # OpenAI, vLLM: the thought is part of the completion
        (usage(30, reasoning=25, prompt=10, total=40), (25, 5, "server")),
        (usage(30, reasoning=25), (25, 5, "server")),
        (Usage(completion_tokens=30, reasoning_tokens=25), (25, 5, "server")),  # SGLang: beside the details
        (Usage(completion_tokens=8, reasoning_tokens=0), (6, 2, "characters")),  # and 0 where it does not count them
        # xAI: beside it, and in the total: 10 + 8 + 20 = 38
        (usage(8, reasoning=20, prompt=10, total=38), (20, 8, "server")),
        (usage(8, reasoning=5, prompt=10, total=23), (5, 8, "server")),
        # the same without a total: 20 of 8 cannot be, and 8 of 8 would leave nothing for the answer
        (usage(8, reasoning=20), (20, 8, "server")),
        (usage(8, reasoning=8), (8, 8, "server")),
        # Gemini: 38 − 10 − 8 = 20 tokens that only the total tells
        (usage(8, prompt=10, total=38), (20, 8, "server")),
        (usage(8, reasoning=0, prompt=10, total=38), (20, 8, "server")),
        # only a sum: 12 and 4 characters share 8 tokens 6 to 2
        (usage(8, prompt=10, total=18), (6, 2, "characters")),
        (usage(8), (6, 2, "characters")),
        (usage(8, reasoning=0), (6, 2, "characters")),  # vLLM's deepseek_r1, where the template opens the thought
        (usage(8, prompt=10, total=8), (6, 2, "characters")),  # a total without the prompt
    ],
)
def test_what_a_server_tells_is_told_apart(told, expected):
    assert tuple(counted(SO, told, None)) == expected


def test_a_thought_that_is_hidden_but_counted_is_counted():
    assert tuple(counted(Turn("", "four", True), usage(2, prompt=10, total=512), None)) == (500, 2, "server")
    assert tuple(counted(Turn("", "four", True), usage(502, reasoning=500), None)) == (500, 2, "server")


def test_a_reply_that_was_cut_in_a_hidden_thought_is_all_thought():
    assert tuple(counted(Turn("", "", True), usage(0, reasoning=60, prompt=21, total=81), None)) == (60, 0, "server")
    assert tuple(counted(Turn("", "", True), usage(60, reasoning=60, prompt=21, total=81), None)) == (60, 0, "server")


class Words:
    """A tokenizer by words."""

    def encode(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return text.split()


def test_a_tokenizer_counts_what_is_shown():
    assert tuple(counted(SO, None, Words())) == (2, 1, "tokenizer")
    assert tuple(counted(SO, usage(0), Words())) == (2, 1, "tokenizer")
    assert tuple(counted(SO, usage(8, reasoning=5, prompt=10, total=99), Words())) == (2, 1, "tokenizer")


@pytest.mark.parametrize("tokenizer", [None, Words()], ids=["server", "tokenizer"])
@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (Turn("", "5 0", True), usage(156)),  # nobody says what the other tokens were
        (Turn("", "", True), usage(156)),
    ],
)
def test_a_thought_that_is_kept_back_is_not_counted_as_none(turn, told, tokenizer):
    with pytest.raises(ServerError, match="keeps the thought, or part of it, to itself"):
        counted(turn, told, tokenizer)


@pytest.mark.parametrize(
    "told",
    [
        usage(502, reasoning=500),  # OpenAI
        usage(2, reasoning=500, prompt=10, total=512),  # xAI
        usage(2, prompt=10, total=512),  # Gemini
    ],
)
def test_a_tokenizer_does_not_count_what_is_not_shown_or_only_summed_up(told):
    for turn in (Turn("", "four", True), Turn("In short, four.", "four", True)):
        with pytest.raises(ServerError, match="keeps the thought, or part of it, to itself"):
            counted(turn, told, Words())


@pytest.mark.parametrize(
    ("told", "part"),
    [
        (None, "does not tell how many tokens"),
        (Usage(), "does not tell how many tokens"),
        (usage(0, prompt=10, total=10), "does not tell how many tokens"),  # text, of 0 tokens
        (usage(0), "does not tell how many tokens"),
        (usage(8, reasoning=5, prompt=10, total=90), "do not add up"),  # 72 tokens that nothing explains
    ],
)
def test_figures_that_cannot_be_are_refused_for_want_of_a_tokenizer(told, part):
    with pytest.raises(ServerError, match=part) as error:
        counted(SO, told, None)
    assert "--tokenizer" in str(error.value)


def test_a_count_of_the_answer_alone_is_not_shared_out():
    """5 tokens for 1,205 bytes: the thought was not counted."""
    with pytest.raises(ServerError, match="5 tokens for 1,205 bytes"):
        counted(Turn("so on " * 200, "50 it", True), usage(5), None)
