"""Rollout replicas on the CPU, as verl sees them: where the servers are started, and how they get the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray
import torch
from torch import Tensor
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica

from verl_cpu.server import Server


def server_name(replica: int) -> str:
    return f"suffice_cpu_server_{replica}"


class Replica(RolloutReplica):  # type: ignore[misc]
    """One server process per replica."""

    async def launch_servers(self) -> None:
        name = server_name(self.replica_rank)
        options = {"name": name, "num_cpus": 0, "max_concurrency": self.max_concurrency}
        self._server_handle = ray.remote(Server).options(**options).remote(self.model_config.path, 1)
        self._server_address = name
        self.servers = [self._server_handle]


class Adapter(BaseRollout):  # type: ignore[misc]
    """The trainer's side of a replica: sends it the weights."""

    async def resume(self, tags: list[str]) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(
        self, weights: Iterator[tuple[str, Tensor]], global_steps: int | None = None, **_: Any
    ) -> None:
        whole = {name: tensor.detach().cpu().clone() for name, tensor in weights}
        server = ray.get_actor(server_name(torch.distributed.get_rank()))
        await server.load.remote(whole, global_steps or 0)
