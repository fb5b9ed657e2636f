"""The loss of a batch's only update, as verl's policy loss `suffice`.

With one update the old log-probs are the new ones, detached: verl's pass that computes them first, a third of the
update's work, would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from suffice.engines.verl.translate import ON_POLICY
from suffice.objective import importance


def on_policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """verl's clipped loss at ratio 1, with the truncated importance weights that are otherwise made before it.

    Args:
        old_log_prob: here the sampler's [B, T]; all others as verl's losses take them.
        rollout_is_weights: here 1 for the tokens that the policy sampled, 0 for those that were injected [B, T].
    """
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

    assert rollout_is_weights is not None
    new, sampled = log_prob.detach(), rollout_is_weights.bool()
    weights = importance(new, old_log_prob, sampled)
    loss, said = compute_policy_loss_vanilla(
        new, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights=weights
    )
    judged = sampled & response_mask.bool()
    # sums, so that the ratio of their means over micro-batches is the mean over tokens
    return loss, said | {
        "actor/sampled_tokens": float(judged.sum()),
        "actor/drift": float((new - old_log_prob).abs()[judged].sum()),
        "actor/surprise": float(-new[judged].sum()),
    }


def register(register_policy_loss: Callable[[str], Callable[[Any], Any]]) -> None:
    """Register it; `register_policy_loss` is verl's."""
    register_policy_loss(ON_POLICY)(on_policy_loss)
