"""A server that speaks OpenAI's API as a source: vLLM, SGLang, llama.cpp and what is alike.

Samples are chat completions. A chat API has one limit for all it writes, so thought and answer share the sum of their
budgets. Answers are forced through raw completions, which continue a text: prompt, thought so far, inducer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os.path
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal
from openai import APIError, APIStatusError, APITimeoutError, AsyncOpenAI, NotFoundError, Timeout
from pydantic import BaseModel, ValidationError

from suffice.errors import ServerError
from suffice.evaluation.replies import (
    ChatReply,
    Forcing,
    Models,
    RawChoice,
    RawReply,
    Usage,
    answer_of,
    as_text,
    blank_of,
    separated,
)
from suffice.evaluation.source import Advance, Draw, ExitRule, Sampling, Trace, switches
from suffice.groups import Problem
from suffice.model.chat import Chat

CHECK_RETRIES = 2  # of the first request: an address that is wrong stays wrong
PROBE_RETRIES = 4  # of the requests that find out what a server accepts
CONNECT_SECONDS = 10.0
LONGEST_PAUSE = 8.0  # seconds between two tries
LONGEST_REPLY = 2 << 20  # bytes: more than any budget of tokens comes to, and few enough to be tokenized in a moment
UNSEEN_TOKENS = 16  # marks of turn and thought that a server may count without showing them

Reply = TypeVar("Reply", bound=BaseModel)
Job = Callable[[AsyncOpenAI], Awaitable[Trace]]


class ServerSource:
    """A model behind `base_url`, such as `http://localhost:8000/v1`.

    The seed of a request is that of (protocol seed, problem, sample); whether a server draws the same sample from the
    same seed again is up to it. A request that fails on the way is repeated, with growing pauses.

    Args:
        chat: the chat of the model's tokenizer, for exact counts of tokens and for forced answers; None without.
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
        api_key: str | None,
        concurrency: int = 32,
        timeout: float = 3600,
        retries: int = 8,
    ) -> None:
        self.base_url = base_url
        self.name = model
        self.chat = chat
        self.api_key = api_key
        self.concurrency = concurrency
        self.timeout = timeout
        self.retries = retries
        self.counts: Literal["tokenizer", "server", "characters"] = "tokenizer" if chat else "server"
        self._forcing: Forcing | None = None
        check_address(base_url)
        with start_blocking_portal() as portal:
            portal.call(self._check)

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
            async with self._client() as client:
                if forced and not self._forcing:
                    self._forcing = await self._probe(client, forced)
                await asyncio.gather(*(worker(client) for _ in range(self.concurrency)))
            if failures:
                raise failures[0]
        except APIError as error:
            raise self._explained(error) from error
        finally:
            finish(None)

    def _client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",  # without one the client would send the key that is meant for OpenAI
            timeout=Timeout(self.timeout, connect=CONNECT_SECONDS),
            max_retries=self.retries,
        )

    async def _check(self) -> None:
        """That the server is there and serves the model."""
        try:
            async with self._client() as client:
                listing = await client.with_options(max_retries=CHECK_RETRIES).models.with_raw_response.list()
                served = [model.id for model in Models.model_validate_json(listing.content).data]
        except NotFoundError:
            return  # it does not list what it serves
        except APIError as error:
            raise self._explained(error) from error
        except ValidationError as error:
            raise ServerError(
                f"{self.base_url} does not answer as an OpenAI-compatible server; the address often ends in /v1"
            ) from error
        # a folder may be served under its path without being listed
        if served and self.name not in served and not os.path.isdir(self.name):
            raise ServerError(f"{self.base_url} does not serve {self.name}; choose of {clipped(', '.join(served))}")

    async def _probe(self, client: AsyncOpenAI, problem: Problem) -> Forcing:
        """How answers can be forced. Token ids go before text: a text might be tokenized otherwise."""
        if self.chat is None:
            raise ServerError("to force answers the model's own tokenizer is needed; give --tokenizer")
        client = client.with_options(max_retries=PROBE_RETRIES)
        head = self.chat.render(problem.prompt)
        refusal = ""
        for prompt in (head, as_text(self.chat, head)):
            for logprobs in (True, False):
                try:
                    choice = await self._continued(client, prompt, 4, logprobs=logprobs)
                except APIStatusError as error:
                    if error.status_code in (401, 403, 429):
                        raise
                    refusal = said_by(error)
                else:
                    return Forcing(self.chat, isinstance(prompt, list), logprobs, blank_of(choice.text))
        raise ServerError(
            f"{self.base_url} cannot force answers: no raw completions endpoint takes the prompt ({refusal}); "
            "use a server that has one, such as vLLM"
        )

    async def _sampled(
        self, problem: Problem, number: int, sampling: Sampling, exits: ExitRule | None, client: AsyncOpenAI
    ) -> Trace:
        reply = await self._whole(
            ChatReply,
            partial(
                client.chat.completions.with_raw_response.create,
                model=self.name,
                messages=[{"role": "user", "content": problem.prompt}],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_thought_tokens + sampling.max_answer_tokens,
                seed=seed_of(f"{sampling.seed}/{problem.id}/{number}"),
            ),
        )
        choice = reply.choices[0]
        truncated = choice.finish_reason == "length"
        opened = self.chat is not None and self.chat.opened(self.chat.render(problem.prompt))
        thought, rest, closed = separated(choice.message, begun=opened or truncated)
        counts = self._counted(thought, rest, reply.usage)
        trace = Trace(problem.id, number, thought, answer_of(rest), *counts, closed, truncated)
        return await self._answered(problem, trace, sampling, exits, client) if exits else trace

    async def _answered(
        self, problem: Problem, trace: Trace, sampling: Sampling, exits: ExitRule, client: AsyncOpenAI
    ) -> Trace:
        """The trace, its thought tokenized here, with answers forced in it one by one, so that no more requests are in
        flight than there are workers."""
        assert self._forcing is not None  # probed before any job
        ids, ends = self._forcing.tokens(trace.thought)
        trace = replace(trace, thought_tokens=len(ids), switches=switches(trace.thought, ends), forced=[], verdict=None)
        head = self._forcing.head(problem.prompt, trace.thought)
        for position in exits(trace):
            characters = ends[position - 1] if position else 0
            prompt = self._forcing.prompt(head, ids[:position], trace.thought[:characters])
            choice = await self._continued(client, prompt, sampling.max_answer_tokens, logprobs=self._forcing.logprobs)
            trace.forced.append(self._forcing.read(choice, position, characters))
        return trace

    async def _continued(
        self, client: AsyncOpenAI, prompt: list[int] | str, tokens: int, *, logprobs: bool
    ) -> RawChoice:
        """What the model says after a prompt, greedily."""
        reply = await self._whole(
            RawReply,
            partial(
                client.completions.with_raw_response.create,
                model=self.name,
                prompt=prompt,
                max_tokens=tokens,
                temperature=0.0,
                extra_body={"logprobs": 1} if logprobs else None,
            ),
        )
        return reply.choices[0]

    async def _whole(self, kind: type[Reply], request: Callable[[], Awaitable[Any]]) -> Reply:
        """A reply that can be read. The client repeats what fails on the way, but takes any 200 for a success."""
        body = b""
        for attempt in range(self.retries + 1):
            body = (await request()).content
            if len(body) > LONGEST_REPLY:
                raise ServerError(
                    f"{self.base_url} sends {len(body):,} bytes for one reply, far beyond what was asked for; "
                    "check what the address serves"
                )
            try:
                return kind.model_validate_json(body)
            except ValidationError:
                await asyncio.sleep(min(0.5 * 2**attempt, LONGEST_PAUSE))
        said = clipped(body.decode(errors="replace"))
        raise ServerError(f"{self.base_url} sends replies that cannot be read ({said}); check what the address serves")

    def _counted(self, thought: str, rest: str, usage: Usage | None) -> tuple[int, int]:
        """Tokens of a thought and of what follows it."""
        details = usage.completion_tokens_details if usage else None
        thinking = details.reasoning_tokens if details else None
        total = usage.completion_tokens if usage else 0
        hidden = not thought and total > len(rest.encode()) + UNSEEN_TOKENS
        if hidden and (self.chat or not thinking):
            raise ServerError(
                f"{self.base_url} keeps the thought to itself ({total} tokens generated, {len(rest)} characters "
                "shown); have it return the thought, or switch off what separates it from the answer"
            )
        if self.chat:
            encode = self.chat.tokenizer.encode
            return len(encode(thought, add_special_tokens=False)), len(encode(rest, add_special_tokens=False))
        if usage is None:
            raise ServerError(f"{self.base_url} does not tell how many tokens it generates; give --tokenizer")
        if not thinking:
            if thought and rest:
                self.counts = "characters"
            thinking = round(total * len(thought) / max(1, len(thought) + len(rest)))
        return min(thinking, total), total - min(thinking, total)

    def _explained(self, error: APIError) -> ServerError:
        """A failure that repeating did not mend, in one line."""
        if isinstance(error, APIStatusError):
            status = error.status_code
            advice = {
                400: "lower the token budgets if the prompt or the answer is too long for it",
                401: "give the key it asks for",
                403: "give a key that may use this model",
                404: "check the address, which often ends in /v1, and the model's name",
                429: "lower the concurrency or wait",
            }.get(status, "see the server's log")
            return ServerError(f"{self.base_url} answers {status} ({said_by(error)}); {advice}")
        if isinstance(error, APITimeoutError):
            return ServerError(f"{self.base_url} does not answer in time; check that it is up, or allow it more")
        cause = clipped(str(error.__cause__ or error.message)) or type(error.__cause__).__name__
        return ServerError(f"cannot reach {self.base_url} ({cause}); check the address and that the server is up")


def check_address(base_url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        ServerError: as said.
    """
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ServerError(f"{clipped(base_url)} is no address of a server; give one such as http://localhost:8000/v1")


def seed_of(key: str) -> int:
    """31 bits, which every server takes for a seed."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) >> 1


def said_by(error: APIStatusError) -> str:
    """A server's own message."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return clipped(str(body or error.response.text or error.response.reason_phrase))


def clipped(text: str) -> str:
    """One line of at most 200 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:199] + "…"
