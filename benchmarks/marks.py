"""Marks of a thought for an instruct model: its own, or new ones whose vocabulary rows begin as what they spell."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken

from suffice.config import DEFAULT_INDUCER
from suffice.errors import ModelError
from suffice.model.chat import Chat
from suffice.model.generation import end_ids
from suffice.model.load import load_model
from suffice.model.marks import THINK
from suffice.model.template import marks_of
from suffice.model.tokenizer import load_tokenizer
from suffice.model.vocabulary import embedding, marks_alike

OPENS = "{%- if add_generation_prompt %}{{- '" + THINK.open + "\\n' }}{%- endif %}"


def marked(path: str) -> tuple[Any, Chat]:
    """A model in float32 and its chat, ready to be taught to think.

    Raises:
        ModelError: it has no chat template, or marks that it cannot tell apart.
    """
    tokenizer = load_tokenizer(path)
    if not tokenizer.chat_template:
        raise ModelError(f"{path} has no chat template, so it is no instruct model; give one that is")
    model = load_model(path, device="cpu", dtype="float32")
    if marks_of(tokenizer) is None:
        add_marks(model, tokenizer)
    chat = Chat.of(tokenizer, DEFAULT_INDUCER, end_ids(path))
    if marks_alike(model, chat):
        raise ModelError(
            f"{path} has one untrained vector for both marks of the thought, so that it cannot tell them apart; take "
            "them out of its tokenizer, and new ones are made"
        )
    return model, chat


@torch.no_grad()
def add_marks(model: Any, tokenizer: Any) -> None:
    """Two new tokens; the template opens the thought, as R1's does."""
    spelled = [tokenizer.encode(mark, add_special_tokens=False) for mark in (THINK.open, THINK.close)]
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in (THINK.open, THINK.close)])
    tokenizer.chat_template += OPENS
    if len(tokenizer) > len(embedding(model)):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for matrix in {embedding(model), model.get_output_embeddings().weight}:
        for mark, pieces in zip((THINK.open, THINK.close), spelled, strict=True):
            matrix[tokenizer.convert_tokens_to_ids(mark)] = matrix[pieces].mean(0)
