r"""How formulas are written: many forms of one sign, words among symbols, digits in groups of three."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

TRIGONOMETRIC = frozenset("sin cos tan cot sec csc".split())
FUNCTIONS = TRIGONOMETRIC | frozenset(
    "arcsin arccos arctan sinh cosh tanh arsinh arcosh artanh ln log exp abs floor ceil".split()
)
OF_SEVERAL = frozenset("gcd lcm min max".split())
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell".split()
)
SEPARATORS = frozenset({",", ";", "and", "\\quad", "\\qquad"})
RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "in", "~"})

_SIGNS = {
    "*": r"\cdot \times \ast × · ⋅ ∗",
    "/": r"\div ÷",
    "^": "**",
    "<=": r"\le \leq \leqslant ≤",
    ">=": r"\ge \geq \geqslant ≥",
    "<": r"\lt",
    ">": r"\gt",
    "!=": r"\ne \neq ≠",
    "=": r"\equiv == ＝",
    "in": r"\in ∈",
    "~": r"\approx \simeq \doteq ≈",
    "+-": r"\pm +/- ±",
    "-+": r"\mp ∓",
    "-": "− –",
    "union": r"\cup ∪",
    "intersection": r"\cap ∩",
    "without": r"\setminus \backslash ∖",
    "|": r"\vert \lvert \rvert \mid",
    "\\{": r"\lbrace",
    "\\}": r"\rbrace",
    ":": r"\colon ：",
    ",": "， 、",
    "and": r"\land \lor \wedge \vee 或 和 与 及",
    "\\frac": r"\dfrac \tfrac \cfrac",
    "\\binom": r"\dbinom \tbinom",
    "\\emptyset": r"\varnothing ∅",
    "\\arcsin": r"\asin",
    "\\arccos": r"\acos",
    "\\arctan": r"\atan",
    "\\log": r"\lg",
    "\\infty": r"\infinity \inf \oo ∞",
    "\\sqrt": "√",
    "\\pi": "π",
    "i": r"\imath",
    "%": "\\%",
    "'": r"\prime ′",
}
_MEANT = {written: sign for sign, forms in _SIGNS.items() for written in forms.split()}
_WORDS = {
    **dict.fromkeys(("and", "or", "und", "oder", "et", "ou", "和", "或", "与", "и", "или", ","), "and"),
    **dict.fromkeys(("percent", "percentage", "pct"), "%"),
}
NAMES = FUNCTIONS | OF_SEVERAL | GREEK | frozenset("sqrt pi asin acos atan lg infinity inf oo".split())
_SHORT_UNITS = frozenset(
    "cm mm km kg mg ml mL ft in oz lb lbs hr hrs min sec mi yd mph kmh kph cc sq cu pt qt gal kW Hz am pm AM PM".split()
)
_GROUPED = re.compile(
    r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)?|(?<![\d.])\d{1,3}(?: \d{3})+(?!\d|\s*/)(?:\.\d+)?", re.ASCII
)
_TOKEN = re.compile(
    r"""(?P<text>\\text\{[^{}]*\})
      | (?P<matrix>\\(?:begin|end)\{[A-Za-z]*(?:matrix|array)\})
      | (?P<degree>\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree(?![A-Za-z])|°)
      | (?P<command>\\[A-Za-z]+|\\.)
      | (?P<based>[0-9A-F]*[0-9][0-9A-F]*(?:\.[0-9A-F]+)?_(?:\{\s*\d+\s*\}|\d+))
      | (?P<repeating>\d*\.\d*\\(?:overline|bar|dot)\s*(?:\{\d+\}|\d))
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\w.]))?)
      | (?P<letters>[A-Za-z]+)
      | (?P<sign>\*\*|<=|>=|!=|==|\+/?-|\S)""",
    re.VERBOSE | re.ASCII,
)
_OPENING, _CLOSING = frozenset({"(", "[", "\\{"}), frozenset({")", "]", "\\}"})


class Token(NamedTuple):
    """One sign, number or word in its one form; `spaced` if a space stands before it."""

    text: str
    kind: str
    spaced: bool


def tokens(text: str) -> list[Token]:
    """The signs of a formula. Digits in groups of three are one number, but in brackets (1,234) is a point."""
    found: list[Token] = []
    at = depth = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        spaced = at > 0 and text[at - 1].isspace()
        match = (_GROUPED.match(text, at) if depth == 0 else None) or _TOKEN.match(text, at)
        assert match is not None  # any character is a sign
        at = match.end()
        kind, word = match.lastgroup or "number", match.group()
        if kind == "letters":
            found += _letters(word, spaced, bool(found) and found[-1].kind == "number")
        elif kind == "text":
            found.append(_word(word[6:-1].strip(), spaced))
        else:
            sign = _MEANT.get(word, word)
            depth += (sign in _OPENING) - (sign in _CLOSING)
            if kind in {"command", "sign"}:
                kind = "command" if sign.startswith("\\") else "sign"
            found.append(Token(sign, kind, spaced))
    return found


def _word(word: str, spaced: bool) -> Token:
    if word in NAMES:
        return _command(word, spaced)
    joined = _WORDS.get(word.casefold())
    return Token(joined, "sign", spaced) if joined else Token(word, "text", spaced)


def _command(name: str, spaced: bool) -> Token:
    return Token(_MEANT.get(f"\\{name}", f"\\{name}"), "command", spaced)


def _letters(run: str, spaced: bool, after_number: bool) -> list[Token]:
    """A run of letters: a name such as `sqrt`, a word such as `dollars`, or a product of symbols."""
    for name, rest in ((run, ""), (run[:-1], run[-1:])):
        if name in NAMES:
            return [_command(name, spaced), *(Token(letter, "letter", False) for letter in rest)]
    if run in _WORDS or run in _SHORT_UNITS or len(run) > 3 or (len(run) == 3 and spaced and after_number):
        return [_word(run, spaced)]
    return [Token(letter, "letter", spaced and i == 0) for i, letter in enumerate(run)]
