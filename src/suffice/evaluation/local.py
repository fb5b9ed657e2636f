"""A local checkpoint as a source: thoughts are sampled in lots, forced answers decode from their thought's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from suffice.errors import ModelError
from suffice.evaluation.source import Advance, Draw, ExitRule, Forced, Sampling, Trace, switches
from suffice.groups import Branch, Group, Problem, Spine, answer_length
from suffice.model.device import tokens_at_once
from suffice.objective.spine import check_model
from suffice.rollout import Chat, Sampler


@dataclass
class LocalSource:
    """A loaded model under the name that results show.

    Samples are keyed on (seed, problem, sample) and lots are fixed by index, so that an evaluation that was interrupted
    ends with the very samples of one that was not.
    """

    name: str
    model: Any
    chat: Chat
    counts: Literal["tokenizer"] = field(default="tokenizer", init=False)

    @cached_property
    def lot(self) -> int:
        """Few samples of a model that is slow: those of a lot that is stopped are lost."""
        return min(256, max(32, tokens_at_once(self.model) // 16))

    def sample(
        self, draws: Sequence[Draw], sampling: Sampling, exits: ExitRule | None, advance: Advance
    ) -> Iterator[list[Trace]]:
        """All samples of the problems asked for, as one lot.

        Raises:
            ModelError: answers are to be forced, but the model has no thought to force them in.
        """
        if exits is not None:
            self.check_forcing()
        problems = list({problem.id: problem for problem, _ in draws}.values())
        groups = self.sampler(sampling, advance).groups(
            problems,
            sampling.samples,
            f"eval/{sampling.seed}",
            exits and (lambda spine, key: exits(self.trace("", 0, spine, exits))),
            advance,
        )
        yield [
            self.trace(group.problem.id, k, spine, exits) for group in groups for k, spine in enumerate(group.spines)
        ]

    def force(
        self, recorded: Sequence[tuple[Problem, Trace]], sampling: Sampling, exits: ExitRule, advance: Advance
    ) -> Iterator[list[Trace]]:
        """The recorded thoughts, tokenized anew, with forced answers.

        Raises:
            ModelError: as of `sample`.
        """
        self.check_forcing()
        groups = []
        for problem, trace in recorded:
            prompt = self.chat.render(problem.prompt)
            thought = self.chat.tokenizer.encode(trace.thought, add_special_tokens=False)
            opening = self.chat.opening(prompt)
            end = len(opening) + len(thought)
            spine = Spine(opening + thought, [], len(opening), end, trace.closed, trace.truncated)
            groups.append(Group(problem, prompt, self.chat.inducer, [spine], f"force/{trace.problem}/{trace.sample}"))
        self.sampler(sampling, advance).answer_recorded(
            groups, lambda spine, key: exits(self.trace("", 0, spine, exits))
        )
        advance(len(groups))
        for (_, trace), group in zip(recorded, groups, strict=True):
            found = self.trace(trace.problem, trace.sample, group.spines[0], exits)
            yield [replace(found, answer=trace.answer, answer_tokens=trace.answer_tokens)]

    def check_forcing(self) -> None:
        if self.chat.marks is None:
            raise ModelError(
                f"{self.name} has no marks of a thought, so no thought can be cut and answered early; evaluate it "
                "without that, or take a reasoning model"
            )

    def sampler(self, sampling: Sampling, advance: Advance) -> Sampler:
        """Forced answers are greedy: what the model would most likely say is what it knows, not one more draw."""
        more = {name: getattr(sampling, name) for name in ("top_k", "min_p", "presence_penalty")}
        sampler = Sampler.of(self.model, self.chat, sampling, answer_temperature=0.0, reuse=self.fits, **more)
        count = sampler.count
        count.told = lambda: advance(0, f"{count.prefill:,} tokens read, {count.decode:,} sampled")
        return sampler

    @cached_property
    def fits(self) -> bool:
        """Whether early answers may be decoded from their thought's keys and values; they are the same either way."""
        try:
            check_model(self.model)
        except ValueError:
            return False
        return True

    def trace(self, problem: str, sample: int, spine: Spine, exits: ExitRule | None) -> Trace:
        """A spine as text; where its thought turns is looked for only if answers are forced."""
        thought = spine.tokens[spine.thought_start : spine.thought_end]
        text = self.chat.thought_text(thought)
        return Trace(
            problem,
            sample,
            text,
            self.chat.answer_text(spine.answer_tokens),
            spine.thought_length,
            answer_length(spine.answer_tokens, self.chat.end_ids),
            spine.closed,
            spine.truncated,
            switches(text, Ends(self.chat, thought)) if exits else [],
            [self.forced(branch, thought) for branch in spine.branches],
        )

    def forced(self, branch: Branch, thought: list[int]) -> Forced:
        logprobs = [
            p for token, p in zip(branch.answer, branch.logprobs, strict=True) if token not in self.chat.end_ids
        ]
        return Forced(
            branch.exit,
            len(self.chat.thought_text(thought[: branch.exit])),
            self.chat.answer_text(branch.answer),
            answer_length(branch.answer, self.chat.end_ids),
            branch.truncated,
            math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0,
        )


@dataclass(frozen=True)
class Ends(Sequence[int]):
    """Where each token of a thought ends in its text; decoded only where looked at."""

    chat: Chat
    tokens: list[int]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Any) -> Any:
        return len(self.chat.thought_text(self.tokens[: index + 1]))
