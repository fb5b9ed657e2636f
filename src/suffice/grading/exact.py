"""Equality that needs no computer algebra: strings, words and plain numbers.

Numbers are compared as fractions of integers, never as floats, and are read without exponents, so that a short text
can not stand for a huge number.
"""

from __future__ import annotations

import re
from fractions import Fraction

_WRAPPED = re.compile(r"\$\$(.*)\$\$|\$(.*)\$|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|mbox|textbf|textrm|textit|mathrm|mathbf|rm)\s*\{([^{}]*)\}")
_NOISE = re.compile(
    r"\\(?:left|right|displaystyle|limits)(?![A-Za-z])|(?<!\\)\\(?:[!,;:]|(?=\s))|\^\s*\{?\s*\\circ\s*\}?|°|\\?[$€£]|~"
)
_SPACE = re.compile(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])")
_NUMBER = re.compile(
    r"""(?P<sign>[+-]?)(?:
        (?P<decimal>\d+(?:\.\d*)?|\.\d+)
      | (?:(?P<whole>\d+)(?:\s|(?=\\)))?(?:(?P<n>\d+)/(?P<d>\d+)|\\frac\{(?P<fn>\d+)\}\{(?P<fd>\d+)\})
    )(?P<percent>\s?\\?%|\s?percent)?""",
    re.VERBOSE | re.ASCII,
)
_COMMAS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_UNIT = re.compile(
    r"([-+]?(?:\d+(?:\.\d*)?|\.\d+|\\frac\{\d+\}\{\d+\}|\d+/\d+))\s*"
    r"(?!(?:percent|million|billion|trillion|thousand|hundred|dozen|pi|sqrt|mod|and|or|to)\b)"
    r"(?:[A-Za-z]{2,}|[A-Za-z]/[A-Za-z])(?:[ /][A-Za-z]+)*\.?(?:\^\{?[23]\}?)?",
    re.ASCII,
)
_SHORT_UNIT = re.compile(
    r"(?<=[\d}])[\s~]*(?:\\[,; ])?\\(?:text|mbox|mathrm)\s*\{\s*(?![ei])[A-Za-z]\s*\}(?:\^\{?[23]\}?)?$"
)
_BASED = re.compile(r"-?\w+_\d+", re.ASCII)
_TOLERANCE = Fraction(1, 10**6)  # of a decimal that stands for a fraction, such as 0.333333


def normalise(expression: str) -> str:
    r"""The expression without what does not change its value.

    Dollars, spacing, `\left`, `\text{…}`, thousands separators, degree signs, a final full stop and the units of a
    number go; `\dfrac` and `\frac12` become `\frac{…}{…}`. Units are not compared.
    """
    text = " ".join(expression.replace("\0", " ").split()).removesuffix(".").strip("* ")
    if wrapped := _WRAPPED.fullmatch(text):
        inner = next(group for group in wrapped.groups() if group is not None)
        text = inner if "$" not in inner.replace("\\$", "") else text
    text = text.replace("−", "-").replace("{,}", ",").replace("\\%", "%")
    text = _SHORT_UNIT.sub("", text)
    text = _TEXT.sub(r" \1 ", re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text))
    text = re.sub(r"(?<=,)\s*\\!\s*|\\!", "", text)
    text = _SPACE.sub("", _NOISE.sub(" ", text)).strip().removesuffix(".")
    text = re.sub(r"\\frac\s*(\d|\\[A-Za-z]+)", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}", text)
    text = re.sub(r"_\{(\w+)\}", r"_\1", text)
    text = re.sub(r"^[A-Za-z]\\in\s*(?=[\[(\\])", "", text)
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    if _COMMAS.search(text) and not re.search(r"[(\[{]", text):
        text = _COMMAS.sub(lambda match: match.group().replace(",", ""), text)
    unit = _UNIT.fullmatch(text)
    return unit.group(1) if unit else text


def same(gold: str, answer: str) -> bool | None:
    """Whether two normalised expressions are equal; None if that takes computer algebra.

    A percent sign on one side only may stand for a unit or for hundredths: 50 % equals 50 and 0.5.
    """
    if gold == answer:
        return True
    if re.fullmatch(r"[A-Za-z]{3,}", gold) and re.fullmatch(r"[A-Za-z ]{3,}", answer):
        return gold.casefold() == answer.casefold()
    if _BASED.fullmatch(gold) and _BASED.fullmatch(answer):
        return False  # 204_5 and 204_6: math-verify would drop the base
    left, right = _NUMBER.fullmatch(gold), _NUMBER.fullmatch(answer)
    if left is None or right is None:
        return None
    a, b = _value(left), _value(right)
    if a is None or b is None:
        return False
    rounded = (left["decimal"] is None) != (right["decimal"] is None)
    tolerance = _TOLERANCE if rounded else Fraction(0)
    pairs = [(a, b)]
    if left["percent"] and not right["percent"]:
        pairs.append((a / 100, b))
    if right["percent"] and not left["percent"]:
        pairs.append((a, b / 100))
    return any(abs(x - y) <= tolerance for x, y in pairs)


def _value(number: re.Match[str]) -> Fraction | None:
    """The number's value; None for a division by zero."""
    sign = -1 if number["sign"] == "-" else 1
    if number["decimal"] is not None:
        whole, _, decimals = number["decimal"].partition(".")
        return sign * Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
    denominator = int(number["d"] or number["fd"])
    if denominator == 0:
        return None
    return sign * (int(number["whole"] or 0) + Fraction(int(number["n"] or number["fn"]), denominator))
