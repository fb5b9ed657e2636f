"""Ends that repeat themselves, counted by hand, and what looks like them."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.lab import ballots, sums, thoughts
from suffice.loops import COPIES, LEAST_CHARACTERS, LEAST_TOKENS, repeated_characters, repeated_share, repeated_tokens

SENTENCE = "Wait, let me check that once more. "  # 35 characters
HEAD = "Two and two, so 2 + 2 = 4;\n"


def test_the_copies_of_a_block_but_the_first_are_repetition():
    assert len(SENTENCE) == 35
    # six copies, the last blank cut: 6 · 35 − 1 characters from the first W on, one block of 35 is the first
    assert repeated_characters(HEAD + 6 * SENTENCE) == 6 * 35 - 1 - 35
    assert repeated_tokens([1, 2, 3, *[7, 8, 9, 7] * 12]) == 4 * 12 - 4


def test_the_last_copy_may_be_broken_off_and_the_first_begin_anywhere():
    assert repeated_characters(HEAD + 6 * SENTENCE + SENTENCE[:9]) == 6 * 35 + 9 - 35
    assert repeated_characters("more. " + 6 * SENTENCE) == 6 + 6 * 35 - 1 - 35  # "more. " ends a copy before
    assert repeated_tokens([9, 7, *[7, 8, 9, 7] * 12, 7, 8]) == 2 + 48 + 2 - 4


def test_the_block_is_the_shortest():
    assert repeated_tokens([5] * 60) == 59
    assert repeated_tokens([5, 6] * 30) == 58


@pytest.mark.parametrize(
    ("ids", "repeated"),
    [
        ([*range(12)] * COPIES, 3 * 12),  # 48 tokens in four copies: just enough of both
        ([*range(12)] * COPIES + [0], 37),
        ([*range(12)][1:] + [*range(12)] * (COPIES - 1), 0),  # one token short
        ([*range(1000)] * (COPIES - 1) + [*range(999)], 0),  # long, but never a fourth time
        ([1, 2] * (LEAST_TOKENS // 2 - 1), 0),  # often, but 46 tokens
        ([*[1, 2] * 24, 3], 0),  # it goes on
        ([], 0),
        ([1], 0),
    ],
)
def test_a_loop_is_four_copies_and_48_tokens(ids: list[int], repeated: int):
    assert repeated_tokens(ids) == repeated


def test_ids_of_any_vocabulary_are_told_apart():
    assert repeated_tokens([55_296, 262_143] * 24) == 46  # one is no character of Unicode
    assert repeated_tokens([i % 2 * 100_000 + i for i in range(96)]) == 0


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        "",
        " \n" * 500,  # blanks at the end do not count
        "1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 = 10",
        "0.3333333333333333333333333333333333333333 is a third",
        "0.3333333333333333333333333333333333333333",
        "".join(f"- option {letter}: false\n" for letter in "ABCDEFGHIJKL"),
        "".join(f"{i}. Let me check that once more.\n" for i in range(40)),  # counts on
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "Step by step. " * 3 + "So it is 4.",
        ("a = 7 ; b = 7 * 2 = 4 ; c = 4 - 2 = 2 ; so 4 2 . wait , " * 3)[:-9],  # a check made thrice
    ],
)
def test_lists_sums_and_refrains_are_no_loops(text: str):
    assert repeated_characters(text) == 0
    assert repeated_share(text) == 0.0


def test_no_lesson_of_the_lab_is_a_loop():
    """Their checks repeat word for word, up to three times; with three copies 21 and 24 of 4,000 were called loops."""
    for task in (
        thoughts.lessons(random.Random(2), thoughts.Habits()),
        sums.lessons(random.Random(2), sums.Habits()),
        ballots.lessons(ballots.BALLOTS, random.Random(2), ballots.Habits()),
    ):
        assert not any(repeated_characters(lesson.thought) for lesson in islice(task, 1500))


def test_a_loop_of_any_script_is_one():
    assert repeated_characters("所以答案是四" + "等等，让我再检查一遍。" * 20) == 11 * 20 - 11
    assert repeated_characters("🙂" * LEAST_CHARACTERS) == LEAST_CHARACTERS - 1


def test_a_share_is_of_the_text_without_its_last_blanks():
    text = "x" * 10 + "ab" * 95 + "\n\n"  # 200 characters, of which 190 loop by 2
    assert repeated_share(text) == 188 / 200


def by_definition(ids: list[int]) -> int:
    """The rule read literally: blocks from the shortest on, and how far back each holds."""
    for block in range(1, len(ids) // COPIES + 1):
        length = block
        while length < len(ids) and ids[-1 - length] == ids[-1 - length + block]:
            length += 1
        if length >= max(LEAST_TOKENS, COPIES * block):
            return length - block
    return 0


@given(
    st.lists(st.integers(0, 1), max_size=12),
    st.lists(st.integers(0, 1), min_size=1, max_size=30),
    st.integers(0, 60),
    st.integers(0, 29),
)
def test_what_is_found_is_what_the_rule_says(head: list[int], block: list[int], copies: int, more: int):
    ids = head + block * copies + block[:more]
    assert repeated_tokens(ids) == by_definition(ids)


def test_a_long_thought_that_nearly_loops_is_looked_through_in_a_moment():
    lines = "".join(f"{'again and ' * 12}{i}\n" for i in range(3000))  # the same tail in every line, and none the same
    assert repeated_characters(lines) == 0
    assert repeated_characters(lines + SENTENCE * 900) == 900 * 35 - 1 - 35
