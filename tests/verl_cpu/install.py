"""Registers all of it with verl, in the process that imports this: verl does so before its own modules ask for the
platform."""

from __future__ import annotations

from typing import Any

import torch.distributed
from verl.plugin.platform import platform_manager

from verl_cpu import ROLLOUT
from verl_cpu.platform import PlatformCPU

platform_manager.PlatformRegistry.register(platform="cpu")(PlatformCPU)
platform_manager.set_platform(PlatformCPU())

plain = torch.distributed.init_process_group


def init_process_group(backend: str | None = None, **more: Any) -> Any:
    """verl names one backend for the host and one for the device, which are the same here."""
    return plain("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, **more)


torch.distributed.init_process_group = init_process_group

from verl.workers.engine.base import EngineRegistry  # noqa: E402
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead  # noqa: E402
from verl.workers.rollout import base  # noqa: E402
from verl.workers.rollout.replica import RolloutReplicaRegistry  # noqa: E402

from verl_cpu import agents  # noqa: E402, F401
from verl_cpu.rollout import Replica  # noqa: E402

EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(FSDPEngineWithLMHead)
RolloutReplicaRegistry.register(ROLLOUT, lambda: Replica)
base._ROLLOUT_REGISTRY[ROLLOUT, "async"] = "verl_cpu.rollout.Adapter"
