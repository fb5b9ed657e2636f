"""Agent loops: one verl session is one member of a group.

Of a spine's sessions the last samples the full rollout; those of its exits wait for it, cut the thought, inject the
inducer and sample the answer. A parallel group is the same without exits. Every session names its problem's uid as
request id, so that a branch meets the server which still holds the keys and values of its spine.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register

from suffice.config import GroupSection, RolloutSection, make_recipe
from suffice.engines.verl.members import Member
from suffice.engines.verl.tokens import within
from suffice.grading import Grader
from suffice.grading.verdicts import give_verdicts
from suffice.groups import Branch, Group, Problem, Spine, answer_length
from suffice.loops import repeated_tokens
from suffice.model.load import chat_of
from suffice.objective import weigh_member
from suffice.objective.weights import TrainOn
from suffice.rollout import Chat, random_exits
from suffice.rollout.decode import OPENING


@dataclass
class Kit:
    """What all sessions of a process use."""

    seed: int
    group: GroupSection
    rollout: RolloutSection
    train_on: TrainOn
    chat: Chat
    grader: Grader


@cache
def kit(recipe_toml: str, path: str) -> Kit:
    """Of a recipe and the place its model is loaded from."""
    recipe = make_recipe(tomllib.loads(recipe_toml))
    chat = chat_at(recipe_toml, path)
    return Kit(recipe.run.seed, recipe.group, recipe.rollout, recipe.objective.train_on or "sampled", chat, Grader())


@cache
def chat_at(recipe_toml: str, path: str) -> Chat:
    """The chat of the model at a path, as the recipe says, by the checkpoint's own tokenizer: verl's may be another."""
    recipe = make_recipe(tomllib.loads(recipe_toml))
    return chat_of(recipe.model.model_copy(update={"path": path}), recipe.rollout.inducer)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server answered: tokens and their log-probs, the steps whose weights they came from, and its work in
    tokens: of the prefixes, those of them that its cache held (None where it does not say), and what it decoded."""

    tokens: list[int]
    logprobs: list[float]
    steps: dict[str, Any]
    prefixes: int
    cached: int | None
    decoded: int

    def and_then(self, then: Asked) -> Asked:
        """Two requests as one."""
        known = self.cached is not None and then.cached is not None
        return replace(
            then,
            prefixes=self.prefixes + then.prefixes,
            cached=(self.cached or 0) + (then.cached or 0) if known else None,
            decoded=self.decoded + then.decoded,
        )


@dataclass
class Awaited:
    """A spine that one session samples and others wait for, with the exits drawn in its thought."""

    waiting: int
    ready: asyncio.Future[tuple[Spine, list[int]]] = field(default_factory=asyncio.Future)


class Pending:
    """Spines in the making, by place; forgotten when all their sessions are through."""

    def __init__(self) -> None:
        self.spines: dict[str, Awaited] = {}

    def enter(self, place: str, sessions: int) -> Awaited:
        return self.spines.setdefault(place, Awaited(sessions))

    def leave(self, place: str) -> None:
        spine = self.spines[place]
        spine.waiting -= 1
        if not spine.waiting:
            del self.spines[place]
            if spine.ready.done() and not spine.ready.cancelled():
                spine.ready.exception()  # seen, also where there was no exit to tell


PENDING = Pending()


