"""Groups and advantages → rows of tokens with their weights: the plain layout, one row per member.

For a member with advantage A and aggregation weight c, the clipped surrogate of a token with ratio ρ is
A·c·min(ρ, 1 + ε) where A > 0 and A·c·max(ρ, 1 − ε) where A < 0. So two numbers say all that the loss needs to know of
a token: `plus`, the sum of A·c over its members with A > 0, and `minus`, the sum over those with A < 0. In this layout
every member has tokens of its own and one of the two is 0; a layout that computes shared tokens once adds them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from laconic.groups import Branch, Group, GroupBatch, Spine, Verdict

Aggregate = Literal["sequence", "constant", "token"]
TrainOn = Literal["all", "sampled", "sampled+close"]


@dataclass(slots=True)
class Response:
    """A member's tokens as the loss sees them: behaviour log-probs of the sampled ones, and which are trained."""

    tokens: list[int]
    logprobs: list[float]
    sampled: list[bool]
    trained: list[bool]


@dataclass(slots=True)
class Row:
    """One sequence to push through the model: prompt and response, N tokens, of which R are the response.

    `plus` ≥ 0 and `minus` ≤ 0 are token weights [R]; `behaviour` [R] holds the sampler's log-probabilities, meaningful
    where `sampled` [R] holds.
    """

    tokens: Tensor
    plus: Tensor
    minus: Tensor
    behaviour: Tensor
    sampled: Tensor

    @property
    def trained(self) -> Tensor:
        """bool [R]: tokens that the loss sees."""
        return (self.plus != 0) | (self.minus != 0)


def response(group: Group, spine: Spine, member: Spine | Branch, train_on: TrainOn, close_id: int) -> Response:
    """The response of a member of `spine`: its own tokens, or the kept thought, the inducer and the answer."""
    if isinstance(member, Spine):
        every = [True] * len(member.tokens)
        return Response(member.tokens, member.logprobs, every, every)
    kept = spine.thought_start + member.exit
    injected = [train_on == "all" or (train_on == "sampled+close" and token == close_id) for token in group.inducer]
    return Response(
        tokens=spine.tokens[:kept] + group.inducer + member.answer,
        logprobs=spine.logprobs[:kept] + [0.0] * len(group.inducer) + member.logprobs,
        sampled=[True] * kept + [False] * len(group.inducer) + [True] * len(member.answer),
        trained=[True] * kept + injected + [True] * len(member.answer),
    )


def to_batch(groups: Sequence[Group], spines: int, exits: int, end_ids: frozenset[int] = frozenset()) -> GroupBatch:
    """The graded groups as tensors [P, K·(m + 1)]: missing exits are invalid columns before the full member.

    Lengths count thought and answer tokens: neither the open and close of the thought, nor the inducer, nor an end of
    turn (`end_ids`). A member counts as truncated when a token limit cut it.
    """
    shape = (len(groups), spines * (exits + 1))
    valid, correct, truncated = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    length, thought = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    for p, group in enumerate(groups):
        for g, _, member in group.members(exits):
            valid[p, g] = True
            correct[p, g] = member.verdict is Verdict.CORRECT
            truncated[p, g] = member.truncated
            thought[p, g] = member.thought_length
            length[p, g] = member.thought_length + sum(token not in end_ids for token in member.answer_tokens)
    return GroupBatch(correct, length, valid, spines=spines, thought_length=thought, truncated=truncated)


def member_rows(
    groups: Sequence[Group],
    advantage_P_G: Tensor,
    *,
    exits: int,
    aggregate: Aggregate,
    train_on: TrainOn,
    close_id: int,
    constant_length: int = 1,
) -> list[Row]:
    """Rows of all members with a non-zero advantage, with weights A·c on their trained tokens.

    c is 1/(N·|o|) for `sequence`, 1/(N·constant_length) for `constant` and 1/Σ|o| for `token`, where |o| counts a
    member's trained tokens and N the valid members of the whole update. With ragged groups this is a mean over
    members, not the papers' mean of group means.
    """
    found = [
        (group, response(group, spine, member, train_on, close_id), float(advantage_P_G[p, g]))
        for p, group in enumerate(groups)
        for g, spine, member in group.members(exits)
    ]
    all_trained = sum(sum(said.trained) for _, said, _ in found)
    rows = []
    for group, said, advantage in found:
        own = sum(said.trained)
        if advantage == 0 or own == 0:
            continue
        share = {
            "sequence": 1 / (len(found) * own),
            "constant": 1 / (len(found) * constant_length),
            "token": 1 / all_trained,
        }[aggregate]
        weight = torch.tensor(said.trained, dtype=torch.float64) * advantage * share
        rows.append(
            Row(
                tokens=torch.tensor(group.prompt + said.tokens),
                plus=weight.clamp(min=0),
                minus=weight.clamp(max=0),
                behaviour=torch.tensor(said.logprobs, dtype=torch.float64),
                sampled=torch.tensor(said.sampled),
            )
        )
    return rows
