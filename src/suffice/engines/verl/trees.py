"""A spine with its branches as one row of verl's batch: every token of a thought once, whoever shares it.

verl's rows are members, each with its own copy of the thought. A *tree* is a spine's members as one row: prompt and
spine, then what each branch has of its own. The advantage of a token is the sum w⁺ + w⁻ of its members' weights A·c,
aggregation included, so that verl's loss only adds up. At ratio 1, and there alone, this is the papers' loss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from suffice.config import ObjectiveSection
from suffice.engines.verl.estimators import Scored
from suffice.objective.rows import Row
from suffice.objective.weights import share

STRETCHES = "stretches"
"""Where the stretches of a row stand in verl's batch, by which it is known as a tree."""


class Stretches(NamedTuple):
    """How a tree is laid out: `trunk` tokens of prompt and spine, then, branch after branch, (kept, own) tokens:
    the branch sees the first `kept` of the trunk, and its own."""

    trunk: int
    branches: list[tuple[int, int]]

    @property
    def tokens(self) -> int:
        return self.trunk + sum(own for _, own in self.branches)

    def as_tensor(self) -> Tensor:
        return torch.tensor([self.trunk, *(number for branch in self.branches for number in branch)])

    @classmethod
    def of_tensor(cls, found: Tensor) -> Self:
        trunk, *rest = found.tolist()
        return cls(trunk, list(zip(rest[::2], rest[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class Tree:
    """N tokens with their positions, the first `prompt` of them the prompt; the others are the response [R].

    `weight` is w⁺ + w⁻, `trained` where any member has a weight, which may add up to 0; `behaviour` are the sampler's
    log-probs, meaningful where `sampled` holds.
    """

    tokens: Tensor
    positions: Tensor
    prompt: int
    stretches: Stretches
    weight: Tensor
    trained: Tensor
    behaviour: Tensor
    sampled: Tensor


def tree(prompt: int, members: Sequence[tuple[Row, int]]) -> Tree:
    """The tree of some members of one spine. It reaches as far as the last of them.

    Args:
        prompt: tokens of the prompt that all rows begin with.
        members: each with how many tokens of its response are the spine's, in that order; of a full rollout all are.
    """
    longest, reach = members[-1]
    weight, trained = torch.zeros(reach, dtype=torch.float64), torch.zeros(reach, dtype=torch.bool)
    for row, kept in members:
        weight[:kept] += row.weight[:kept]
        trained[:kept] |= row.weight[:kept] != 0
    owned = [(row, kept) for row, kept in members if len(row.weight) > kept]
    stretches = Stretches(prompt + reach, [(prompt + kept, len(row.weight) - kept) for row, kept in owned])
    return Tree(
        tokens=torch.cat([longest.tokens[: prompt + reach], *(row.tokens[prompt + kept :] for row, kept in owned)]),
        positions=torch.cat(
            [torch.arange(stretches.trunk), *(torch.arange(kept, kept + own) for kept, own in stretches.branches)]
        ),
        prompt=prompt,
        stretches=stretches,
        weight=torch.cat([weight, *(row.weight[kept:] for row, kept in owned)]),
        trained=torch.cat([trained, *(row.weight[kept:] != 0 for row, kept in owned)]),
        behaviour=torch.cat([longest.behaviour[:reach], *(row.behaviour[kept:] for row, kept in owned)]),
        sampled=torch.cat([longest.sampled[:reach], *(row.sampled[kept:] for row, kept in owned)]),
    )


def within(room: int, prompt: int, members: Sequence[tuple[Row, int]]) -> list[Tree]:
    """All members of a spine in as few trees of at most `room` tokens as taking them from the end of the thought gives;
    a member that is longer is a tree of its own."""
    found, tokens = list[list[tuple[Row, int]]](), 0
    for row, kept in sorted(members, key=lambda member: member[1], reverse=True):
        own = len(row.weight) - kept
        if not found or tokens + own > room:
            found.append([])
            tokens = prompt + kept
        found[-1].insert(0, (row, kept))
        tokens += own
    return [tree(prompt, some) for some in found]


def trees_of(
    scored: Scored, data: Mapping[str, Tensor], sampled_B_T: Tensor, objective: ObjectiveSection, exits: int, room: int
) -> list[Tree]:
    """The trees of a step, of members that have an advantage.

    Args:
        data: verl's `prompts`, `responses`, `response_mask` and `rollout_log_probs` of all rows, nested.
        sampled_B_T: the tokens of the responses that the policy sampled.
        room: tokens of a micro-batch, which a tree must fit.
    """
    places = [at if at is not None and scored.kept[at[0]] else None for at in scored.members.place]
    masks = [mask.bool() for mask in data["response_mask"].unbind()]
    tokens = sum(int(mask.sum()) for mask, at in zip(masks, places, strict=True) if at)
    aggregate, length = objective.aggregate or "sequence", objective.constant_length or 1
    columns = [data[name].unbind() for name in ("prompts", "responses", "rollout_log_probs")]
    spines = defaultdict[tuple[int, int], list[tuple[Row, int]]](list)
    prompts: dict[int, int] = {}
    for b, (at, mask, prompt, response, behaviour) in enumerate(zip(places, masks, *columns, strict=True)):
        member = scored.members.rows[b]
        if member is None or at is None:
            continue
        c = share(aggregate, int(mask.sum()), scored.trained, tokens, length)
        weight = mask * (c * scored.scores.advantage[at].double())
        if weight.any():
            row = Row(torch.cat([prompt, response]), weight, behaviour, sampled_B_T[b, : len(response)])
            spines[at[0], at[1] // (exits + 1)].append((row, member.injected[0]))
            prompts[at[0]] = len(prompt)
    return [tree for (p, _), members in spines.items() for tree in within(room, prompts[p], members)]


def padding(token: int) -> Tree:
    """A tree that trains nothing, where each GPU must get as many as the others."""
    none, no = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    return tree(1, [(Row(torch.tensor([token, token]), none, none, no), 1)])


def as_batch(trees: Sequence[Tree]) -> TensorDict:
    """The trees as rows of the batch that verl's actor is updated on, for the loss `suffice` by `token-sum`."""
    columns = {
        "input_ids": [tree.tokens for tree in trees],
        "position_ids": [tree.positions for tree in trees],
        "prompts": [tree.tokens[: tree.prompt] for tree in trees],
        "responses": [tree.tokens[tree.prompt :] for tree in trees],
        "response_mask": [tree.trained.long() for tree in trees],
        "loss_mask": [tree.trained.long() for tree in trees],
        "advantages": [tree.weight.float() for tree in trees],
        "old_log_probs": [tree.behaviour.float() for tree in trees],
        "rollout_is_weights": [tree.sampled.float() for tree in trees],
        STRETCHES: [tree.stretches.as_tensor() for tree in trees],
    }
    nested = {name: torch.nested.as_nested_tensor(column, layout=torch.jagged) for name, column in columns.items()}
    return TensorDict(nested, batch_size=len(trees))
