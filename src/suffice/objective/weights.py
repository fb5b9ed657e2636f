"""Groups → the batch a method scores; advantages → weights of members and their tokens.

For a member with advantage A and aggregation weight c, the clipped surrogate of a token with ratio ρ is
A·c·min(ρ, 1 + ε) where A > 0 and A·c·max(ρ, 1 − ε) where A < 0. So two numbers say all that the loss needs to know of
a token: `plus`, the sum of A·c over its members with A > 0, and `minus`, the sum over those with A < 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from suffice.groups import Branch, Group, GroupBatch, Spine, Verdict

Aggregate = Literal["sequence", "constant", "token"]
TrainOn = Literal["all", "sampled", "sampled+close"]


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


@dataclass(frozen=True, slots=True)
class Objective:
    """How advantages become token weights: a recipe's `[objective]`, the close of the thought, exits per spine."""

    aggregate: Aggregate
    train_on: TrainOn
    close_id: int
    exits: int
    constant_length: int = 1


@dataclass(frozen=True, slots=True)
class Weighed:
    """A member and the weight A·c of each token it trains: the first `kept` tokens of its spine and its `own`.

    A branch's own tokens are the inducer and its answer; the full member has none beside its spine's. `own_trained`
    and `own_sampled` say which of them the loss sees and which the policy sampled.
    """

    spine: Spine
    weight: float
    kept: int
    own: list[int]
    own_logprobs: list[float]
    own_sampled: list[bool]
    own_trained: list[bool]


def weigh(groups: Sequence[Group], advantage_P_G: Tensor, objective: Objective) -> list[list[Weighed]]:
    """Every member of every group with its token weight A·c.

    c is 1/(N·|o|) for `sequence`, 1/(N·constant_length) for `constant` and 1/Σ|o| for `token`, where |o| counts a
    member's trained tokens and N the valid members of the whole update. With ragged groups this is a mean over
    members, not the papers' mean of group means.
    """
    found = [
        [
            _member(group, spine, member, objective, float(advantage_P_G[p, g]))
            for g, spine, member in group.members(objective.exits)
        ]
        for p, group in enumerate(groups)
    ]
    trained = [[w.kept + sum(w.own_trained) for w in of_group] for of_group in found]
    count, total = sum(map(len, trained)), sum(map(sum, trained))

    def share(own: int) -> float:
        return {
            "sequence": 1 / (count * max(1, own)),
            "constant": 1 / (count * objective.constant_length),
            "token": 1 / max(1, total),
        }[objective.aggregate]

    return [
        [replace(w, weight=w.weight * share(own)) for w, own in zip(of_group, counts, strict=True)]
        for of_group, counts in zip(found, trained, strict=True)
    ]


def _member(group: Group, spine: Spine, member: Spine | Branch, objective: Objective, advantage: float) -> Weighed:
    if isinstance(member, Spine):
        return Weighed(spine, advantage, len(spine.tokens), [], [], [], [])
    rule, inducer, answer = objective.train_on, group.inducer, member.answer
    injected = [rule == "all" or (rule == "sampled+close" and token == objective.close_id) for token in inducer]
    return Weighed(
        spine,
        advantage,
        spine.thought_start + member.exit,
        own=inducer + answer,
        own_logprobs=[0.0] * len(inducer) + member.logprobs,
        own_sampled=[False] * len(inducer) + [True] * len(answer),
        own_trained=injected + [True] * len(answer),
    )
