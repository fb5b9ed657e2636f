"""Requests to one server, repeated until a reply can be read, and what went wrong in one line."""

from __future__ import annotations

import asyncio
import os.path
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from openai import APIError, APIStatusError, APITimeoutError, AsyncOpenAI, NotFoundError, Timeout
from pydantic import ValidationError

from suffice.errors import ServerError, UnfitError
from suffice.evaluation.server.parameters import ADVICE, Parameters, named
from suffice.evaluation.server.replies import ChatReply, Model, Models, RawReply
from suffice.groups import Problem

CHECK_RETRIES = 2  # of the first request: an address that is wrong stays wrong
CONNECT_SECONDS = 10.0
LONGEST_PAUSE = 8.0  # seconds between two tries
LONGEST_REPLY = 2 << 20  # bytes: more than any budget of tokens comes to, and few enough to be tokenized in a moment
TOO_LONG = re.compile(
    r"(?=.*(token|context|length|prompt|input))"
    r".*(context.(length|size|window)|too (long|large|many)|exceed|at most|maximum|max_model_len|longer than)",
    re.IGNORECASE | re.DOTALL,
)
"""How servers say that prompt and budgets are more than they hold."""

Reply = TypeVar("Reply", ChatReply, RawReply)


class Transport:
    """The way to a server at `base_url`. What it refuses by name is left out or spelled otherwise from then on.

    Raises:
        ServerError: the address is none.
    """

    def __init__(self, base_url: str, *, api_key: str | None, timeout: float, retries: int) -> None:
        check_address(base_url)
        self.base_url = base_url
        self.api_key = api_key
        self.timeout = timeout
        self.retries = retries
        self.parameters = Parameters()

    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",  # without one the client would send the key that is meant for OpenAI
            timeout=Timeout(self.timeout, connect=CONNECT_SECONDS),
            max_retries=self.retries,
        )

    async def models(self, client: AsyncOpenAI) -> dict[str, Model] | None:
        """What the server lists, by name; None where it lists nothing.

        Raises:
            ServerError: it cannot be reached, refuses the key, or is no such server.
        """
        try:
            listing = await client.with_options(max_retries=CHECK_RETRIES).models.with_raw_response.list()
            return {model.id: model for model in Models.model_validate_json(listing.content).data}
        except NotFoundError:
            return None
        except APIError as error:
            raise self.explained(error) from error
        except ValidationError as error:
            raise ServerError(
                f"{self.base_url} does not answer as an OpenAI-compatible server; the address often ends in /v1"
            ) from error

    async def post(
        self, client: AsyncOpenAI, path: str, body: dict[str, Any], kind: type[Reply], about: Problem
    ) -> Reply:
        """A reply that can be read and was not broken off. The client repeats what fails on the way, but takes any 200
        for a success.

        Raises:
            APIError: as the client.
            ServerError: every reply was nonsense or broken off.
        """
        said = ""
        for attempt in range(self.retries + 1):
            content = await self._posted(client, path, body)
            if len(content) > LONGEST_REPLY:
                raise ServerError(
                    f"{self.base_url} sends {len(content):,} bytes for one reply, far beyond what was asked for; "
                    "check what the address serves"
                )
            try:
                reply = kind.model_validate_json(content)
            except ValidationError:
                text = clipped(content.decode(errors="replace"))
                said = f"sends replies that cannot be read ({text}); check what the address serves"
            else:
                if reply.choices[0].finished:
                    return reply
                reason = clipped(reply.choices[0].reason)
                said = (
                    f"breaks off every reply to problem {clipped(about.id)} with finish_reason {reason!r}; see the "
                    "server's log, or leave the problem out"
                )
            if attempt < self.retries:
                await asyncio.sleep(min(0.5 * 2**attempt, LONGEST_PAUSE))
        raise ServerError(f"{self.base_url} {said}")

    async def _posted(self, client: AsyncOpenAI, path: str, body: dict[str, Any]) -> bytes:
        while True:
            sent = self.parameters.spelled(body)
            try:
                return (await client.post(path, body=sent, cast_to=httpx.Response)).content
            except APIStatusError as error:
                refused = named(error.status_code, error.body, message_of(error), sent)
                if self.parameters.learn(refused, message_of(error), sent):
                    continue
                if advice := next((ADVICE[name] for name in refused if name in ADVICE), None):
                    raise UnfitError(f"{self.base_url} {answered(error)}; {advice}") from error
                raise

    def explained(self, error: APIError, positions: int | None = None) -> ServerError:
        """A failure that repeating did not mend, in one line."""
        if isinstance(error, APIStatusError):
            status, refusal = error.status_code, f"{self.base_url} {answered(error)}"
            if status in (400, 413, 422) and TOO_LONG.search(message_of(error)):
                holds = f": prompt and both must fit in {positions} tokens" if positions else ""
                return UnfitError(
                    f"{refusal}; start again with a smaller --max-thought-tokens or --max-answer-tokens{holds}"
                )
            advice = {
                400: "see the server's log",
                401: "give the key it asks for",
                403: "give a key that may use this model",
                404: "check the address, which often ends in /v1, and the model's name",
                429: "lower the concurrency or wait",
            }.get(status, "see the server's log")
            return ServerError(f"{refusal}; {advice}")
        if isinstance(error, APITimeoutError):
            return ServerError(f"{self.base_url} does not answer in time; check that it is up, or allow it more")
        cause = clipped(str(error.__cause__ or error.message)) or type(error.__cause__).__name__
        return ServerError(f"cannot reach {self.base_url} ({cause}); check the address and that the server is up")


def check_served(base_url: str, model: str, listed: Mapping[str, Model]) -> None:
    """Refuse a model that a server does not list. A folder may be served under its path without being listed.

    Raises:
        ServerError: as said.
    """
    if listed and model not in listed and not os.path.isdir(model):
        raise ServerError(f"{base_url} does not serve {model}; choose of {clipped(', '.join(listed))}")


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


def answered(error: APIStatusError) -> str:
    return f"answers {error.status_code} ({clipped(message_of(error))})"


def message_of(error: APIStatusError) -> str:
    """A server's own words."""
    body: Any = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or error.response.text or error.response.reason_phrase)


def clipped(text: str) -> str:
    """One line of at most 200 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:199] + "…"
