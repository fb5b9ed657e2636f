"""Equality by value: two formulas are equal if they have the same value wherever their symbols are put.

Rational values are exact. Others are computed so finely that a difference 2¹²⁸ times smaller than any quantity in the
formulas would show.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath.ctx_mp import MPContext
from mpmath.libmp import NoConvergence

from suffice.grading.compare import Comparison
from suffice.grading.formula import Tree, Unreadable, integer, read

_POINTS = 3  # at which symbols are put
_SURE = 128  # bits
_LARGE = 1 << 15  # bits of a power, or an argument, that take longer than a moment
_MANY = 1 << 10  # factors of a factorial that do
_FINE, _FINEST = 1 << 12, 1 << 16  # bits to which something is computed: in a moment, at all
_REMEMBERED = 512  # trees: every member of a group has the same gold answer
_NO_VALUE = (ArithmeticError, ValueError, TypeError, MemoryError, RecursionError, NoConvergence)

Number = Any
"""A Fraction, or mpmath's real or complex number."""

Point = Mapping[str, Fraction]
"""A value for every symbol."""

_Placed = tuple[Tree, Point]

mp = MPContext()  # our own: its precision is changed by nobody else …
_lock = threading.Lock()  # … but our other threads

_FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    **{name: getattr(mp, name) for name in "sin cos tan cot sec csc sinh cosh tanh ln".split()},
    **{f"arc{name}": getattr(mp, f"a{name}") for name in "sin cos tan cot sec csc".split()},
    **{f"ar{name}": getattr(mp, f"a{name}") for name in "sinh cosh tanh".split()},
}


class _Long(Exception):
    """It would take longer than a moment."""


def equal(gold: str, answer: str) -> bool:
    """Whether two normalised expressions are equal. Takes as long as it takes: the caller keeps the deadline."""
    return _equal(gold, answer, Values())


def equal_at_once(gold: str, answer: str) -> bool | None:
    """The same, or None if it would take longer than a moment."""
    try:
        with _lock:
            return _equal(gold, answer, Values(brief=True))
    except _Long:
        return None


def _equal(gold: str, answer: str, values: Values) -> bool:
    try:
        return Comparison(values).equal(_read(gold), _read(answer))
    except Unreadable:
        return False


@lru_cache(_REMEMBERED)
def _read(expression: str) -> Tree:
    return read(expression)


class Values:
    """What the values of two scalars are to each other, wherever their symbols are put.

    Args:
        brief: raise `_Long` rather than take longer than a moment.
    """

    def __init__(self, brief: bool = False) -> None:
        self.brief = brief

    def equal(self, gold: Tree, answer: Tree) -> bool:
        return all(self._same([(gold, point)], [(answer, point)]) for point in _points(gold, answer))

    def near(self, exact: Tree, decimal: Fraction, unit: Fraction) -> bool:
        gap, _ = self._gap([(exact, {})], [(Tree("number", value=decimal), {})])
        return gap is not None and bool(gap < (unit if isinstance(gap, Fraction) else _float(unit)))

    def proportional(self, gold: Tree, answer: Tree, positive: bool) -> bool:
        first, *others = _points(gold, answer)
        if any(self._same([(tree, first)], [(integer(0), first)]) for tree in (gold, answer)):
            return False
        if positive and self._same([(Tree("sign", (gold,)), first)], [(Tree("neg", (Tree("sign", (answer,)),)), first)]):
            return False
        return all(
            self._same([(gold, point), (answer, first)], [(answer, point), (gold, first)]) for point in others
        )

    def _same(self, one: list[_Placed], other: list[_Placed]) -> bool:
        """Whether two products are equal: fractions exactly, others to `_SURE` bits beyond all that they are made of."""
        gap, reach = self._gap(one, other)
        if gap is None or isinstance(gap, Fraction):
            return gap == 0
        return bool(gap == 0 or mp.mag(gap) < -_SURE - reach)

    def _gap(self, one: list[_Placed], other: list[_Placed]) -> tuple[Number | None, int]:
        """By how much two products differ, and the reach of what they are made of; None if they have no value."""
        rough = _Evaluation(self.brief)
        try:
            gap = rough.gap(one, other, _SURE)
            if isinstance(gap, Fraction):
                return gap, 0
            bits = 2 * _SURE + 3 * rough.reach
            if self.brief and bits > _FINE:
                raise _Long
            return (_Evaluation(self.brief).gap(one, other, bits) if bits <= _FINEST else None), rough.reach
        except _NO_VALUE:
            return None, 0


