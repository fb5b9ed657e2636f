"""How a model is talked to and writes its thought: its chat template, its marks, the ends of its turns, the inducer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from suffice.config import DEFAULT_INDUCER
from suffice.errors import ModelError
from suffice.groups import Spine
from suffice.model import template
from suffice.model.marks import THINK, Marks

Use = Literal["train", "evaluate", "count"]
"""What a chat is for. To train, each mark must be one token; to evaluate, they may be text, or there may be none; to
count tokens, only the tokenizer is asked for anything."""

NONE = -1
"""The id of a mark that is not one token: none is ever sampled with it."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A tokenizer seen as prompts in and thoughts out. `Chat.of(tokenizer, inducer)` checks all it relies on.

    `open_id` and `close_id` are the marks as tokens, `NONE` where they are not one token each. `marks` is None for a
    model that writes no thought, and `inducer` is then empty. `options` are passed to the chat template; `system` is a
    turn before the user's.
    """

    tokenizer: Any
    marks: Marks | None
    open_id: int
    close_id: int
    end_ids: frozenset[int]
    pad_id: int
    inducer: list[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    blank_ids: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        inducer: str,
        end_ids: frozenset[int] = frozenset(),
        *,
        options: Mapping[str, Any] | None = None,
        system: str | None = None,
        use: Use = "train",
    ) -> Chat:
        """Args: `inducer` is the text injected at an exit; the default one is written with the model's own mark.
            `end_ids` are end-of-turn ids beside the tokenizer's own and that of its template.

        Raises:
            ModelError: no chat template, or one that loses what it is given; no end of turn; or, to train, marks of the
                thought that are not one token each.
        """
        name, options = tokenizer.name_or_path, dict(options or {})
        ends = end_ids | ({tokenizer.eos_token_id} - {None})
        found = template.marks_of(tokenizer)
        if use != "count":
            template.check(tokenizer, options, system)
            ends |= template.end_of_turn(tokenizer, options)
            if not ends:
                raise ModelError(f"{name} names no end-of-turn token; set eos_token in its tokenizer_config.json")
        if use == "train":
            _check_trainable(tokenizer, found)
        open_id, close_id = (
            (_one_token(tokenizer, text) for text in (found.open, found.close)) if found else (NONE,) * 2
        )
        if NONE in (open_id, close_id):
            open_id = close_id = NONE
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, *sorted(ends), 0)
        return cls(
            tokenizer,
            found,
            open_id,
            close_id,
            frozenset(ends),
            next(pad for pad in pads if pad is not None),
            _injected(tokenizer, inducer, found, close_id) if found and use != "count" else [],
            options,
            system,
            _blanks(tokenizer),
        )

    def render(self, prompt: str) -> list[int]:
        """Token ids of one user turn, ready for the assistant to think.

        Raises:
            ModelError: the template is malformed, or closes an empty thought (thinking is switched off).
        """
        text = template.render(self.tokenizer, template.turns(prompt, self.system), self.options)
        if self.marks and text.rstrip().endswith(self.marks.close.rstrip()):
            raise template.thinks_not(self.tokenizer, self.marks, self.options)
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer and its end of turn."""
        end = next(i for i in (self.tokenizer.eos_token_id, *sorted(self.end_ids)) if i in self.end_ids)
        return [*self.tokenizer.encode(text, add_special_tokens=False), end]

    def opened(self, prompt: list[int]) -> bool:
        """Whether the rendered prompt itself opens the thought (R1); else the model opens it (Qwen3)."""
        if self.marks is None:
            return False
        if self.open_id == NONE:
            return self.written(prompt[-16:]).rstrip().endswith(self.marks.open.rstrip())
        last = next((token for token in reversed(prompt) if token not in self.blank_ids), NONE)
        return last == self.open_id

    @property
    def marks_length(self) -> int:
        """Tokens that the marks and the blanks around them take, at most."""
        encode = self.tokenizer.encode
        texts = (self.marks.open, self.marks.close, "\n\n") if self.marks else ()
        return sum(len(encode(text, add_special_tokens=False)) for text in texts)

    def opening(self, prompt: list[int]) -> list[int]:
        """What opens the thought after a prompt, if the prompt does not."""
        if self.marks is None or self.opened(prompt):
            return []
        return list(self.tokenizer.encode(self.marks.open, add_special_tokens=False))

    def read(self, prompt: list[int], tokens: list[int], logprobs: list[float], *, truncated: bool) -> Spine:
        """A turn as a full rollout.

        A thought that the prompt or the turn opened and that never closed is everything, an end of turn excluded. A
        turn without marks is an answer without a thought.
        """
        start, end, answer, closed = self._parts(prompt, tokens)
        return Spine(tokens, logprobs, start, end, closed, truncated, answer_start=answer)

    def _parts(self, prompt: list[int], tokens: list[int]) -> tuple[int, int, int | None, bool]:
        if self.marks is None:
            return 0, 0, 0, True
        begun, said = self.opened(prompt), len(tokens) - (bool(tokens) and tokens[-1] in self.end_ids)
        if self.open_id == NONE:
            return self._parts_of_text(self.marks, begun, tokens[:said])
        start = 0 if begun else self.after_open(tokens)
        if self.close_id in tokens[start:]:
            close = tokens.index(self.close_id, start)
            return start, close, close + 1, True
        return (start, said, None, False) if begun or start else (0, 0, 0, True)

    def after_open(self, tokens: Sequence[int]) -> int:
        """How many tokens open the thought at the start of a turn: the mark, and the blanks before it (GLM)."""
        for i, token in enumerate(tokens):
            if token == self.open_id:
                return i + 1
            if token not in self.blank_ids:
                break
        return 0

    def _parts_of_text(self, marks: Marks, begun: bool, tokens: list[int]) -> tuple[int, int, int | None, bool]:
        """The same where marks are text. A token that holds the end of one part and the start of the next belongs to
        neither."""
        text, opening = self.written(tokens), marks.open.lstrip()
        written = text.lstrip()
        at = len(text) - len(written) + len(opening) if written.startswith(opening) else 0
        close = text.find(marks.close, at)
        if close < 0:
            return (self._first(tokens, at), len(tokens), None, False) if at or begun else (0, 0, 0, True)
        start, end = self._first(tokens, at), self._first(tokens, close + 1) - 1
        return start, max(start, end), self._first(tokens, close + len(marks.close)), True

    def _first(self, tokens: list[int], characters: int) -> int:
        """The fewest tokens whose text has so many characters."""
        low, high = 0, len(tokens)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(self.written(tokens[:middle])) >= characters else (middle + 1, high)
        return low

    def written(self, tokens: Sequence[int]) -> str:
        """Tokens as they were written, marks included."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as readable text, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def thought_text(self, tokens: Sequence[int]) -> str:
        """A thought as it was written, blanks at its ends included: what tokenizes to it again."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def answer_text(self, tokens: Sequence[int]) -> str:
        """The answer of a closed response: what follows its last close, should it have several."""
        if self.marks is None:
            return self.text(tokens)
        if self.close_id in tokens:
            tokens = tokens[len(tokens) - list(tokens)[::-1].index(self.close_id) :]
        return self.text(tokens).rpartition(self.marks.close)[2].strip()


