"""verl on a machine without an accelerator: a platform, FSDP over gloo, and rollouts by the local engine's decoder.

For trying recipes and for tests; nothing of it is imported where there is a GPU. Ray schedules logical GPUs, which
are only places to work.
"""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Register all of it with verl, in this process."""
    import torch.distributed
    from verl.plugin.platform import platform_manager

    from suffice.engines.verl.cpu.platform import PlatformCPU

    # before anything else of verl: its modules ask for the platform when they are imported
    platform_manager.PlatformRegistry.register(platform="cpu")(PlatformCPU)
    platform_manager.set_platform(PlatformCPU())

    plain = torch.distributed.init_process_group

    def init_process_group(backend: str | None = None, **more: Any) -> Any:
        """verl names one backend for the host and one for the device, which are the same here."""
        return plain("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, **more)

    torch.distributed.init_process_group = init_process_group  # type: ignore[assignment]

    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
    from verl.workers.rollout import base
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    from suffice.engines.verl.cpu.rollout import Replica
    from suffice.engines.verl.translate import CPU_ROLLOUT

    EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(FSDPEngineWithLMHead)
    RolloutReplicaRegistry.register(CPU_ROLLOUT, lambda: Replica)
    base._ROLLOUT_REGISTRY[CPU_ROLLOUT, "async"] = "suffice.engines.verl.cpu.rollout.Adapter"
