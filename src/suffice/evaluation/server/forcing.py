"""How answers are forced on a server: raw completions that continue prompt, thought so far and inducer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile

from suffice.evaluation.server.replies import RawChoice
from suffice.evaluation.source import Forced
from suffice.model.chat import Chat
from suffice.model.marks import answer_of


@dataclass(frozen=True, slots=True)
class Forcing:
    """What the server takes as a prompt, and how its model writes.

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
        if self.chat.marks is None or self.chat.opened(head):
            return head
        # servers that separate thoughts may cut the blanks at their ends
        opening = self.chat.marks.open + ("" if thought[:1].isspace() else self.blank)
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
            truncated=choice.cut and stop is None,
            confidence=confidence,
        )


def blank_of(written: str, mark: str) -> str:
    """The blank after the mark that opens a thought, in the first tokens that a model writes."""
    opened, found, thought = written.partition(mark)
    return thought[: len(thought) - len(thought.lstrip())] if found and not opened.strip() else "\n"


def as_text(chat: Chat, ids: list[int]) -> str:
    """Ids as text that tokenizes to them, but for the start of a text, which servers put there themselves."""
    start = chat.tokenizer.encode("")
    if start and ids[: len(start)] == start:
        ids = ids[len(start) :]
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def seen_whole(sent: int, seen: int | None, *, ids: bool) -> bool:
    """Whether a server says that it saw a prompt as it was sent, and neither wrapped nor cut it.

    One token more may start a text. A text is tokenized anew, in which a few tokens may merge at its seams.
    """
    return seen is None or abs(seen - sent) <= (1 if ids else 1 + SEAMS)


SEAMS = 3  # places where texts meet: prompt and thought, thought and inducer, and where the thought was cut
