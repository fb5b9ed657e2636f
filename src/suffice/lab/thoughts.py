"""What the base of `arithmetic` learns to think: thoughts that derive the answer, then check it again and again.

    a = 6 ; b = 6 - 1 = 5 ; c = 5 * 8 = 0 ; so 5 0 .
    wait , a = 6 ; b = 6 - 1 = 5 ; c = 5 * 8 = 0 ; so 5 0 .

Any step may slip, and a slip carries on to the end of its pass. The LAST conclusion is the answer, so a recheck may
mend a slip or break what was right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from suffice.lab.arithmetic import NAMES, OPERATORS, Chain, chains
from suffice.lab.lesson import Lesson

OPENERS = ("wait ,", "check again :", "let me check :", "hmm ,")
VOCABULARY = (*"0123456789?=;.", *NAMES, *OPERATORS, "so", *" ".join(OPENERS).split())


@dataclass(frozen=True, slots=True)
class Habits:
    """What the writer of the thoughts tends to do.

    Args:
        rechecks: probability of 0, 1, 2, … rechecks after the first pass; they sum to 1.
        slip: probability that a step of the first pass ends in a wrong digit.
        recheck_slip: the same for a step of a recheck.
    """

    rechecks: tuple[float, ...] = (0.15, 0.40, 0.30, 0.15)
    slip: float = 0.03
    recheck_slip: float = 0.06


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought as text, and for each of its passes the conclusion it came to."""

    text: str
    conclusions: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The last conclusion, right or wrong."""
        return self.conclusions[-1]


def checked(derive: Callable[[float], tuple[str, str]], rng: random.Random, habits: Habits) -> Thought:
    """A first pass and its rechecks; `derive(slip)` writes one pass and says what it concludes."""
    lines, conclusions = [], []
    rechecks = rng.choices(range(len(habits.rechecks)), habits.rechecks)[0]
    for index in range(rechecks + 1):
        line, conclusion = derive(habits.recheck_slip if index else habits.slip)
        lines.append(f"{rng.choice(OPENERS)} {line}" if index else line)
        conclusions.append(conclusion)
    return Thought("\n".join(lines), tuple(conclusions))


def teach(prompt: str, gold: str, thought: Thought) -> Lesson:
    """A thought to learn from. Cut, its answer is the last conclusion there was time for."""

    def answer_at(words: Sequence[str]) -> str:
        concluded = words.count(".")
        # before the first conclusion the right one is the best to aim at
        return thought.conclusions[concluded - 1] if concluded else gold

    return Lesson(prompt, thought.text, thought.answer, answer_at)


def write(chain: Chain, rng: random.Random, habits: Habits = Habits()) -> Thought:
    """A thought about `chain` with the given habits, drawn from `rng`."""
    return checked(lambda slip: _pass(chain, rng, slip), rng, habits)


def lessons(rng: random.Random, habits: Habits) -> Iterator[Lesson]:
    """Endless lessons on the train split."""
    return (lesson(chain, rng, habits) for chain in chains("train", rng))


def lesson(chain: Chain, rng: random.Random, habits: Habits = Habits()) -> Lesson:
    """What to learn from a thought about `chain`."""
    return teach(chain.prompt, chain.gold, write(chain, rng, habits))


def _pass(chain: Chain, rng: random.Random, slip: float) -> tuple[str, str]:
    """One derivation with its conclusion."""
    values = [chain.first]
    words = [f"{NAMES[0]} = {chain.first} ;"]
    for index, step in enumerate(chain.steps):
        value = step.apply(values[-1])
        if rng.random() < slip:
            value = (value + rng.randint(1, 9)) % 10
        words.append(f"{NAMES[index + 1]} = {values[-1]} {step.operator} {step.operand} = {value} ;")
        values.append(value)
    conclusion = f"{values[-2]} {values[-1]}"
    return " ".join([*words, f"so {conclusion} ."]), conclusion
