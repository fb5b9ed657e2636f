"""The plain layout: one sequence a member, prompt and response, padded and run as any batch.

Every member has its own copy of what it shares, so of a token's two weights one is always 0. It is the oracle that the
cheaper layout is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suffice.groups import Group
from suffice.objective.head import backbone_and_head, head_logprobs
from suffice.objective.weights import Objective, Weighed, weigh


@dataclass(slots=True)
class Row:
    """One member as a sequence: N tokens, of which the last R are the response.

    `weight` [R] is A·c on trained tokens and 0 elsewhere; `behaviour` [R] holds the sampler's log-probabilities,
    meaningful where `sampled` [R] holds.
    """

    tokens: Tensor
    weight: Tensor
    behaviour: Tensor
    sampled: Tensor


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows to push through the model together; token weights and the rest are over their trained tokens, in order."""

    rows: list[Row]

    @property
    def tokens(self) -> int:
        return sum(len(row.tokens) for row in self.rows)

    def trained(self, name: str) -> Tensor:
        """`weight`, `behaviour` or `sampled` of the trained tokens [T]."""
        return torch.cat([getattr(row, name)[row.weight != 0] for row in self.rows])

    @property
    def plus(self) -> Tensor:
        return self.trained("weight").clamp(min=0)

    @property
    def minus(self) -> Tensor:
        return self.trained("weight").clamp(max=0)

    @property
    def behaviour(self) -> Tensor:
        return self.trained("behaviour")

    @property
    def sampled(self) -> Tensor:
        return self.trained("sampled")

    def logprobs(self, model: Any, temperature: float) -> tuple[Tensor, Tensor]:
        """log_softmax(logits / T) of the trained tokens and entropies (nats, no gradient), float32 [T] each."""
        device = next(model.parameters()).device
        tokens_B_N = nn.utils.rnn.pad_sequence([row.tokens for row in self.rows], batch_first=True).to(device)
        lengths_B = torch.tensor([len(row.tokens) for row in self.rows], device=device)
        columns_N = torch.arange(tokens_B_N.shape[1], device=device)
        backbone, head = backbone_and_head(model)
        hidden_B_N_D = backbone(
            input_ids=tokens_B_N,
            attention_mask=(columns_N < lengths_B[:, None]).long(),
            position_ids=columns_N[None],
            use_cache=False,
        ).last_hidden_state
        at = [(row.weight != 0).nonzero()[:, 0] + len(row.tokens) - len(row.weight) for row in self.rows]
        row_T = torch.cat([torch.full_like(where, b) for b, where in enumerate(at)]).to(device)
        column_T = torch.cat(at).to(device)
        return head_logprobs(head, hidden_B_N_D[row_T, column_T - 1], tokens_B_N[row_T, column_T], temperature)


def row_batches(
    groups: Sequence[Group], advantage_P_G: Tensor, objective: Objective, micro_batch_tokens: int
) -> list[RowBatch]:
    """All members with a weight, rows of similar length together, each batch at most so many tokens when padded.

    A row longer than `micro_batch_tokens` is a batch of its own.
    """
    weighed = weigh(groups, advantage_P_G, objective)
    rows = [
        member_row(group.prompt, member)
        for group, of_group in zip(groups, weighed, strict=True)
        for member in of_group
        if member.weight != 0
    ]
    batches: list[RowBatch] = []
    for row in sorted((row for row in rows if row.weight.any()), key=lambda row: len(row.tokens)):
        if batches and (len(batches[-1].rows) + 1) * len(row.tokens) <= micro_batch_tokens:
            batches[-1].rows.append(row)
        else:
            batches.append(RowBatch([row]))
    return batches


def member_row(prompt: list[int], member: Weighed) -> Row:
    """A member as a sequence of its own."""
    trained = torch.tensor([member.kept_trained] * member.kept + member.own_trained)
    return Row(
        tokens=torch.tensor(prompt + member.spine.tokens[: member.kept] + member.own),
        weight=trained * torch.tensor(member.weight, dtype=torch.float64),
        behaviour=torch.tensor(member.spine.logprobs[: member.kept] + member.own_logprobs, dtype=torch.float64),
        sampled=torch.tensor([True] * member.kept + member.own_sampled),
    )
