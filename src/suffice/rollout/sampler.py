"""Groups: full rollouts (spines), then answers at exits of their thoughts (branches). Token ids throughout."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch

from suffice.grading import Grader
from suffice.grading.verdicts import give_verdicts
from suffice.groups import Branch, Group, Problem, Spine
from suffice.model.cache import Footprint, KeyValues, footprint, growing_cache, is_plain
from suffice.model.chat import NONE, Chat
from suffice.model.device import tokens_at_once
from suffice.model.vocabulary import check_ids
from suffice.rollout.decode import Ask, Count, Decoder, Sampled, Stream, keyed
from suffice.rollout.streams import BranchStream, PromptStream, read_alone

ROWS = 512  # rows at once at most, however small the model
Exits = Callable[[Spine, str], Sequence[int]]
"""Positions 0…n, in order and distinct, at which a spine is answered early; the string is the spine's key."""


class Ended(NamedTuple):
    """A spine that is to be answered early: its place in its stream, what was asked, what was said, and the
    gold answer where it is valued by that."""

    place: int
    ask: Ask
    spine: Spine
    gold: list[int]


@dataclass
class Sampler:
    """Samples groups from a local model, with as many rows at once as have keys and values that fit `cache_gb`.

    Randomness is keyed on (seed, problem, spine, exit), so the same call samples the same groups whatever was
    sampled before, and one group does not depend on the others in its batch.

    Args:
        temperature, top_p, top_k, min_p, presence_penalty: of full rollouts; temperature 0 is greedy. See `Decoder`.
        answer_temperature: of the answers at exits, which are then not penalised; default: all as the rollouts.
        stop: the model's own stop (`rollout.stops`), which branches are sent in place of the chat's inducer; its first
            token is watched in full rollouts.
        gold: value branches and full rollouts by the probability of the gold answer, with the blanks that the stop has
            before it, instead of sampling answers.
        reuse: decode branches from the keys and values of their spine. Right for models with full attention in every
            layer (`suffice.objective.spine.check_model`); else every branch's prefix is pushed again.
    """

    model: Any
    chat: Chat
    temperature: float
    top_p: float
    max_thought_tokens: int
    max_answer_tokens: int
    cache_gb: float
    answer_temperature: float | None = None
    reuse: bool = True
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    stop: list[int] = field(default_factory=list)
    gold: bool = False
    count: Count = field(default_factory=Count)

    @classmethod
    def of(cls, model: Any, chat: Chat, asked: Any, **more: Any) -> Self:
        """A sampler as `asked`: a recipe's `[rollout]`, or the sampling of an evaluation. `more` says what neither
        does, such as `reuse`."""
        names = ("temperature", "top_p", "max_thought_tokens", "max_answer_tokens", "cache_gb")
        return cls(model, chat, **{name: getattr(asked, name) for name in names}, **more)

    def groups(
        self,
        problems: Sequence[Problem],
        spines: int,
        seed: str,
        exits: Exits | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> list[Group]:
        """One group a problem: `spines` full rollouts, each answered at its `exits`. A problem given twice is sampled
        anew. `advance(n)` is told of every n finished rollouts."""
        seen: Counter[str] = Counter()
        groups = []
        for problem in problems:
            key = f"{seed}/{problem.id}/{seen[problem.id]}"
            seen[problem.id] += 1
            prompt = self.chat.render(problem.prompt)
            check_ids(self.model, self.chat, prompt)
            gold = [*self.stop[len(self.inducer) :], *self.chat.answer(problem.gold)] if self.gold and exits else []
            groups.append(Group(problem, prompt, self.inducer, [], key, gold))
        asks = [self.ask(group, k) for group in groups for k in range(spines)]
        found: list[Spine] = [None] * len(asks)  # type: ignore[list-item]
        branching = exits is not None
        for wave, slots in self.batches(asks, branching=branching):
            of_wave = [asks[i] for i in wave]
            stream = PromptStream(self.model, of_wave, self.chat.pad_id, self.reuse and branching, slots)
            ended: list[Ended] = []
            decoder = self.decoder(self.temperature)
            if self.stop:
                decoder = replace(decoder, watch=self.stop[0])
            for place, said in decoder.finished(stream, of_wave, self.count):
                found[wave[place]] = self.read(of_wave[place].prefix, said)
                ended.append(Ended(place, of_wave[place], found[wave[place]], groups[wave[place] // spines].gold))
                if advance:
                    advance(1)
                if exits is not None and self.is_full(stream):
                    self.answer(ended, stream, exits)
                    ended = []
            if exits is not None:
                self.answer(ended, stream, exits)
        for i, spine in enumerate(found):
            groups[i // spines].spines.append(spine)
        return groups

    @property
    def inducer(self) -> list[int]:
        """What branches are sent: of the model's own stop all up to the close."""
        return self.stop[: self.stop.index(self.chat.close_id) + 1] if self.stop else self.chat.inducer

    def ask(self, group: Group, spine: int) -> Ask:
        """A full rollout. Where the close of a thought is text and not one token, the budgets share their sum."""
        key, thought, answer = f"{group.key}/{spine}", self.max_thought_tokens, self.max_answer_tokens
        if self.chat.close_id == NONE:
            return Ask(group.prompt, key, answer + thought + self.chat.marks_length)
        return Ask(group.prompt, key, answer, thought, opens=not self.chat.opened(group.prompt))

    def read(self, prompt: list[int], said: Sampled) -> Spine:
        """What was said as a full rollout, within both budgets: where the decoder could not see a thought close, what
        is beyond is cut here."""
        spine = self.chat.read(prompt, said.tokens, said.logprobs, truncated=said.truncated)
        spine.watched = said.watched
        if self.chat.close_id != NONE:
            return spine
        thought, answer = self.max_thought_tokens, self.max_answer_tokens
        if spine.closed and spine.thought_length <= thought:
            before = len(spine.tokens) - len(spine.answer_tokens)
            last = before + answer if before else thought + answer
        else:
            last = spine.thought_start + thought
        if sum(token not in self.chat.end_ids for token in said.tokens) <= last:
            return spine
        return self.chat.read(prompt, said.tokens[:last], said.logprobs[:last], truncated=True)

    @torch.inference_mode()
    def answer_recorded(self, groups: Sequence[Group], exits: Exits) -> None:
        """Branches of spines that were not sampled here, one a group, in place."""
        thoughts = [
            Ask(group.prompt + spine.tokens[: spine.thought_end], group.key, self.max_answer_tokens)
            for group in groups
            for spine in group.spines
        ]
        for wave in self.waves(thoughts, branching=True):
            of_wave = [thoughts[i] for i in wave]
            stream = PromptStream(self.model, of_wave, self.chat.pad_id, keep=self.reuse)
            if self.reuse:
                stream.start(self.count)
                for row in range(len(wave)):
                    stream.finish(row, row)
            prompts = [replace(thoughts[i], prefix=groups[i].prompt) for i in wave]
            ended = [Ended(row, prompts[row], groups[i].spines[0], []) for row, i in enumerate(wave)]
            self.answer(ended, stream, exits)

    def answer(self, ended: Sequence[Ended], stream: PromptStream, exits: Exits) -> None:
        """Branches of spines of a stream, in place; what the stream kept of them is let go."""
        for each in ended:
            spine = each.spine
            for position in exits(spine, each.ask.key):
                at = spine.thought_start + position
                stopping = None
                if spine.watched:  # a thought that was cut at its last token is not known to go on
                    stopping = math.exp(spine.watched[at]) if at < len(spine.watched) else 0.0
                spine.branches.append(Branch(position, [], [], truncated=False, stopping=stopping))
        answered = self.read_gold if self.gold else self.sample_answers
        for some in self.together(ended):
            answered(some, [stream.kept.pop(each.place) for each in some if self.reuse])

    def together(self, ended: Sequence[Ended]) -> Iterator[list[Ended]]:
        """Spines whose branches are answered in one batch: as many as may be sent their inducers and gold answers at
        once, at least one."""
        most, tokens = tokens_at_once(self.model), 0
        some: list[Ended] = []
        for each in ended:
            own = len(each.spine.branches) * (len(self.inducer) + len(each.gold))
            if some and tokens + own > most:
                yield some
                some, tokens = [], 0
            some.append(each)
            tokens += own
        yield some

    def sample_answers(self, ended: Sequence[Ended], kept: Sequence[KeyValues]) -> None:
        """What the model answers at the exits of some spines, from the keys and values that were `kept` of them."""
        branching = [i for i, each in enumerate(ended) if each.spine.branches]
        if not branching:
            return
        lengths = [
            [len(ended[i].ask.prefix) + ended[i].spine.thought_start + each.exit for each in ended[i].spine.branches]
            for i in branching
        ]
        prefixes = [ended[i].ask.prefix + ended[i].spine.tokens for i in branching]
        asks = [
            Ask(
                ([] if self.reuse else prefix[:length]) + self.inducer,
                key=f"{ended[i].ask.key}/{branch.exit}",
                answer=self.max_answer_tokens,
            )
            for i, prefix, of_spine in zip(branching, prefixes, lengths, strict=True)
            for branch, length in zip(ended[i].spine.branches, of_spine, strict=True)
        ]
        branches: Stream
        if self.reuse:
            branches = BranchStream(self.model, [kept[i] for i in branching], lengths, self.inducer)
        else:
            branches = PromptStream(self.model, asks, self.chat.pad_id)
        decoder = self.decoder(self.temperature)
        if self.answer_temperature is not None:
            decoder = replace(decoder, temperature=self.answer_temperature, presence_penalty=0.0)
        sampled = iter(decoder.run(branches, asks, self.count))
        for branch in (branch for i in branching for branch in ended[i].spine.branches):
            said = next(sampled)
            branch.answer, branch.logprobs, branch.truncated = said.tokens, said.logprobs, said.truncated

    def read_gold(self, ended: Sequence[Ended], kept: Sequence[KeyValues]) -> None:
        """How probable the gold answer is at the exits of some spines and after their whole thoughts, in place."""
        members: list[Spine | Branch] = []
        lengths: list[list[int]] = []
        own: list[list[int]] = []
        prefixes = [each.ask.prefix + each.spine.tokens for each in ended]
        for each, prefix in zip(ended, prefixes, strict=True):
            spine, start = each.spine, len(each.ask.prefix)
            members += spine.branches
            lengths.append([start + spine.thought_start + branch.exit for branch in spine.branches])
            own += [self.inducer + each.gold] * len(spine.branches)
            spine.value, spine.gold_at = 0.0, len(spine.tokens)
            if spine.closed:
                spine.gold_at = len(spine.tokens) - len(spine.answer_tokens)
                members.append(spine)
                last = start + spine.gold_at - 1  # of what is kept, read again for what it says of the next
                lengths[-1].append(last)
                own.append([prefix[last], *each.gold])
        if not members:
            return
        if self.reuse:
            some = [i for i, of_spine in enumerate(lengths) if of_spine]
            stream = BranchStream(self.model, [kept[i] for i in some], [lengths[i] for i in some], self.inducer)
            found = stream.read(own, self.temperature, self.count)
        else:
            texts = [prefix[:n] for prefix, of_spine in zip(prefixes, lengths, strict=True) for n in of_spine]
            found = read_alone(self.model, texts, own, self.temperature, self.count)
        for member, tokens, logprobs in zip(members, own, found, strict=True):
            gold = len(tokens) - 1 if isinstance(member, Spine) else len(tokens) - len(self.inducer)
            member.value = math.exp(sum(logprobs[-gold:]))

    def is_full(self, stream: PromptStream) -> bool:
        """Whether a stream keeps a quarter of the cache in finished rows; it is held twice while branches read it."""
        tokens = sum(layers[0][0].shape[1] for layers in stream.kept.values())
        return tokens * self.footprint.token > self.cache_gb * 2**30 / 4

    def batches(self, asks: Sequence[Ask], *, branching: bool) -> Iterator[tuple[list[int], int | None]]:
        """Indices of asks to be sampled by one stream, and how many of them may run at once: all asks, where new rows
        may take the places of finished ones, else waves."""
        if not is_plain(growing_cache(self.model)):
            yield from ((wave, None) for wave in self.waves(asks, branching=branching))
        elif asks:
            row, token = self.held(branching=branching)
            peak = max(len(ask.prefix) + ask.longest for ask in asks)
            slots = int(self.cache_gb * 2**30 // (row + peak * token))
            yield by_length(asks), max(1, min(slots, ROWS, len(asks)))

    def waves(self, asks: Sequence[Ask], *, branching: bool) -> Iterator[list[int]]:
        """Indices of asks of similar length, as many as the cache holds should all run to their budget."""
        row, token = self.held(branching=branching)
        wave: list[int] = []
        for i in by_length(asks):
            peak = len(asks[i].prefix) + max(asks[j].longest for j in [*wave[:1], *wave[-1:], i])
            if wave and (len(wave) == ROWS or (len(wave) + 1) * (row + peak * token) > self.cache_gb * 2**30):
                yield wave
                wave = []
            wave.append(i)
        if wave:
            yield wave

    def held(self, *, branching: bool) -> Footprint:
        """Bytes of a row. With branches to follow, a spine's keys and values are held a second time while its branches
        read them."""
        return Footprint(*(size * (2 if branching else 1) for size in self.footprint))

    @cached_property
    def footprint(self) -> Footprint:
        return footprint(self.model)

    def decoder(self, temperature: float) -> Decoder:
        chat = self.chat
        return Decoder(
            chat.open_id,
            chat.close_id,
            chat.end_ids,
            temperature,
            self.top_p,
            chat.blank_ids,
            self.top_k,
            self.min_p,
            self.presence_penalty,
        )


def by_length(asks: Sequence[Ask]) -> list[int]:
    return sorted(range(len(asks)), key=lambda i: (len(asks[i].prefix), asks[i].longest))


def random_exits(count: int) -> Exits:
    """Up to `count` exits 1…n of a thought of n tokens, uniform without replacement, in order (S-GRPO, Alg. 1)."""

    def draw(spine: Spine, key: str) -> list[int]:
        n = spine.thought_length
        chosen = keyed(f"{key}/exits").choice(n, size=min(count, n), replace=False)
        return sorted(int(i) + 1 for i in chosen)

    return draw


def grade_groups(groups: Sequence[Group], chat: Chat, grader: Grader) -> None:
    """Give every member that was answered its verdict, in place."""
    members = (
        (member, group.problem)
        for group in groups
        for _, _, member in group.members(exits=0)
        if isinstance(member, Spine) or not group.gold
    )
    give_verdicts(members, lambda member: chat.answer_text(member.answer_tokens), grader)
