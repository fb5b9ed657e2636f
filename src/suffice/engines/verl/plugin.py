"""What verl loads in every process (entry-point group `verl.plugins`): agent loops, estimators, loss, trainer."""

from __future__ import annotations

from verl.models.transformers import monkey_patch
from verl.trainer.ppo.core_algos import register_adv_est, register_policy_loss

from suffice.engines.verl import agents, estimators, loss, trainer

estimators.register(register_adv_est)
loss.register(register_policy_loss)
# where TRL is installed verl mends its value-head model, which TRL no longer has; only a critic would need it
monkey_patch.is_trl_available = lambda: False

__all__ = ["agents", "trainer"]
