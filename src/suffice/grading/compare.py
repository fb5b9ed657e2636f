"""When two formulas say the same: lists, points, equations, sets of real numbers, and in the end scalars.

Always the whole of one is compared with the whole of the other. How the values of two scalars are compared, exactly or
to many digits, is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, Protocol

from suffice.grading.formula import SEVERAL, Tree, integer, is_name

_FLIPPED = {">": "<", ">=": "<="}
_INTERVALS = frozenset({"()", "[]", "(]", "[)"})
_SETS = _INTERVALS | {"chain", "union", "without", "reals", "empty"}
_INFINITY = Tree("infinity")
_MINUS_INFINITY = Tree("neg", (_INFINITY,))
_MARKS = {  # what a mark behind a number may mean if the other number has none
    "percent": Tree("^", (integer(10), Tree("neg", (integer(2),)))),
    "degree": Tree("/", (Tree("pi"), integer(180))),
}
_ENOUGH_DIGITS = 6  # of a decimal that stands for what no decimal gives exactly, such as 1/3
_MOST_DIGITS = 12  # of it that are compared: the last of a computed one are wrong


class Arithmetic(Protocol):
    """What the values of two scalars are to each other."""

    def equal(self, gold: Tree, answer: Tree) -> bool: ...

    def near(self, exact: Tree, decimal: Fraction, unit: Fraction) -> bool:
        """Whether they differ by less than `unit`."""
        ...

    def proportional(self, gold: Tree, answer: Tree, positive: bool) -> bool:
        """Whether one is a constant times the other and neither is 0; if `positive`, times a constant above 0."""
        ...


class _Piece(NamedTuple):
    """Of the real line: its ends, and whether they belong to it."""

    low: Tree
    high: Tree
    low_closed: bool = False
    high_closed: bool = False


class _Decimal(NamedTuple):
    value: Fraction
    unit: Fraction  # one in its last place
    digits: int  # significant ones


class Comparison:
    """Compares trees. An answer may be longer than the gold: an equation that ends in it."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic

    def equal(self, gold: Tree, answer: Tree) -> bool:
        if gold == answer:
            return True
        if _is_equation(gold) and _is_equation(answer):
            return self.equations(gold, answer)
        gold, answer = _value(gold, only_named=True), _value(answer)
        golds, answers = _items(gold), _items(answer)
        heads = {gold.head, answer.head}
        if heads == {"chain"}:
            return self.inequalities(gold, answer)
        if heads & {"list", "set"} or len(golds) > 1 or len(answers) > 1:
            return self.lists(gold, golds, answer, answers) or self.sets(gold, answer)
        if heads & _SETS:
            in_order = len(heads) == 1 and heads <= _INTERVALS and self.in_order(gold.parts, answer.parts)
            return in_order or self.sets(gold, answer)
        if heads & {"words", "matrix", "row"}:
            alike = len(heads) == 1 and gold.text.casefold() == answer.text.casefold()
            return alike and self.in_order(gold.parts, answer.parts)
        if heads == {"ratio"}:
            return self.ratios(gold.parts, answer.parts)
        return "ratio" not in heads and self.scalars(gold, answer)

    # -- several values

    def in_order(self, golds: Sequence[Tree], answers: Sequence[Tree]) -> bool:
        return len(golds) == len(answers) and all(map(self.equal, golds, answers))

    def in_any_order(self, golds: Sequence[Tree], answers: Sequence[Tree]) -> bool:
        if len(golds) != len(answers):
            return False
        left = list(answers)
        for gold in golds:
            found = next((i for i, answer in enumerate(left) if self.equal(gold, answer)), None)
            if found is None:
                return False
            del left[found]
        return True

    def lists(self, gold: Tree, golds: list[Tree], answer: Tree, answers: list[Tree]) -> bool:
        """In any order; but in theirs if one of them is a point, or if only one names its values: x = 1, y = 2."""
        if {gold.head, answer.head} == {"list", "()"}:
            return self.in_order(gold.parts, answer.parts)
        names = [len({item.names[0] for item in items if _is_equation(item)}) for items in (golds, answers)]
        ordered = min(names) == 0 and max(names) > 1
        return self.in_order(golds, answers) if ordered else self.in_any_order(golds, answers)

    def ratios(self, golds: Sequence[Tree], answers: Sequence[Tree]) -> bool:
        """1 : 2 : 3 is 2 : 4 : 6."""
        gold, answer = ([Tree("/", (part, parts[-1])) for part in parts[:-1]] for parts in (golds, answers))
        return self.in_order(gold, answer)

    # -- equations and inequalities

    def equations(self, gold: Tree, answer: Tree) -> bool:
        """x = 5 is no y = 5, and 2 + 2 = 4 is no 2 + 2 = 5; x + y = 1 is 2x + 2y = 2."""
        named, given = _named(gold), _named(answer)
        if named and given and named[0] == given[0]:
            return self.equal(named[1], given[1])
        if self.in_order(gold.parts, answer.parts) or self.in_order(gold.parts, answer.parts[::-1]):
            return True
        return self.proportional(gold, answer, positive=False)

    def inequalities(self, gold: Tree, answer: Tree) -> bool:
        """x < 1 is 1 > x, and 2x < 2."""
        gold, answer = _rising(gold), _rising(answer)
        if gold.signs != answer.signs:
            return False
        either_way = gold.signs == ("!=",)
        return self.in_order(gold.parts, answer.parts) or self.proportional(gold, answer, positive=not either_way)

    def proportional(self, gold: Tree, answer: Tree, positive: bool) -> bool:
        """Whether the two sides of two relations differ by proportional amounts."""
        if not len(gold.parts) == len(answer.parts) == 2:
            return False
        if _symbols(gold) != _symbols(answer) or not _symbols(gold):
            return False
        if any(part.head in SEVERAL for part in gold.parts + answer.parts):
            return False
        differences = (Tree("+", (high, Tree("neg", (low,)))) for low, high in (gold.parts, answer.parts))
        return self.arithmetic.proportional(*differences, positive)

    # -- sets of real numbers

    def sets(self, gold: Tree, answer: Tree) -> bool:
        """Intervals and their unions, inequalities in one variable, and all real numbers but some."""
        golds, answers = _pieces(gold), _pieces(answer)
        if golds is not None and answers is not None and len(golds) == len(answers):
            left = list(answers)
            for piece in golds:
                found = next((other for other in left if self.pieces(piece, other)), None)
                if found is None:
                    break
                left.remove(found)
            else:
                return True
        without, given = self.excluded(gold), self.excluded(answer)
        return without is not None and given is not None and self.in_any_order(without, given)

    def pieces(self, gold: _Piece, answer: _Piece) -> bool:
        closed = gold.low_closed == answer.low_closed and gold.high_closed == answer.high_closed
        return closed and self.equal(gold.low, answer.low) and self.equal(gold.high, answer.high)

    def excluded(self, tree: Tree) -> list[Tree] | None:
        """What is missing of all real numbers; None if that is more than single points."""
        if tree.head == "without" and tree.parts[0].head == "reals":
            return _items(tree.parts[1])
        items = _items(tree)
        if items[0].head == "chain" and items[0].signs == ("!=",):
            return [point for item in items for point in (item.parts[1:] if item.signs == ("!=",) else (item,))]
        pieces = _pieces(tree)
        if not pieces or any(piece.low_closed or piece.high_closed for piece in pieces):
            return None
        lows = [piece.low for piece in pieces if piece.low != _MINUS_INFINITY]
        highs = [piece.high for piece in pieces if piece.high != _INFINITY]
        return lows if len(lows) == len(pieces) - 1 and self.in_any_order(lows, highs) else None

    # -- scalars

    def scalars(self, gold: Tree, answer: Tree) -> bool:
        if any(part.head == "infinity" for tree in (gold, answer) for part in tree):
            return False
        for mark, share in _MARKS.items():
            marked = [tree.head == mark for tree in (gold, answer)]
            if any(marked):
                bare = [tree.parts[0] if tree.head == mark else tree for tree in (gold, answer)]
                if all(marked) or self.scalars(*bare):
                    return self.scalars(*bare)
                scaled = (Tree("*", (tree, share)) if has else tree for tree, has in zip(bare, marked, strict=True))
                return self.scalars(*scaled)
        if "based" in {gold.head, answer.head}:
            return _same_digits(gold, answer)
        decimals = _decimal(gold), _decimal(answer)
        if decimals[0] and not decimals[1]:
            return self.stands_for(decimals[0], gold, answer)
        if decimals[1] and not decimals[0]:
            return self.stands_for(decimals[1], answer, gold)
        return self.arithmetic.equal(gold, answer)

    def stands_for(self, decimal: _Decimal, written: Tree, exact: Tree) -> bool:
        """Whether a decimal is the exact value, or what that is when cut or rounded to six digits or more."""
        if self.arithmetic.equal(written, exact):
            return True
        if decimal.digits < _ENOUGH_DIGITS or any(part.head == "decimal" for part in exact):
            return False
        unit = decimal.unit * 10 ** max(0, decimal.digits - _MOST_DIGITS)
        return self.arithmetic.near(exact, decimal.value, unit)


