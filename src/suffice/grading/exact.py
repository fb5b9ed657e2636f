r"""The normal form of an expression, and equality that is seen at once."""

from __future__ import annotations

import re

from suffice.grading.algebra import equal_at_once

_LONGEST = 400  # characters of gold and answer together that are not left to a worker

_TEXT = re.compile(
    r"\\(?:text|mbox|hbox|textbf|textrm|textit|textsf|textnormal|mathrm|operatorname\*?|rm)\s*\{\s*([^{}]*?)\s*\}"
)
_STYLE = re.compile(
    r"\\(?:mathbf|mathit|mathsf|mathcal|boldsymbol|bm|bf|displaystyle|textstyle|limits|left|right|[bB]ig+[lrm]?)(?![A-Za-z])"
)
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R(?:eals)?(?![A-Za-z])|ℝ")
_ESCAPED = re.compile(r"\\\\(?=[A-Za-z(){}\[\],;!])")
_ROW_SPACING = re.compile(r"(?<=\\\\)\s*\[[^\[\]]*(?:pt|em|ex|mm|cm)\]")
_GROUP_MARK = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,|\\ )\s*(?=\d{3}(?!\d))", re.ASCII)
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)", re.ASCII)
_NOISE = re.compile(r"(?<!\\)\\[!:;,>()\[\]\s]|(?<!\\)\\$|\\?[$€£¥]|~|\\(?:hspace|phantom|label)\s*\{[^{}]*\}")
_ORDINAL = re.compile(r"(?<=\d)\s*\^?\s*\{?\s*(?:\\text\{)?(?:st|nd|rd|th)\}?\s*\}?(?![A-Za-z])", re.ASCII)
_SHORT_UNIT = re.compile(r"(?<=[\d)}])\s*\\text\{(?![ei]\})[A-Za-z]\}(?:\s*\^\s*\{?[23]\}?)?$", re.ASCII)
_NO_WORDS = re.compile(r"\\text\{(\(?[A-Za-z]\)?|[^A-Za-z{}]*\d[^A-Za-z{}]*|)\}", re.ASCII)
_DIGITS = re.compile(r"\s*\\text\{([0-9A-F]+)\}(?=\s*_)", re.ASCII)
_WORDS = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z]+(?: [A-Za-z]+)*")
_NO_SPACE = re.compile(r"(?<![0-9A-Za-z])(?<!\d,)\s+|\s+(?![0-9A-Za-z])|(?<=\d,)\s+(?!\d{3}(?!\d))", re.ASCII)
_CHARACTERS = str.maketrans({
    "\0": " ", "（": "(", "）": ")", "，": ", ", "；": "; ", "。": ".", "％": "%", "º": "°", "“": '"', "”": '"',
    "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
})  # fmt: skip


def normalise(expression: str) -> str:
    r"""The expression without what does not change its value, as `formula.read` takes it.

    Dollars, spacing, `\left`, styles, marks of thousands, ordinal endings, a unit of one letter and punctuation around
    all of it go; words that are set as text stand in `\text{…}`.
    """
    text = " ".join(expression.translate(_CHARACTERS).split())
    if "\\begin" not in text:  # elsewhere rows have no end: the backslashes were escaped
        text = _ESCAPED.sub(r"\\", text)
    text = re.sub(r"(\\q?quad)(?=[A-Za-z])", r"\1 ", text)
    text = _DECIMAL_COMMA.sub(".", _GROUP_MARK.sub("", _ROW_SPACING.sub("", text)))
    text = _NOISE.sub(" ", _STYLE.sub(" ", _REALS.sub(r"\\reals ", text)))
    while (plain := _NO_WORDS.sub(r" \1 ", _SHORT_UNIT.sub("", _TEXT.sub(r"\\text{\1}", text).strip()))) != text:
        text = plain
    text = " ".join(_DIGITS.sub(r"\1", _ORDINAL.sub("", text)).split())
    while (plain := text.lstrip(' "*_`:').rstrip(' "*_`:;,.').removesuffix("\\")) != text:
        text = plain
    return re.sub(r"^\(\s*([A-Za-z])\s*\)$", r"\1", text)


def plain(text: str) -> str:
    r"""A normal form as it is compared letter by letter: `\text{odd } n` is "odd n", but 1, 000 is not 1,000."""
    bare = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    return _NO_SPACE.sub("", " ".join(bare.split()))


def same(gold: str, answer: str) -> bool | None:
    """Whether two normalised expressions are equal; None if that may take long."""
    words, given = plain(gold), plain(answer)
    if words == given:
        return True
    if _WORDS.fullmatch(words):
        return words.casefold() == given.casefold()
    return None if len(gold) + len(answer) > _LONGEST else equal_at_once(gold, answer)
