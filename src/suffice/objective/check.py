"""Whether a model can be trained, and in which layout: looked at before anything is sampled."""

from __future__ import annotations

import random
from typing import Any

import torch

from suffice.errors import ModelError
from suffice.model.advice import cause_of
from suffice.objective.rows import Row, RowBatch
from suffice.objective.spine import check_model, fitting

LENGTHS = (23, 9, 16)  # of the rows that are compared, the first of them padded by none


def check_trainable(model: Any, name: str, layout: str) -> None:
    """Refuse a model whose log-probabilities the trainer would get wrong.

    Raises:
        ModelError: its weights are quantised, or the trainer's log-probabilities are not the model's own, or the spine
            layout would be wrong.
    """
    if getattr(model, "hf_quantizer", None) is not None or not all(p.is_floating_point() for p in model.parameters()):
        raise ModelError(
            f"the weights of {name} are quantised and cannot be trained; give the checkpoint it was made from"
        )
    try:
        check_rows(model)
    except ValueError as reason:
        raise ModelError(f"{name} cannot be trained here: {reason}; take another model") from None
    if layout == "spine":
        with fitting(name):
            check_model(model)


def check_rows(model: Any) -> None:
    """Refuse a model whose rows, padded and through the head alone, have other log-probabilities than its own logits
    for each row by itself.

    Raises:
        ValueError: what about the model does not fit.
    """
    vocabulary, draw = len(model.get_input_embeddings().weight), random.Random(0)
    texts = [torch.tensor([draw.randrange(vocabulary) for _ in range(n)]) for n in LENGTHS]
    rows = [Row(text, torch.ones(len(text) - 1), *(torch.zeros(len(text) - 1),) * 2) for text in texts]
    try:
        with torch.no_grad():
            ours, _ = RowBatch(rows).logprobs(model.train(), 1.0)  # as it is trained, and as it is sampled
            theirs = torch.cat([_own(model.eval(), text) for text in texts])
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of the model's own code, which may fail in any way
        raise ValueError(cause_of(error)) from error
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    difference = float((ours - theirs).abs().mean())
    if not difference <= (1e-3 if exact else 0.1):
        raise ValueError(f"log-probabilities of padded rows differ by {difference:.2g} on average from the model's own")


def _own(model: Any, text: torch.Tensor) -> torch.Tensor:
    text = text.to(model.device)
    logprobs = torch.log_softmax(model(input_ids=text[None], use_cache=False).logits[0, :-1].float(), -1)
    return logprobs.gather(-1, text[1:, None])[:, 0]
