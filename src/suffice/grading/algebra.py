"""Equality by value: two formulas are equal if they have the same value wherever their symbols are put.

Rational values are exact. Others are computed so finely that a difference 2¹²⁸ times smaller than any quantity in the
formulas would show.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath.ctx_mp import MPContext
from mpmath.libmp import NoConvergence

from suffice.grading.compare import Comparison
from suffice.grading.formula import read
from suffice.grading.notation import FUNCTIONS
from suffice.grading.tree import FormulaError, Tree, integer, minus

_POINTS = 5  # at which symbols are put
_SURE = 128  # bits
_LARGE = 1 << 15  # bits of a power, or an argument, that take longer than a moment
_MANY = 1 << 10  # factors of a factorial that do
_FINE, _FINEST = 1 << 12, 1 << 16  # bits to which something is computed: in a moment, at all
_REMEMBERED = 512  # trees: every member of a group has the same gold answer
_NO_VALUE = (KeyError, ArithmeticError, ValueError, TypeError, MemoryError, RecursionError, NoConvergence)

Number = Any
"""A Fraction, or mpmath's real or complex number."""

Point = Mapping[str, Fraction]
"""A value for every symbol."""

_Placed = tuple[Tree, Point]

mp = MPContext()  # our own: its precision is changed by nobody else …
_lock = threading.Lock()  # … but our other threads
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _LongError(Exception):
    """It would take longer than a moment."""


def equal(gold: str, answer: str) -> bool:
    """Whether two normalised expressions are equal. Takes as long as it takes: the caller keeps the deadline."""
    return _equal(gold, answer, Values())


def equal_at_once(gold: str, answer: str) -> bool | None:
    """The same, or None if it would take longer than a moment."""
    try:
        with _lock:
            return _equal(gold, answer, Values(brief=True))
    except _LongError:
        return None


def _equal(gold: str, answer: str, values: Values) -> bool:
    try:
        return Comparison(values).equal(read_once(gold), read_once(answer))
    except FormulaError:
        return False


@lru_cache(_REMEMBERED)
def read_once(expression: str) -> Tree:
    return read(expression)


class Values:
    """What the values of two scalars are to each other, wherever their symbols are put.

    Args:
        brief: raise `_LongError` rather than take longer than a moment.
    """

    def __init__(self, brief: bool = False) -> None:
        self.brief = brief

    def equal(self, gold: Tree, answer: Tree) -> bool:
        return all(self._same([(gold, point)], [(answer, point)]) for point in _points(gold, answer))

    def near(self, exact: Tree, decimal: Fraction, unit: Fraction, within: Fraction) -> bool:
        gap, _ = self._gap([(exact, {})], [(Tree("number", value=decimal), {})])
        if isinstance(gap, Fraction):
            return gap < within and (gap / unit).denominator != 1
        return gap is not None and bool(gap < _float(within))

    def proportional(self, gold: Tree, answer: Tree, positive: bool) -> bool:
        first, *others = _points(gold, answer)
        if any(self._same([(tree, first)], [(integer(0), first)]) for tree in (gold, answer)):
            return False
        if positive and self._same([(Tree("sign", (gold,)), first)], [(minus(Tree("sign", (answer,))), first)]):
            return False
        return all(self._same([(gold, point), (answer, first)], [(answer, point), (gold, first)]) for point in others)

    def _same(self, one: list[_Placed], other: list[_Placed]) -> bool:
        """Whether two products are equal: fractions exactly, others to `_SURE` bits beyond all they are made of."""
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
                raise _LongError
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
            left, right = (_operation("*", [self.value(*placed) for placed in side]) for side in (one, other))
            return abs(_operation("+", [left, -right]))

    def value(self, tree: Tree, point: Point) -> Number:
        if tree.head in {"number", "decimal", "based"}:
            return tree.value
        if tree.head == "symbol":
            return point[tree.text]
        parts = [self.value(part, point) for part in tree.parts]
        if self.brief and _is_long(tree.head, parts):
            raise _LongError
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
        if _are_fractions(parts) and exponent.denominator == 1:
            return bool(abs(exponent) * (base.numerator.bit_length() + base.denominator.bit_length()) > _LARGE)
        return bool(abs(exponent) > _LARGE)
    if head in {"factorial", "binomial"}:
        return any(abs(part) > _MANY for part in parts)
    return head in FUNCTIONS and bool(abs(parts[0]) > _LARGE)


