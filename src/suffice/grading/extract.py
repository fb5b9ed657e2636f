r"""Where the answer stands in a text. Nothing is computed here, and every search is bounded.

A math answer is looked for in this order: the last `\boxed{…}`; GSM8K's `#### 18`; all of a text that is nothing but
one expression; the first number or LaTeX formula, or list of them, after the last "the answer is", "Answer:" or the
like; the last number or formula of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_EXPRESSION = 4096
"""Characters an extracted answer may have; a longer box is no box."""

_TAIL = 4096  # without a box the answer is looked for in so many last characters
_BOXES = 8  # how many of the last boxes may turn out empty or unbalanced

_CLOSE = "</think>"
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_ANCHOR = re.compile(r"\banswer\b[^.:=\n]{0,60}?(?::|=|\bis\b)[\s:*_]*", re.IGNORECASE)
# A dollar opens a formula if no space follows it and closes one if no space precedes it and no digit follows it, so
# that "$18 and $20" holds two amounts of money and no formula.
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]*?(?:\\\$[^$\n]*?)*[^\s$\\])\$(?!\d)",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\\?\$|[€£¥])?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+\s\d+/\d+|\d+(?:\.\d+)?(?:/\d+)?|\.\d+)(?:\s?\\?%)?",
    re.ASCII,
)
_EXPRESSION = re.compile(f"{_FORMULA.pattern}|{_NUMBER.pattern}", re.DOTALL | re.ASCII)
_LINK = re.compile(r"\s*,?\s*(?:or|and)\s+|\s*,\s*")
_DELIMITER = re.compile(r"(?<!\\)\$|\\\(|(?<!\\)\\\[|\\boxed|\\fbox")
_NAMED = re.compile(r"\\(?:text|mbox|mathrm|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")

_LETTER = re.compile(r"\(?\s*([A-Ja-j])\s*\)?(?:\s*[.:)].*)?", re.DOTALL)
_CHOICE_ANCHOR = re.compile(
    r"\b(?i:answer|choice|option)\b[^.:=\n]{0,60}?(?::|=|\bis\b|(?=\s*\(?[A-J]\b))[\s:*_$(]*(?:\\text\{\s*)?\(?"
    r"(?:(?i:option|choice)\s+)?([A-J])(?![\w'’])(?!(?<=I)\s+[a-z])"
)
_CHOICE_MARK = re.compile(
    r"\*\*\s*\(?([A-J])\)?[.:]?\s*\*\*|\(([A-J])\)|\b([A-J]) is (?:the )?(?:correct|right|best)\b"
)


def answer_part(response: str) -> str | None:
    """The text after the last `</think>`, or None if the thought never closed."""
    _, close, answer = response.rpartition(_CLOSE)
    return answer if close else None


def _last_boxes(text: str) -> Iterator[str]:
    """The contents of the last boxes, last first, each cut at the brace that balances its own."""
    end = len(text)
    for _ in range(_BOXES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return
        end = start
        if opened := _BOX.match(text, start):
            yield _balanced(text[opened.end() : opened.end() + MAX_EXPRESSION + 1])


def _balanced(text: str) -> str:
    """`text` up to the brace that closes more than was opened; empty if there is none."""
    depth, at = 1, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[:at].strip()
        at += 1
    return ""


def last_box(text: str) -> str | None:
    r"""What the last `\boxed{…}` or `\fbox{…}` of `text` holds, or None; empty and unbalanced ones are passed over."""
    return next((box for box in _last_boxes(text) if box), None)


def _expression(match: re.Match[str]) -> str:
    return next((group for group in match.groups() if group), match.group()).strip()


def _listed(line: str, first: re.Match[str]) -> str:
    """The expression `first` and those listed after it: "5 or 6" is two answers, not the first of them."""
    found, end = [_expression(first)], first.end()
    while (link := _LINK.match(line, end)) and (following := _EXPRESSION.match(line, link.end())):
        found.append(_expression(following))
        end = following.end()
    return ", ".join(found)


def _bare(text: str) -> str | None:
    r"""All of `text` if it is one expression, such as `p - q` or `\frac{1}{2}`, written without dollars."""
    bare = text.strip("*_ \n").removesuffix(".").rstrip("*_ ")
    plain = bare and "\n" not in bare and not _DELIMITER.search(bare) and not _WORD.search(_NAMED.sub("", bare))
    return bare if plain else None


def _anchored(text: str) -> str | None:
    """What follows the last "the answer is" or the like on its line: one expression, the first of several, a word."""
    anchor = _last(_ANCHOR, text)
    if anchor is None:
        return None
    line = text[anchor.end() :].partition("\n")[0].strip()
    if bare := _bare(line):
        return bare
    if first := _EXPRESSION.search(line):
        return _listed(line, first)
    word = re.fullmatch(r"([A-Za-z]+)\W*", line)
    return word.group(1) if word else None


def math_expression(answer: str) -> str | None:
    """The final expression of a model's answer, as it stands there, or None if there is neither number nor formula."""
    if box := last_box(answer):
        return box
    tail = answer[-_TAIL:]
    if hashes := _last(_HASHES, tail):
        return hashes.group(1).strip()
    if stated := _bare(tail) or _anchored(tail):
        return stated
    last = _last(_EXPRESSION, tail)
    return _expression(last) if last else None


def gold_expression(gold: str) -> str:
    """The expression of a gold answer: its box or what follows `####` if it has one, else all of it."""
    if box := last_box(gold):
        return box
    hashes = _last(_HASHES, gold)
    return (hashes.group(1) if hashes else gold).strip()


def choice_letter(answer: str) -> str | None:
    """The letter A–J that a model's answer chooses, None if it names none.

    A box decides alone: one that holds something else gives that, which equals no letter.
    """
    if box := last_box(answer):
        inner = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}", r"\1", box).strip("$ ")
        letter = _LETTER.fullmatch(inner)
        return letter.group(1).upper() if letter else inner
    tail = answer[-_TAIL:]
    if alone := _LETTER.fullmatch(tail.strip("*_$ \n\t")):
        return alone.group(1).upper()
    match = _last(_CHOICE_ANCHOR, tail) or _last(_CHOICE_MARK, tail)
    return next(group for group in match.groups() if group).upper() if match else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for last in pattern.finditer(text):  # noqa: B007
        pass
    return last
