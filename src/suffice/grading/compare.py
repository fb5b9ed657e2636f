"""When two formulas say the same: lists, points, equations, sets of real numbers, and in the end scalars.

Always the whole of one is compared with the whole of the other. How the values of two scalars are compared, exactly or
to many digits, is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, Protocol

from suffice.grading.notation import is_name
from suffice.grading.tree import SEVERAL, Tree, integer, minus, over, plus, times

_FLIPPED = {">": "<", ">=": "<="}
_INTERVALS = frozenset({"()", "[]", "(]", "[)"})
_INFINITY = Tree("infinity")
_MINUS_INFINITY = minus(_INFINITY)
_MARKS = {  # what a mark behind a number may mean if the other number has none
    "percent": over(integer(1), integer(100)),
    "degree": over(Tree("pi"), integer(180)),
}
_INDEX = re.compile(r" _ (?:\{ \d+ \}|\d+)$")  # x₁ and x₂ are in any order
_ENOUGH_DIGITS = 6  # of a decimal that stands for what no decimal gives exactly, such as 1/3
_MOST_DIGITS = 12  # of it that are compared: the last of a computed one are wrong


class Arithmetic(Protocol):
    """What the values of two scalars are to each other."""

    def equal(self, gold: Tree, answer: Tree) -> bool: ...

    def near(self, exact: Tree, decimal: Fraction, unit: Fraction, within: Fraction) -> bool:
        """Whether they differ by less than `within`, and the exact one is no multiple of `unit`."""
        ...

    def proportional(self, gold: Tree, answer: Tree, positive: bool) -> bool:
        """Whether one is a constant times the other and neither is 0; if `positive`, times a constant above 0."""
        ...


Same = Callable[[Tree, Tree], bool]


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
        by_nature = {"list": self.lists, "reals": self.sets, "whole": self.wholes, "scalar": self.scalars}
        natures = {_nature(gold), _nature(answer)}
        return next(compare for nature, compare in by_nature.items() if nature in natures)(gold, answer)

    def wholes(self, gold: Tree, answer: Tree) -> bool:
        """Words, matrices, and ratios of more than two."""
        if gold.head == answer.head == "ratio":  # 1 : 2 : 3 is 2 : 4 : 6
            gold, answer = (
                replace(ratio, head="row", parts=tuple(over(part, ratio.parts[-1]) for part in ratio.parts))
                for ratio in (gold, answer)
            )
        alike = gold.head == answer.head and gold.text.casefold() == answer.text.casefold()
        return alike and self.in_order(gold.parts, answer.parts)

    # -- several values

    def in_order(self, golds: Sequence[Tree], answers: Sequence[Tree]) -> bool:
        return len(golds) == len(answers) and all(map(self.equal, golds, answers))

    def in_any_order(self, golds: Sequence[Tree], answers: Sequence[Tree], same: Same | None = None) -> bool:
        same = same or self.equal
        left = list(answers)
        for gold in golds:
            found = next((i for i, answer in enumerate(left) if same(gold, answer)), None)
            if found is None:
                return False
            del left[found]
        return all(any(same(gold, answer) for gold in golds) for answer in left)  # said once more

    def lists(self, gold: Tree, answer: Tree) -> bool:
        """In any order; but in theirs if one of them is a point, or if only one names its values: x = 1, y = 2."""
        if {gold.head, answer.head} == {"list", "()"}:
            return self.in_order(gold.parts, answer.parts)
        both = _items(gold), _items(answer)
        names = [len({_INDEX.sub("", item.names[0]) for item in items if _is_equation(item)}) for items in both]
        if min(names) == 0 and max(names) > 1:
            return self.in_order(*both)
        return self.in_any_order(*both) or self.sets(gold, answer)

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
        symbols = [{part.text for part in relation if part.head == "symbol"} for relation in (gold, answer)]
        if not len(gold.parts) == len(answer.parts) == 2 or not symbols[0] or symbols[0] != symbols[1]:
            return False
        if any(part.head in SEVERAL for part in gold.parts + answer.parts):
            return False
        one, other = (plus([high, minus(low)]) for low, high in (gold.parts, answer.parts))
        return self.arithmetic.proportional(one, other, positive)

    # -- sets of real numbers

    def sets(self, gold: Tree, answer: Tree) -> bool:
        """Points, intervals and their unions, inequalities in one variable, and all real numbers but some."""
        if gold.head == answer.head == "chain":
            return self.inequalities(gold, answer)
        if gold.head in _INTERVALS and answer.head in _INTERVALS:
            return self.intervals(gold, answer)
        golds, answers = _pieces(gold), _pieces(answer)
        if golds is not None and answers is not None and self.in_any_order(golds, answers, self.intervals):
            return True
        missing, given = self.excluded(gold), self.excluded(answer)
        return missing is not None and given is not None and self.in_any_order(missing, given)

    def intervals(self, gold: Tree, answer: Tree) -> bool:
        return gold.head == answer.head and self.in_order(gold.parts, answer.parts)

    def excluded(self, tree: Tree) -> list[Tree] | None:
        """What is missing of all real numbers; None if that is more than single points."""
        if tree.head == "without" and tree.parts[0].head == "reals":
            return _items(tree.parts[1])
        items = _items(tree)
        if items and items[0].signs == ("!=",):
            return [point for item in items for point in (item.parts[1:] if item.signs == ("!=",) else (item,))]
        pieces = _pieces(tree)
        if not pieces or any(piece.head != "()" for piece in pieces):
            return None
        lows = [piece.parts[0] for piece in pieces if piece.parts[0] != _MINUS_INFINITY]
        highs = [piece.parts[1] for piece in pieces if piece.parts[1] != _INFINITY]
        return lows if len(lows) == len(pieces) - 1 and self.in_any_order(lows, highs) else None

    # -- scalars

    def scalars(self, gold: Tree, answer: Tree) -> bool:
        if any(part.head == "infinity" for tree in (gold, answer) for part in tree):
            return False
        mark = next((mark for mark in _MARKS if mark in {gold.head, answer.head}), None)
        if mark:
            return self.marked(mark, gold, answer)
        if "based" in {gold.head, answer.head}:
            return _same_digits(gold, answer)
        decimal, other = _decimal(gold), _decimal(answer)
        if decimal and not other:
            return self.stands_for(decimal, gold, answer)
        if other and not decimal:
            return self.stands_for(other, answer, gold)
        return self.arithmetic.equal(gold, answer)

    def marked(self, mark: str, gold: Tree, answer: Tree) -> bool:
        """50 % is 50 and 0.5, and 90° is 90 and π/2; but 50 % is no 0.5 %."""
        bare = [tree.parts[0] if tree.head == mark else tree for tree in (gold, answer)]
        if self.scalars(*bare) or gold.head == answer.head:
            return self.scalars(*bare)
        scaled = (
            times([inside, _MARKS[mark]]) if tree.head == mark else tree
            for tree, inside in zip((gold, answer), bare, strict=True)
        )
        return self.scalars(*scaled)

    def stands_for(self, decimal: _Decimal, written: Tree, exact: Tree) -> bool:
        """Whether a decimal is the exact value, or what that is when cut or rounded to six digits or more."""
        if self.arithmetic.equal(written, exact):
            return True
        if decimal.digits < _ENOUGH_DIGITS or any(part.head in {"decimal", "symbol"} for part in exact):
            return False
        within = decimal.unit * 10 ** max(0, decimal.digits - _MOST_DIGITS)
        return self.arithmetic.near(exact, decimal.value, decimal.unit, within)


def _nature(tree: Tree) -> str:
    """What it is compared as."""
    if tree.head in {"list", "set"} or any(part.head in {"+-", "-+"} for part in tree):
        return "list"
    if tree.head in {*_INTERVALS, "chain", "union", "without", "reals", "empty"}:
        return "reals"
    return "whole" if tree.head in SEVERAL else "scalar"


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
    found = list[Tree]()
    for member in tree.parts if tree.head in {"list", "set"} else (tree,):
        double = any(part.head in {"+-", "-+"} for part in member)
        found += [_choose(member, sign) for sign in (1, -1)] if double else [member]
    return found


def _choose(tree: Tree, sign: int) -> Tree:
    parts = tuple(_choose(part, sign) for part in tree.parts)
    if tree.head not in {"+-", "-+"}:
        return replace(tree, parts=parts)
    return plus(parts if (sign == 1) == (tree.head == "+-") else [parts[0], minus(parts[1])])


def _rising(chain: Tree) -> Tree:
    """The inequality with its least part first."""
    if not set(chain.signs) <= set(_FLIPPED):
        return chain
    signs = tuple(_FLIPPED[sign] for sign in reversed(chain.signs))
    return replace(chain, parts=chain.parts[::-1], names=chain.names[::-1], signs=signs)


def _pieces(tree: Tree) -> list[Tree] | None:
    """A set of real numbers as intervals; None if it is none, or not told piece by piece."""
    found: list[Tree] | None = None
    if tree.head in _INTERVALS:
        found = [tree]
    elif tree.head == "chain":
        found = _solutions(_rising(tree))
    elif tree.head == "reals":
        found = [Tree("()", (_MINUS_INFINITY, _INFINITY))]
    elif tree.head == "set":
        found = [Tree("[]", (point, point)) for point in tree.parts]
    elif tree.head in {"union", "list", "empty"}:
        parts = [_pieces(part) for part in tree.parts]
        found = None if None in parts else [piece for pieces in parts for piece in pieces or []]
    return found


def _solutions(chain: Tree) -> list[Tree] | None:
    """Of an inequality that has its variable alone: x < 1, 0 <= x < 1."""
    if not set(chain.signs) <= {"<", "<="}:
        return None
    parts, closed = chain.parts, [sign == "<=" for sign in chain.signs]
    alone = [i for i, name in enumerate(chain.names) if is_name(name)]
    if len(parts) == 2 and 0 in alone:
        parts, closed = (_MINUS_INFINITY, parts[1]), [False, *closed]
    elif len(parts) == 2 and 1 in alone:
        parts, closed = (parts[0], _INFINITY), [*closed, False]
    elif len(parts) == 3 and 1 in alone:
        parts = parts[::2]
    else:
        return None
    return [Tree(("[" if closed[0] else "(") + ("]" if closed[1] else ")"), parts)]


def _same_digits(gold: Tree, answer: Tree) -> bool:
    """Of numbers of which one has its base written; where the gold says it, the answer need not."""
    if gold.head == answer.head:
        return gold.text == answer.text and gold.value == answer.value
    if "10" in {gold.text, answer.text}:
        return gold.value == answer.value
    digits = answer.text or str(answer.value)
    return gold.head == "based" and answer.head in {"number", "decimal"} and digits in gold.names


def _decimal(tree: Tree) -> _Decimal | None:
    """A decimal, which may be negative or times a power of ten."""
    if tree.head == "decimal":
        mantissa, _, exponent = tree.text.lower().partition("e")
        whole, _, places = mantissa.partition(".")
        unit = Fraction(10) ** (int(exponent or 0) - len(places))
        return _Decimal(tree.value, unit, len((whole + places).lstrip("0")))
    inner = _decimal(tree.parts[0]) if tree.head in {"neg", "*"} else None
    if inner is None:
        return None
    if tree.head == "neg":
        return inner._replace(value=-inner.value)
    power = _power_of_ten(tree.parts[1]) if len(tree.parts) == 2 else None
    return inner._replace(value=inner.value * power, unit=inner.unit * power) if power else None


def _power_of_ten(tree: Tree) -> Fraction | None:
    """10^k, or the 1/100 of a percent sign."""
    if tree == _MARKS["percent"]:
        return Fraction(1, 100)
    if tree.head != "^" or tree.parts[0] != integer(10):
        return None
    exponent = tree.parts[1]
    sign, size = (-1, exponent.parts[0]) if exponent.head == "neg" else (1, exponent)
    small = size.head == "number" and size.value.denominator == 1 and size.value < 10**4
    return Fraction(10) ** (sign * int(size.value)) if small else None