@register("suffice")
class MemberLoop(AgentLoopBase):  # type: ignore[misc]
    """Training: session `s` of a problem is column `s` of its group."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput | list[AgentLoopOutput]:
        """One member; none where the thought is too short for another exit."""
        kit = self.kit()
        problem, session, exits = problem_of(row), int(row["session_id"]), kit.group.exits
        k, column = divmod(session, exits + 1)
        key = f"{kit.seed}/{int(row['global_steps'])}/0/{problem.id}/0/{k}"
        group = Group(problem, kit.chat.render(problem.prompt), kit.chat.inducer, [], key)
        place = f"{row['uid']}/{k}"
        awaited = PENDING.enter(place, exits + 1)
        try:
            if column == exits:
                spine, asked = await self.lead(awaited, group, sampling_params, row)
                return await self.output(group, spine, spine, row, asked)
            spine, drawn = await asyncio.shield(awaited.ready)  # a sibling that is cancelled takes none along
            if column >= len(drawn):
                return []
            branch, asked = await self.branch(group, spine, drawn[column], sampling_params, row)
            return await self.output(group, spine, branch, row, asked)
        finally:
            PENDING.leave(place)

    def kit(self) -> Kit:
        return kit(self.config.suffice.recipe, self.config.actor_rollout_ref.model.path)

    async def lead(
        self, awaited: Awaited, group: Group, sampling: dict[str, Any], row: Mapping[str, Any]
    ) -> tuple[Spine, Asked]:
        """Sample the spine and tell those who wait, of a failure too: a sibling must never hang."""
        try:
            spine, asked = await self.spine(group, sampling, row)
            exits = self.kit().group.exits
            awaited.ready.set_result((spine, list(random_exits(exits)(spine, group.key)) if exits else []))
        except BaseException as error:
            awaited.ready.set_exception(RuntimeError(f"the full rollout of problem {group.problem.id} failed: {error}"))
            raise
        return spine, asked

    async def spine(self, group: Group, sampling: dict[str, Any], row: Mapping[str, Any]) -> tuple[Spine, Asked]:
        """Sample a thought to its close or its budget, and then, if it closed, an answer with a budget of its own.

        In one request for both, a thought beyond its budget would use up the answer's in vain, and an answer that
        loops after an early close all that the thought left. The second finds the first in the server's cache.
        """
        kit = self.kit()
        chat, budget = kit.chat, kit.rollout
        room = budget.max_thought_tokens + 1 + (0 if chat.opened(group.prompt) else OPENING)
        asked = await self.sample(group.prompt, room, sampling | {"stop_token_ids": [chat.close_id]}, row)
        tokens, logprobs = asked.tokens, asked.logprobs
        opened = 0 if chat.opened(group.prompt) else chat.after_open(tokens)
        last = opened + budget.max_thought_tokens
        if chat.close_id in tokens[: last + 1]:
            start = tokens.index(chat.close_id) + 1
            then = await self.sample(group.prompt + tokens[:start], budget.max_answer_tokens + 1, sampling, row)
            tokens, logprobs = tokens[:start] + then.tokens, logprobs[:start] + then.logprobs
            asked, last = asked.and_then(then), start + budget.max_answer_tokens
        tokens, truncated = within(tokens, last, chat.end_ids)
        return chat.read(group.prompt, tokens, logprobs[: len(tokens)], truncated=truncated), asked

    async def branch(
        self, group: Group, spine: Spine, position: int, sampling: dict[str, Any], row: Mapping[str, Any]
    ) -> tuple[Branch, Asked]:
        """Cut the thought after `position` tokens and sample an answer on a budget of its own."""
        kit = self.kit()
        budget = kit.rollout.max_answer_tokens
        prefix = group.prompt + spine.tokens[: spine.thought_start + position] + kit.chat.inducer
        asked = await self.sample(prefix, budget + 1, sampling, row)
        tokens, truncated = within(asked.tokens, budget, kit.chat.end_ids)
        return Branch(position, tokens, asked.logprobs[: len(tokens)], truncated), asked

    async def sample(self, prefix: list[int], room: int, sampling: dict[str, Any], row: Mapping[str, Any]) -> Asked:
        """Tokens after `prefix`, at most `room`."""
        said = await self.server_manager.generate(
            request_id=row["uid"], prompt_ids=prefix, sampling_params=sampling | {"max_tokens": room}
        )
        steps = {name: said.extra_fields.get(name) for name in ("min_global_steps", "max_global_steps")}
        tokens = list(said.token_ids)
        cached = said.extra_fields.get("num_cached_tokens")
        return Asked(tokens, list(said.log_probs), steps, len(prefix), cached, len(tokens))

    async def output(
        self, group: Group, spine: Spine, member: Spine | Branch, row: Mapping[str, Any], asked: Asked
    ) -> AgentLoopOutput:
        """A graded member as verl takes it: tokens, what of them is trained, log-probs, and the facts."""
        kit = self.kit()
        chat = kit.chat
        graded = [(member, group.problem)]
        await asyncio.to_thread(give_verdicts, graded, lambda said: chat.answer_text(said.answer_tokens), kit.grader)
        weighed = weigh_member(group, spine, member, train_on=kit.train_on, close_id=chat.close_id)
        injected = (weighed.kept, weighed.kept + (0 if isinstance(member, Spine) else len(group.inducer)))
        facts = Member(
            group=str(row["uid"]),
            column=int(row["session_id"]),
            order=int(row["index"]),
            verdict=str(member.verdict),
            thought_tokens=member.thought_length,
            loop_tokens=repeated_tokens(spine.tokens[spine.thought_start :][: member.thought_length]),
            answer_tokens=answer_length(member.answer_tokens, chat.end_ids),
            closed=member.closed,
            truncated=member.truncated,
            exit=None if isinstance(member, Spine) else member.exit,
            injected=injected,
            prefixes=asked.prefixes,
            cached=asked.cached,
            decoded=asked.decoded,
        )
        return AgentLoopOutput(
            prompt_ids=group.prompt,
            response_ids=spine.tokens[: weighed.kept] + weighed.own,
            response_mask=[1] * weighed.kept + [int(trained) for trained in weighed.own_trained],
            response_logprobs=spine.logprobs[: weighed.kept] + weighed.own_logprobs,
            reward_score=float(facts.correct),
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={
                **facts.as_fields(),
                "reward_extra_info": {"acc": float(facts.correct)},
                **asked.steps,
            },
        )


@register("suffice-plain")
class PlainLoop(MemberLoop):
    """Validation: every session is a full rollout by itself."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        problem = problem_of(row)
        key = f"validation/{int(row['global_steps'])}/{problem.id}/{int(row['session_id'])}"
        chat = self.kit().chat
        group = Group(problem, chat.render(problem.prompt), chat.inducer, [], key)
        spine, asked = await self.spine(group, sampling_params, row)
        return await self.output(group, spine, spine, row, asked)


def problem_of(row: Mapping[str, Any]) -> Problem:
    """The problem of a row of the data set (`suffice.engines.verl.data`)."""
    about = row["extra_info"]
    prompt, gold = row["raw_prompt"][0]["content"], row["reward_model"]["ground_truth"]
    return Problem(about["id"], row["data_source"], prompt, gold, about["kind"])
