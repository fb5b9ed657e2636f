"""A lean batched decode loop on token ids: asks that wait take the places of finished rows, then rows leave.

Each row draws from a stream of its own, named by a key such as (seed, problem, sample), by inverse transform. What a
row samples therefore depends neither on its neighbours in the batch nor on any generator state, up to the rounding of
its logits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from suffice.errors import ModelError

BLOCK = 128  # entries, which most vocabularies are a multiple of
NUCLEUS = 256  # entries: most next tokens have their nucleus among fewer
COMPACT = 7 / 8  # finished rows leave when the batch shrinks to so much of its size
OPENING = 3  # tokens with which a model may open its thought: the mark, and blanks before it


@dataclass(frozen=True, slots=True)
class Ask:
    """One sequence to sample: a prefix of token ids, what may follow, and the key of its random stream.

    `thought` and `answer` are budgets in tokens; `thought` is None where the prefix has closed its thought already.
    `opens` says that the model writes the open of the thought itself, which is not counted, nor are blanks before it.
    """

    prefix: list[int]
    key: str
    answer: int
    thought: int | None = None
    opens: bool = False

    @property
    def room(self) -> int:
        """Tokens that may be generated before the budget decides: one more than it holds, to see whether it ends."""
        return self.answer + 1 if self.thought is None else self.thought + 1 + OPENING * self.opens

    @property
    def longest(self) -> int:
        return self.room + (0 if self.thought is None else self.answer + 1)


@dataclass(slots=True)
class Sampled:
    """What followed: token ids, their log-probs (at temperature, before top-p), and whether a budget cut them; where a
    token is watched, also its log-prob in the place of every one of them."""

    tokens: list[int]
    logprobs: list[float]
    truncated: bool
    watched: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Count:
    """Tokens pushed through the model: of prompts and inducers (prefill) and of what is sampled (decode). `told` is
    called whenever there are more of them."""

    prefill: int = 0
    decode: int = 0
    told: Callable[[], None] = lambda: None

    def add(self, *, prefill: int = 0, decode: int = 0) -> None:
        self.prefill += prefill
        self.decode += decode
        self.told()


class Stream(Protocol):
    """A batch of rows in the middle of being sampled: what the model has seen of them, and how it sees more."""

    @property
    def waiting(self) -> int:
        """Asks that no row has been given yet."""

    def start(self, count: Count) -> tuple[Tensor, Tensor]:
        """Push the prefixes of the first rows. Logits [B, V] of their first tokens, and which result each row writes
        (−1: none)."""

    def step(self, token_B: Tensor) -> Tensor:
        """Push one token a row; logits [B, V] of the next."""

    def finish(self, row: int, result: int) -> None:
        """A row (its place in the batch) stopped; its result is complete."""

    def refill(self, row_N: Tensor, count: Count) -> tuple[Tensor, Tensor]:
        """Give places that are free, no more than are waiting, to the next asks; as `start`, for these rows."""

    def size(self, alive_B: Tensor) -> int:
        """Places that the batch would take after `select`."""

    def select(self, alive_B: Tensor) -> Tensor:
        """Let rows leave. The new batch as places in the old one; −1 for places that only fill a shape."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """How tokens are chosen and where a response ends. `temperature` 0 is greedy.

    As in vLLM: the presence penalty is taken off the logits of tokens that the row has sampled already; of the
    probabilities at the temperature those below `min_p` times the largest go, then all but the `top_k` largest and what
    equals them (0: none goes), then what lies beyond the nucleus `top_p` of the rest.
    """

    open_id: int
    close_id: int
    end_ids: frozenset[int]
    temperature: float
    top_p: float
    blank_ids: frozenset[int] = frozenset()
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    watch: int | None = None

    def run(self, stream: Stream, asks: Sequence[Ask], count: Count) -> list[Sampled]:
        """What follows each ask, in order; see `finished`."""
        said = dict(self.finished(stream, asks, count))
        return [said[i] for i in range(len(asks))]

    @torch.inference_mode()
    def finished(self, stream: Stream, asks: Sequence[Ask], count: Count) -> Iterator[tuple[int, Sampled]]:
        """What follows each ask, by its index, as soon as it has ended; `stream` holds the same asks.

        Raises:
            ModelError: a token was sampled from logits that are not finite.
        """
        logits, result = stream.start(count)
        device, longest = logits.device, max(ask.longest for ask in asks)
        noise = torch.from_numpy(np.stack([keyed(ask.key).random(longest) for ask in asks])).to(device)
        # by result; what a place that only fills a shape samples goes to a row of its own at the end
        sampled = torch.zeros(len(asks) + 1, longest, dtype=torch.long, device=device)
        logprobs = torch.zeros(len(asks) + 1, longest, dtype=sampling_dtype(logits), device=device)
        watched = torch.zeros_like(logprobs if self.watch is not None else logprobs[:, :0])
        ends, blanks = (torch.tensor(sorted(ids), device=device) for ids in (self.end_ids, self.blank_ids))
        budgets = torch.tensor([(a.room, a.answer, a.thought is not None, a.opens) for a in asks], device=device)
        # by row, for as long as it runs
        room, answer, thinking, opens = _columns(budgets, result)
        spare = OPENING * opens.long()  # of the room, what only the opening of a thought may use
        penalised = self.presence_penalty != 0
        at, done = torch.zeros_like(room), result < 0
        while True:
            token, logprob = self.choose(logits, noise[result, at], _said(sampled[result], at) if penalised else None)
            sampled[result, at], logprobs[result, at] = token, logprob
            if self.watch is not None:
                watched[result, at] = self.watched(logits)
            opened, blank = opens & (token == self.open_id), opens & (spare > 1) & torch.isin(token, blanks)
            spare = spare - (opened | blank).long()
            opens = blank  # anything else ends the opening: it was the mark, or there is none
            room, spare = torch.where(opens, room, room - spare), torch.where(opens, spare, 0)
            closes = thinking & (token == self.close_id)
            thinking = thinking & ~closes
            room = torch.where(closes, answer + 1, room - 1)
            at = at + 1
            ended = torch.isin(token, ends)
            stops = (ended | (room == 0)) & ~done
            stopped = stops.nonzero()[:, 0].tolist()
            for row in stopped:
                which, length, cut = int(result[row]), int(at[row]), not ended[row]
                stream.finish(row, which)
                yield which, _sampled([x[which, :length] for x in (sampled, logprobs, watched)], cut)
            done = done | stops
            alive = len(done) - int(done.sum())
            count.add(decode=alive)
            if not alive and not stream.waiting:
                return
            few = bool(stopped) and stream.size(~done) <= COMPACT * len(done)
            if few and not stream.waiting:
                order = stream.select(~done)
                filler = order < 0
                result, done, room, answer, thinking, opens, spare, at, token = (
                    x[order] for x in (result, done, room, answer, thinking, opens, spare, at, token)
                )
                result, done = result.masked_fill(filler, -1), done | filler
            at = at.clamp(max=longest - 1)  # of rows that are done
            if alive:
                logits = stream.step(token)
            if stream.waiting and (few or not alive):
                free = done.nonzero()[: stream.waiting, 0]
                logits[free], result[free] = stream.refill(free, count)
                room[free], answer[free], thinking[free], opens[free] = _columns(budgets, result[free])
                spare[free], at[free], done[free] = OPENING * opens[free].long(), 0, False

    def choose(self, logits: Tensor, noise: Tensor, said: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token a row, and its log-prob at the temperature (at 1 where greedy), penalised, before anything goes.

        Args:
            said: tokens that each row has sampled so far [B, N], −1 where it has fewer; needed for a presence penalty.
        """
        logits = logits.to(sampling_dtype(logits))
        if said is not None:
            seen = torch.zeros_like(logits).scatter_reduce_(1, said.clamp(min=0), (said >= 0).to(logits.dtype), "amax")
            logits = logits - self.presence_penalty * seen
        logprobs = torch.log_softmax(logits / (self.temperature or 1.0), -1)
        if self.temperature == 0:
            token = logprobs.argmax(-1)
        else:
            token = inverse_transform(logprobs.exp(), noise, self.top_p, self.top_k, self.min_p)
        return token, logprobs.gather(-1, token[:, None])[:, 0]

    def watched(self, logits: Tensor) -> Tensor:
        """Log-probs [B] of the token that is watched, at the temperature."""
        logits = logits.to(sampling_dtype(logits)) / (self.temperature or 1.0)
        return logits[:, self.watch] - logits.logsumexp(-1)


