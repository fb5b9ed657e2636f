"""Whether a model can be sampled and has what its tokenizer speaks of: looked at before anything is paid for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from suffice.errors import ModelError
from suffice.model.advice import cause_of
from suffice.model.cache import growing_cache, is_recurrent
from suffice.model.chat import NONE, Chat
from suffice.rollout.decode import Ask, Count, Decoder
from suffice.rollout.streams import PromptStream

SERVED = "evaluate it behind a server with --base-url, or take another model"
ROWS = ((5, 4), (9, 2), (2, 3))  # tokens of each row's prompt, and how many it samples
CHUNK = 64  # tokens that gated linear attention reads at once; others say so in their config


def check_sampling(model: Any, chat: Chat, longest: int) -> None:
    """Refuse a model that does not have all tokens of its chat, or whose cache does not give what reading everything
    anew gives: rows of different lengths are decoded while the batch shrinks.

    Recurrent layers read a text in chunks and write it token by token; where a row of `longest` tokens, the most that
    will be asked for, is longer than a chunk, both are compared at its edge.

    Raises:
        ModelError: it is so, or the model's probabilities are not finite.
    """
    check_tokens(model, chat)
    edges = [edge for edge in chunks(model) if edge < longest]
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    for where, rows in (("", ROWS), *((f" from token {edge} on", ((edge - 2, 5),)) for edge in edges)):
        try:
            difference = decoded_difference(model, rows)
        except (ModelError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the model's own code, which may fail in any way
            raise ModelError(f"{_name(model)} cannot be sampled here ({cause_of(error)}); {SERVED}") from error
        if not difference <= (1e-3 if exact else 0.1):
            raise ModelError(
                f"{_name(model)} cannot be sampled here: with its cache, log-probabilities{where} differ by "
                f"{difference:.2g} on average from those without; {SERVED}"
            )


def chunks(model: Any) -> list[int]:
    """Lengths of the chunks in which recurrent layers may read; none for a model without such layers."""
    if not is_recurrent(growing_cache(model)):
        return []
    config = model.config.get_text_config().to_dict()
    sizes = {value for name, value in config.items() if name.endswith("chunk_size") and isinstance(value, int)}
    return sorted({CHUNK, *sizes})


def check_tokens(model: Any, chat: Chat) -> None:
    """That the embedding has a row for every token of the chat, and one of its own for each mark.

    Raises:
        ModelError: it has not.
    """
    rows, tokenizer = embedding(model), chat.tokenizer
    prompt = chat.render("1 + 1 = ?") if chat.inducer or chat.end_ids else []
    ids = {chat.open_id, chat.close_id, chat.pad_id, *chat.end_ids, *chat.inducer, *prompt} - {NONE}
    check_ids(sorted(ids), len(rows), chat)
    if NONE not in (chat.open_id, chat.close_id) and torch.equal(rows[chat.open_id], rows[chat.close_id]):
        marks = [tokenizer.convert_ids_to_tokens(i) for i in (chat.open_id, chat.close_id)]
        raise ModelError(
            f"{_name(model)} never learnt its marks: {marks[0]} and {marks[1]} have one and the same embedding; take a "
            "model that was trained to think"
        )


def check_ids(ids: list[int], rows: int, chat: Chat) -> None:
    """
    Raises:
        ModelError: a token is beyond the rows of the embedding.
    """
    if ids and (largest := max(ids)) >= rows:
        token = chat.tokenizer.convert_ids_to_tokens(largest)
        raise ModelError(
            f"the tokenizer of {chat.tokenizer.name_or_path} writes {token!r} as token {largest}, but the model's "
            f"embedding has {rows} rows; take the tokenizer that the model was trained with, or resize and train it"
        )


def embedding(model: Any) -> Tensor:
    """The rows [V, D] by which a model reads its tokens."""
    found: Tensor = model.get_input_embeddings().weight
    return found


def decoded_difference(model: Any, rows: Sequence[tuple[int, int]] = ROWS) -> float:
    """Mean absolute difference between log-probs of greedily decoded tokens and those of plain passes over each row."""
    vocabulary, draw = len(embedding(model)), random.Random(0)
    asks = [Ask([draw.randrange(vocabulary) for _ in range(n)], "", answer) for n, answer in rows]
    decoder = Decoder(NONE, NONE, frozenset(), 0.0, 1.0)
    found = []
    for ask, said in zip(asks, decoder.run(PromptStream(model, asks, pad_id=0), asks, Count()), strict=True):
        tokens = torch.tensor([ask.prefix + said.tokens], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=tokens, use_cache=False).logits[0, len(ask.prefix) - 1 : -1].float()
        plain = torch.log_softmax(logits, -1).gather(-1, tokens[0, len(ask.prefix) :, None])[:, 0].cpu()
        found.append((plain - torch.tensor(said.logprobs)).abs())
    return float(torch.cat(found).mean())


def _name(model: Any) -> str:
    return str(model.name_or_path or type(model).__name__)
