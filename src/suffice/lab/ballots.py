"""The lab's second task: which class has most of 15 votes, when how clear the majority is cannot be seen beforehand.

    a 3 , b 7 , c 7 , … , o 1 , most votes ?

Ballot i (a is 0) with digit x votes for class (i + x) modulo 10, so every vote costs a moment's thought. Each ballot
votes for one class with the problem's share, otherwise for any other. The share is the difficulty; the prompt does not
tell it. A thought opens ballots in random order and may stop at any time, so accuracy rises gradually with thinking:

    c 7 = v9 #1 ; a 3 = v3 #1 ; f 4 = v9 #2 ;

Here `#` counts the votes of that class so far, and the answer is whoever leads at the end. The thoughts that a base
learns from stop regardless of the votes: that two agreeing ones are mostly enough, and when not, is left for training
to find out.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from suffice.groups import Problem
from suffice.lab.lesson import Lesson
from suffice.lab.splits import Split, check, split_of

NAMES = "abcdefghijklmno"
QUESTION = "most votes ?"


@dataclass(frozen=True, slots=True)
class Poll:
    """A variant of the task: its name, the number of classes, and the winner's shares, equally frequent."""

    name: str
    classes: int
    shares: tuple[float, ...]


BALLOTS = Poll("ballots", 10, (0.97, 0.60, 0.45, 0.33))
BALLOTS_4 = Poll("ballots-4", 4, (0.95, 0.70, 0.55, 0.42))
"""Few classes, where a guess is worth much and each further ballot little."""

BALLOTS_EASY = Poll("ballots-easy", 10, (0.80, 0.80, 0.80, 0.45))
"""Mostly clear majorities: a training set on which little thought is needed."""

POLLS = (BALLOTS, BALLOTS_4, BALLOTS_EASY)

VOCABULARY = (
    *"0123456789,=;",
    *NAMES,
    *(f"v{vote}" for vote in range(BALLOTS.classes)),
    *(f"#{count}" for count in range(1, len(NAMES) + 1)),
    *QUESTION.split(),
)


@dataclass(frozen=True, slots=True)
class Ballots:
    """The vote of every ballot, in order of the names, and the winner's share they were drawn with."""

    votes: tuple[int, ...]
    classes: int
    share: float

    @property
    def digits(self) -> list[int]:
        """What the prompt shows of each vote."""
        return [(vote - index) % self.classes for index, vote in enumerate(self.votes)]

    @property
    def prompt(self) -> str:
        """The question, words separated by single spaces."""
        shown = [f"{name} {digit}" for name, digit in zip(NAMES, self.digits, strict=True)]
        return " , ".join([*shown, QUESTION])

    @property
    def gold(self) -> str:
        """The class with most votes."""
        (leader,) = leaders(self.votes)
        return f"v{leader}"


def leaders(votes: Iterable[int]) -> list[int]:
    """The classes with most votes, in order; none without a vote."""
    counts = Counter(votes)
    return sorted(vote for vote, count in counts.items() if count == max(counts.values()))


def draw(poll: Poll, share: float, split: Split, rng: random.Random) -> Ballots:
    """Random ballots of a split with one class alone in front.

    A hash of its text decides whether a prompt belongs to train (half of them), test or final (a quarter each).
    """
    while True:
        favourite = rng.randrange(poll.classes)
        votes = tuple(
            favourite if rng.random() < share else (favourite + rng.randrange(1, poll.classes)) % poll.classes
            for _ in NAMES
        )
        ballots = Ballots(votes, poll.classes, share)
        if len(leaders(votes)) == 1 and split_of(ballots.prompt) == split:
            return ballots


def problems(split: Split, count: int, seed: int = 0, poll: Poll = BALLOTS) -> list[Problem]:
    """The first `count` distinct problems of a split; the same seed gives the same problems, in the same order.

    Shares take turns. There are few different ballots that are nearly of one mind: in 4,000 problems those drawn with
    a share of 0.97 have one of about 0.9.

    Raises:
        DataError: an unknown split, or fewer than one problem asked for.
    """
    check(poll.name, split, count)
    distinct: dict[str, Ballots] = {}
    rng = random.Random(f"{poll.name} {split} {seed}")
    for share in itertools.islice(itertools.cycle(poll.shares), count):
        while (ballots := draw(poll, share, split, rng)).prompt in distinct:
            pass
        distinct[ballots.prompt] = ballots
    name = f"{poll.name}-{split}" if seed == 0 else f"{poll.name}-{split}-seed{seed}"
    return [
        Problem(f"{name}-{index}", poll.name, ballots.prompt, ballots.gold, "exact", f"{ballots.share:.2f}")
        for index, ballots in enumerate(distinct.values())
    ]


@dataclass(frozen=True, slots=True)
class Habits:
    """When the writer of the thoughts stops, whatever the votes say.

    Args:
        unread: probability of opening no ballot.
        all_read: probability of opening every one; otherwise 1 to 14, equally likely.
    """

    unread: float = 0.01
    all_read: float = 0.34


def write(ballots: Ballots, rng: random.Random, habits: Habits = Habits()) -> Lesson:
    """A thought about `ballots` with the given habits, answered by whoever leads; ties, and no vote, by lot."""
    chance = rng.random()
    if chance < habits.unread:
        opened = 0
    elif chance < habits.unread + habits.all_read:
        opened = len(NAMES)
    else:
        opened = rng.randrange(1, len(NAMES))
    reads: list[str] = []
    counts: Counter[int] = Counter()
    digits = ballots.digits
    for index in rng.sample(range(len(NAMES)), opened):
        vote = ballots.votes[index]
        counts[vote] += 1
        reads.append(f"{NAMES[index]} {digits[index]} = v{vote} #{counts[vote]} ;")

    def answer_at(words: Sequence[str]) -> str:
        votes = [int(word[1:]) for word in words if word.startswith("v")]
        return f"v{rng.choice(leaders(votes) or range(ballots.classes))}"

    thought = " ".join(reads)
    return Lesson(ballots.prompt, thought, answer_at(thought.split()), answer_at)


def lessons(poll: Poll, rng: random.Random, habits: Habits) -> Iterator[Lesson]:
    """Endless lessons on the train split."""
    return (write(draw(poll, share, "train", rng), rng, habits) for share in itertools.cycle(poll.shares))
