"""Advantages → weights of members and their tokens.

For a member with advantage A and aggregation weight c, the clipped surrogate of a token with ratio ρ is
A·c·min(ρ, 1 + ε) where A > 0 and A·c·max(ρ, 1 − ε) where A < 0. So two numbers say all that the loss needs to know of
a token: `plus`, the sum of A·c over its members with A > 0, and `minus`, the sum over those with A < 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from suffice.groups import Branch, Group, Spine

Aggregate = Literal["sequence", "constant", "token"]
TrainOn = Literal["all", "sampled", "sampled+close", "decision"]


@dataclass(frozen=True, slots=True)
class Objective:
    """How advantages become token weights: a recipe's `[objective]`, the close of the thought, exits per spine."""

    aggregate: Aggregate
    train_on: TrainOn
    close_id: int
    exits: int
    constant_length: int = 1
    kl: float = 0.0


@dataclass(frozen=True, slots=True)
class Weighed:
    """A member and the weight A·c of each token it trains: the first `kept` tokens of its spine and its `own`.

    A branch's own tokens are the inducer and its answer; the full member has none beside its spine's, unless only its
    answer is trained. `own_trained` and `own_sampled` say which of them the loss sees and which the policy sampled,
    `kept_trained` whether it sees those of the spine. `anchor` is the weight of the divergence from the base on each
    token of the thought; the full member has it.
    """

    spine: Spine
    weight: float
    kept: int
    own: list[int]
    own_logprobs: list[float]
    own_sampled: list[bool]
    own_trained: list[bool]
    kept_trained: bool = True
    anchor: float = 0.0

    @property
    def trained(self) -> int:
        """|o|, the tokens of the member that are trained."""
        return self.kept * self.kept_trained + sum(self.own_trained)


def weigh(groups: Sequence[Group], advantage_P_G: Tensor, objective: Objective) -> list[list[Weighed]]:
    """Every member of every group with its token weight A·c.

    c (`share`) is 1/(N·|o|) for `sequence`, 1/(N·constant_length) for `constant` and 1/Σ|o| for `token`, where |o|
    counts a member's trained tokens and N the valid members of the whole update. With ragged groups this is a mean over
    members, not the papers' mean of group means.
    """
    found = [
        [
            weigh_member(
                group,
                spine,
                member,
                train_on=objective.train_on,
                close_id=objective.close_id,
                weight=float(advantage_P_G[p, g]),
            )
            for g, spine, member in group.members(objective.exits)
        ]
        for p, group in enumerate(groups)
    ]
    trained = [[w.trained for w in of_group] for of_group in found]
    members, tokens, length = sum(map(len, trained)), sum(map(sum, trained)), objective.constant_length

    def aggregated(own: int) -> float:
        """c of a member that trains so many tokens."""
        return share(objective.aggregate, own, members, tokens, length)

    def anchored(w: Weighed, member: Spine | Branch) -> float:
        thought = w.spine.thought_length
        return objective.kl * aggregated(thought) if isinstance(member, Spine) and thought else 0.0

    return [
        [
            replace(w, weight=w.weight * aggregated(w.trained), anchor=anchored(w, member))
            for w, (_, _, member) in zip(of_group, group.members(objective.exits), strict=True)
        ]
        for of_group, group in zip(found, groups, strict=True)
    ]


def share(aggregate: Aggregate, own: int, members: int, tokens: int, constant_length: int) -> float:
    """c of a member that trains `own` tokens, where so many `members` train so many `tokens` in all."""
    return {
        "sequence": 1 / (members * max(1, own)),
        "constant": 1 / (members * constant_length),
        "token": 1 / max(1, tokens),
    }[aggregate]


def weigh_member(
    group: Group, spine: Spine, member: Spine | Branch, *, train_on: TrainOn, close_id: int, weight: float = 1.0
) -> Weighed:
    """One member with one weight on each of the tokens that `train_on` trains; `close_id` closes the thought."""
    if train_on == "decision":
        return decision(group, spine, member, weight)
    if isinstance(member, Spine):
        return Weighed(spine, weight, len(spine.tokens), [], [], [], [])
    inducer, answer = group.inducer, member.answer
    injected = [train_on == "all" or (train_on == "sampled+close" and token == close_id) for token in inducer]
    return Weighed(
        spine,
        weight,
        spine.thought_start + member.exit,
        own=inducer + answer,
        own_logprobs=[0.0] * len(inducer) + member.logprobs,
        own_sampled=[False] * len(inducer) + [True] * len(answer),
        own_trained=injected + [True] * len(answer),
    )


def decision(group: Group, spine: Spine, member: Spine | Branch, weight: float) -> Weighed:
    """Of a branch the first token of the model's own stop, of the full member its answer, and no thought.

    The answer is the gold one where members are valued by that, else what was sampled.
    """
    if isinstance(member, Branch):
        kept, own, logprobs, sampled = spine.thought_start + member.exit, group.inducer[:1], [0.0], False
    elif group.gold:
        kept, own, logprobs, sampled = spine.gold_at, group.gold, [0.0] * len(group.gold), False
    else:
        kept, sampled = len(spine.tokens) - len(spine.answer_tokens), True
        own, logprobs = spine.tokens[kept:], spine.logprobs[kept:]
    return Weighed(spine, weight, kept, own, logprobs, [sampled] * len(own), [True] * len(own), kept_trained=False)
