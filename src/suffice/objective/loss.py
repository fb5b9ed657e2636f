"""The clipped policy loss on token weights."""

from __future__ import annotations

import torch
from torch import Tensor

IMPORTANCE_CAP = 2.0


def policy_loss(
    new_T: Tensor,
    old_T: Tensor,
    plus_T: Tensor,
    minus_T: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    importance_T: Tensor | None = None,
) -> Tensor:
    """−Σ [w⁺·min(ρ, 1 + ε_high) + w⁻·max(ρ, 1 − ε_low)] with ρ = exp(new − old); a scalar.

    This is the papers' min(ρ·A, clip(ρ)·A), summed over a token's members (S-GRPO, arXiv 2505.07686, Eq. 2).

    Args:
        new_T: log-probs with gradient [T].
        old_T: those the batch was sampled at, by the trainer, without gradient [T].
        plus_T: token weights ≥ 0 [T], which already hold the aggregation.
        minus_T: the same ≤ 0 [T].
        clip_low: ε below 1.
        clip_high: ε above 1.
        importance_T: weights [T] that correct for a sampler that differs from the trainer.
    """
    ratio_T = torch.exp(new_T - old_T)
    surrogate_T = plus_T * ratio_T.clamp(max=1 + clip_high) + minus_T * ratio_T.clamp(min=1 - clip_low)
    if importance_T is not None:
        surrogate_T = surrogate_T * importance_T
    return -surrogate_T.sum()


def importance(old_T: Tensor, behaviour_T: Tensor, sampled_T: Tensor) -> Tensor:
    """min(exp(old − behaviour), 2) for sampled tokens, 1 for injected ones: truncated importance weights [T]."""
    return torch.where(sampled_T, torch.exp(old_T - behaviour_T).clamp(max=IMPORTANCE_CAP), 1.0)


def clipped(new_T: Tensor, old_T: Tensor, plus_T: Tensor, minus_T: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """bool [T]: tokens of which at least one weight meets its clip and so loses its gradient."""
    ratio_T = torch.exp(new_T - old_T)
    return ((ratio_T > 1 + clip_high) & (plus_T > 0)) | ((ratio_T < 1 - clip_low) & (minus_T < 0))
