"""The thought stays the base's: KL(base ‖ model) of what it writes next, its decision to stop left out.

By the chain rule the divergence of two distributions over tokens is that of the decision "stop or not", plus the
divergence where they do not stop, times the base's probability of not stopping. The first part is the method's to
change; `kept` is the second.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from suffice.objective.head import LOGITS_PER_CHUNK, Hidden, log_softmax


def kept(base_T_V: Tensor, model_T_V: Tensor, decision: int) -> Tensor:
    """(1 − p(decision))·KL(p ‖ q) [T] for the distributions without the decision, renormalised, in nats.

    Args:
        base_T_V: log-probs of the base, p, which get no gradient.
        model_T_V: those of the model, q.
    """
    left_V = torch.arange(base_T_V.shape[-1], device=base_T_V.device) != decision
    p, q = (torch.log_softmax(x.masked_fill(~left_V, -torch.inf), -1) for x in (base_T_V, model_T_V))
    stays_T = 1 - base_T_V[:, decision].exp()
    return stays_T * (p.exp() * (p - q).masked_fill(~left_V, 0.0)).sum(-1)


def anchor(base: Hidden, model: Hidden, decision: int, temperature: float) -> Tensor:
    """`kept` from the hidden states that predict the tokens, chunked over tokens."""
    (base_head, base_T_D), (head, hidden_T_D) = base, model
    chunk = max(1, LOGITS_PER_CHUNK // (2 * head.weight.shape[0]))

    def one(theirs: Tensor, ours: Tensor) -> Tensor:
        with torch.no_grad():
            base_T_V = log_softmax(base_head(theirs), temperature)
        return kept(base_T_V, log_softmax(head(ours), temperature), decision)

    if len(hidden_T_D) <= chunk:
        return one(base_T_D, hidden_T_D)
    parts = zip(base_T_D.split(chunk), hidden_T_D.split(chunk), strict=True)
    return torch.cat([checkpoint(one, theirs, ours, use_reentrant=False) for theirs, ours in parts])
