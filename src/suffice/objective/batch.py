"""Graded groups as the batch of tensors that a method scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from suffice.groups import Branch, Group, GroupBatch, Verdict, answer_length


def to_batch(groups: Sequence[Group], spines: int, exits: int, end_ids: frozenset[int] = frozenset()) -> GroupBatch:
    """The graded groups as tensors [P, K·(m + 1)]: missing exits are invalid columns before the full member.

    Lengths count thought and answer tokens: neither the open and close of the thought, nor the inducer, nor an end of
    turn (`end_ids`). A member counts as truncated when a token limit cut it. Members have values where every group has
    its gold answer, branches a probability of stopping where it was watched.
    """
    shape = (len(groups), spines * (exits + 1))
    valid, correct, truncated = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    length, thought = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    value, stopping = (torch.zeros(shape, dtype=torch.double) for _ in range(2))
    branches = [branch for group in groups for spine in group.spines for branch in spine.branches]
    for p, group in enumerate(groups):
        for g, _, member in group.members(exits):
            valid[p, g] = True
            correct[p, g] = member.verdict is Verdict.CORRECT
            truncated[p, g] = member.truncated
            thought[p, g] = member.thought_length
            value[p, g] = member.value or 0.0
            if isinstance(member, Branch):
                stopping[p, g] = member.stopping or 0.0
            length[p, g] = member.thought_length + answer_length(member.answer_tokens, end_ids)
    return GroupBatch(
        correct,
        length,
        valid,
        spines=spines,
        thought_length=thought,
        truncated=truncated,
        value=value if all(group.gold for group in groups) else None,
        stopping=stopping if branches and all(branch.stopping is not None for branch in branches) else None,
    )
