"""The lab's third task: addition by columns, such as `4 8 2 + 9 1 7 ?` with gold `1 3 9 9`.

Both numbers are written with as many digits as the longer one has, 2 to 5: that number of columns is the difficulty.
A thought names the columns from the left, a, b, c, …, adds them from the right, each with the carry that it was given
and the two digits that came out, and concludes; then it checks itself again and again:

    c 2 + 7 + 0 = 0 9 ; b 8 + 1 + 0 = 0 9 ; a 4 + 9 + 0 = 1 3 ; so 1 3 9 9 .
    wait , c 2 + 7 + 0 = 0 9 ; b 8 + 1 + 0 = 0 9 ; a 4 + 9 + 0 = 1 3 ; so 1 3 9 9 .

A column may slip, and a wrong carry goes on to the next one. As in `arithmetic` the LAST conclusion is the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from suffice.groups import Problem
from suffice.lab.lesson import Lesson
from suffice.lab.splits import Split, check, first_distinct, split_of
from suffice.lab.thoughts import OPENERS, Habits, Thought, checked, teach

NAMES = "abcde"
MIN_COLUMNS, MAX_COLUMNS = 2, len(NAMES)
VOCABULARY = (*"0123456789+=?;.", *NAMES, "so", *" ".join(OPENERS).split())


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers to add, of which the longer has `columns` digits."""

    left: int
    right: int
    columns: int

    @property
    def digits(self) -> list[tuple[int, int]]:
        """The two digits of every column, from the left."""
        return [(int(x), int(y)) for x, y in zip(self._padded(self.left), self._padded(self.right), strict=True)]

    @property
    def prompt(self) -> str:
        """The question, words separated by single spaces."""
        return " ".join([*self._padded(self.left), "+", *self._padded(self.right), "?"])

    @property
    def gold(self) -> str:
        """The digits of the sum, the first of them not 0."""
        return " ".join(str(self.left + self.right))

    def _padded(self, number: int) -> str:
        return str(number).zfill(self.columns)


def sums(split: Split, rng: random.Random) -> Iterator[Sum]:
    """Endless random sums of a split, repeats included; every number of columns is equally likely.

    One number has as many digits as there are columns, the other 2 or more, equally likely. A hash of its text decides
    whether a prompt belongs to train (half of them), test or final (a quarter each).
    """
    while True:
        columns = rng.randint(MIN_COLUMNS, MAX_COLUMNS)
        numbers = [_number(columns, rng), _number(rng.randint(MIN_COLUMNS, columns), rng)]
        rng.shuffle(numbers)
        drawn = Sum(numbers[0], numbers[1], columns)
        if split_of(drawn.prompt) == split:
            yield drawn


def _number(digits: int, rng: random.Random) -> int:
    return rng.randrange(10 ** (digits - 1), 10**digits)


def problems(split: Split, count: int, seed: int = 0) -> list[Problem]:
    """The first `count` distinct problems of a split; the same seed gives the same problems, in the same order.

    Raises:
        DataError: an unknown split, or fewer than one problem asked for.
    """
    check("sums", split, count)
    distinct = first_distinct(sums(split, random.Random(f"sums {split} {seed}")), count)
    name = f"sums-{split}" if seed == 0 else f"sums-{split}-seed{seed}"
    return [
        Problem(f"{name}-{index}", "sums", drawn.prompt, drawn.gold, "exact", str(drawn.columns))
        for index, drawn in enumerate(distinct)
    ]


def write(drawn: Sum, rng: random.Random, habits: Habits) -> Thought:
    """A thought about `drawn` with the given habits, drawn from `rng`."""
    return checked(lambda slip: _pass(drawn, rng, slip), rng, habits)


def lessons(rng: random.Random, habits: Habits) -> Iterator[Lesson]:
    """Endless lessons on the train split."""
    return (teach(drawn.prompt, drawn.gold, write(drawn, rng, habits)) for drawn in sums("train", rng))


def _pass(drawn: Sum, rng: random.Random, slip: float) -> tuple[str, str]:
    """One addition with its conclusion."""
    carry, result = 0, ""
    words = []
    for name, (x, y) in reversed(list(zip(NAMES[: drawn.columns], drawn.digits, strict=True))):
        total = x + y + carry
        if rng.random() < slip:
            total = (total + rng.randint(1, 19)) % 20
        words.append(f"{name} {x} + {y} + {carry} = {total // 10} {total % 10} ;")
        carry, result = total // 10, f"{total % 10}{result}"
    conclusion = " ".join(f"{carry}{result}" if carry else result)
    return " ".join([*words, f"so {conclusion} ."]), conclusion
