"""The spine layout: every shared token computed once, with the same loss and the same gradient.

A group is packed as one stretch of tokens: its prompt, then each spine's response, then each branch's own tokens
(inducer and answer), whose positions continue from their exit. Linear layers see the stretches of all groups as one
sequence without padding. Attention sees what each token may see:

    a spine    plain causal attention over prompt + response, on the backend's fast path
    a branch   its spine's keys up to the exit, and itself

The first own token of a branch is predicted from the spine's hidden state at its exit. No N×N mask is ever built: the
widest is (own tokens of a few branches) × (spine + those). Attention enters through
`transformers.AttentionInterface`, so any model that uses the interface in all its layers will do; models where the
layout would be wrong are refused by `check_model`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from suffice.errors import ModelError
from suffice.groups import Group, Problem, Spine
from suffice.model.attention import no_mask, use_layouts
from suffice.objective.anchor import anchor
from suffice.objective.head import Hidden, backbone_and_head, head_logprobs
from suffice.objective.rows import RowBatch, member_row
from suffice.objective.weights import Objective, Weighed, weigh

CALL_KEYS = 1024  # spine keys × branches of one attention call: short spines take many branches at once, long ones few


@dataclass(slots=True)
class Branches:
    """Some branches of a spine, attended in one call: how many own tokens O they have, how much of the spine the latest
    exit keeps, and what each token sees, bool [1, 1, O, kept + O]."""

    tokens: int
    kept: int
    mask: Tensor


@dataclass(slots=True)
class Strand:
    """One spine in a packed sequence, prompt and response `tokens` long, and its branches."""

    tokens: int
    calls: list[Branches]


@dataclass(slots=True)
class Strands:
    """What attention needs to know of packed groups.

    `attended` [A] are the packed positions of all strands in the order of their attention (a spine, then its branches,
    strand after strand): a prompt that several spines share is attended with each. `source` [N] says where among
    those each packed token's own output stands, and so is read once.
    """

    strands: list[Strand]
    attended: Tensor
    source: Tensor

    @property
    def sizes(self) -> list[int]:
        """Tokens of each attention call."""
        return [tokens for s in self.strands for tokens in (s.tokens, *(call.tokens for call in s.calls))]

    def to(self, device: torch.device) -> Strands:
        strands = [
            Strand(s.tokens, [Branches(c.tokens, c.kept, c.mask.to(device)) for c in s.calls]) for s in self.strands
        ]
        return Strands(strands, self.attended.to(device), self.source.to(device))

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, dropout: float
    ) -> Tensor:
        """Attention of packed strands: query [1, H, N, D], key and value [1, H_kv, N, D] → [1, N, H, D]."""
        query, key, value = (x.index_select(2, self.attended) for x in (query, key, value))
        repeats = query.shape[1] // key.shape[1]
        if repeats > 1:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        pieces = zip(*(x.split(self.sizes, 2) for x in (query, key, value)), strict=True)
        outputs = []
        for strand in self.strands:
            q, k, v = next(pieces)
            outputs.append(scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, dropout_p=dropout))
            for call in strand.calls:
                own_q, own_k, own_v = next(pieces)
                seen_k, seen_v = (
                    torch.cat([k[:, :, : call.kept], own_k], 2),
                    torch.cat([v[:, :, : call.kept], own_v], 2),
                )
                outputs.append(
                    scaled_dot_product_attention(
                        own_q, seen_k, seen_v, attn_mask=call.mask, scale=scaling, dropout_p=dropout
                    )
                )
        return torch.cat(outputs, 2).index_select(2, self.source).transpose(1, 2)


@dataclass(slots=True)
class SpineBatch:
    """Packed groups: N tokens with positions; per trained token [T] its predictor's packed position and its target;
    per token of a thought that is held to the base [U] its predictor and the weight of that."""

    input_ids: Tensor
    positions: Tensor
    layout: Strands
    predictor: Tensor
    target: Tensor
    plus: Tensor
    minus: Tensor
    behaviour: Tensor
    sampled: Tensor
    thought: Tensor
    anchor: Tensor

    @property
    def tokens(self) -> int:
        return len(self.input_ids)

    def logprobs(self, model: Any, temperature: float) -> tuple[Tensor, Tensor]:
        """log_softmax(logits / T) of the trained tokens and entropies (nats, no gradient), float32 [T] each."""
        return self.said(self.read(model), temperature)

    def said(self, read: Hidden, temperature: float) -> tuple[Tensor, Tensor]:
        """`logprobs` from what a model read."""
        hidden_T_D = read.states[self.predictor.to(read.states.device)]
        return head_logprobs(read.head, hidden_T_D, self.target.to(hidden_T_D.device), temperature)

    def drift(self, base: Hidden, model: Hidden, decision: int, temperature: float) -> Tensor:
        """Σ weight · KL(base ‖ model) over the tokens of thoughts, the decision to stop left out; a scalar."""
        at = self.thought.to(model.states.device)
        theirs, ours = (Hidden(each.head, each.states[at]) for each in (base, model))
        drift_U = anchor(theirs, ours, decision, temperature)
        return (self.anchor.to(drift_U) * drift_U).sum()

    def read(self, model: Any) -> Hidden:
        """The hidden states [N, D] of all packed tokens."""
        device = next(model.parameters()).device
        backbone, head = backbone_and_head(model)
        use_layouts(backbone)
        hidden_N_D = backbone(
            input_ids=self.input_ids[None].to(device),
            position_ids=self.positions[None].to(device),
            attention_mask=no_mask(device),
            use_cache=False,
            suffice_layout=self.layout.to(device),
        ).last_hidden_state[0]
        return Hidden(head, hidden_N_D)


def check_model(model: Any) -> None:
    """Refuse a model on which this layout would be wrong, whatever its name.

    Its layers must all be full attention and its RoPE must not depend on the sequence's length; then one small random
    spine is compared with plain rows on the model itself.

    Raises:
        ValueError: what about the model does not fit.
    """
    check_config(model.config)
    with torch.no_grad():
        packed, plain = (run(model) for run in (_random_spine, _random_rows))
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    difference = float((packed - plain).abs().mean())
    if not difference <= (1e-3 if exact else 0.1):
        raise ValueError(f"log-probabilities differ from plain rows by {difference:.2g} on average")


@contextmanager
def fitting(name: str) -> Iterator[None]:
    """Around `check_model` or `check_config` of the model of that name.

    Raises:
        ModelError: they found that it does not fit.
    """
    try:
        yield
    except ValueError as reason:
        raise wrong_for(name, reason) from None


def wrong_for(name: str, reason: object) -> ModelError:
    """What to say of a model that does not fit."""
    return ModelError(f'the spine layout would be wrong for {name}: {reason}; set objective.layout = "rows"')


def check_config(config: Any) -> None:
    """What of `check_model` the config tells alone."""
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if kinds:
        raise ValueError(f"it has {', '.join(sorted(kinds))} layers")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise ValueError(f"its RoPE is {rope}, which depends on the sequence's length")


def random_members(config: Any) -> tuple[Group, list[Weighed]]:
    """A prompt of 6 random tokens, a response of 24, branches of 5 after 7 and 19 of them, all with weight."""
    draw = random.Random(0)
    vocabulary = config.get_text_config().vocab_size
    prompt, response, first, second = ([draw.randrange(vocabulary) for _ in range(n)] for n in (6, 24, 5, 5))
    spine = Spine(response, [0.0] * 24, 0, 24, closed=False, truncated=True)
    members = [
        Weighed(spine, 1.0, kept, own, [0.0] * len(own), [True] * len(own), [True] * len(own))
        for kept, own in ((7, first), (19, second), (24, []))
    ]
    return Group(Problem("", "", "", ""), prompt, [], [spine]), members


def _random_spine(model: Any) -> Tensor:
    group, members = random_members(model.config)
    packer = Packer()
    packer.add(group, members)
    return packer.batch().logprobs(model, 1.0)[0]


def _random_rows(model: Any) -> Tensor:
    """The same tokens' log-probs in the same order: the response, then each branch's own."""
    group, members = random_members(model.config)
    logprobs = [RowBatch([member_row(group.prompt, member)]).logprobs(model, 1.0)[0] for member in members]
    return torch.cat(
        [logprobs[2], *(found[member.kept :] for found, member in zip(logprobs[:2], members, strict=False))]
    )


def spine_batches(
    groups: Sequence[Group], advantage_P_G: Tensor, objective: Objective, micro_batch_tokens: int
) -> list[SpineBatch]:
    """Groups with a weight, packed in order, each batch at most so many tokens (or one longer group alone)."""
    weighed = weigh(groups, advantage_P_G, objective)
    packers: list[Packer] = []
    for group, members in zip(groups, weighed, strict=True):
        kept = [member for member in members if member.weight != 0 or member.anchor]
        if not kept:
            continue
        length = packed_length(group, kept)
        if not packers or len(packers[-1]) + length > micro_batch_tokens:
            packers.append(Packer())
        packers[-1].add(group, kept)
    return [packer.batch() for packer in packers]


def packed_length(group: Group, members: Sequence[Weighed]) -> int:
    spines = {id(member.spine): len(member.spine.tokens) for member in members}
    return len(group.prompt) + sum(spines.values()) + sum(len(member.own) for member in members)


class Packer:
    """Collects groups into one packed sequence."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.strands: list[Strand] = []
        self.attended: list[Tensor] = []
        self.trained: list[tuple[Tensor, ...]] = []
        self.thoughts: list[Tensor] = [torch.empty(0, dtype=torch.long)]
        self.anchors: list[Tensor] = [torch.empty(0, dtype=torch.float64)]

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, group: Group, members: Sequence[Weighed]) -> None:
        """Pack a group's members that carry weight; a spine without any is left out."""
        prompt = self.place(group.prompt, 0)
        for spine in {id(member.spine): member.spine for member in members}.values():
            response = self.place(spine.tokens, len(prompt))
            of_spine = [member for member in members if member.spine is spine]
            columns = torch.cat([prompt, response])
            before = torch.cat([prompt[-1:], response[:-1]])
            reach = torch.tensor([member.kept * member.kept_trained for member in of_spine])
            reaches = reach[:, None] > torch.arange(len(response))
            weights = torch.tensor([member.weight for member in of_spine], dtype=torch.float64)[:, None] * reaches
            self.train(before, spine.tokens, weights, spine.logprobs, [True] * len(response))
            branches = []
            for member in of_spine:
                if member.anchor:
                    thought = before[spine.thought_start : spine.thought_end]
                    self.thoughts.append(thought)
                    self.anchors.append(torch.full(thought.shape, member.anchor, dtype=torch.float64))
                if not member.own or member.weight == 0:
                    continue
                kept = len(prompt) + member.kept
                # a lone token predicts nothing, and is predicted by the spine
                own = self.place(member.own if len(member.own) > 1 else [], kept)
                weight = torch.tensor(member.own_trained, dtype=torch.float64)[None] * member.weight
                self.train(
                    torch.cat([columns[kept - 1 : kept], own[:-1]]),
                    member.own,
                    weight,
                    member.own_logprobs,
                    member.own_sampled,
                )
                if len(own):
                    branches.append((own, kept))
            self.strands.append(Strand(len(columns), calls(len(columns), branches)))
            self.attended += [columns, *(own for own, _ in branches)]

    def place(self, tokens: list[int], position: int) -> Tensor:
        """Append tokens whose positions start at `position`; returns their packed positions."""
        start = len(self)
        self.ids += tokens
        self.positions += range(position, position + len(tokens))
        return torch.arange(start, len(self))

    def train(
        self, predictor: Tensor, target: list[int], weight_M_T: Tensor, logprobs: list[float], sampled: list[bool]
    ) -> None:
        """Tokens that packed positions predict, with the weight of each member holding them."""
        plus, minus = weight_M_T.clamp(min=0).sum(0), weight_M_T.clamp(max=0).sum(0)
        behaviour = torch.tensor(logprobs, dtype=torch.float64)
        self.trained.append((predictor, torch.tensor(target), plus, minus, behaviour, torch.tensor(sampled)))

    def batch(self) -> SpineBatch:
        """What was packed; tokens that no member trains are left out of the loss."""
        columns = [torch.cat(column) for column in zip(*self.trained, strict=True)]
        trained = (columns[2] != 0) | (columns[3] != 0)
        predictor, target, *rest = (column[trained] for column in columns)
        ids, attended = torch.tensor(self.ids), torch.cat(self.attended)
        source = torch.empty_like(ids)
        source[attended] = torch.arange(len(attended))
        layout = Strands(self.strands, attended, source)
        thought, anchor = torch.cat(self.thoughts), torch.cat(self.anchors)
        columns = [predictor, target, *rest, thought, anchor]
        return SpineBatch(ids, torch.tensor(self.positions), layout, *columns)


def calls(spine: int, branches: Sequence[tuple[Sized, int]]) -> list[Branches]:
    """A spine's branches as attention calls, neighbours in order of exit together."""
    together = max(1, CALL_KEYS // spine)
    return [
        Branches(sum(len(own) for own, _ in some), some[-1][1], branch_mask(some))
        for some in (branches[start : start + together] for start in range(0, len(branches), together))
    ]


def branch_mask(branches: Sequence[tuple[Sized, int]]) -> Tensor:
    """bool [1, 1, own, widest + own]: each token sees its branch's share of the spine, and its branch so far."""
    lengths = torch.tensor([len(own) for own, _ in branches])
    kept = torch.tensor([kept for _, kept in branches]).repeat_interleave(lengths)
    branch = torch.arange(len(branches)).repeat_interleave(lengths)
    order = torch.arange(len(branch))
    spine_O_S = torch.arange(branches[-1][1]) < kept[:, None]
    own_O_O = (branch[:, None] == branch) & (order[:, None] >= order)
    return torch.cat([spine_O_S, own_O_O], 1)[None, None]
