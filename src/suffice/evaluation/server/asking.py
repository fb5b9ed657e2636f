"""Single requests to a server that is looked at, and their replies as they are read; a refusal is an answer too."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from openai import APIStatusError, AsyncOpenAI

from suffice.errors import ServerError
from suffice.evaluation.server.counting import counted
from suffice.evaluation.server.honoured import Judged, Said
from suffice.evaluation.server.reading import separated
from suffice.evaluation.server.replies import ChatReply, RawReply
from suffice.evaluation.server.transport import Transport, answered
from suffice.groups import Problem
from suffice.model.chat import Chat
from suffice.run.progress import Advance

Reply = TypeVar("Reply", ChatReply, RawReply)


@dataclass
class Asker:
    """What is asked of one model there.

    Args:
        chat: of the model's tokenizer, if it is at hand.
        options: arguments of the server's chat template.
        advance: told of every request.
        temperature: of requests that want the likeliest text; None where the server takes no 0.
    """

    transport: Transport
    client: AsyncOpenAI
    model: str
    chat: Chat | None
    options: dict[str, Any]
    advance: Advance
    temperature: float | None = 0.0
    problem: Problem = field(default=Problem("of the doctor", "doctor", "", ""))

    async def chatted(
        self, question: str, tokens: int, temperature: float | None = None, seed: int | None = None, **wishes: Any
    ) -> ChatReply:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": tokens,
            "temperature": temperature,
            "seed": seed,
            "chat_template_kwargs": self.options or None,
            **wishes,
        }
        return await self._posted("/chat/completions", body, ChatReply)

    async def continued(self, prompt: list[int] | str, tokens: int, **wishes: Any) -> RawReply:
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": self.temperature, **wishes}
        return await self._posted("/completions", body, RawReply)

    async def _posted(self, path: str, body: dict[str, Any], kind: type[Reply]) -> Reply:
        sent = {name: value for name, value in body.items() if value is not None}
        reply = await self.transport.post(self.client, path, sent, kind, self.problem)
        self.advance(1)
        return reply

    async def tried(self, asking: Awaitable[Reply]) -> Reply | Judged:
        """A reply, or the server's refusal. What says that nothing more will be answered, as of a key, is raised."""
        try:
            return await asking
        except APIStatusError as error:
            if error.status_code in (401, 403, 429):
                raise
            return Judged("refused", answered(error))
        except ServerError as error:
            return Judged("refused", str(error).removeprefix(f"{self.transport.base_url} "))

    def read(self, reply: ChatReply, question: str) -> Said | Judged:
        """Thought and answer, counted, or why they cannot be."""
        choice = reply.choices[0]
        opened = self.chat is not None and self.chat.opened(self.chat.render(question))
        turn = separated(choice.message, cut=choice.cut, opened=opened)
        try:
            thought, rest, _ = counted(turn, reply.usage, self.chat.tokenizer if self.chat else None)
        except ServerError as error:
            return Judged("unknown", f"the server {error}")
        return Said(turn.thought, turn.rest, turn.closed, choice.cut, thought, rest)
