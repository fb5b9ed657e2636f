"""verl on a machine without a GPU, for tests: a platform, FSDP over gloo, rollouts by the local engine's decoder.

verl's processes find it by their environment (`ENVIRONMENT`), and `SETTINGS` fit verl's configuration to it. Ray
schedules logical GPUs, which are only places to work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROLLOUT = "suffice-cpu"
WORKERS = 2  # logical GPUs

TESTS = Path(__file__).parent.parent
ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "verl_cpu.install",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
SETTINGS = {
    "trainer.device": "cpu",
    "actor_rollout_ref.rollout.name": ROLLOUT,
    "actor_rollout_ref.rollout.agent.num_workers": 1,
    "actor_rollout_ref.model.use_remove_padding": False,
    "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    "actor_rollout_ref.actor.use_torch_compile": False,
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
    "reward.num_workers": 1,
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    # logical: Ray places work by them, nothing is reserved
    "ray_kwargs.ray_init.num_cpus": 32,
    "+ray_kwargs.ray_init.num_gpus": WORKERS,
    "+ray_kwargs.ray_init.include_dashboard": False,
    "+ray_kwargs.ray_init.object_store_memory": 500_000_000,
}
"""verl's own settings, as `--set verl.KEY=VALUE` takes them."""


def options() -> list[str]:
    """What to add to `suffice train --engine verl`."""
    own = [f"verl.{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    return [part for pair in [f"cluster.gpus={WORKERS}", *own] for part in ("--set", pair)]


def begin(*words: object) -> subprocess.Popen[str]:
    """`suffice …` as a process whose verl finds this machine's platform."""
    # Ray counts the logical GPUs against those that are visible, and none are to be
    surroundings = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-m", "suffice", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings | ENVIRONMENT
    )
