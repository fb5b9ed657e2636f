"""Thoughts that go round in circles: whether an end repeats itself, and how much of it is repetition.

An end *loops* if it is one block written at least `COPIES` times in a row, of which the last may be broken off, and
comes to at least `LEAST_TOKENS` tokens, or `LEAST_CHARACTERS` of text. The block is the shortest there is. What repeats
with a change, such as a number that counts on, is no loop by this rule, and neither is a short refrain: a list, a sum
of equal digits, the same check made thrice. So it finds too few rather than too many.
"""

from __future__ import annotations

from collections.abc import Sequence

COPIES = 4
LEAST_TOKENS = 48
LEAST_CHARACTERS = 160


def repeated_tokens(ids: Sequence[int]) -> int:
    """Tokens at the end that only repeat those before them: all copies of the block but the first; 0 without a loop.

    Args:
        ids: of one thought, each below 1,114,112.
    """
    return _repeated("".join(map(chr, ids)), LEAST_TOKENS)


def repeated_characters(text: str) -> int:
    """As `repeated_tokens`, of a text; blanks at its end do not count."""
    return _repeated(text.rstrip(), LEAST_CHARACTERS)


def repeated_share(text: str) -> float:
    """The part of a text, in 0…1, that only repeats what came before it."""
    return repeated_characters(text) / max(1, len(text.rstrip()))


def _repeated(text: str, least: int) -> int:
    if len(text) < least:
        return 0
    # whatever loops ends like this one block earlier too, as block and tail come to half of it at most
    tail = text[-(least // COPIES) :]
    found = len(text) - len(tail)
    while (found := text.rfind(tail, 0, found + len(tail) - 1)) >= 0:
        block = len(text) - len(tail) - found
        if COPIES * block > len(text):
            break
        length = _periodic(text, block)
        if length >= max(least, COPIES * block):
            return length - block
    return 0


def _periodic(text: str, block: int) -> int:
    """The longest end of a text in which every character is that of one block before."""
    low, high = block, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        end = text[len(text) - middle :]
        if end[block:] == end[:-block]:
            low = middle
        else:
            high = middle - 1
    return low