def _is_equation(tree: Tree) -> bool:
    return tree.head == "chain" and set(tree.signs) <= {"=", "in"}


def _named(equation: Tree) -> tuple[str, Tree] | None:
    """The name that an equation gives, and to what: x = 5, 5 = x, x = 2 + 3 = 5."""
    if is_name(equation.names[0]):
        return equation.names[0], equation.parts[-1]
    return (equation.names[-1], equation.parts[0]) if is_name(equation.names[-1]) else None


def _value(tree: Tree, only_named: bool = False) -> Tree:
    """What an equation comes to."""
    if not _is_equation(tree):
        return tree
    named = _named(tree)
    return named[1] if named else tree if only_named else tree.parts[-1]


def _items(tree: Tree) -> list[Tree]:
    """The members of a list or set; ± makes two of one."""
    members = tree.parts if tree.head in {"list", "set"} else (tree,)
    found = list[Tree]()
    for member in members:
        double = any(part.head in {"+-", "-+"} for part in member)
        found += [_choose(member, sign) for sign in (1, -1)] if double else [member]
    return found


def _choose(tree: Tree, sign: int) -> Tree:
    parts = tuple(_choose(part, sign) for part in tree.parts)
    if tree.head not in {"+-", "-+"}:
        return replace(tree, parts=parts)
    plus = (sign == 1) == (tree.head == "+-")
    return Tree("+", parts if plus else (parts[0], Tree("neg", (parts[1],))))


