r"""What a formula says: LaTeX, or plain text such as `sqrt(3)/2`, as a tree. It is read whole or not at all.

    listed    chain, chain; chain               several values, also joined by "and", "or", `\quad`
    chain     ratio = ratio < ratio             a value with its name, an equation, an inequality
    ratio     union : union
    union     sum ∪ sum ∩ sum ∖ sum
    sum       product + product - product ± product
    product   power · power / power             the dot may be left out
    power     operand ^ exponent, and operand with ! ° or %
    operand   a number, symbol, function, fraction, root, matrix, or anything in brackets
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from suffice.grading.notation import FUNCTIONS, GREEK, OF_SEVERAL, RELATIONS, SEPARATORS, TRIGONOMETRIC, Token, tokens

_DEEPEST = 50  # brackets, fractions, roots and exponents inside each other

_CONSTANTS = {"\\pi": "pi", "\\infty": "infinity", "\\reals": "reals", "\\emptyset": "empty"}
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), "\\{": ("\\}",), "\\langle": ("\\rangle",)}
_ROUNDING = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
_MARKS = frozenset({"\\angle", "\\triangle", "\\overline", "\\bar", "\\vec", "\\hat", "\\overrightarrow"})
SEVERAL = frozenset("list set () [] (] [) chain matrix row union intersection without words ratio empty reals".split())
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NO_UNIT = re.compile(  # words that say more of a value than its unit: "5 or more", "n is odd"
    r"\b(?:is|are|if|for|when|where|with|without|not|no|only|mod|more|less|fewer|at|least|most|odd|even|real|integers?|"
    r"prime|positive|negative|any|all|to|base|than|times|plus|minus|over|either|but|dozens?|pairs?)\b|[^\sA-Za-z./'-]",
    re.IGNORECASE,
)
_ATOM = (
    r"(?:(?:\\(?:angle|triangle|overline|vec|overrightarrow) )?(?:\{ )?(?:[A-Za-z]|\\[A-Za-z]+)(?: [A-Z])*(?: \})?"
    r"|“[^”]*”)(?: _ (?:\{ [^{}]* \}|\S+))?(?: ')*(?: \^ \{ - 1 \})?(?: \( [^()]* \))?"
)
_NAME = re.compile(rf"{_ATOM}(?: [:/] {_ATOM})*|\| {_ATOM} \||\( {_ATOM}(?: , {_ATOM})* \)|\\frac \{{ {_ATOM} \}} \{{ {_ATOM} \}}")


class Unreadable(Exception):
    """The text is no formula from its beginning to its end."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A part of a formula: what it is (`head`), its own parts, and what else there is to say.

    A `number` has a value, a `decimal` also its text, a `based` number its base as text and its digits in `names`. A `symbol` and `words` have
    their text. A `chain` has its relation signs in `signs`, and in `names` how each part is written.
    """

    head: str
    parts: tuple[Tree, ...] = ()
    value: Fraction = Fraction(0)
    text: str = ""
    signs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Tree]:
        """This tree and everything below it."""
        yield self
        for part in self.parts:
            yield from part


def read(text: str) -> Tree:
    """The tree of a formula in normal form (`suffice.grading.exact.normalise`).

    Raises:
        Unreadable: it is none, or goes too deep.
    """
    reader = _Reader(tokens(text))
    found = reader.listed()
    if reader.at < len(reader.tokens):
        raise Unreadable
    return found


def is_name(written: str) -> bool:
    """Whether what stands before an equals sign only names what stands after it: x, P(3), AB, (p, q)."""
    return _NAME.fullmatch(written) is not None


def integer(value: int) -> Tree:
    return Tree("number", value=Fraction(value))


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
            raise Unreadable
        self.at += 1
        return self.text(-1)

    def accept(self, *texts: str) -> bool:
        found = self.at < len(self.tokens) and self.text() in texts and self.kind() != "text"
        self.at += found
        return found

    def expect(self, *texts: str) -> str:
        if not self.accept(*texts):
            raise Unreadable
        return self.text(-1)

    def written(self, start: int) -> str:
        found = self.tokens[start : self.at]
        return " ".join(f"“{token.text}”" if token.kind == "text" else token.text for token in found)

    # -- several values and their relations

    def listed(self) -> Tree:
        groups = [[self.chain()]]
        while self.at < len(self.tokens) and self.text() in SEPARATORS:
            start = self.at
            while self.accept(*SEPARATORS):
                pass
            if not self.starts():
                break
            if any(token.text == ";" for token in self.tokens[start : self.at]):
                groups.append([])
            groups[-1].append(self.chain())
        return _several(groups[0] if len(groups) == 1 else [_several(group) for group in groups])

    def chain(self) -> Tree:
        self.accept("=", "~")
        parts, signs, names = list[Tree](), list[str](), list[str]()
        while True:
            start = self.at
            parts.append(self.part())
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

    def part(self) -> Tree:
        r"""One side of a relation. The left side of an equation may be beyond us, such as P(A|B) or \sum_{k=1}^n k."""
        start, depth = self.at, self.depth
        try:
            found = self.unit(self.ratio())
            if depth or self.at == len(self.tokens) or self.text() in SEPARATORS | RELATIONS:
                return found
        except Unreadable:
            if depth:
                raise
        self.at, self.depth, self.bars = start, 0, 0
        self.pass_to_equals()
        return Tree("words", text=self.written(start))

    def pass_to_equals(self) -> None:
        depth = 0
        while depth or self.text() != "=":
            word = self.take()
            if not depth and word in SEPARATORS:
                raise Unreadable
            depth += (word in _CLOSING or word == "{" or word.startswith("\\begin")) - (
                word in {")", "]", "}", "\\}", "\\rangle"} or word.startswith("\\end")
            )

    def unit(self, value: Tree) -> Tree:
        r"""`value`, past the words after it: a unit such as `\text{cm}^2`, or a factor such as `million`."""
        words = list[str]()
        while self.text() in {"\\quad", "\\qquad"} and self.kind(1) == "text":
            self.at += 1
        while self.kind() == "text" or (words and self.text() in {"/", "*", "."} and self.kind(1) in {"text", "letter"}):
            self.at += self.kind() != "text"
            words.append(self.take())
            if self.accept("^"):
                self.exponent()
        if not words or value.head == "words":
            return value
        if words[0] in _SCALES and len(words) == 1:
            return _times([value, integer(10 ** _SCALES[words[0]])])
        if value.head in {"symbol", "e", "i"} or words[0] in _SCALES or _NO_UNIT.search(" ".join(words)):
            raise Unreadable
        return value

    def ratio(self) -> Tree:
        parts = [self.union()]
        while self.accept(":"):
            parts.append(self.union())
        return parts[0] if len(parts) == 1 else Tree("ratio", tuple(map(_scalar, parts)))

    def union(self) -> Tree:
        found = self.sum()
        while self.accept("union", "intersection", "without"):
            found = Tree(self.text(-1), (found, self.sum()))
        return found

    # -- arithmetic

    def sum(self) -> Tree:
        parts = [self.product()]
        while self.accept("+", "-", "+-", "-+"):
            sign, term = self.text(-1), self.product()
            if sign in {"+-", "-+"}:
                parts = [Tree(sign, (_plus(parts), _scalar(term)))]
            else:
                parts.append(term if sign == "+" else _minus(term))
        return _plus(parts)

    def product(self) -> Tree:
        first = self.signed()
        factors = [self.mixed(first) or first]
        while True:
            if self.accept("*"):
                factors.append(self.signed())
            elif self.accept("/"):
                factors = [_over(_times(factors), self.signed())]
            elif self.starts_operand():
                factors.append(self.power())
            else:
                return _times(factors)

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
        total = _plus([size, _over(top, bottom)])
        return total if whole is size else _minus(total)

    def signed(self) -> Tree:
        negative = False
        while self.accept("+", "-"):
            negative ^= self.text(-1) == "-"
        if self.accept("+-", "-+"):
            found = Tree(self.text(-1), (integer(0), _scalar(self.power())))
        else:
            found = self.power()
        return _minus(found) if negative else found

    def power(self) -> Tree:
        base = self.operand()
        while True:
            if self.accept("^"):
                base = _raised(base, self.exponent())
            elif self.accept("!"):
                base = Tree("factorial", (_scalar(base),))
                if self.text() == "!":  # a double factorial is no factorial of a factorial
                    raise Unreadable
            elif self.kind() == "degree":
                self.at += 1
                self.accept("C", "F")
                base = Tree("degree", (_scalar(base),))
            elif self.accept("%"):
                base = Tree("percent", (_scalar(base),))
            else:
                return base

    def exponent(self) -> Tree:
        negative = False
        while self.accept("+", "-"):
            negative ^= self.text(-1) == "-"
        self.deeper()
        found = self.operand()
        if self.accept("^"):
            found = _raised(found, self.exponent())
        self.depth -= 1
        return _minus(found) if negative else found

    # -- operands

    def starts(self) -> bool:
        return self.text() in {"-", "+", "+-", "-+", "=", "~"} or self.kind() in {"number", "text"} or self.starts_operand()

    def starts_operand(self) -> bool:
        word, kind = self.text(), self.kind()
        if kind == "command":
            return word[1:] in FUNCTIONS | OF_SEVERAL | GREEK or word in {
                "\\frac", "\\binom", "\\sqrt", *_CONSTANTS, *_ROUNDING, *_MARKS, "\\{", "\\langle"
            }  # fmt: skip
        return (
            kind in {"letter", "based", "repeating"}
            or word in {"{", "(", "["}
            or word.startswith("\\begin")
            or (word == "|" and not self.bars)
        )

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Unreadable

    def operand(self) -> Tree:
        self.deeper()
        kind = self.kind()
        word = self.take()
        if kind == "number":
            found = _number(word)
        elif kind == "repeating":
            found = _repeating(word)
        elif kind == "based":
            found = _based(word)
        elif kind == "text":
            found = self.words(word)
        elif kind == "letter" or word[1:] in GREEK:
            found = self.symbol(word)
        elif kind == "matrix":
            found = self.matrix(word)
        elif word in _CONSTANTS:
            found = Tree(_CONSTANTS[word])
        elif word == "\\frac":
            found = _over(self.argument(), self.argument())
        elif word == "\\sqrt":
            degree = _scalar(self.inside("]")) if self.accept("[") else integer(2)
            found = Tree("root", (_scalar(self.operand()), degree))
        elif word == "\\binom":
            found = Tree("binomial", (_scalar(self.argument()), _scalar(self.argument())))
        elif word[1:] in FUNCTIONS:
            found = self.function(word[1:])
        elif word[1:] in OF_SEVERAL:
            inside = self.operand()
            found = Tree(word[1:], tuple(map(_scalar, inside.parts)) if inside.head == "()" else (_scalar(inside),))
        elif word in _CLOSING:
            found = self.bracketed(word)
        elif word == "{":
            inside = self.inside("}")
            found = replace(inside, head="set") if inside.head == "list" else inside
        elif word == "|":
            self.bars += 1
            found = Tree("abs", (_scalar(self.sum()),))
            self.expect("|")
            self.bars -= 1
        elif word in _ROUNDING:
            end, name = _ROUNDING[word]
            found = Tree(name, (_scalar(self.inside(end)),))
        elif word in _MARKS:
            found = Tree("symbol", text=f"{word} {self.marked()}")
        else:
            raise Unreadable
        self.depth -= 1
        return found

    def inside(self, *ends: str) -> Tree:
        """What stands up to a closing bracket, past it."""
        bars, self.bars = self.bars, 0
        found = self.listed()
        self.expect(*ends)
        self.bars = bars
        return found

    def argument(self) -> Tree:
        r"""What \frac takes: a group or, as in \frac12, one digit."""
        word = self.text()
        if self.kind() == "number" and len(word) > 1:
            self.tokens[self.at] = Token(word[1:], "number", False)
            return _number(word[0])
        return self.operand()

    def symbol(self, word: str) -> Tree:
        start = self.at - 1
        if self.accept("_"):
            self.raw()
        while self.accept("'"):
            pass
        name = self.written(start)
        return Tree(name if name in {"e", "i"} else "symbol", text=name.replace("{ ", "").replace(" }", ""))

    def raw(self) -> None:
        """Pass one token, or a group in braces."""
        depth = 0
        while True:
            word = self.take()
            depth += (word == "{") - (word == "}")
            if depth <= 0:
                return

    def words(self, word: str) -> Tree:
        found = [word]
        while self.kind() == "text":
            found.append(self.take())
        return Tree("words", text=" ".join(found))

    def marked(self) -> str:
        start = self.at
        if self.text() == "{":
            self.raw()
            return " ".join(token.text for token in self.tokens[start + 1 : self.at - 1])
        while self.kind() == "letter":
            self.at += 1
        if self.at == start:
            raise Unreadable
        return self.written(start)

    def bracketed(self, opening: str) -> Tree:
        if opening == "\\{" and self.accept("\\}"):
            return Tree("empty")
        found = self.inside(*_CLOSING[opening])
        closing = self.text(-1)
        if opening == "\\{":
            return Tree("set", found.parts if found.head == "list" else (found,))
        if found.head == "list":
            return replace(found, head="()" if opening == "\\langle" else opening + closing)
        if (opening, closing) in {("(", ")"), ("[", "]")}:
            return found
        raise Unreadable

    def matrix(self, begin: str) -> Tree:
        end = begin.replace("begin", "end")
        if begin == end or "{v" in begin or "{V" in begin:  # a determinant
            raise Unreadable
        if "array" in begin:
            self.raw()
        rows, cells = list[Tree](), list[Tree]()
        while not self.accept(end):
            cells.append(_scalar(self.sum()))
            if not self.accept("&"):
                rows.append(Tree("row", tuple(cells)))
                cells = []
                if self.text() != end:
                    self.expect("\\\\")
        if cells or len({len(row.parts) for row in rows}) != 1:
            raise Unreadable
        return Tree("matrix", tuple(rows))

    def function(self, name: str) -> Tree:
        base = self.base() if name == "log" else integer(10)
        raised = self.exponent() if self.accept("^") else None
        inverse = name in TRIGONOMETRIC and raised == _minus(integer(1))
        argument = _scalar(self.operand() if self.text() in {"(", "[", "{"} else self.bare_argument())
        if name in TRIGONOMETRIC and not inverse:
            argument = _in_radians(argument)
        if name == "log":
            found = Tree("log", (argument, _scalar(base)))
        elif name == "exp":
            found = Tree("^", (Tree("e"), argument))
        else:
            found = Tree(f"arc{name}" if inverse else name, (argument,))
        return found if raised is None or inverse else _raised(found, raised)

    def base(self) -> Tree:
        r"""Of a logarithm: `_{10}`, `_2`, log2(…); in `\log_28`, where nothing else is left for the argument, one digit."""
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
        return _times(factors)


def _number(word: str) -> Tree:
    digits = word.replace(",", "").replace(" ", "").removesuffix(".")
    if re.fullmatch(r"\d+", digits):
        return integer(int(digits))
    return Tree("decimal", value=Fraction(digits), text=digits)


def _repeating(word: str) -> Tree:
    r"""0.1\overline{6}, which is 1/6."""
    fixed, _, repeated = re.sub(r"\\[a-z]+\s*\{?", "|", word.removesuffix("}")).partition("|")
    places = len(fixed.partition(".")[2])
    tail = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10**places)
    return Tree("number", value=Fraction(fixed.removesuffix(".") or "0") + tail)


def _based(word: str) -> Tree:
    digits, _, subscript = word.partition("_")
    base = int(subscript.strip("{ }"))
    whole, _, rest = digits.partition(".")
    if not 2 <= base <= 16 or any(int(digit, 16) >= base for digit in whole + rest):
        raise Unreadable
    value = Fraction(int(whole + rest, base), base ** len(rest))
    return Tree("based", value=value, text=str(base), names=(digits,))


def _several(items: list[Tree]) -> Tree:
    return items[0] if len(items) == 1 else Tree("list", tuple(items))


def _scalar(tree: Tree) -> Tree:
    if tree.head in SEVERAL:
        raise Unreadable
    return tree


def _plus(parts: list[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else Tree("+", tuple(map(_scalar, parts)))


def _minus(tree: Tree) -> Tree:
    return _in_cells(_minus, tree) if tree.head == "matrix" else Tree("neg", (_scalar(tree),))


def _times(factors: list[Tree]) -> Tree:
    """The product, which may be of a matrix and numbers."""
    if len(factors) == 1:
        return factors[0]
    for i, factor in enumerate(factors):
        if factor.head == "matrix":
            others = factors[:i] + factors[i + 1 :]
            return _in_cells(lambda cell: _times([*others, cell]), factor)
    return Tree("*", tuple(map(_scalar, factors)))


def _over(top: Tree, bottom: Tree) -> Tree:
    if top.head == "matrix":
        return _in_cells(lambda cell: _over(cell, bottom), top)
    return Tree("/", (_scalar(top), _scalar(bottom)))


def _in_cells(change: Callable[[Tree], Tree], matrix: Tree) -> Tree:
    rows = (replace(row, parts=tuple(map(change, row.parts))) for row in matrix.parts)
    return replace(matrix, parts=tuple(rows))


def _raised(base: Tree, exponent: Tree) -> Tree:
    return Tree("^", (_scalar(base), _scalar(exponent)))


def _in_radians(tree: Tree) -> Tree:
    """With π/180 for every degree sign."""
    parts = tuple(map(_in_radians, tree.parts))
    if tree.head == "degree":
        return Tree("*", (*parts, Tree("/", (Tree("pi"), integer(180)))))
    return replace(tree, parts=parts)
