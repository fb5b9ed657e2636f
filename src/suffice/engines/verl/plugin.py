"""What verl loads in every process (entry-point group `verl.plugins`): agent loops, estimators, loss, trainer.

It is loaded in other jobs of verl's too, so that what changes verl itself happens in ours alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from verl.models.transformers import monkey_patch
from verl.trainer.ppo.core_algos import register_adv_est, register_policy_loss
from verl.workers import engine_workers

from suffice.engines.verl import agents, estimators, loss, trainer
from suffice.engines.verl.translate import LAYOUT, OURS

WAITING = 7200  # seconds for the others of a group: one may write a large model to a slow disk; NCCL gives it 600


def patient(start: Callable[..., None]) -> Callable[..., None]:
    """verl's start of a process group with our limit where it names none."""

    def start_patiently(timeout_second: float | None = None, backend: str | None = None) -> None:
        start(timeout_second or WAITING, backend)

    return start_patiently


estimators.register(register_adv_est)
loss.register(register_policy_loss)
if os.environ.get(OURS):
    # where TRL is installed verl mends its value-head model, which TRL no longer has; only a critic would need it
    monkey_patch.is_trl_available = lambda: False
    engine_workers.initialize_global_process_group_ray = patient(engine_workers.initialize_global_process_group_ray)
if os.environ.get(LAYOUT) == "spine":
    from suffice.engines.verl import spine

    spine.register()

__all__ = ["agents", "trainer"]