def _same_digits(gold: Tree, answer: Tree) -> bool:
    """Of numbers of which one has its base written; where the gold says it, the answer need not."""
    if gold.head == answer.head:
        return gold.text == answer.text and gold.value == answer.value
    if "10" in {gold.text, answer.text}:
        return gold.value == answer.value
    return gold.head == "based" and answer.head in {"number", "decimal"} and (answer.text or str(answer.value)) in gold.names


def _symbols(tree: Tree) -> set[str]:
    return {part.text for part in tree if part.head == "symbol"}


def _rising(chain: Tree) -> Tree:
    """The inequality with its least part first."""
    if not set(chain.signs) <= set(_FLIPPED):
        return chain
    signs = tuple(_FLIPPED[sign] for sign in reversed(chain.signs))
    return replace(chain, parts=chain.parts[::-1], names=chain.names[::-1], signs=signs)


def _pieces(tree: Tree) -> list[_Piece] | None:
    """A set of real numbers as pieces of their line; None if it is none, or not told piece by piece."""
    if tree.head in _INTERVALS and len(tree.parts) == 2:
        return [_Piece(*tree.parts, tree.head[0] == "[", tree.head[1] == "]")]
    if tree.head == "chain":
        return _solutions(_rising(tree))
    if tree.head == "reals":
        return [_Piece(_MINUS_INFINITY, _INFINITY)]
    if tree.head == "empty":
        return []
    if tree.head == "set":
        return [_Piece(point, point, True, True) for point in tree.parts]
    if tree.head in {"union", "list"}:
        found = [_pieces(part) for part in tree.parts]
        return None if None in found else [piece for pieces in found for piece in pieces or []]
    return None


def _solutions(chain: Tree) -> list[_Piece] | None:
    """Of an inequality that has its variable alone: x < 1, 0 <= x < 1."""
    if not set(chain.signs) <= {"<", "<="}:
        return None
    closed = [sign == "<=" for sign in chain.signs]
    if len(chain.parts) == 3 and is_name(chain.names[1]):
        return [_Piece(chain.parts[0], chain.parts[2], *closed)]
    if len(chain.parts) == 2 and is_name(chain.names[0]):
        return [_Piece(_MINUS_INFINITY, chain.parts[1], False, closed[0])]
    if len(chain.parts) == 2 and is_name(chain.names[1]):
        return [_Piece(chain.parts[0], _INFINITY, closed[0], False)]
    return None


def _decimal(tree: Tree) -> _Decimal | None:
    """A decimal, which may be negative or times a power of ten."""
    if tree.head == "decimal":
        mantissa, _, exponent = tree.text.lower().partition("e")
        whole, _, places = mantissa.partition(".")
        unit = Fraction(10) ** (int(exponent or 0) - len(places))
        return _Decimal(tree.value, unit, len((whole + places).lstrip("0")))
    if tree.head == "neg" and (inner := _decimal(tree.parts[0])):
        return inner._replace(value=-inner.value)
    if tree.head == "*" and len(tree.parts) == 2 and (inner := _decimal(tree.parts[0])):
        power = _power_of_ten(tree.parts[1])
        return inner._replace(value=inner.value * power, unit=inner.unit * power) if power else None
    return None


def _power_of_ten(tree: Tree) -> Fraction | None:
    if tree.head != "^" or tree.parts[0] != integer(10):
        return None
    exponent = tree.parts[1]
    sign, size = (-1, exponent.parts[0]) if exponent.head == "neg" else (1, exponent)
    small = size.head == "number" and size.value.denominator == 1 and size.value < 10**4
    return Fraction(10) ** (sign * int(size.value)) if small else None
