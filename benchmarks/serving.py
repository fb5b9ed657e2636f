"""A real server of the lab's base, and a proxy before it that fails on purpose and writes down what passes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from anyio.from_thread import start_blocking_portal

MODEL = "lab/arithmetic"
PATIENCE = 600  # seconds, after which something hangs, however busy the machine

# As of 5.10 the server parses a thought and then drops it from the JSON: fields of a subclass are not serialized.
SERVE = """
import sys
from functools import partialmethod
from openai.types.chat import ChatCompletion
from transformers.cli.serve import Serve

ChatCompletion.model_dump = partialmethod(ChatCompletion.model_dump, serialize_as_any=True)
Serve(host="127.0.0.1", port=int(sys.argv[1]), device="cpu")
"""


@contextmanager
def transformers_serve(base: Path, home: Path) -> Iterator[str]:
    """Serves the checkpoint `base` as `MODEL` from a hub cache made in `home`; yields the address."""
    cached = home / "hub" / f"models--{MODEL.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0")
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / "0").symlink_to(base)
    port = free_port()
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", SERVE, str(port)], env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/health"))
        assert server.poll() is None, (home / "log").read_text()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


Json = dict[str, Any]
Handler = Callable[[str, Json], Awaitable[tuple[int, Json]]]
"""From a path and a request to a status and a reply."""


def forwarding(upstream: str) -> Handler:
    """A handler that asks the server at `upstream`, an address that ends in /v1."""

    def ask(path: str, body: Json) -> tuple[int, Json]:
        data = json.dumps(body).encode() if body else None
        request = Request(upstream.removesuffix("/v1") + path, data, {"content-type": "application/json"})
        try:
            with urlopen(request, timeout=60) as reply:
                return reply.status, json.load(reply)
        except URLError as error:
            if not hasattr(error, "code"):
                raise
            return error.code, json.load(error)

    return lambda path, body: asyncio.to_thread(ask, path, body)


FAULTS = ("drop", "delay", "truncate", "throttle", "break", "garble")


def faulty(seed: int, most: int = 3) -> Callable[[Json, int], str | None]:
    """A schedule: each request for text meets 0…`most` faults in a row, drawn from its content, and then none."""

    def fault(body: Json, attempt: int) -> str | None:
        rng = random.Random(f"{seed}{json.dumps(body, sort_keys=True)}")
        drawn = rng.choices(FAULTS, k=rng.randint(0, most)) if body else []
        return drawn[attempt] if attempt < len(drawn) else None

    return fault


@dataclass
class Exchange:
    """One request, what befell it, and whether its reply of status 200 was handed over whole."""

    path: str
    body: Json
    fault: str | None
    headers: dict[str, str]
    whole: bool = False


@dataclass
class Proxy:
    """`url` is the address, `open` the number of connections now."""

    handler: Handler
    fault: Callable[[Json, int], str | None] = lambda body, attempt: None
    exchanges: list[Exchange] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    open: int = 0
    url: str = ""

    def of(self, path: str) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        exchanging = asyncio.ensure_future(self.exchange(reader, writer))
        try:
            await exchanging
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one reply, one connection."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = first.split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        text = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(text or b"{}")
        fault = self.fault(body, self.attempts[text.hex()])
        self.attempts[text.hex()] += 1
        exchange = Exchange(path, body, fault, headers)
        self.exchanges.append(exchange)
        if fault == "drop":
            writer.transport.abort()
        elif fault == "throttle":
            await send(writer, 429, b'{"error": {"message": "slow down"}}', extra="retry-after: 0.1\r\n")
        elif fault == "break":
            await send(writer, 500, b"out of order")
        else:
            await asyncio.sleep(0.2 if fault == "delay" else 0)
            status, reply = await self.answered(reader, path, body)
            sent = json.dumps(reply).encode()
            if fault == "truncate":
                await send(writer, status, sent, cut=len(sent) // 2)
            elif fault == "garble":
                await send(writer, status, sent[: len(sent) // 2])
            else:
                await send(writer, status, sent)
                exchange.whole = status == 200

    async def answered(self, reader: asyncio.StreamReader, path: str, body: Json) -> tuple[int, Json]:
        """The handler's reply, unless the client hangs up before."""
        answer = asyncio.ensure_future(self.handler(path, body))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            raise ConnectionAbortedError
        gone.cancel()
        return answer.result()


async def send(
    writer: asyncio.StreamWriter, status: int, body: bytes, *, cut: int | None = None, extra: str = ""
) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + body[:cut])
    await writer.drain()


@contextmanager
def proxied(handler: Handler, fault: Callable[[Json, int], str | None] | None = None) -> Iterator[Proxy]:
    proxy = Proxy(handler, fault) if fault else Proxy(handler)
    with start_blocking_portal() as portal:
        server = portal.call(asyncio.start_server, proxy.serve, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield proxy
        finally:
            portal.call(server.close)
