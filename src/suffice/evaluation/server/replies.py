"""What is relied on in the replies of an OpenAI-compatible server."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

CUT = frozenset({"length", "max_tokens", "max_length", "max_output_tokens", "model_length"})
"""Reasons to finish that say a limit of tokens, as OpenAI's API and others call it."""
ENDED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "end", "complete", "completed"})
"""Reasons to finish that say the model ended its turn. A server may also give none."""


class Part(BaseModel):
    """A piece of a message whose content is a list: text, or a thought that is itself a text or a list."""

    text: str | None = None
    thinking: str | list[Part] | None = None

    @property
    def thought(self) -> str | None:
        if isinstance(self.thinking, list):
            return "".join(part.text or "" for part in self.thinking)
        return self.thinking


class Message(BaseModel):
    """What was said; a server that separates thoughts gives them under either of two names, or as a part."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def said(self) -> str:
        """All but a thought that the server has taken out."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""

    @property
    def thought(self) -> str | None:
        """The thought that the server has taken out, "" for one that it found empty; None if it says nothing of one."""
        parts = self.content if isinstance(self.content, list) else []
        told = (self.reasoning_content, self.reasoning, *(part.thought for part in parts))
        found = [thought for thought in told if thought is not None]
        return max(found, key=len, default=None)


class Choice(BaseModel):
    """A reply's one text, and why it ended."""

    finish_reason: str | None = None

    @property
    def reason(self) -> str:
        return (self.finish_reason or "").lower()

    @property
    def cut(self) -> bool:
        return self.reason in CUT

    @property
    def finished(self) -> bool:
        """Whether the model or a limit ended the text, and not a failure, a filter or a call of a tool."""
        return self.cut or not self.reason or self.reason in ENDED


class ChatChoice(Choice):
    message: Message


class Logprobs(BaseModel):
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None


class RawChoice(Choice):
    text: str
    logprobs: Logprobs | None = None


class Details(BaseModel):
    reasoning_tokens: int | None = Field(None, ge=0)


class Usage(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)
    total_tokens: int | None = Field(None, ge=0)
    completion_tokens_details: Details | None = None
    reasoning_tokens: int | None = Field(None, ge=0)

    @property
    def thought(self) -> int | None:
        """Tokens of the thought, among the details or (SGLang) beside them."""
        details = self.completion_tokens_details
        return (details and details.reasoning_tokens) or self.reasoning_tokens


class ChatReply(BaseModel):
    choices: list[ChatChoice] = Field(min_length=1)
    usage: Usage | None = None


class RawReply(BaseModel):
    choices: list[RawChoice] = Field(min_length=1)
    usage: Usage | None = None


class Model(BaseModel):
    id: str
    owned_by: Any = None
    max_model_len: Any = None
    context_length: Any = None
    max_context_length: Any = None
    context_window: Any = None

    @property
    def positions(self) -> int | None:
        """Tokens of prompt and reply together that the server says it holds, under one of several names."""
        names = (self.max_model_len, self.context_length, self.max_context_length, self.context_window)
        return min((value for value in names if type(value) is int and value > 0), default=None)


class Models(BaseModel):
    data: list[Model]
