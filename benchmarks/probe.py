"""One layout's update in a process of its own: seconds, and peak memory above the loaded model.

    python -m benchmarks.probe LAYOUT THOUGHT [--exits 8] [--size 21M]

Prints one JSON object. Memory is the process's highest resident set less what it was once the model was
loaded and a tiny update had paid for gradients and libraries.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.dense_mask import dense
from benchmarks.models import random_model, rows, serial_group, spines, update
from benchmarks.record import timed

LAYOUTS = {"spine": spines, "rows": lambda group: rows(group, 1), "dense": dense}


def probe(layout: str, thought: int, **options: Any) -> dict[str, float]:
    """`seconds` and `mib` of one update on one thread, measured in a new process."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.probe", layout, str(thought), *flags]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main(
    layout: Annotated[str, typer.Argument(help="spine, rows (one by one) or dense.")],
    thought: int,
    exits: int = 8,
    size: str = "21M",
) -> None:
    torch.set_num_threads(1)
    model, group = random_model(size), serial_group(thought, exits)
    update(model, spines(serial_group(16, 1)))
    before = peak_mib()
    seconds = timed(lambda: update(model, LAYOUTS[layout](group)))
    print(json.dumps({"seconds": seconds, "mib": peak_mib() - before}))


def peak_mib() -> float:
    """The highest resident set. Not `ru_maxrss`: that starts at what the process which started this one held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    typer.run(main)
