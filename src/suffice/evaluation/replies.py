"""What is relied on in the replies of an OpenAI-compatible server, and how thought and answer are read off them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile

from pydantic import BaseModel, Field

from suffice.evaluation.source import Forced
from suffice.model.chat import Chat
from suffice.model.marks import THINK

OPEN, CLOSE = THINK.open, THINK.close


class Message(BaseModel):
    """What was said; a server that separates thoughts gives them under either of two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ChatChoice(BaseModel):
    message: Message
    finish_reason: str | None = None


class Details(BaseModel):
    reasoning_tokens: int | None = None


class Usage(BaseModel):
    completion_tokens: int
    completion_tokens_details: Details | None = None


class ChatReply(BaseModel):
    choices: list[ChatChoice] = Field(min_length=1)
    usage: Usage | None = None


class Logprobs(BaseModel):
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None


class RawChoice(BaseModel):
    text: str
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class RawReply(BaseModel):
    choices: list[RawChoice] = Field(min_length=1)


class Model(BaseModel):
    id: str


class Models(BaseModel):
    data: list[Model]


def separated(message: Message, *, begun: bool) -> tuple[str, str, bool]:
    """(thought, what follows it, closed) of a reply, whether the server separates them or not.

    Args:
        begun: a text without marks is a thought that did not close, and not a plain answer.
    """
    content = message.content or ""
    if thought := message.reasoning_content or message.reasoning:
        return thought, content, bool(content)
    opened = content.lstrip().startswith(OPEN)
    thought, close, rest = (content.partition(OPEN)[2] if opened else content).partition(CLOSE)
    if close or opened or begun:
        return thought, rest, bool(close)
    return "", content, True


def answer_of(rest: str) -> str:
    """The answer in what follows a thought: what comes after its last close, should there be several."""
    return rest.rpartition(CLOSE)[2].strip()


@dataclass(frozen=True, slots=True)
class Forcing:
    """How answers are forced: what the server takes as a prompt, and how its model writes.

    Args:
        ids: prompts are token ids; else the server takes only text, and tokenizes it itself.
        logprobs: it may be asked for log-probabilities.
        blank: what its model writes between the mark that opens a thought and the thought.
    """

    chat: Chat
    ids: bool
    logprobs: bool
    blank: str

    def tokens(self, thought: str) -> tuple[list[int], list[int]]:
        """Token ids of a thought, and the offset in it at which each ends."""
        found = self.chat.tokenizer(thought, add_special_tokens=False, return_offsets_mapping=True)
        return list(found["input_ids"]), [end for _, end in found["offset_mapping"]]

    def head(self, prompt: str, thought: str) -> list[int]:
        """All that comes before a thought."""
        head = self.chat.render(prompt)
        if self.chat.opened(head):
            return head
        # servers that separate thoughts may cut the blanks at their ends
        opening = OPEN if thought[:1].isspace() else OPEN + self.blank
        return head + self.chat.tokenizer.encode(opening, add_special_tokens=False)

    def prompt(self, head: list[int], ids: list[int], text: str) -> list[int] | str:
        """What the answer continues: a head, the thought so far as ids and as text, the inducer."""
        if self.ids:
            return head + ids + self.chat.inducer
        return as_text(self.chat, head) + text + as_text(self.chat, self.chat.inducer)

    def read(self, choice: RawChoice, position: int, characters: int) -> Forced:
        """The answer, up to the end of turn."""
        marks = [as_text(self.chat, [end]) for end in self.chat.end_ids]
        stop = min((choice.text.find(mark) for mark in marks if mark in choice.text), default=None)
        said = choice.text[:stop]
        confidence = None
        told = choice.logprobs
        if told and told.tokens is not None and told.token_logprobs is not None:
            pairs = takewhile(lambda pair: pair[0] not in marks, zip(told.tokens, told.token_logprobs, strict=False))
            logprobs = [logprob for _, logprob in pairs if logprob is not None]
            confidence = math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
        return Forced(
            position,
            characters,
            answer_of(said),
            len(self.chat.tokenizer.encode(said, add_special_tokens=False)),
            truncated=choice.finish_reason == "length" and stop is None,
            confidence=confidence,
        )


def blank_of(written: str) -> str:
    """The blank after the mark that opens a thought, in the first tokens that a model writes."""
    opened, mark, thought = written.partition(OPEN)
    return thought[: len(thought) - len(thought.lstrip())] if mark and not opened.strip() else "\n"


def as_text(chat: Chat, ids: list[int]) -> str:
    """Ids as text that tokenizes to them, but for the start of a text, which servers put there themselves."""
    start = chat.tokenizer.encode("")
    if start and ids[: len(start)] == start:
        ids = ids[len(start) :]
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
