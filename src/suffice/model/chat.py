"""How a model writes its thought: the chat template, the tokens that open and close a thought, the inducer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suffice.errors import ModelError

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Chat:
    """A tokenizer seen as prompts in and thoughts out. `Chat.of(tokenizer, inducer)` checks all it relies on."""

    tokenizer: Any
    open_id: int
    close_id: int
    end_ids: frozenset[int]
    pad_id: int
    inducer: list[int]

    @classmethod
    def of(cls, tokenizer: Any, inducer: str, end_ids: frozenset[int] = frozenset()) -> Chat:
        """Args: `inducer` is the text injected at an exit; `end_ids` are end-of-turn ids beside the tokenizer's own.

        Raises:
            ModelError: no chat template, no end of turn, or the open or close of a thought is not one token.
        """
        name = tokenizer.name_or_path
        if not tokenizer.chat_template:
            raise ModelError(
                f"{name} has no chat template; use an instruction-tuned checkpoint or add chat_template.jinja"
            )
        ids = {text: tokenizer.encode(text, add_special_tokens=False) for text in (OPEN, CLOSE)}
        for text, encoded in ids.items():
            if len(encoded) != 1 or encoded[0] == tokenizer.unk_token_id:
                raise ModelError(
                    f"{name} does not write {text} as one token ({len(encoded)} here); "
                    "suffice needs a reasoning model such as Qwen3 or DeepSeek-R1-Distill"
                )
        close_id = ids[CLOSE][0]
        injected = tokenizer.encode(inducer, add_special_tokens=False)
        if injected.count(close_id) != 1:
            raise ModelError(f"rollout.inducer must hold {CLOSE} exactly once for {name}; it reads {inducer!r}")
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in injected:
            raise ModelError(f"rollout.inducer has words that {name} does not know; it reads {inducer!r}")
        ends = end_ids | ({tokenizer.eos_token_id} - {None})
        if not ends:
            raise ModelError(f"{name} names no end-of-turn token; set eos_token in its tokenizer_config.json")
        pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return cls(tokenizer, ids[OPEN][0], close_id, frozenset(ends), pad_id, injected)

    def render(self, prompt: str) -> list[int]:
        """Token ids of one user turn, ready for the assistant to think.

        Raises:
            ModelError: the template is malformed, or closes an empty thought (thinking is switched off).
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is a program, which may fail in any way
            raise ModelError(
                f"the chat template of {self.tokenizer.name_or_path} cannot be rendered ({error}); "
                "mend its chat_template.jinja"
            ) from error
        if text.rstrip().endswith(CLOSE):
            raise ModelError(
                f"the chat template of {self.tokenizer.name_or_path} closes an empty thought, so there is nothing to "
                "shorten; use the thinking variant of the model or its template"
            )
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def opened(self, prompt: list[int]) -> bool:
        """Whether the rendered prompt itself opens the thought (R1); else the model opens it (Qwen3)."""
        return self.open_id in prompt[-3:]

    def thought(self, prompt: list[int], tokens: list[int]) -> tuple[int, int, bool]:
        """(start, end, closed): the thought is `tokens[start:end]`, its close excluded.

        Without a close the thought is everything generated, an end of turn excluded.
        """
        start = int(not self.opened(prompt) and tokens[:1] == [self.open_id])
        if self.close_id in tokens:
            return start, max(start, tokens.index(self.close_id)), True
        return start, len(tokens) - (bool(tokens) and tokens[-1] in self.end_ids), False

    def text(self, tokens: list[int]) -> str:
        """Tokens as readable text, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def thought_text(self, tokens: list[int]) -> str:
        """A thought as it was written, blanks at its ends included: what tokenizes to it again."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def answer_text(self, tokens: list[int]) -> str:
        """The answer of a closed response: what follows its last close, should it have several."""
        return self.text(tokens).rpartition(CLOSE)[2].strip()