def _one_token(tokenizer: Any, text: str) -> int:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else NONE


def _check_trainable(tokenizer: Any, marks: Marks | None) -> None:
    name = tokenizer.name_or_path
    if marks is None:
        raise ModelError(
            f"{name} has no marks of a thought, such as {THINK.open} and {THINK.close}; train a reasoning model such "
            "as Qwen3 or DeepSeek-R1-Distill"
        )
    for text in (marks.open, marks.close):
        if _one_token(tokenizer, text) == NONE:
            count = len(tokenizer.encode(text, add_special_tokens=False))
            raise ModelError(
                f"{name} does not write {text.strip()} as one token ({count} here), so it can be evaluated but not "
                "trained; train a reasoning model such as Qwen3 or DeepSeek-R1-Distill"
            )


def _injected(tokenizer: Any, inducer: str, marks: Marks, close_id: int) -> list[int]:
    """The inducer's tokens; the default one with the model's own mark in it."""
    name = tokenizer.name_or_path
    if inducer == DEFAULT_INDUCER:
        inducer = inducer.replace(THINK.close, marks.close)
    ids = list(tokenizer.encode(inducer, add_special_tokens=False))
    held = inducer.count(marks.close) if close_id == NONE else ids.count(close_id)
    if held != 1:
        raise ModelError(f"rollout.inducer must hold {marks.close} exactly once for {name}; it reads {inducer!r}")
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        raise ModelError(f"rollout.inducer has words that {name} does not know; it reads {inducer!r}")
    return ids


def _blanks(tokenizer: Any) -> frozenset[int]:
    """Tokens of blanks and line breaks alone."""
    ids = {
        i
        for text in (" ", "\n", "\n\n", " \n", "\n\n\n", "\t")
        for i in tokenizer.encode(text, add_special_tokens=False)
    }
    return frozenset(i for i in ids if i != tokenizer.unk_token_id and not tokenizer.decode([i]).strip())
