"""Contamination: which training problems share a passage with test problems.

The usual test, a shared n-gram of 13 words (Brown et al., arXiv 2005.14165, appendix C), on text normalised to words.
It says where to look: the closing formula of a contest ("where m and n are relatively prime positive integers …") is
longer than 13 words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from suffice.groups import Problem
from suffice.tasks.prompts import question

_WORD = re.compile(r"[^\W_]+")
_WORD_OR_OPERATOR = re.compile(r"[^\W_]+|[-+*/^=<>%]")  # in a short text 2 + 2 must not be 2 - 2


def overlap(train: Sequence[Problem], test: Sequence[Problem], n: int = 13) -> list[tuple[str, str]]:
    """Pairs of ids of a training and a test problem that share n consecutive words, in order, each pair once.

    Words are runs of letters and digits after NFKC and case folding; the sentences of `PROMPTS` do not count. Two texts
    shorter than n words are compared whole, arithmetic operators included; a shorter and a longer one never share.
    Time is linear in the words of both, and in the pairs found.
    """
    index: dict[str, list[int]] = defaultdict(list)
    for i, problem in enumerate(test):
        for passage in _passages(problem, n):
            index[passage].append(i)
    pairs: dict[tuple[str, str], None] = {}
    for problem in train:
        shared = {i for passage in _passages(problem, n) for i in index.get(passage, ())}
        pairs |= {(problem.id, test[i].id): None for i in sorted(shared)}
    return list(pairs)


def _passages(problem: Problem, n: int) -> Iterator[str]:
    """The distinct n-grams of a text of at least n words; else the whole text, marked as such."""
    text = unicodedata.normalize("NFKC", question(problem.prompt)).casefold()
    words = _WORD.findall(text)
    if len(words) < n:
        yield f"={' '.join(_WORD_OR_OPERATOR.findall(text))}"
    else:
        yield from {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}
