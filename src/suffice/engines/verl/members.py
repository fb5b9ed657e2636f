"""What one row of verl's batch is to a method: a member of a group, and the batch of groups it belongs to.

An agent loop writes these facts beside the tokens of a member; the trainer reads them back for the whole step, in
whatever order verl's balancing left the rows. Padding rows and members that are missing (a thought shorter than the
exits asked for, a session that failed) are no member at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from suffice.groups import GroupBatch, Verdict

FACTS = "suffice"
"""Where the facts stand among a row's extra fields."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its group and column, its verdict, its lengths in tokens (neither marks nor end of turn counted).

    `loop_tokens` are those of the thought that only repeat. `order` is the problem's place in the order of drawing.
    `exit` is None for a full rollout. The response's tokens `injected[0]:injected[1]` are the inducer, which the policy
    did not sample. Its requests had `prefixes` tokens, of which the server's cache held `cached` (None where no server
    says), and `decoded` tokens came of them.
    """

    group: str
    column: int
    order: int
    verdict: str
    thought_tokens: int
    loop_tokens: int
    answer_tokens: int
    closed: bool
    truncated: bool
    exit: int | None
    injected: tuple[int, int]
    prefixes: int = 0
    cached: int | None = None
    decoded: int = 0

    @property
    def correct(self) -> bool:
        return self.verdict == Verdict.CORRECT

    @property
    def length(self) -> int:
        return self.thought_tokens + self.answer_tokens

    def as_fields(self) -> dict[str, Any]:
        """Extra fields of an agent loop's output."""
        return {FACTS: asdict(self)}

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        facts = dict(fields[FACTS])
        return cls(**facts | {"injected": tuple(facts["injected"])})


@dataclass(frozen=True, slots=True)
class Members:
    """The rows of a step as groups: `place` [B] holds each row's (problem, column), None for rows that are no member.

    `batch` is what a method scores, P groups in order of drawing and G columns; what does not exist is invalid.
    """

    rows: Sequence[Member | None]
    batch: GroupBatch
    place: list[tuple[int, int] | None]

    def spread(self, values_P_G: Tensor) -> Tensor:
        """The value of each row [B]; 0 for rows that are no member."""
        return torch.stack(
            [values_P_G.new_zeros(()) if at is None else values_P_G[at] for at in self.place],
        )


def gather(rows: Sequence[Member | None], spines: int, exits: int) -> Members:
    """Group the rows of a whole step by problem: P groups of `spines · (exits + 1)` columns.

    Raises:
        ValueError: there is no member, or two rows claim one column.
    """
    order = sorted({(row.order, row.group) for row in rows if row})
    problem = {group: p for p, (_, group) in enumerate(order)}
    shape = (len(order), spines * (exits + 1))
    if not order:
        raise ValueError("a step without a single member: every rollout failed")
    place = [None if row is None else (problem[row.group], row.column) for row in rows]
    taken = [at for at in place if at]
    if len(set(taken)) != len(taken):
        raise ValueError("two rows of the batch claim the same member of a group")
    valid, correct, truncated = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    length, thought = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    for row, at in zip(rows, place, strict=True):
        if row is not None and at is not None:
            valid[at], correct[at], truncated[at] = True, row.correct, row.truncated
            length[at], thought[at] = row.length, row.thought_tokens
    return Members(
        rows, GroupBatch(correct, length, valid, spines=spines, thought_length=thought, truncated=truncated), place
    )
