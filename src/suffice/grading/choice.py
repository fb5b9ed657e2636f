"""Which letter a text chooses. One that offers several, such as "A or B", chooses none of them.

The last statement counts: a box with a letter, "the answer is C", "I would pick C". Without one, "C is correct";
without that, a text or a last line that is the letter or begins with it as a label; at last, a letter in bold or
brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from suffice.grading.extract import TAIL, boxes
from suffice.grading.phrases import AND, VERB, announcements

LETTERS = "ABCDEFGHIJ"

# A small letter counts where it can be no word, and I where it can be no pronoun.
_LETTER = r"((?-i:[A-J])(?![A-Za-z0-9_'’^₀-₉²³])(?!(?<=I)\s+[a-z])|(?-i:[a-j])(?=\s*(?:[.)\]},:;*$）。]|\Z|\n)))"
_OPEN = r"[\s*_$\"“'‘`(\[{（【「《]*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{[\s(\[]*)*"
_SHUT = r"[ \t*_$\"”'’`)\]}）】」》]*"
_LEAD = (
    r"(?:either|both|probably|(?:most )?likely|definitely|certainly|clearly|indeed|just|simply|option|choice|letter"
    r"|answer|the|la|el|l['’]|die|der|das|opción|opção|opzione|вариант)(?![A-Za-z])|选项|選項"
)
_FIRST = re.compile(rf"{_OPEN}(?:(?:{_LEAD}){_OPEN})*{_LETTER}{_SHUT}", re.IGNORECASE)
_NEXT = re.compile(  # "C, A is false" offers one letter
    rf"(?:[,;]?\s*(?:[(]?(?:{AND}|(?:[yoe]|vs\.?|versus|to|through)(?=\s))|[/|+–-])|[,;]|(?<=[\s*)]))"
    rf"\s*(?:maybe|possibly|perhaps|even|also)?"
    rf"{_OPEN}{_LETTER}(?!{_SHUT}\s*(?:(?:is|was|has|does|would|gives|means)\b|=)){_SHUT}",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?<![^\W_])(?:choice|option|selection|opción|opção|opzione|alternativa|вариант)(?![^\W_])[^.:=\n]{0,60}?"
    r"(?:[:=]|(?<![^\W_])(?:is|est|es|é|è|это)(?![^\W_]))\s*|####\s*"
    r"|\b(?:pick|choose|chose|select|go with|going with|opt for|vote for)\b"
    r"|(?<!不)[选選][择擇]?(?:答案|项|項)?[是为為：:]?",
    re.IGNORECASE,
)
_VERB = re.compile(VERB, re.IGNORECASE)
_NOT = re.compile(r"\b(?:not|isn['’]t|neither|nor|except|incorrect|wrong|false|nicht|pas)\b|不", re.IGNORECASE)
_CORRECT = re.compile(
    rf"{_LETTER}{_SHUT}\s*"
    r"(?:is (?:the )?(?:correct|right|best|true)|ist richtig|est correct|es correcta|が正解|[是为]?正确)"
    rf"|(?<!not )(?<!n't )(?:\b(?:is|be)|['’]s)\s{_OPEN}(?-i:([A-J])){_SHUT}[.!]?\s*\Z",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:\A|(?<=\s))[*_]*\(?([A-Ja-j](?=[.):]\s)|[A-J](?=\s[-–—]\s))[.):]?")
_MARK = re.compile(r"\*\*\s*\(?([A-J])\)?[.:]?\s*\*\*|\(([A-J])\)|\b(?i:option|choice|answer)\s+([A-J])(?![\w'’])")
_STATEMENTS = 16  # so many of the last ones are looked at
_ENUMERATED = 3  # so many different letters in bold or brackets are a list of the options


def choice_letter(answer: str) -> str | None:
    """The letter A-J that a model's answer chooses, None if it names none.

    Something else, which equals no letter, where it names several, or where all it has is a box without a letter.
    """
    tail = answer[-TAIL:]
    stated = max(_stated(answer, tail), default=(0, ""))[1]
    boxed, _ = boxes(answer)
    return stated or _called_correct(tail) or _labelled(tail) or _marked(tail) or (", ".join(boxed) or None)


def _stated(answer: str, tail: str) -> Iterator[tuple[int, str]]:
    """Where in `answer` a letter is stated, and which."""
    before = len(answer) - len(tail)
    boxed, end = boxes(answer)
    letters = "".join(dict.fromkeys("".join(map(_boxed, boxed))))
    if letters:
        yield end, letters
    places = [*announcements(tail), *(found.end() for found in _STATED.finditer(tail))]
    for at in sorted(places, reverse=True)[:_STATEMENTS]:
        line, _, rest = tail[at:].partition("\n")
        listed = _LABEL.match(line) and _LABEL.match(rest.lstrip())  # "the answers:", and a list of them
        if not listed and (letters := _announced(line)):
            yield before + at, letters
            return


def _boxed(inside: str) -> str:
    """The letters that are all of a box, or its label: C, (C), C. Paris."""
    plain = re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf)\s*\{([^{}]*)\}", r" \1 ", inside)
    letters, end = _letters(plain)
    labelled = re.match(r"\s*(?:[.:)]|\\[\s,;]|\Z)", plain[end:])
    return letters if labelled else _announced(plain.partition(":")[2])


def _announced(line: str) -> str:
    """The letters that a line begins with, or that follow the last "is" of its first sentence."""
    if letters := _letters(line)[0]:
        return letters
    sentence = re.split(r"[.!?](?:\s|$)|。", line)[0]
    if _NOT.search(sentence):
        return ""
    found = [_letters(sentence, verb.end())[0] for verb in _VERB.finditer(sentence)]
    return next(filter(None, reversed(found)), "")


def _letters(text: str, at: int = 0) -> tuple[str, int]:
    """The different letters that are named at a place of `text`, and where they end."""
    found = ""
    match = _FIRST.match(text, at)
    while match and (found + match.group(1)).isupper() == match.group(1).isupper():
        found += match.group(1)
        at = match.end()
        match = _NEXT.match(text, at)
    return "".join(dict.fromkeys(found.upper())), at


def _called_correct(tail: str) -> str:
    found = list(_CORRECT.finditer(tail))
    return (found[-1].group(1) or found[-1].group(2)).upper() if found else ""


def _labelled(tail: str) -> str:
    """The letter that all of a text, or its last line, is; or with which it begins, if no other part begins so."""
    text = tail.strip()
    for part in (text, text.rpartition("\n")[2]):
        letters, end = _letters(part)
        if letters and (end == len(part) or re.fullmatch(r"[.:)]*\s*", part[end:])):
            return letters
    labels = dict.fromkeys(label.group(1).upper() for label in _LABEL.finditer(text))
    begins = _FIRST.match(text)
    return begins.group(1).upper() if begins and _LABEL.match(text) and len(labels) == 1 else ""


def _marked(tail: str) -> str:
    found = [next(filter(None, mark.groups())).upper() for mark in _MARK.finditer(tail)]
    return found[-1] if found and len(set(found)) < _ENUMERATED else ""
