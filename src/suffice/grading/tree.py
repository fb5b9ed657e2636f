"""What a formula says, as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

SEVERAL = frozenset({
    "list", "set", "()", "[]", "(]", "[)", "chain", "matrix", "row", "union", "without", "words", "ratio", "reals",
    "empty",
})  # fmt: skip
"""What is no number and can be no part of one."""


class FormulaError(Exception):
    """A text is no formula from its beginning to its end, or a formula joins what cannot be joined."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A part of a formula: what it is (`head`), its own parts, and what else there is to say.

    A `number` has a value, a `decimal` also its text, a `based` number also its base as text and its digits in `names`.
    A `symbol` and `words` have their text. A `chain` has its relation signs in `signs`, and in `names` how each part is
    written.
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


def integer(value: int) -> Tree:
    return Tree("number", value=Fraction(value))


def scalar(tree: Tree) -> Tree:
    """The tree, which must be a number, or become one when its symbols are known."""
    if tree.head in SEVERAL:
        raise FormulaError
    return tree


def several(items: Sequence[Tree]) -> Tree:
    return items[0] if len(items) == 1 else Tree("list", tuple(items))


def plus(parts: Sequence[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else Tree("+", tuple(map(scalar, parts)))


def minus(tree: Tree) -> Tree:
    return _within(minus, tree) if tree.head in {*_MARKS, "matrix"} else Tree("neg", (scalar(tree),))


def times(factors: Sequence[Tree]) -> Tree:
    """The product. One factor may be a matrix; a percent or degree sign at the end is one of the whole."""
    *others, last = factors
    if not others:
        return last
    for i, factor in enumerate(factors):
        if factor.head == "matrix":
            rest = [*factors[:i], *factors[i + 1 :]]
            return _within(lambda cell: times([*rest, cell]), factor)  # noqa: B023
    if last.head in _MARKS:
        return _within(lambda inside: times([*others, inside]), last)
    return Tree("*", tuple(map(scalar, factors)))


def over(top: Tree, bottom: Tree) -> Tree:
    """The quotient; 1/2 % is half a percent."""
    if top.head == "matrix":
        return _within(lambda cell: over(cell, bottom), top)
    if bottom.head in _MARKS:
        return _within(lambda inside: over(top, inside), bottom)
    return Tree("/", (scalar(top), scalar(bottom)))


def raised(base: Tree, exponent: Tree) -> Tree:
    return Tree("^", (scalar(base), scalar(exponent)))


def in_radians(tree: Tree) -> Tree:
    """With π/180 for every degree sign."""
    parts = tuple(map(in_radians, tree.parts))
    if tree.head == "degree":
        return Tree("*", (*parts, Tree("/", (Tree("pi"), integer(180)))))
    return replace(tree, parts=parts)


_MARKS = frozenset({"percent", "degree"})


def _within(change: Callable[[Tree], Tree], tree: Tree) -> Tree:
    """Change what stands under a mark, or every cell of a matrix."""
    deeper = tree.head == "matrix"
    return replace(tree, parts=tuple(_within(change, part) if deeper else change(part) for part in tree.parts))
