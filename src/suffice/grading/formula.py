r"""Reading formulas: LaTeX, or plain text such as `sqrt(3)/2`, whole or not at all.

listed    chain, chain; chain               several values, also joined by "and", "or", `\quad`
chain     ratio = ratio < ratio             a value with its name, an equation, an inequality
ratio     union : union
union     sum ∪ sum ∖ sum
sum       product + product - product ± product
product   power · power / power             the dot may be left out
power     operand ^ exponent, and operand with ! ° or %
operand   a number, symbol, function, fraction, root, matrix, or anything in brackets
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from suffice.grading.notation import (
    FUNCTIONS,
    GREEK,
    OF_SEVERAL,
    RELATIONS,
    SEPARATORS,
    TRIGONOMETRIC,
    Token,
    is_name,
    number,
    tokens,
)
from suffice.grading.tree import (
    FormulaError,
    Tree,
    in_radians,
    integer,
    minus,
    over,
    plus,
    raised,
    scalar,
    several,
    times,
)

_DEEPEST = 50  # brackets, fractions, roots and exponents inside each other

_CONSTANTS = {"\\pi": "pi", "\\infty": "infinity", "\\reals": "reals", "\\emptyset": "empty"}
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), "\\{": ("\\}",), "\\langle": ("\\rangle",)}
_ROUNDING = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
_MARKS = ("\\angle", "\\triangle", "\\overline", "\\bar", "\\vec", "\\hat", "\\overrightarrow")
_IN_UNITS = frozenset({"/", "*", "."})
_SPACES = frozenset({"\\quad", "\\qquad"})
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NO_UNIT = re.compile(  # words that say more of a value than its unit: "5 or more", "n is odd"
    r"\b(?:is|are|if|for|when|where|with|without|not|no|only|mod|more|less|fewer|at|least|most|odd|even|real|integers?|"
    r"prime|positive|negative|any|all|to|base|than|times|plus|minus|over|either|but|dozens?|pairs?)\b|[^\sA-Za-z./'-]",
    re.IGNORECASE,
)


def read(text: str) -> Tree:
    """The tree of a formula in normal form (`suffice.grading.exact.normalise`).

    Raises:
        FormulaError: it is none, or goes too deep.
    """
    reader = _Reader(tokens(text))
    found = reader.listed()
    if reader.at < len(reader.tokens):
        raise FormulaError
    return found


class _Reader:
    """Goes through the tokens once, from left to right."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0
        self.depth = 0
        self.bars = 0  # how many absolute values are open

    def text(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead].text if self.at + ahead < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead].kind if self.at + ahead < len(self.tokens) else ""

    def take(self) -> str:
        if self.at >= len(self.tokens):
            raise FormulaError
        self.at += 1
        return self.text(-1)

    def accept(self, *texts: str) -> bool:
        found = self.at < len(self.tokens) and self.text() in texts and self.kind() != "text"
        self.at += found
        return found

    def expect(self, *texts: str) -> str:
        if not self.accept(*texts):
            raise FormulaError
        return self.text(-1)

    def written(self, start: int) -> str:
        found = self.tokens[start : self.at]
        return " ".join(f"“{token.text}”" if token.kind == "text" else token.text for token in found)

    # -- several values and their relations

    def listed(self) -> Tree:
        groups = [[self.chain()]]
        while self.text() in SEPARATORS:
            start = self.at
            while self.accept(*SEPARATORS):
                pass
            if not self.starts():
                break
            if any(token.text == ";" for token in self.tokens[start : self.at]):
                groups.append([])
            groups[-1].append(self.chain())
        return several(groups[0] if len(groups) == 1 else [several(group) for group in groups])

    def chain(self) -> Tree:
        self.accept("=", "~")
        parts, signs, names = list[Tree](), list[str](), list[str]()
        while True:
            start = self.at
            parts.append(self.side())
            names.append(self.written(start))
            if not self.accept(*RELATIONS):
                break
            signs.append(self.text(-1))
        if "~" in signs:  # √2 ≈ 1.41 says √2, but x ≈ 1.41 says 1.41
            at = signs.index("~")
            if at == 0 and is_name(names[0]):
                signs[0] = "="
            else:
                del signs[at:], parts[at + 1 :], names[at + 1 :]
        return Tree("chain", tuple(parts), signs=tuple(signs), names=tuple(names)) if signs else parts[0]

    def side(self) -> Tree:
        r"""One side of a relation. What an equation begins with may be beyond us: P(A|B) = …, \sum_{k=1}^n k = …"""
        start, nested = self.at, self.depth > 0
        try:
            found = self.unit(self.ratio())
            if nested or self.at == len(self.tokens) or self.text() in SEPARATORS | RELATIONS:
                return found
        except FormulaError:
            if nested:
                raise
        self.at, self.depth, self.bars = start, 0, 0
        self.pass_to_equals()
        return Tree("words", text=self.written(start))

    def pass_to_equals(self) -> None:
        depth = 0
        while depth or self.text() != "=":
            word = self.take()
            if not depth and word in SEPARATORS:
                raise FormulaError
            depth += word in _CLOSING or word == "{" or word.startswith("\\begin")
            depth -= word in {")", "]", "}", "\\}", "\\rangle"} or word.startswith("\\end")

    def unit(self, value: Tree) -> Tree:
        r"""`value`, past the words after it: a unit such as `\text{cm}^2`, or a factor such as `million`."""
        words = list[str]()
        while self.text() in _SPACES and self.kind(1) == "text":
            self.at += 1
        while self.kind() == "text" or (
            words and self.text() in {"/", "*", "."} and self.kind(1) in {"text", "letter"}
        ):
            self.at += self.kind() != "text"
            words.append(self.take())
            if self.accept("^"):
                self.exponent()
        if not words or value.head == "words":
            return value
        if words[0] in _SCALES and len(words) == 1:
            return times([value, integer(10 ** _SCALES[words[0]])])
        if value.head in {"symbol", "e", "i"} or words[0] in _SCALES or _NO_UNIT.search(" ".join(words)):
            raise FormulaError
        return value

    def ratio(self) -> Tree:
        parts = [self.union()]
        while self.accept(":"):
            parts.append(self.union())
        if len(parts) == 1:
            return parts[0]
        return over(*parts) if len(parts) == 2 else Tree("ratio", tuple(map(scalar, parts)))

    def union(self) -> Tree:
        found = self.sum()
        while self.accept("union", "without"):
            found = Tree(self.text(-1), (found, self.sum()))
        return found

    # -- arithmetic

    def sum(self) -> Tree:
        parts = [self.product()]
        while self.accept("+", "-", "+-", "-+"):
            sign, term = self.text(-1), self.product()
            if sign in {"+-", "-+"}:
                parts = [Tree(sign, (plus(parts), scalar(term)))]
            else:
                parts.append(term if sign == "+" else minus(term))
        return plus(parts)

    def product(self) -> Tree:
        first = self.signed()
        factors = [self.mixed(first) or first]
        while True:
            if self.accept("*"):
                factors.append(self.signed())
            elif self.accept("/"):
                factors = [over(times(factors), self.signed())]
            elif self.starts_operand():
                factors.append(self.power())
            else:
                return times(factors)

    def mixed(self, whole: Tree) -> Tree | None:
        r"""2 1/2 or 2\frac{1}{2}, of which the whole number has been read."""
        size = whole.parts[0] if whole.head == "neg" else whole
        start = self.at
        if size.head != "number":
            return None
        if self.kind() == self.kind(2) == "number" and self.text(1) == "/":
            top, _, bottom = self.operand(), self.take(), self.operand()
        elif self.accept("\\frac"):
            top, bottom = self.argument(), self.argument()
        else:
            return None
        if not (top.head == bottom.head == "number" and top.value < bottom.value):
            self.at = start
            return None
        total = self.marked(plus([size, over(top, bottom)]))
        return total if whole is size else minus(total)

    def signed(self) -> Tree:
        negative = self.negative()
        double = self.text(-1) if self.accept("+-", "-+") else ""
        found = self.power()
        if double:
            found = Tree(double, (integer(0), scalar(found)))
        return minus(found) if negative else found

    def negative(self) -> bool:
        """Whether the signs that come next make one minus."""
        found = False
        while self.accept("+", "-"):
            found ^= self.text(-1) == "-"
        return found

    def power(self) -> Tree:
        return self.marked(self.operand())

    def marked(self, base: Tree) -> Tree:
        """`base` with the exponents and marks after it."""
        while True:
            if self.accept("^"):
                base = raised(base, self.exponent())
            elif self.accept("!"):
                base = Tree("factorial", (scalar(base),))
                if self.text() == "!":  # a double factorial is no factorial of a factorial
                    raise FormulaError
            elif self.kind() == "degree":
                self.at += 1
                self.accept("C", "F")
                base = Tree("degree", (scalar(base),))
            elif self.accept("%"):
                base = Tree("percent", (scalar(base),))
            else:
                return base

    def exponent(self) -> Tree:
        negative = self.negative()
        self.deeper()
        found = self.operand()
        if self.accept("^"):
            found = raised(found, self.exponent())
        self.depth -= 1
        return minus(found) if negative else found

    # -- operands

    def starts(self) -> bool:
        sign = self.text() in {"-", "+", "+-", "-+", "=", "~"}
        return sign or self.kind() in {"number", "text"} or self.starts_operand()

    def starts_operand(self) -> bool:
        word, kind = self.text(), self.kind()
        if word == "|":
            return not self.bars
        return word in _OPERANDS or kind in {"letter", "based", "repeating"} or word.startswith("\\begin")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise FormulaError

    def operand(self) -> Tree:
        self.deeper()
        kind = self.kind()
        word = self.take()
        find = _KINDS.get(kind) or _OPERANDS.get(word)
        if find is None:
            raise FormulaError
        found = find(self, word)
        self.depth -= 1
        return found

    def words(self, word: str) -> Tree:
        found = [word]
        while self.kind() == "text":
            found.append(self.take())
        return Tree("words", text=" ".join(found))

    def symbol(self, _: str) -> Tree:
        start = self.at - 1
        if self.accept("_"):
            self.skip_group()
        while self.accept("'"):
            pass
        name = self.written(start).replace("{ ", "").replace(" }", "")
        return Tree(name if name in {"e", "i"} else "symbol", text=name)

    def skip_group(self) -> None:
        """Pass one token, or a group in braces."""
        depth = 0
        while True:
            word = self.take()
            depth += (word == "{") - (word == "}")
            if depth <= 0:
                return

    def mark(self, word: str) -> Tree:
        r"""\overline{AB}, \angle ABC: a name."""
        start = self.at
        if self.text() == "{":
            self.skip_group()
        else:
            while self.kind() == "letter":
                self.at += 1
        if self.at == start:
            raise FormulaError
        return Tree("symbol", text=f"{word} {self.written(start).removeprefix('{ ').removesuffix(' }')}")

    def constant(self, word: str) -> Tree:
        return Tree(_CONSTANTS[word])

    def fraction(self, _: str) -> Tree:
        return over(self.argument(), self.argument())

    def root(self, _: str) -> Tree:
        degree = scalar(self.inside("]")) if self.accept("[") else integer(2)
        return Tree("root", (scalar(self.operand()), degree))

    def binomial(self, _: str) -> Tree:
        return Tree("binomial", (scalar(self.argument()), scalar(self.argument())))

    def argument(self) -> Tree:
        r"""What \frac takes: a group or, as in \frac12, one digit."""
        word = self.text()
        if self.kind() == "number" and word.isdecimal() and len(word) > 1:
            self.tokens[self.at] = Token(word[1:], "number", False)
            return number(word[0])
        return self.operand()

    # -- brackets

    def inside(self, *ends: str) -> Tree:
        """What stands up to a closing bracket, past it."""
        bars, self.bars = self.bars, 0
        found = self.listed()
        self.expect(*ends)
        self.bars = bars
        return found

    def bracketed(self, opening: str) -> Tree:
        if opening == "\\{" and self.accept("\\}"):
            return Tree("empty")
        found = self.inside(*_CLOSING[opening])
        brackets = "()" if opening == "\\langle" else opening + self.text(-1)
        if opening == "\\{":
            return Tree("set", found.parts if found.head == "list" else (found,))
        if found.head == "list":
            return replace(found, head=brackets)
        if brackets in {"(]", "[)"}:
            raise FormulaError
        return found

    def group(self, _: str) -> Tree:
        found = self.inside("}")
        return replace(found, head="set") if found.head == "list" else found

    def absolute(self, _: str) -> Tree:
        self.bars += 1
        found = Tree("abs", (scalar(self.sum()),))
        self.expect("|")
        self.bars -= 1
        return found

    def rounded(self, word: str) -> Tree:
        end, name = _ROUNDING[word]
        return Tree(name, (scalar(self.inside(end)),))

    def matrix(self, begin: str) -> Tree:
        end = begin.replace("begin", "end")
        if begin == end or "{v" in begin or "{V" in begin:  # a determinant
            raise FormulaError
        if "array" in begin:
            self.skip_group()
        rows, cells = list[Tree](), list[Tree]()
        while not self.accept(end):
            cells.append(scalar(self.sum()))
            if not self.accept("&"):
                rows.append(Tree("row", tuple(cells)))
                cells = []
                if self.text() != end:
                    self.expect("\\\\")
        if cells or len({len(row.parts) for row in rows}) != 1:
            raise FormulaError
        return Tree("matrix", tuple(rows))

    # -- functions

    def function(self, word: str) -> Tree:
        name = word[1:]
        base = self.base() if name == "log" else integer(10)
        power = self.exponent() if self.accept("^") else None
        inverse = name in TRIGONOMETRIC and power == minus(integer(1))
        argument = scalar(self.operand() if self.text() in {"(", "[", "{"} else self.bare_argument())
        if name in TRIGONOMETRIC and not inverse:
            argument = in_radians(argument)
        if name == "log":
            found = Tree("log", (argument, scalar(base)))
        elif name == "exp":
            found = raised(Tree("e", text="e"), argument)
        else:
            found = Tree(f"arc{name}" if inverse else name, (argument,))
        return found if power is None or inverse else raised(found, power)

    def base(self) -> Tree:
        r"""Of a logarithm: `_{10}`, `_2`, log2(…); in `\log_28`, where else nothing is left, one digit."""
        if self.accept("_"):
            alone = self.kind() == "number" and self.at + 1 == len(self.tokens)
            return self.argument() if alone else self.operand()
        called = self.text() in {"2", "10"} and self.text(1) == "(" and not self.tokens[self.at].spaced
        return self.operand() if called else integer(10)

    def bare_argument(self) -> Tree:
        r"""Of a function without brackets: 2x in \sin 2x \cos x."""
        factors = [self.power()]
        while self.starts_operand() and self.text()[1:] not in FUNCTIONS and self.text() not in {"(", "["}:
            factors.append(self.power())
        return times(factors)

    def of_several(self, word: str) -> Tree:
        inside = self.operand()
        return Tree(word[1:], tuple(map(scalar, inside.parts if inside.head == "()" else (inside,))))


_Find = Callable[[_Reader, str], Tree]

_KINDS: dict[str, _Find] = {
    **dict.fromkeys(("number", "repeating", "based"), lambda _, word: number(word)),
    "text": _Reader.words,
    "letter": _Reader.symbol,
    "matrix": _Reader.matrix,
}
_OPERANDS: dict[str, _Find] = {
    "\\frac": _Reader.fraction,
    "\\sqrt": _Reader.root,
    "\\binom": _Reader.binomial,
    "{": _Reader.group,
    "|": _Reader.absolute,
    **dict.fromkeys(_CLOSING, _Reader.bracketed),
    **dict.fromkeys(_ROUNDING, _Reader.rounded),
    **dict.fromkeys(_MARKS, _Reader.mark),
    **dict.fromkeys((f"\\{name}" for name in GREEK), _Reader.symbol),
    **dict.fromkeys((f"\\{name}" for name in FUNCTIONS), _Reader.function),
    **dict.fromkeys((f"\\{name}" for name in OF_SEVERAL), _Reader.of_several),
    **dict.fromkeys(_CONSTANTS, _Reader.constant),
}
