"""The numeric part of the suite as other processors compute it: with the instructions of lesser ones, and with sums in
other orders for those that this one cannot stand in for.

    python tests/machines.py [--others] [pytest's arguments]

`--others` leaves out this processor's own instructions, with which every run of the suite computes, and other orders.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

NUMERIC = [
    *("spine", "objective", "rollout", "collect", "evaluation", "baselines", "benchmarks", "engine", "passrate"),
    *("methods", "methods_zoo", "decide", "guard", "model_load", "ballots", "sums", "lab"),
]
LEVELS = ["default", "avx2", "avx512"]
ORDERS = [1]


def levels() -> list[str]:
    """What ATEN_CPU_CAPABILITY may be here, the processor's own last."""
    own = torch.backends.cpu.get_cpu_capability().lower()
    return LEVELS[: LEVELS.index(own) + 1] if own in LEVELS else ["default", own]


def main(arguments: list[str]) -> int:
    others = "--others" in arguments
    machines = [{"ATEN_CPU_CAPABILITY": level} for level in (levels()[:-1] if others else levels())]
    machines += [] if others else [{"SUFFICE_ROUNDING": str(order)} for order in ORDERS]
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in NUMERIC]
    for machine in machines:
        print("numeric tests with", *(f"{name}={value}" for name, value in machine.items()), flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "not slow", *files]
        command += [argument for argument in arguments if argument != "--others"]
        if code := subprocess.call(command, env=os.environ | machine):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
