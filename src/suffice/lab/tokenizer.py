"""Word-level tokenizers in Qwen3's chat format, small enough that a thought of the lab is about 60 to 110 tokens.

As in Qwen3, `<think>` and `</think>` are single tokens that decoding keeps, while the turn markers are special.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from suffice.config import DEFAULT_INDUCER

MAX_LENGTH = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
_MARKERS = ("<think>", "</think>")
_WORD = "\n\n|\n|[A-Za-z]+|[0-9]|[^A-Za-z0-9 \n]"


def build_tokenizer(vocabulary: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of a task's words and of what every conversation is made of; other words become `<unk>`."""
    chat = re.findall(_WORD, f"{DEFAULT_INDUCER.replace(_MARKERS[1], ' ')} system user assistant")
    words = {*chat, *vocabulary}
    # words that mix letters, digits and signs are matched first, the longer before those they begin with
    mixed = sorted((word for word in words if not re.fullmatch(_WORD, word)), key=lambda word: (-len(word), word))
    pattern = "|".join([*map(re.escape, mixed), _WORD])
    ids = {word: index for index, word in enumerate((*_SPECIAL, *_MARKERS, *sorted(words)))}

    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split(Regex(pattern), "isolated")]
    )
    # words joined by spaces, none before punctuation or around a line break
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace(" \n", "\n"),
            decoders.Replace("\n ", "\n"),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in _MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_LENGTH,
        padding_side="left",
    )
