"""Tokenizers and tiny checkpoints for the tests of models: any chat template, any marks, of one token or of several."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from conftest import CORPUS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")


@functools.cache
def _learnt() -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return str(bpe.to_str())


def tokenizer(
    template: str | None = CHATML,
    *,
    special: Sequence[str] = SPECIAL,
    added: Sequence[str] = THINK,
    eos: str = "<|im_end|>",
    **more: Any,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with tokens of its own for `special` and `added` texts."""
    bpe = Tokenizer.from_str(_learnt())
    bpe.add_special_tokens(list(special))
    bpe.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in added])
    found = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=eos, pad_token=special[0], **more)
    found.chat_template = template
    return found


def checkpoint(
    folder: Path,
    made: PreTrainedTokenizerFast | None = None,
    *,
    rows: int | None = None,
    says: dict[str, float] | None = None,
) -> Path:
    """A random Phi, whose head has a bias: `says` pushes the logits of some tokens up or down. Its embedding has
    `rows`, or as many as there are tokens."""
    made = made or tokenizer()
    config = PhiConfig(
        vocab_size=rows or len(made),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=made.eos_token_id,
        pad_token_id=made.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PhiForCausalLM(config)
    with torch.no_grad():
        for text, push in (says or {}).items():
            ids = made.encode(text, add_special_tokens=False)
            assert len(ids) == 1, text
            model.lm_head.bias[ids[0]] += push
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def edit(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    found = {**json.loads(file.read_text()), **changes} if file.exists() else changes
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


@functools.cache
def real_template(name: str) -> str:
    """A chat template as its makers publish it, from trl's package; the test is skipped without it."""
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install '.[trl]'")
    file = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    if not file.is_file():
        pytest.skip(f"trl has no {file.name}")
    return file.read_text(encoding="utf-8")