def _columns(budgets: Tensor, result: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    room, answer, thinking, opens = budgets[result].unbind(1)
    return room, answer, thinking.bool(), opens.bool()


def _said(sampled_B_L: Tensor, at_B: Tensor) -> Tensor:
    """What each row has sampled so far, −1 beyond."""
    columns = torch.arange(int(at_B.max()), device=at_B.device)
    return sampled_B_L[:, : len(columns)].masked_fill(columns >= at_B[:, None], -1)


def _sampled(columns: Sequence[Tensor], cut: bool) -> Sampled:
    """Of tokens, their log-probs and what was watched. A cut row was given one token too many, to see whether it would
    end within its budget."""
    tokens, logprobs, watched = columns
    if not logprobs.isfinite().all():
        raise ModelError(
            "the model's probabilities are not finite, its weights may hold NaN or infinity; "
            "go back to a sound checkpoint, or use model.dtype = float32"
        )
    last = len(tokens) - cut
    return Sampled(tokens[:last].tolist(), logprobs[:last].tolist(), cut, watched[:last].tolist())


def sampling_dtype(logits: Tensor) -> torch.dtype:
    """What is sampled in: half precision is raised to float32; float64 stays."""
    return torch.promote_types(logits.dtype, torch.float32)


def inverse_transform(
    probability: Tensor, noise: Tensor, top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0
) -> Tensor:
    """Indices drawn from `probability` [B, V] by uniform `noise` [B] in [0, 1), from what `Decoder` leaves of it.

    The vocabulary is sorted only for rows of which more than `NUCLEUS` entries may be left.
    """
    if top_p == 1 and not top_k and not min_p:
        return _drawn(probability, noise)
    left = partial(_left, top_p=top_p, top_k=top_k, min_p=min_p)
    ranked, index = probability.topk(min(NUCLEUS, probability.shape[-1]), -1)
    index, order = index.sort(-1)  # in the order of the vocabulary, which decides what a number draws
    place = _drawn(left(ranked).gather(-1, order), noise)
    token = index.gather(-1, place[:, None])[:, 0]
    # more may be left than were ranked where the last of these may be; float32 sums of so few are not wrong by 1e-5
    large = _likely(ranked, top_k, min_p)[:, -1] > 0 if top_k or min_p else ranked.sum(-1) < top_p + 1e-5
    if ranked.shape != probability.shape and large.any():
        ranked, index = probability[large].sort(-1, descending=True)
        token[large] = _drawn(torch.zeros_like(ranked).scatter(-1, index, left(ranked)), noise[large])
    return token


def _likely(ranked: Tensor, top_k: int, min_p: float) -> Tensor:
    """Falling probabilities, 0 below the smallest of the `top_k` and below `min_p` times the largest."""
    least = min_p * ranked[:, :1]
    if 0 < top_k < ranked.shape[-1]:
        least = torch.maximum(least, ranked[:, top_k - 1, None])
    return ranked.masked_fill(ranked < least, 0.0)


def _left(ranked: Tensor, top_p: float, top_k: int, min_p: float) -> Tensor:
    """Falling probabilities, 0 beyond the fewest of the likely ones that have `top_p` of these together."""
    whole: Tensor | float = 1.0
    if top_k or min_p:
        ranked = _likely(ranked, top_k, min_p)
        whole = ranked.sum(-1, keepdim=True)
    return ranked if top_p == 1 else ranked.masked_fill(ranked.cumsum(-1) - ranked >= top_p * whole, 0.0)


def _drawn(probability: Tensor, noise: Tensor) -> Tensor:
    """Where `noise` of all that is there lies: first among blocks, then in one, so that no running sum over the
    vocabulary is written."""
    entries = probability.shape[-1]
    if entries % BLOCK:
        probability = nn.functional.pad(probability, (0, -entries % BLOCK))
    blocks = probability.unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(-1, dtype=torch.float64)
    block, beyond = _reached(sums, noise[:, None] * sums.sum(-1, keepdim=True))
    chosen = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK))[:, 0].double()
    place, _ = _reached(chosen, beyond)
    return (block * BLOCK + place)[:, 0].clamp(max=entries - 1)  # where nothing is a number


def _reached(part: Tensor, aim: Tensor) -> tuple[Tensor, Tensor]:
    """The first place at which the sum of `part` [B, N] is above `aim` [B, 1], never one of nothing, and what of `aim`
    the places before it leave."""
    upto = part.cumsum(-1)
    least = torch.zeros_like(aim)
    aim = torch.minimum(aim, torch.nextafter(upto[:, -1:], least))  # sums in another order differ by their rounding
    place = torch.searchsorted(upto, aim, right=True).clamp(max=part.shape[-1] - 1)
    return place, aim - nn.functional.pad(upto, (1, 0)).gather(-1, place)


def keyed(key: str) -> np.random.Generator:
    """The random stream of a key."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest)))
