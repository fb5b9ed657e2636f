"""Equality that needs computer algebra: math-verify, on expressions that a LaTeX grammar has parsed.

What would hand text to `eval` is left out: the plain-expression reader of math-verify, and the way its LaTeX reader
makes numbers. Importing this module changes that reader for the whole process; only the worker does.
"""

from __future__ import annotations

import logging
from functools import lru_cache

from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended import latex2sympy2
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Add, Atom, Expr, Float, Integer, Mul, Pow, Rational, Symbol, exp, expand, log, preorder_traversal
from sympy.core.evalf import PrecisionExhausted
from sympy.functions.elementary.trigonometric import TrigonometricFunction

logging.disable(logging.CRITICAL)

_CONFIG = [LatexExtractionConfig(boxed_match_priority=0)]
_REMEMBERED = 512  # parsed expressions: every member of a group has the same gold answer
_ELEMENTARY = (Add, Mul, Pow, Atom, exp, log, TrigonometricFunction)
_SURE = 1e-5  # math-verify rounds decimals to 1e-6


class _TwoStageParser(latex2sympy2.PSParser):  # type: ignore[misc]
    """The grammar's parser, which looks ahead without context first and in full only where that finds an error.

    ANTLR promises that a parse without context which succeeds is the full one; it is several times faster.
    """

    def math(self) -> object:
        self._interp.predictionMode = PredictionMode.SLL
        try:
            return super().math()
        except Exception:  # the grammar's error listener raises no narrower one
            self.reset()
            self._interp.predictionMode = PredictionMode.LL
            return super().math()


def _number(digits: str) -> Expr:
    """The value of the grammar's number, such as 1000 or 0.5 or 1E3, which sympy would evaluate as Python."""
    return Integer(digits) if digits.isdigit() else Float(digits)


latex2sympy2.PSParser = _TwoStageParser
latex2sympy2.Number = _number
latex2sympy2._Latex2Sympy.parse_number = lambda _, token: _number(token.replace(",", ""))


def equal(gold: str, answer: str) -> bool:
    """Whether two LaTeX expressions are equal. Takes as long as it takes: the caller keeps the deadline."""
    right, given = _read(gold), _read(answer)
    try:
        settled = _settled(right[0], given[0])
    except Exception:  # sympy stumbles over much; math-verify guards each of its steps
        settled = None
    if settled is not None:
        return settled
    return bool(verify(right, given, allow_set_relation_comp=True, timeout_seconds=None))


@lru_cache(_REMEMBERED)
def _read(expression: str) -> list[object]:
    found: list[object] = parse(f"\\boxed{{{expression}}}", extraction_config=_CONFIG, parsing_timeout=None)
    return found


def _settled(gold: object, answer: object) -> bool | None:
    """Equality of two elementary expressions where a value or expanding settles it, much sooner than simplifying.

    They differ if their values at some point do; they are equal if their difference expands to 0.
    """
    if not (_elementary(gold) and _elementary(answer)):
        return None
    difference = gold - answer  # type: ignore[operator]
    symbols = sorted(difference.free_symbols, key=str)
    try:
        value = difference.subs({symbol: Rational(7 + 3 * i, 5) for i, symbol in enumerate(symbols)}).evalf(strict=True)
    except PrecisionExhausted:  # as for 0
        value = None
    if value is not None and value.is_number and value.is_finite and abs(value) > _SURE:
        return False
    return True if expand(difference) == 0 else None


def _elementary(expression: object) -> bool:
    """Whether it is built from numbers, symbols, powers and elementary functions, and is more than a lone symbol."""
    return (
        isinstance(expression, Expr)
        and not isinstance(expression, Symbol)  # math-verify compares the names of these
        and all(isinstance(part, _ELEMENTARY) for part in preorder_traversal(expression))
    )
