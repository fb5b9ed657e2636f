r"""Where the answer stands in a text. Nothing is computed here, and every search is bounded.

A math answer is looked for in this order: a "final answer" after the last box; the last `\boxed{…}`, with those it is
joined to; GSM8K's `#### 18` or `A: 18`; all of a text that is nothing but one expression; the value that the last "the
answer is", "Answer:" or the like announces; the last number or formula of the text, with those it is listed with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from suffice.grading.phrases import AND, FINAL, VERB, announcements

MAX_EXPRESSION = 4096
"""Characters an extracted answer may have; a longer box is no box."""

TAIL = 4096
"""Without a box the answer is looked for in so many last characters."""

_BOXES = 32  # how many of the last boxes are looked at
_ANNOUNCEMENTS = 8  # and how many of the last announcements

_CLOSE = "</think>"
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SPACING = r"(?:[\s$~*()]|\\[()\[\],;:! ])*"
_JOINED = re.compile(
    rf"{_SPACING}(?:(?:[,;]|\\q?quad(?![A-Za-z])|\\(?:text|mbox|mathrm)\{{[\s,]*(?:and|or)\s*\}}|{AND}){_SPACING})+"
    rf"(?:[A-Za-z](?:_\w+)?\s*=\s*)?{_SPACING}",
    re.IGNORECASE,
)
_HASHES = re.compile(r"(?:####[ \t]*|^A:[ \t]+)(\S[^\n]*)", re.MULTILINE)
# A dollar opens a formula if no space follows it and closes one if no space precedes it and no digit follows it, so
# that "$18 and $20" holds two amounts of money and no formula. A formula with spaces inside its dollars has no words.
_FORMULA = (
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)"
    r"|(?<![\\$\w])\$(?![\s$])([^$\n]*?(?:\\\$[^$\n]*?)*[^\s$\\])\$(?!\d)"
    r"|(?<![\\$\w])\$((?:[^$\n\\A-Za-z]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])|\\[^A-Za-z]"
    r"|\\[A-Za-z]++(?:\s*\{[A-Za-z ,.|*-]*\})*+)++)\$(?!\d)"
)
_NUMBER = (
    r"(?<![A-Za-z0-9_.])[-+−]?(?:\\?\$|[€£¥])?"
    r"(?:\d*\\[dtc]?frac\{[^{}]*\}\{[^{}]*\}|\d*\\sqrt\{[^{}]*\}"
    r"|\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+\s\d+/\d+|\d+(?::\d+)+"
    r"|\d+(?:\.\d+)?(?:[eE][-+]?\d+(?!\w))?(?:/\d+)?|\.\d+)(?:\s?\\?%)?"
)
_EXPRESSION = re.compile(f"{_FORMULA}|{_NUMBER}", re.DOTALL | re.ASCII)
_LINK = re.compile(
    rf"[ \t]*(?:,[ \t]*(?:(?:{AND})[ \t]*)?|\(?(?:{AND})[ \t]*)(?:(?:maybe|possibly|perhaps)[ \t]+)?", re.IGNORECASE
)
_FILLER = r"[\s*_\"“(≈~]*(?:(?:approximately|about|exactly|only|just|simply|equal to|given by|therefore|thus)\s+)*"
_BEGINS = re.compile(_FILLER, re.IGNORECASE)
_SAID = re.compile(rf"(?:{VERB}){_FILLER}\Z", re.IGNORECASE)
_FOLLOWS = re.compile(rf"\s*(?:{VERB}){_FILLER}", re.IGNORECASE)
_DENIED = re.compile(r"\bnot\s+\Z", re.IGNORECASE)
_SENTENCE = re.compile(
    r"(?<!\\)[.!?](?=\s|$)|[。！？]|,?\s(?:since|because|where|when|but|not|rather than|instead of)\s", re.IGNORECASE
)
_DELIMITER = re.compile(r"(?<!\\)\$|\\\(|(?<!\\)\\\[|\\boxed|\\fbox")
_KNOWN = re.compile(
    r"\\(?:text|mbox|mathrm|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+"
    r"|(?<![A-Za-z])(?:sqrt|pi|sin|cos|tan|arcsin|arccos|arctan|ln|log|exp|infinity|inf|and|or)(?![A-Za-z])"
)
# Two letters are a word, and so is one of a script that needs no more: Chinese, Thai, …
_WORD = re.compile(r"[^\W\d_]{2,}|[\u0e00-\u0eff\u2e80-\ud7ff\uf900-\ufdff]")
_NO_ANSWER = frozenset({"correct", "right", "wrong", "incorrect", "below", "above", "as", "this", "that", "it", "so"})


class _Found(NamedTuple):
    """An expression, or several in a list, and where in the text it begins and ends."""

    value: str
    start: int
    end: int


def answer_part(response: str) -> str | None:
    """The text after the last `</think>`, or None if the thought never closed."""
    _, close, answer = response.rpartition(_CLOSE)
    return answer if close else None


def boxes(text: str) -> tuple[list[str], int]:
    r"""What the last `\boxed{…}` or `\fbox{…}` holds and where it ends, after the contents of those joined to it.

    Boxes are joined by commas, "and", "or" or `\quad`. Empty and unbalanced ones are passed over.
    """
    found = list[str]()
    start = end = len(text)
    for _ in range(_BOXES):
        at = max(text.rfind("\\boxed", 0, start), text.rfind("\\fbox", 0, start))
        if at < 0:
            break
        opened = _BOX.match(text, at)
        inside = _balanced(text[opened.end() : opened.end() + MAX_EXPRESSION + 1]) if opened else ""
        if opened and inside.strip():
            after = opened.end() + len(inside) + 1
            if not found:
                end = after
            elif after > start or not _JOINED.fullmatch(text, after, start):
                break
            found.insert(0, inside.strip())
        elif found:
            break
        start = at
    return list(dict.fromkeys(found)), end


def _balanced(text: str) -> str:
    """`text` up to the brace that closes more than was opened; empty if there is none."""
    depth, at = 1, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[:at]
        at += 1
    return ""


def math_expression(answer: str) -> str | None:
    """The final expression of a model's answer, as it stands there, or None if there is neither number nor formula."""
    boxed, end = boxes(answer)
    if boxed:
        after = answer[end:][-TAIL:]
        final = next(filter(None, map(_value, announced(after))), None) if FINAL.search(after) else None
        return final or ", ".join(boxed)
    tail = answer[-TAIL:]
    if hashes := _last(_HASHES, tail):
        return hashes.group(1).strip()
    if bare := _bare(tail):
        return bare
    lines = list(announced(tail))
    return next(filter(None, map(_value, lines)), None) or next(filter(None, map(_word, lines)), None) or _final(tail)


