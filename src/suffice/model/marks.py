"""The marks between which models write their thoughts, family by family, and the one rule by which a turn is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Marks:
    """What opens and closes a thought, as the chat templates of `families` have it."""

    open: str
    close: str
    families: str

    @property
    def worded(self) -> bool:
        """Whether they are ordinary words, which close only what they opened: a text may hold them by chance."""
        return self.close[0].isalpha()


FAMILIES = (
    Marks("<think>", "</think>", "Qwen3, QwQ, DeepSeek R1 and V3, GLM, Hunyuan, EXAONE 4, SmolLM3, Nemotron, MiniMax"),
    Marks("[THINK]", "[/THINK]", "Magistral, Ministral 3"),
    Marks("<thought>", "</thought>", "EXAONE Deep"),
    Marks("<seed:think>", "</seed:think>", "Seed-OSS"),
    Marks("<longcat_think>", "</longcat_think>", "LongCat-Flash-Thinking"),
    Marks("<mm:think>", "</mm:think>", "MiniMax M3"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>", "Command A Reasoning"),
    Marks("<|inner_prefix|>", "<|inner_suffix|>", "Apertus"),
    Marks("<|think:start|>", "<|think:end|>", "Solar Open 2"),
    Marks("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>", "PLaMo 3"),
    Marks("<ifm|think>", "</ifm|think>", "K2 Horizon"),
    Marks("<|begin_of_thought|>", "<|end_of_thought|>", "OpenThinker, Sky-T1"),
    Marks("<|im_start|>think", "<|im_start|>answer", "s1"),
    Marks("<Thought>", "</Thought>", "Marco-o1"),
    Marks("<thinking>", "</thinking>", "models that a prompt asks for it"),
    Marks("<reasoning>", "</reasoning>", "Reka Flash 3, and models that a prompt asks for it"),
    Marks("◁think▷", "◁/think▷", "Kimi-VL, Kimi-Dev"),
    Marks("<|open|>think<|sep|>", "<|close|>think<|sep|>", "Kimi K3"),
    Marks("<|channel>thought\n", "<channel|>", "Gemma 4"),
    Marks(
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "gpt-oss",
    ),
    Marks(" to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>", "Muse Glimmer"),
    Marks("Here is my thought process:", "Here is my response:", "Granite 3.2"),
    Marks("Here's my thought process:", "Here's my response:", "Granite 3.2"),
)
"""As the templates and vLLM's reasoning parsers have them. No text begins with the marks of two families."""

THINK = FAMILIES[0]
"""What most families use, and what the default inducer is written with."""


class Turn(NamedTuple):
    """An assistant's turn as text: its thought, all that follows the thought's close, and whether there was one."""

    thought: str
    rest: str
    closed: bool


def read_turn(text: str, *, begun: bool) -> Turn:
    """A turn by its marks, for text from any source.

    A thought that was opened, by the prompt (`begun`) or by the turn's first words, and never closed is everything and
    not closed. A turn without any mark is no thought and an answer. A close that nothing opened ends a thought all the
    same: what comes before it is the thought, as with templates that open it themselves.
    """
    written = text.lstrip()
    for each in FAMILIES:
        if written.startswith(each.open.lstrip()):
            return _closed_by(each.close, written.removeprefix(each.open.lstrip()))
    closes = [each.close for each in FAMILIES if each.close in text and not each.worded]
    if closes:
        return _closed_by(min(closes, key=text.index), text)
    return Turn(text, "", False) if begun else Turn("", text, True)


def answer_of(rest: str) -> str:
    """The answer in what follows a thought: from its last close on, should there be several."""
    for each in FAMILIES:
        if not each.worded:
            rest = rest.rpartition(each.close)[2]
    return rest.strip()


def _closed_by(close: str, text: str) -> Turn:
    thought, found, rest = text.partition(close)
    return Turn(thought, rest, bool(found))
