"""A word-level tokenizer in Qwen3's chat format, small enough that a thought of the lab is about 80 tokens.

As in Qwen3, `<think>` and `</think>` are single tokens that decoding keeps, while the turn markers are special.
"""

from __future__ import annotations

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from laconic.lab.arithmetic import NAMES, OPERATORS
from laconic.lab.traces import OPENERS

INDUCER = "Time is limited, stop thinking and start answering.\n</think>\n\n"
MAX_LENGTH = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
_MARKERS = ("<think>", "</think>")
_WORD = "\n\n|\n|[A-Za-z]+|[0-9]|[^A-Za-z0-9 \n]"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of every lab base; a word it does not know becomes `<unk>`."""
    text = " ".join((INDUCER.replace(_MARKERS[1], ""), *OPENERS, "system user assistant so ? = ;"))
    words = {"\n", "\n\n", *"0123456789", *NAMES, *OPERATORS, *re.findall(_WORD, text)}
    vocabulary = {word: index for index, word in enumerate((*_SPECIAL, *_MARKERS, *sorted(words)))}

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split(Regex(_WORD), "isolated")]
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