class _Evaluation:
    """Computes values, and keeps in `reach` how far from 1 the computed ones come: up to 2^±reach."""

    def __init__(self, brief: bool) -> None:
        self.brief = brief
        self.reach = 0

    def gap(self, one: list[_Placed], other: list[_Placed], bits: int) -> Number:
        with mp.workprec(bits):
            left, right = (_product([self.value(*placed) for placed in side]) for side in (one, other))
            exact = isinstance(left, Fraction) and isinstance(right, Fraction)
            return abs(left - right) if exact else abs(_float(left) - _float(right))

    def value(self, tree: Tree, point: Point) -> Number:
        if tree.head in {"number", "decimal", "based"}:
            return tree.value
        if tree.head == "symbol":
            return point[tree.text]
        parts = [self.value(part, point) for part in tree.parts]
        if self.brief and _is_long(tree.head, parts):
            raise _Long
        value = _operation(tree.head, parts)
        if not isinstance(value, Fraction) and value != 0:
            if not mp.isfinite(value):
                raise ArithmeticError("no finite value")
            self.reach = max(self.reach, abs(int(mp.mag(value))))
        return value


def _points(*trees: Tree) -> list[Point]:
    """Where values are compared: under roots and logarithms symbols are positive, elsewhere of either sign."""
    symbols = sorted({part.text for tree in trees for part in tree if part.head == "symbol"})
    if not symbols:
        return [{}]
    signs = (1,) if any(map(_is_rooted, trees)) else (1, -1)
    draw = random.Random(0)  # any values will do, but the same in all processes
    return [
        {symbol: Fraction(draw.choice(signs) * draw.randint(100, 999), draw.randint(100, 999)) for symbol in symbols}
        for _ in range(_POINTS)
    ]


def _is_rooted(tree: Tree) -> bool:
    return any(
        part.head in {"root", "ln", "log"}
        or (part.head == "^" and any(below.head not in {"number", "neg"} for below in part.parts[1]))
        for part in tree
    )


def _is_long(head: str, parts: list[Number]) -> bool:
    """Whether an operation could take longer than a moment."""
    if head == "^":
        base, exponent = parts
        if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
            return bool(abs(exponent) * (base.numerator.bit_length() + base.denominator.bit_length()) > _LARGE)
        return bool(abs(exponent) > _LARGE)
    if head in {"factorial", "binomial"}:
        return any(abs(part) > _MANY for part in parts)
    return head in _FUNCTIONS and bool(abs(parts[0]) > _LARGE)


def _operation(head: str, parts: list[Number]) -> Number:
    """What an operation makes of values; a fraction if it is one exactly."""
    exact = all(isinstance(part, Fraction) for part in parts)
    whole = exact and all(part.denominator == 1 for part in parts)
    match head:
        case "+":
            return sum(parts, Fraction(0)) if exact else mp.fsum(map(_float, parts))
        case "*":
            return _product(parts)
        case "/":
            return parts[0] / parts[1] if exact else _float(parts[0]) / _float(parts[1])
        case "neg":
            return -parts[0]
        case "^":
            return _power(*parts)
        case "root":
            return _root(*parts)
        case "abs":
            return abs(parts[0])
        case "floor" | "ceil" if exact:
            return Fraction(math.floor(parts[0]) if head == "floor" else math.ceil(parts[0]))
        case "floor" | "ceil":
            return getattr(mp, head)(parts[0])
        case "factorial":
            return Fraction(math.factorial(int(parts[0]))) if whole else mp.gamma(_float(parts[0]) + 1)
        case "binomial":
            counted = whole and min(parts) >= 0
            return Fraction(math.comb(*map(int, parts))) if counted else mp.binomial(*map(_float, parts))
        case "gcd" | "lcm" if whole:
            return Fraction(getattr(math, head)(*map(int, parts)))
        case "min":
            return min(parts if exact else map(_float, parts))
        case "max":
            return max(parts if exact else map(_float, parts))
        case "percent":
            return parts[0] / 100
        case "degree":
            return parts[0]
        case "sign":
            return Fraction(int(mp.sign(mp.re(_float(parts[0])))))
        case "log":
            return mp.ln(_float(parts[0])) / mp.ln(_float(parts[1]))
        case "pi" | "e":
            return +getattr(mp, head)
        case "i":
            return mp.mpc(0, 1)
    if head not in _FUNCTIONS:
        raise ArithmeticError(f"{head} has no value")
    return _FUNCTIONS[head](_float(parts[0]))


def _product(factors: list[Number]) -> Number:
    exact = all(isinstance(factor, Fraction) for factor in factors)
    return math.prod(factors, start=Fraction(1)) if exact else mp.fprod(map(_float, factors))


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return base ** int(exponent)
    return mp.power(_float(base), _float(exponent))


def _root(value: Number, degree: Number) -> Number:
    """Of a negative number the real root, where there is one."""
    number = _float(value)
    if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 1:
        return mp.power(number, 1 / _float(degree))
    if degree % 2 == 1 and mp.im(number) == 0 and mp.re(number) < 0:
        return -mp.root(-number, int(degree))
    return mp.root(number, int(degree))


def _float(value: Number) -> Number:
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value
