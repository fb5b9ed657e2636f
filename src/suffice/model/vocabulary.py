"""Whether a model's embedding has what its tokenizer speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from suffice.errors import ModelError
from suffice.model.chat import NONE, Chat


def embedding(model: Any) -> Tensor:
    """The rows [V, D] by which a model reads its tokens."""
    found: Tensor = model.get_input_embeddings().weight
    return found


def check_tokens(model: Any, chat: Chat) -> None:
    """That the embedding has a row for every token of the chat, and one of its own for each mark.

    Raises:
        ModelError: it has not.
    """
    check_ids(model, chat, {*chat_ids(chat), *chat.render("1 + 1 = ?")})
    if marks_alike(model, chat):
        open_mark, close_mark = chat.tokenizer.convert_ids_to_tokens([chat.open_id, chat.close_id])
        raise ModelError(
            f"{chat.tokenizer.name_or_path} never learnt its marks: {open_mark} and {close_mark} have one and the same "
            "embedding; take a model that was trained to think"
        )


def marks_alike(model: Any, chat: Chat) -> bool:
    """Whether both marks of the thought have one and the same row, as tokens have that were never trained."""
    rows = embedding(model)
    return NONE not in (chat.open_id, chat.close_id) and torch.equal(rows[chat.open_id], rows[chat.close_id])


def chat_ids(chat: Chat) -> set[int]:
    """The tokens of a chat, whatever the question: marks, padding, ends of turn, the inducer."""
    return {chat.open_id, chat.close_id, chat.pad_id, *chat.end_ids, *chat.inducer} - {NONE}


def check_ids(model: Any, chat: Chat, ids: Iterable[int]) -> None:
    """That the embedding has a row for each token.

    Raises:
        ModelError: it has not.
    """
    rows, largest = len(embedding(model)), max(ids, default=0)
    if largest >= rows:
        raise ModelError(
            f"the tokenizer of {chat.tokenizer.name_or_path} writes {chat.tokenizer.convert_ids_to_tokens(largest)!r} "
            f"as token {largest}, but the model's embedding has {rows} rows; take the tokenizer that the model was "
            "trained with"
        )