def _are_fractions(values: Iterable[Number]) -> bool:
    return all(isinstance(value, Fraction) for value in values)


def _operation(head: str, parts: list[Number]) -> Number:
    """What an operation makes of values: a fraction of fractions where that is exact."""
    if head == "^":
        return _power(*parts)
    if _are_fractions(parts) and head in _EXACT and (exact := _EXACT[head](*parts)) is not None:
        return exact
    return _COMPUTED[head](*map(_float, parts))


def _float(value: Number) -> Number:
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _whole(function: Callable[..., int]) -> Callable[..., Fraction | None]:
    """A function of whole numbers that are not negative; of others there is no exact value."""

    def of(*values: Fraction) -> Fraction | None:
        fit = all(value.denominator == 1 and value >= 0 for value in values)
        return Fraction(function(*map(int, values))) if fit else None

    return of


def _power(base: Number, exponent: Number) -> Number:
    """Of a negative number to a third or the like the real power."""
    if not isinstance(exponent, Fraction):
        return mp.power(_float(base), _float(exponent))
    if exponent.denominator == 1:
        return base ** int(exponent)
    number = _float(base)
    if exponent.denominator % 2 == 1 and mp.im(number) == 0 and mp.re(number) < 0:
        return (-1) ** exponent.numerator * mp.power(-number, _float(exponent))
    return mp.power(number, _float(exponent))


def _root(value: Number, degree: Number) -> Number:
    """Of a negative number the real root, where there is one."""
    whole = mp.isint(degree) and degree > 0
    if whole and degree % 2 == 1 and mp.im(value) == 0 and mp.re(value) < 0:
        return -mp.root(-value, int(degree))
    return mp.root(value, int(degree)) if whole else mp.power(value, 1 / degree)


_EITHER: dict[str, Callable[..., Number]] = {
    "/": lambda top, bottom: top / bottom,
    "neg": lambda value: -value,
    "abs": abs,
    "percent": lambda value: value / 100,
    "degree": lambda value: value,
    "min": min,
    "max": max,
}
_EXACT: dict[str, Callable[..., Fraction | None]] = {
    **_EITHER,
    "+": lambda *terms: sum(terms, Fraction(0)),
    "*": lambda *factors: math.prod(factors, start=Fraction(1)),
    "floor": lambda value: Fraction(math.floor(value)),
    "ceil": lambda value: Fraction(math.ceil(value)),
    "factorial": _whole(math.factorial),
    "binomial": _whole(math.comb),
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
    "sign": lambda value: Fraction((value > 0) - (value < 0)),
}
_COMPUTED: dict[str, Callable[..., Number]] = {
    **_EITHER,
    "+": lambda *terms: mp.fsum(terms),
    "*": lambda *factors: mp.fprod(factors),
    "floor": mp.floor,
    "ceil": mp.ceil,
    "factorial": lambda value: mp.gamma(value + 1),
    "binomial": mp.binomial,
    "sign": lambda value: mp.sign(mp.re(value)),
    "root": _root,
    "log": lambda value, base: mp.ln(value) / mp.ln(base),
    "ln": mp.ln,
    "pi": lambda: +mp.pi,
    "e": lambda: +mp.e,
    "i": lambda: mp.mpc(0, 1),
    **{name: getattr(mp, name) for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")},
    **{f"arc{name}": getattr(mp, f"a{name}") for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{f"ar{name}": getattr(mp, f"a{name}") for name in ("sinh", "cosh", "tanh")},
}
