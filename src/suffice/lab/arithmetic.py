"""The lab's task: chains of variables modulo 10, such as `a = 6 , b = a - 1 , c = b * 8 , b c ?` with gold `5 0`.

The question asks for the LAST TWO variables, so that a guess earns about 3 %: where lucky guesses are frequent, they
are what a method that rewards early answers learns. Difficulty is the number of steps, 1 to 6.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from suffice.groups import Problem
from suffice.lab.splits import check, first_distinct

Split = Literal["train", "test"]

NAMES = "abcdefg"
OPERATORS = "+-*"
MAX_STEPS = len(NAMES) - 1


@dataclass(frozen=True, slots=True)
class Step:
    """One link of a chain: the next variable is the previous one, `operator`, `operand` (1 to 9), modulo 10."""

    operator: str
    operand: int

    def apply(self, value: int) -> int:
        """The next digit."""
        match self.operator:
            case "+":
                return (value + self.operand) % 10
            case "-":
                return (value - self.operand) % 10
            case _:
                return (value * self.operand) % 10


@dataclass(frozen=True, slots=True)
class Chain:
    """A first digit and 1 to 6 steps."""

    first: int
    steps: tuple[Step, ...]

    @property
    def values(self) -> list[int]:
        """The digit of every variable, the first included."""
        values = [self.first]
        for step in self.steps:
            values.append(step.apply(values[-1]))
        return values

    @property
    def prompt(self) -> str:
        """The question, words separated by single spaces."""
        lines = [f"{NAMES[0]} = {self.first}"]
        for index, step in enumerate(self.steps):
            lines.append(f"{NAMES[index + 1]} = {NAMES[index]} {step.operator} {step.operand}")
        last = len(self.steps)
        return " , ".join([*lines, f"{NAMES[last - 1]} {NAMES[last]} ?"])

    @property
    def gold(self) -> str:
        """The digits of the last two variables."""
        return "{} {}".format(*self.values[-2:])


def chains(split: Split, rng: random.Random) -> Iterator[Chain]:
    """Endless random chains of a split, repeats included; every number of steps is equally likely.

    A prompt belongs to the test split or to the train split by a hash of its text, half of them each.
    """
    while True:
        steps = tuple(Step(rng.choice(OPERATORS), rng.randint(1, 9)) for _ in range(rng.randint(1, MAX_STEPS)))
        chain = Chain(rng.randint(0, 9), steps)
        if (zlib.crc32(chain.prompt.encode()) % 2 == 1) == (split == "test"):
            yield chain


def problems(split: Split, count: int, seed: int = 0) -> list[Problem]:
    """The first `count` distinct problems of a split; the same seed gives the same problems, in the same order.

    There are only about 130 one-step problems in a split, so a large `count` holds fewer of those.

    Raises:
        DataError: an unknown split, or fewer than one problem asked for.
    """
    check("arithmetic", split, count, ("train", "test"))
    distinct = first_distinct(chains(split, random.Random(f"arithmetic {split} {seed}")), count)
    name = f"arithmetic-{split}" if seed == 0 else f"arithmetic-{split}-seed{seed}"
    return [
        Problem(f"{name}-{index}", "arithmetic", chain.prompt, chain.gold, "exact", str(len(chain.steps)))
        for index, chain in enumerate(distinct)
    ]