def gold_expression(gold: str) -> str:
    """The expression of a gold answer: its boxes or what follows `####` if it has them, else all of it."""
    boxed, _ = boxes(gold)
    if boxed:
        return ", ".join(boxed)
    hashes = _last(_HASHES, gold)
    return (hashes.group(1) if hashes else gold).strip()


def statements(answer: str) -> Iterator[str]:
    """What may be the gold answer word by word: all of a text without boxes, and what it announces last."""
    if not boxes(answer)[0]:
        yield answer[-TAIL:]
        yield from islice(announced(answer[-TAIL:]), 1)


def announced(text: str) -> Iterator[str]:
    """What follows "the answer is" or the like, to the end of its line, last first."""
    for at in sorted(announcements(text), reverse=True)[:_ANNOUNCEMENTS]:
        yield text[at:].partition("\n")[0].partition("</")[0].strip()


def _value(line: str) -> str | None:
    """The value of an announcement: what it begins with, or else what follows the last "is" of its first sentence."""
    if bare := _bare(line.strip("\"'“”‘’`*_ ").rstrip("!?\"'”’`*_ ")):
        return bare
    everything = list(_values(line))
    ends = (end.start() for end in _SENTENCE.finditer(line))
    first_end = next((at for at in ends if not any(each.start <= at < each.end for each in everything)), len(line))
    found = [each for each in everything if each.start < first_end] or everything
    if not found:
        return None
    first, *others = found
    if _BEGINS.fullmatch(line, 0, first.start):
        follows = others and _FOLLOWS.fullmatch(line, first.end, others[0].start)
        return others[0].value if follows else first.value
    said = [each for each in found if _SAID.search(line, 0, each.start)]
    return (said[-1] if said else first).value


def _word(line: str) -> str | None:
    """The word that is all of an announcement."""
    word = re.fullmatch(r"([^\W\d_]+)\W*", line)
    return word.group(1) if word and word.group(1).casefold() not in _NO_ANSWER else None


def _final(text: str) -> str | None:
    """The last expression of a text; a letter alone, such as $n$, only if there is no other."""
    found = [each.value for each in _values(text)]
    more = [value for value in found if not re.fullmatch("[A-Za-z]", value)]
    return next(reversed(more or found), None)


def _values(text: str) -> Iterator[_Found]:
    """The expressions of a text; "5 or 6" is one, a list of two."""
    at = 0
    while first := _EXPRESSION.search(text, at):
        values, at = [_expression(first)], first.end()
        while (link := _LINK.match(text, at)) and (following := _EXPRESSION.match(text, link.end())):
            values.append(_expression(following))
            at = following.end()
        if not _DENIED.search(text, max(0, first.start() - 8), first.start()):
            yield _Found(", ".join(values), first.start(), at)


def _expression(match: re.Match[str]) -> str:
    return next((group for group in match.groups() if group), match.group()).strip()


def _bare(text: str) -> str | None:
    r"""All of `text` if it is one expression, such as `p - q` or `\frac{1}{2}`, written without dollars."""
    bare = text.strip("*_ \n").rstrip(".。:;, *_")
    said = re.search(r"[\w\\∞√]", bare)
    prose = "\n" in bare or _DELIMITER.search(bare) or _WORD.search(_KNOWN.sub("", bare))
    return bare if said and not prose else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for last in pattern.finditer(text):  # noqa: B007
        pass
    return last
