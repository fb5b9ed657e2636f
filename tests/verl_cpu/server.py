"""A model that decodes on the CPU, batch by batch, with the local engine's decoder.

Requests carry the key of their random stream (`sampling_params["key"]`), so that what is sampled depends on the
weights and the key alone: the first step's rollouts are those of the local engine.

It counts what a cache of blocks would hold, as vLLM's does, and says so with each answer (`num_cached_tokens`).

The process of a server begins by importing this module, so nothing here imports verl: its plugins come first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import Tensor

from suffice.model.load import load_chat, load_model
from suffice.rollout import Ask, Count, Decoder, decode
from suffice.rollout.streams import PromptStream

if TYPE_CHECKING:
    from verl.workers.rollout.replica import TokenOutput

QUIET = 0.05  # seconds without a new request after which a batch starts
ROWS = 256  # requests of a batch at most
BLOCK = 16  # tokens

keyed = decode.keyed


def continued(key: str) -> Any:
    """The random stream `name@n`: that of the name after its first n numbers."""
    name, _, drawn = key.rpartition("@")
    stream = keyed(name)
    stream.random(int(drawn))
    return stream


class Blocks:
    """Which blocks of which texts have been seen, each by all tokens up to its end."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def ends(self, tokens: list[int], most: int) -> list[int]:
        return [hash(tuple(tokens[:end])) for end in range(BLOCK, most + 1, BLOCK)]

    def held(self, prefix: list[int]) -> int:
        """Tokens of a prefix that need not be pushed: the last is, for its logits."""
        found = 0
        for end in self.ends(prefix, len(prefix) - 1):
            if end not in self.seen:
                break
            found += BLOCK
        return found

    def keep(self, tokens: list[int]) -> None:
        """All but the last were pushed."""
        self.seen.update(self.ends(tokens, len(tokens) - 1))


class Server:
    """A model that answers what was asked since it last looked, as one batch."""

    def __init__(self, path: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = load_model(path, device="cpu", dtype="float32")
        self.chat = load_chat(path, "", use="count")
        self.waiting: list[tuple[list[int], dict[str, Any], asyncio.Future[TokenOutput]]] = []
        self.work: asyncio.Task[None] | None = None
        self.step = 0
        self.blocks = Blocks()

    async def load(self, weights: dict[str, Tensor], step: int) -> None:
        missing, unknown = self.model.load_state_dict(weights, strict=False)
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or self.model._tied_weights_keys or ())
        if unknown or set(missing) - tied:
            raise ValueError(f"weights do not fit the rollout model: {[*unknown, *(set(missing) - tied)][:3]}")
        self.step, self.blocks = step, Blocks()  # keys and values of other weights are worth nothing

    async def wake_up(self) -> None: ...

    async def sleep(self) -> None: ...

    async def generate(
        self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> TokenOutput:
        answer: asyncio.Future[TokenOutput] = asyncio.get_running_loop().create_future()
        self.waiting.append((list(prompt_ids), dict(sampling_params), answer))
        if self.work is None:
            self.work = asyncio.create_task(self.serve())
        return await answer

    async def serve(self) -> None:
        while self.waiting:
            seen = 0
            while seen != len(self.waiting) < ROWS:
                seen = len(self.waiting)
                await asyncio.sleep(QUIET)
            _, like, _ = self.waiting[0]
            alike = [asked for asked in self.waiting if manner(asked[1]) == manner(like)][:ROWS]
            self.waiting = [asked for asked in self.waiting if all(asked is not taken for taken in alike)]
            try:
                said = await asyncio.to_thread(self.decode, [(prefix, params) for prefix, params, _ in alike])
            except Exception as error:
                for *_, answer in alike:
                    answer.set_exception(error)
            else:
                for (*_, answer), output in zip(alike, said, strict=True):
                    answer.set_result(output)
        self.work = None

    def decode(self, asked: list[tuple[list[int], dict[str, Any]]]) -> list[TokenOutput]:
        from verl.workers.rollout.replica import TokenOutput

        temperature, top_p, stops = manner(asked[0][1])
        decoder = Decoder(self.chat.open_id, self.chat.close_id, self.chat.end_ids | stops, temperature, top_p)
        cached = [self.blocks.held(prefix) for prefix, _ in asked]
        asks = [Ask(prefix, params["key"], answer=params["max_tokens"]) for prefix, params in asked]
        with patch.object(decode, "keyed", continued):  # here alone: a test's process has other decoders
            said = decoder.run(PromptStream(self.model, asks, self.chat.pad_id), asks, Count())
        for (prefix, params), found in zip(asked, said, strict=True):
            self.blocks.keep(prefix + found.tokens[: params["max_tokens"]])
        return [
            TokenOutput(
                token_ids=found.tokens[: params["max_tokens"]],
                log_probs=found.logprobs[: params["max_tokens"]],
                stop_reason="completed",
                extra_fields={"global_steps": self.step, "num_cached_tokens": held},
            )
            for found, (_, params), held in zip(said, asked, cached, strict=True)
        ]


def manner(params: dict[str, Any]) -> tuple[float, float, frozenset[int]]:
    """(temperature, top-p, tokens to stop at) of a request."""
    return params["temperature"], params["top_p"], frozenset(params.get("stop_token_ids", ()))
