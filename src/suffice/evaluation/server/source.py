"""A model behind a server that speaks OpenAI's API as a source: vLLM, SGLang, llama.cpp and what is alike.

Samples are chat completions. A chat API has one limit for all it writes, so thought and answer share the sum of their
budgets. Answers are forced through raw completions, which continue a text: prompt, thought so far, inducer.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from anyio.from_thread import start_blocking_portal
from openai import APIError, APIStatusError, AsyncOpenAI

from suffice.errors import ModelError, ServerError
from suffice.evaluation.server.counting import By, counted
from suffice.evaluation.server.forcing import Forcing, as_text, blank_of, seen_whole
from suffice.evaluation.server.reading import separated
from suffice.evaluation.server.replies import ChatReply, RawChoice, RawReply
from suffice.evaluation.server.transport import Transport, answered, check_served
from suffice.evaluation.source import Advance, Draw, ExitRule, Sampling, Trace, switches
from suffice.groups import Problem
from suffice.model.chat import Chat
from suffice.model.marks import answer_of

HANDSHAKE_RETRIES = 4  # of the requests that find out what a server accepts

Job = Callable[[AsyncOpenAI], Awaitable[Trace]]


class ServerSource:
    """A model behind `base_url`, such as `http://localhost:8000/v1`.

    The seed of a request is that of (protocol seed, problem, sample); whether a server draws the same sample from the
    same seed again is up to it. A request that fails on the way is repeated, with growing pauses. `positions` are the
    tokens of prompt and reply together that the server says it holds, None if it says nothing.

    Args:
        chat: the chat of the model's tokenizer, for exact counts of tokens and for forced answers; None without.
        system: a turn before every problem; the template's own if None.
        options: arguments of the server's chat template.
        api_key: sent as bearer token; None where the server asks for none.
        concurrency: requests in flight at most.
        timeout: seconds that one request may take.
        retries: how often a request is repeated.

    Raises:
        ServerError: the server cannot be reached, refuses the key, or does not serve the model.
    """

    lot: int | None = None

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        chat: Chat | None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        api_key: str | None,
        concurrency: int = 32,
        timeout: float = 3600,
        retries: int = 8,
    ) -> None:
        self.name = model
        self.chat = chat
        self.system = system
        self.options = dict(options or {})
        self.concurrency = concurrency
        self.counts: By = "tokenizer" if chat else "server"
        self.positions: int | None = None
        self._transport = Transport(base_url, api_key=api_key, timeout=timeout, retries=retries)
        self._forcing: Forcing | None = None
        with start_blocking_portal() as portal:
            portal.call(self._check)

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def sample(
        self, draws: Sequence[Draw], sampling: Sampling, exits: ExitRule | None, advance: Advance
    ) -> Iterator[list[Trace]]:
        """Each trace as it completes, with answers forced in it if there are `exits`.

        Raises:
            ServerError: a request fails for good, once all that were in flight beside it have ended and been yielded;
                or answers cannot be forced, before anything is sampled.
        """
        jobs = (partial(self._sampled, *draw, sampling, exits) for draw in draws)
        yield from self._finished(jobs, draws[0][0] if exits and draws else None, advance)

    def force(
        self, recorded: Sequence[tuple[Problem, Trace]], sampling: Sampling, exits: ExitRule, advance: Advance
    ) -> Iterator[list[Trace]]:
        """Each recorded trace as its answers complete.

        Raises:
            ServerError: as of `sample`.
        """
        jobs = (partial(self._answered, *each, sampling, exits) for each in recorded)
        yield from self._finished(jobs, recorded[0][0] if recorded else None, advance)

    def _finished(self, jobs: Iterable[Job], forced: Problem | None, advance: Advance) -> Iterator[list[Trace]]:
        """Runs jobs in an event loop beside this thread; to leave the generator cancels what is in flight.

        `forced` is a problem to try forcing on, if the jobs do so.
        """
        finished: SimpleQueue[Trace | None] = SimpleQueue()
        with start_blocking_portal() as portal:
            work = portal.start_task_soon(self._work, iter(jobs), forced, finished.put)
            while (trace := finished.get()) is not None:
                advance(1)
                yield [trace]
            work.result()

    async def _work(self, jobs: Iterator[Job], forced: Problem | None, finish: Callable[[Trace | None], None]) -> None:
        failures: list[Exception] = []

        async def worker(client: AsyncOpenAI) -> None:
            for job in jobs:
                try:
                    finish(await job(client))
                except (APIError, ServerError) as error:
                    failures.append(error)
                if failures:
                    return

        try:
            async with self._transport.client() as client:
                if forced and not self._forcing:
                    self._forcing = await self._handshake(client, forced)
                await asyncio.gather(*(worker(client) for _ in range(self.concurrency)))
            if failures:
                raise failures[0]
        except APIError as error:
            raise self._transport.explained(error, self.positions) from error
        finally:
            finish(None)

    async def _check(self) -> None:
        """That the server is there and serves the model."""
        async with self._transport.client() as client:
            served = await self._transport.models(client)
        if served is None:
            return
        check_served(self.base_url, self.name, served)
        if self.name in served:
            self.positions = served[self.name].positions

    async def _handshake(self, client: AsyncOpenAI, problem: Problem) -> Forcing:
        """How answers can be forced. Token ids go before text: a text might be tokenized otherwise."""
        if self.chat is None:
            raise ServerError("to force answers the model's own tokenizer is needed; give --tokenizer")
        if self.chat.marks is None:
            raise ServerError(
                f"to force answers in thoughts {self.name} must write them between marks, and it has none"
            )
        client = client.with_options(max_retries=HANDSHAKE_RETRIES)
        head = self.chat.render(problem.prompt)
        refusal = ""
        for prompt in (head, as_text(self.chat, head)):
            for logprobs in (True, False):
                try:
                    choice, seen = await self._continued(client, problem, prompt, 4, logprobs=logprobs)
                except APIStatusError as error:
                    if error.status_code in (401, 403, 429):
                        raise
                    refusal = f"no raw completions endpoint takes the prompt ({answered(error)})"
                    continue
                if seen is None:
                    print(
                        f"{self.base_url} does not tell how many tokens of a prompt it saw, so it goes unchecked "
                        "that its raw completions add nothing to it",
                        file=sys.stderr,
                    )
                if seen_whole(len(head), seen, ids=True):
                    blank = blank_of(choice.text, self.chat.marks.open)
                    return Forcing(self.chat, isinstance(prompt, list), logprobs, blank)
                refusal = (
                    f"its raw completions saw {seen} tokens of a prompt of {len(head)}, as where a chat template is "
                    "wrapped around it (Ollama), or --tokenizer is not the model's"
                )
        raise ServerError(
            f"{self.base_url} cannot force answers: {refusal}; use a server whose /v1/completions take a prompt as it "
            "is, such as vLLM, SGLang or llama-server"
        )

    async def _sampled(
        self, problem: Problem, number: int, sampling: Sampling, exits: ExitRule | None, client: AsyncOpenAI
    ) -> Trace:
        budget = sampling.max_thought_tokens + sampling.max_answer_tokens
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        body = {
            "model": self.name,
            "messages": [*system, {"role": "user", "content": problem.prompt}],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": budget,
            "seed": seed_of(f"{sampling.seed}/{problem.id}/{number}"),
        }
        # only where they are asked for: not every server knows them
        body |= {name: value for name in ("top_k", "min_p", "presence_penalty") if (value := getattr(sampling, name))}
        if self.options:
            body["chat_template_kwargs"] = self.options
        reply = await self._transport.post(client, "/chat/completions", body, ChatReply, problem)
        choice, usage = reply.choices[0], reply.usage
        generated = usage.completion_tokens if usage else None
        cut = choice.cut or (not choice.reason and (generated or 0) >= budget)
        turn = separated(choice.message, cut=cut, opened=self._opened(problem))
        try:
            thought, rest, by = counted(turn, usage, self.chat.tokenizer if self.chat else None)
        except ServerError as error:
            raise ServerError(f"{self.base_url} {error}") from None
        if by == "characters":
            self.counts = by
        trace = Trace(problem.id, number, turn.thought, answer_of(turn.rest), thought, rest, turn.closed, cut)
        if exits is None:
            return trace
        assert self.chat is not None
        rendered, seen = len(self.chat.render(problem.prompt)), usage.prompt_tokens if usage else None
        if not seen_whole(rendered, seen, ids=True):
            raise ServerError(
                f"{self.base_url} saw {seen} tokens of a question that --tokenizer renders to {rendered}, so its chat "
                "template is another; give the tokenizer that is served, and the same --system and "
                "--chat-template-kwargs"
            )
        return await self._answered(problem, trace, sampling, exits, client)

    def _opened(self, problem: Problem) -> bool | None:
        """Whether the prompt opens the thought; None if that is not known."""
        if self.chat is None:
            return None
        try:
            return self.chat.opened(self.chat.render(problem.prompt))
        except ModelError:
            return None

    async def _answered(
        self, problem: Problem, trace: Trace, sampling: Sampling, exits: ExitRule, client: AsyncOpenAI
    ) -> Trace:
        """The trace, its thought tokenized here, with answers forced in it one by one, so that no more requests are in
        flight than there are workers."""
        assert self._forcing is not None  # shaken hands before any job
        ids, ends = self._forcing.tokens(trace.thought)
        trace = replace(trace, thought_tokens=len(ids), switches=switches(trace.thought, ends), forced=[], verdict=None)
        head = self._forcing.head(problem.prompt, trace.thought)
        for position in exits(trace):
            characters = ends[position - 1] if position else 0
            prompt = self._forcing.prompt(head, ids[:position], trace.thought[:characters])
            choice, seen = await self._continued(
                client, problem, prompt, sampling.max_answer_tokens, logprobs=self._forcing.logprobs
            )
            sent = len(head) + position + len(self._forcing.chat.inducer)
            if not seen_whole(sent, seen, ids=self._forcing.ids):
                raise ServerError(
                    f"{self.base_url} saw {seen} tokens of a prompt of {sent}: it does not take a long prompt whole; "
                    "give it a longer context"
                )
            trace.forced.append(self._forcing.read(choice, position, characters))
        return trace

    async def _continued(
        self, client: AsyncOpenAI, problem: Problem, prompt: list[int] | str, tokens: int, *, logprobs: bool
    ) -> tuple[RawChoice, int | None]:
        """What the model says after a prompt, greedily, and how many tokens of the prompt the server saw."""
        body = {"model": self.name, "prompt": prompt, "max_tokens": tokens, "temperature": 0.0}
        if logprobs:
            body["logprobs"] = 1
        reply = await self._transport.post(client, "/completions", body, RawReply, problem)
        return reply.choices[0], reply.usage.prompt_tokens if reply.usage else None


def seed_of(key: str) -> int:
    """31 bits, which every server takes for a seed."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) >> 1
