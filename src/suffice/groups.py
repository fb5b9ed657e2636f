"""The words of suffice as plain dataclasses.

A *problem* has a prompt and a gold answer. A *group* is what is sampled for one problem: K *spines* (independent full
rollouts), each with up to m *branches* (the thought cut at an *exit*, the inducer injected, an answer sampled). Every
spine and every branch is one *member*. GRPO's parallel group has m = 0; S-GRPO's serial group has K = 1.

A method sees none of this text: it scores a `GroupBatch` of tensors with P problems (rows) and G = K·(m + 1) members
(columns), the suffixes `_P_G` of their names. Column order is fixed: a spine's block holds its exits in order of
position, then the full member LAST; exits that do not exist are invalid columns just before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # graders and the command line use these words without loading torch
    from torch import Tensor

Kind = Literal["math", "choice", "exact"]


CONSIDERED = 0.005
"""Probability of stopping from which on a model considers it."""


class Verdict(StrEnum):
    """What the grader says of one member's answer."""

    CORRECT = "CORRECT"
    WRONG = "WRONG"
    UNPARSED = "UNPARSED"
    TIMEOUT = "TIMEOUT"


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer.

    `prompt` is the user's turn as text (the chat template is applied at rollout); `kind` says how to grade;
    `difficulty` is a label that evaluations are broken down by, or None.
    """

    id: str
    task: str
    prompt: str
    gold: str
    kind: Kind = "math"
    difficulty: str | None = None


@dataclass(slots=True)
class Branch:
    """The member that leaves its spine's thought after `exit` thought tokens.

    Its response is the spine's tokens up to the exit, the group's inducer, then `answer`, which the policy sampled
    with log-probabilities `logprobs` (natural log, at rollout temperature, before top-p). In a group with a `gold`
    answer none is sampled: `value` is the probability of the gold one. `stopping` is the policy's own probability of
    leaving here, where it was watched.
    """

    exit: int
    answer: list[int]
    logprobs: list[float]
    truncated: bool
    verdict: Verdict | None = None
    value: float | None = None
    stopping: float | None = None

    @property
    def thought_length(self) -> int:
        return self.exit

    @property
    def answer_tokens(self) -> list[int]:
        return self.answer

    @property
    def closed(self) -> bool:
        """The inducer closes the thought."""
        return True


@dataclass(slots=True)
class Spine:
    """A full rollout: response tokens, of which `tokens[thought_start:thought_end]` is the thought.

    `closed` is whether the thought ended by itself; `truncated` whether a token limit ended the response. The answer is
    `tokens[answer_start:]`; by default it follows the one token that closes the thought. A turn without marks has no
    thought: it is closed, and its answer starts at 0. `watched` are log-probs of one token, the model's decision to
    stop, in the place of every token, or empty. `value` is the probability of the group's gold answer in the
    place of its own, after `gold_at` tokens, if the group has one.
    """

    tokens: list[int]
    logprobs: list[float]
    thought_start: int
    thought_end: int
    closed: bool
    truncated: bool
    verdict: Verdict | None = None
    branches: list[Branch] = field(default_factory=list)
    answer_start: int | None = None
    watched: list[float] = field(default_factory=list)
    value: float | None = None
    gold_at: int = 0

    @property
    def thought_length(self) -> int:
        """Thought tokens: neither the open nor the close of the thought counts."""
        return self.thought_end - self.thought_start

    @property
    def answer_tokens(self) -> list[int]:
        """Tokens after the close of the thought, the end of turn included; empty if the thought never closed."""
        start = self.thought_end + 1 if self.answer_start is None else self.answer_start
        return self.tokens[start:] if self.closed else []


@dataclass(slots=True)
class Group:
    """Everything sampled for one problem.

    `prompt` and `inducer` are token ids, shared by all members; `key` names the random streams of its members. `gold`
    is what the gold answer adds to the close of the thought, up to the end of turn, where members are valued by its
    probability, and else empty.
    """

    problem: Problem
    prompt: list[int]
    inducer: list[int]
    spines: list[Spine]
    key: str = ""
    gold: list[int] = field(default_factory=list)

    def members(self, exits: int) -> Iterator[tuple[int, Spine, Spine | Branch]]:
        """(column of a `GroupBatch` with `exits` exits a spine, the member's spine, the member)."""
        for k, spine in enumerate(self.spines):
            start = k * (exits + 1)
            yield from ((start + i, spine, branch) for i, branch in enumerate(spine.branches))
            yield start + exits, spine, spine


def answer_length(tokens: Iterable[int], end_ids: frozenset[int]) -> int:
    """Tokens of an answer; an end of turn counts in no length."""
    return sum(token not in end_ids for token in tokens)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a method makes of a batch: `reward` and `advantage`, float32 [P, G]; both 0 for invalid members."""

    reward: Tensor
    advantage: Tensor


@dataclass(frozen=True, slots=True)
class GroupBatch:
    """The graded members of P groups of G, all a method may look at.

    Args:
        correct: bool [P, G], whether a member's verdict is CORRECT.
        length: int [P, G], thought + answer tokens.
        valid: bool [P, G], False for members that do not exist (default: all exist).
        spines: spines per group K; None lets the method decide (G for parallel methods, 1 for `s-grpo`).
        thought_length: int [P, G], thought tokens alone (default: `length`).
        truncated: bool [P, G], whether a token limit cut the member (default: none).
        target: int [P], a length the prompt asks for, for methods that follow one (default: none).
        value: float64 [P, G] in 0…1, the probability that a member is right, where that is known and not drawn
            (default: None, `correct` is a draw of it).
        stopping: float64 [P, G] in 0…1, the policy's own probability of stopping where a branch does (default: None,
            it was not watched).

    Raises:
        ValueError: shapes differ, or P or G is 0.
    """

    correct: Tensor
    length: Tensor
    # None asks for the default above and is filled in at once: readers always see tensors
    valid: Tensor = None  # type: ignore[assignment]
    spines: int | None = None
    thought_length: Tensor = None  # type: ignore[assignment]
    truncated: Tensor = None  # type: ignore[assignment]
    target: Tensor | None = None
    value: Tensor | None = None
    stopping: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.correct.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"correct must be [P, G] with P and G at least 1, not {list(shape)}")
        for name in ("length", "valid", "thought_length", "truncated", "value", "stopping"):
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"{name} must have the shape of correct, {list(shape)}, not {list(tensor.shape)}")
        if self.target is not None and tuple(self.target.shape) != shape[:1]:
            raise ValueError(f"target must be [P] = {list(shape[:1])}, not {list(self.target.shape)}")
        if self.spines is not None and (self.spines < 1 or shape[1] % self.spines):
            raise ValueError(f"{shape[1]} members do not divide into {self.spines} spines of equal size")
        fill = object.__setattr__
        fill(self, "correct", self.correct.bool())
        if self.valid is None:
            fill(self, "valid", self.correct.new_ones(shape))
        if self.thought_length is None:
            fill(self, "thought_length", self.length)
        if self.truncated is None:
            fill(self, "truncated", self.correct.new_zeros(shape))
        fill(self, "valid", self.valid.bool())
        fill(self, "correct", self.correct & self.valid)
