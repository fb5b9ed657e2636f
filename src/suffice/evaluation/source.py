"""Where samples come from, seen as text: a local checkpoint or a server. What is kept of a sample is a `Trace`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from suffice.groups import Problem, Verdict

SWITCH = re.compile(r"\b(wait|alternatively|hmm)\b", re.IGNORECASE)
"""Words with which a thought turns to doubt what it has: where DEER (arXiv 2504.15895) tries an answer."""
TRIALS = 16  # answers tried in one thought at most


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model is sampled: `samples` per problem at a temperature (0 = greedy) under stated token budgets.

    `top_k` 0, `min_p` 0, and a penalty of 0 change nothing. `name` is that of a published protocol (`protocols.py`).
    """

    samples: int
    temperature: float
    top_p: float
    max_thought_tokens: int
    max_answer_tokens: int
    seed: int = 0
    cache_gb: float = 4.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    name: str | None = None

    @classmethod
    def of(cls, section: Any, **changes: Any) -> Sampling:
        """The sampling of a resolved `[eval]` section, with changes."""
        names = ("samples", "temperature", "top_p", "max_thought_tokens", "max_answer_tokens", "seed")
        return cls(**{name: getattr(section, name) for name in names} | changes)


@dataclass(slots=True)
class Forced:
    """The greedy answer that the inducer forced after `position` thought tokens, the first `characters` of the text.

    `confidence` is the geometric mean of the probabilities of its tokens, in 0…1, or None where a server does not tell.
    """

    position: int
    characters: int
    answer: str
    answer_tokens: int
    truncated: bool
    confidence: float | None = None
    verdict: Verdict | None = None

    @property
    def closed(self) -> bool:
        """The inducer closes the thought."""
        return True


@dataclass(slots=True)
class Trace:
    """One sample of one problem, and the answers forced within it.

    Token counts leave out the marks of thought and turn. `switches` are the positions, in thought tokens, at which a
    new turn of the thought begins (`SWITCH`), in order.
    """

    problem: str
    sample: int
    thought: str
    answer: str
    thought_tokens: int
    answer_tokens: int
    closed: bool
    truncated: bool
    switches: list[int] = field(default_factory=list)
    forced: list[Forced] = field(default_factory=list)
    verdict: Verdict | None = None


ExitRule = Callable[[Trace], Sequence[int]]
"""Tells the exits of a trace, 0…thought_tokens, at which an answer is forced, in order and distinct; may be none."""
Draw = tuple[Problem, int]
"""A sample to be drawn: a problem and the sample's number, from 0."""
Advance = Callable[..., None]
"""Told of so many more finished traces, none where work only goes on, and of what may be said beside them."""


class Source(Protocol):
    """A model that can be sampled. Both methods yield finished traces in lots, each worth keeping at once.

    `lot` is how many samples a lot holds where they must be asked for together, None where each stands alone; `counts`
    says how tokens are counted: by a tokenizer, by the server, or by a share of characters.
    """

    name: str

    @property
    def lot(self) -> int | None: ...

    @property
    def counts(self) -> Literal["tokenizer", "server", "characters"]: ...

    def sample(
        self, draws: Sequence[Draw], sampling: Sampling, exits: ExitRule | None, advance: Advance
    ) -> Iterator[list[Trace]]:
        """One trace a draw, each once, in any order; with `exits` also the answers forced within them."""

    def force(
        self, recorded: Sequence[tuple[Problem, Trace]], sampling: Sampling, exits: ExitRule, advance: Advance
    ) -> Iterator[list[Trace]]:
        """Recorded traces with answers forced anew. Their thoughts are tokenized by this source, and counted so."""


def switches(text: str, ends: Sequence[int]) -> list[int]:
    """Token positions at which a switch word begins: tokens that lie wholly before it. At most `TRIALS`, evenly chosen.

    Args:
        text: a thought.
        ends: for each of its tokens, the offset in `text` at which it ends, rising.
    """
    starts = [match.start() for match in SWITCH.finditer(text)]
    if len(starts) > TRIALS:
        starts = [starts[i * len(starts) // TRIALS] for i in range(TRIALS)]
    return sorted({bisect_right(ends, start) for start in starts} - {0})
