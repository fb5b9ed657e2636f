r"""How formulas are written: many forms of one sign, words among symbols, names, numbers, digits in groups of three."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from suffice.grading.tree import FormulaError, Tree, integer

TRIGONOMETRIC = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
FUNCTIONS = TRIGONOMETRIC | {
    "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arsinh", "arcosh", "artanh", "ln", "log", "exp", "abs",
    "floor", "ceil",
}  # fmt: skip
OF_SEVERAL = frozenset({"gcd", "lcm", "min", "max"})
GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "ell",
})  # fmt: skip
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
    "-": "−",
    "union": r"\cup ∪",
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
NAMES = FUNCTIONS | OF_SEVERAL | GREEK | {"sqrt", "pi", "asin", "acos", "atan", "lg", "infinity", "inf", "oo"}
_SHORT_UNITS = frozenset({
    "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "in", "oz", "lb", "lbs", "hr", "hrs", "min", "sec", "mi", "yd",
    "mph", "kmh", "kph", "cc", "sq", "cu", "pt", "qt", "gal", "kW", "Hz", "am", "pm", "AM", "PM",
})  # fmt: skip
_ATOM = (
    r"(?:(?:\\(?:angle|triangle|overline|vec|overrightarrow) )?(?:\{ )?(?:[A-Za-z]|\\[A-Za-z]+)(?: [A-Z])*(?: \})?"
    r"|“[^”]*”)(?: _ (?:\{ [^{}]* \}|\S+))?(?: ')*(?: \^ \{ - 1 \})?(?: \( [^()]* \))?"
)
_NAME = re.compile(
    rf"{_ATOM}(?: [:/] {_ATOM})*|\| {_ATOM} \||\( {_ATOM}(?: , {_ATOM})* \)|\\frac \{{ {_ATOM} \}} \{{ {_ATOM} \}}"
)
_GROUPED = re.compile(
    r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)?|(?<![\d.])\d{1,3}(?: \d{3})+(?!\d|\s*/)(?:\.\d+)?", re.ASCII
)
_TOKEN = re.compile(
    r"""(?P<text>\\text\{[^{}]*\})
      | (?P<matrix>\\(?:begin|end)\{[A-Za-z]*(?:matrix|array)\})
      | (?P<degree>\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree(?![A-Za-z])|°)
      | (?P<command>\\[A-Za-z]+|\\.)
      | (?P<based>(?=[A-F]*\d)[0-9A-F]++(?:\.[0-9A-F]++)?_(?:\{\s*\d+\s*\}|\d+))
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


def is_name(written: str) -> bool:
    """Whether what stands beside an equals sign only names what stands on its other side: x, P(3), AB, (p, q)."""
    return _NAME.fullmatch(written) is not None


def number(word: str) -> Tree:
    r"""Of 12, 1,000.5, 4.5e33, 0.1\overline{6}, 1011_2 or 5AB_{16}."""
    if "\\" in word:
        return _repeating(word)
    if "_" in word:
        return _based(word)
    digits = word.replace(",", "").replace(" ", "").removesuffix(".")
    return integer(int(digits)) if digits.isdecimal() else Tree("decimal", value=Fraction(digits), text=digits)


def _repeating(word: str) -> Tree:
    fixed, _, repeated = re.sub(r"\\[a-z]+\s*\{?", "|", word.removesuffix("}")).partition("|")
    places = len(fixed.partition(".")[2])
    tail = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10**places)
    return Tree("number", value=Fraction(fixed.removesuffix(".") or "0") + tail)


def _based(word: str) -> Tree:
    digits, _, subscript = word.partition("_")
    base = int(subscript.strip("{ }"))
    whole, _, rest = digits.partition(".")
    if not 2 <= base <= 16 or any(int(digit, 16) >= base for digit in whole + rest):
        raise FormulaError
    value = Fraction(int(whole + rest, base), base ** len(rest))
    return Tree("based", value=value, text=str(base), names=(digits,))
