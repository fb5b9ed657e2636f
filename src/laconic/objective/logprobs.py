"""Log-probabilities of the tokens that the loss needs, and of no others.

The head runs only where a loss token is predicted, in chunks whose logits are recomputed in the backward pass, so that
vocabulary × tokens never dominates memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from laconic.objective.rows import Row

LOGITS_PER_CHUNK = 2**24  # 64 MiB of float32


def row_logprobs(model: Any, rows: Sequence[Row], temperature: float) -> tuple[Tensor, Tensor]:
    """log_softmax(logits / T) of the rows' trained tokens, in order: (log-probs, entropies), float32 [tokens].

    Rows are padded on the right to the longest and run as one batch; entropies (nats) carry no gradient.
    """
    device = next(model.parameters()).device
    tokens_B_N = nn.utils.rnn.pad_sequence([row.tokens for row in rows], batch_first=True).to(device)
    lengths_B = torch.tensor([len(row.tokens) for row in rows], device=device)
    mask_B_N = torch.arange(tokens_B_N.shape[1], device=device) < lengths_B[:, None]
    backbone, head = backbone_and_head(model)
    # explicit positions: the models' own default would be the same, said so that no mask trick can change it
    positions_1_N = torch.arange(tokens_B_N.shape[1], device=device)[None]
    hidden_B_N_D = backbone(
        input_ids=tokens_B_N, attention_mask=mask_B_N.long(), position_ids=positions_1_N, use_cache=False
    ).last_hidden_state
    where = [row.trained.nonzero()[:, 0] + len(row.tokens) - len(row.plus) for row in rows]
    batch_index = torch.cat([torch.full_like(at, b) for b, at in enumerate(where)]).to(device)
    target_index = torch.cat(where).to(device)
    hidden_T_D = hidden_B_N_D[batch_index, target_index - 1]
    return head_logprobs(head, hidden_T_D, tokens_B_N[batch_index, target_index], temperature)


def backbone_and_head(model: Any) -> tuple[nn.Module, nn.Module]:
    """The transformer without its head, and the head; LoRA layers stay where peft put them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.base_model, causal.get_output_embeddings()


def head_logprobs(head: Any, hidden_T_D: Tensor, target_T: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of targets from the hidden states that predict them, chunked over tokens."""
    vocabulary = head.weight.shape[0]
    chunk = max(1, LOGITS_PER_CHUNK // vocabulary)

    def one(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden).float() / temperature
        logprobs = torch.log_softmax(logits, -1)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs.gather(-1, target[:, None])[:, 0], entropy

    if len(target_T) <= chunk:
        return one(hidden_T_D, target_T)
    parts = [
        checkpoint(one, hidden, target, use_reentrant=False)
        for hidden, target in zip(hidden_T_D.split(chunk), target_T.split(chunk), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
