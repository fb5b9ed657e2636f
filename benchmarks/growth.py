"""How an update in the spine layout grows: seconds and peak memory over thought length, exits and model size.

    python -m benchmarks.growth [--json] [--record]      with --record also docs/pictures/spine-growth.png

Every figure comes from one update in a process of its own, on one thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typer
from matplotlib import pyplot as plt

from benchmarks.models import SIZES
from benchmarks.probe import probe
from benchmarks.record import RESULTS, Json, Record, publish

THOUGHTS = (256, 512, 1024, 2048, 4096, 8192)
EXITS = (1, 2, 4, 8, 16, 32)
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "spine-growth.png"
AXES = {"thought": "tokens of thought", "exits": "exits", "parameters": "parameters, millions"}


def main(as_json: Json = False, record: Record = False) -> None:
    publish("growth", cases(), as_json=as_json, record=record)
    if record:
        draw(json.loads((RESULTS / "growth.json").read_text())["rows"])


def cases() -> Iterator[dict[str, Any]]:
    settings = [("thought", thought, 8, "21M") for thought in THOUGHTS]
    settings += [("exits", 1024, exits, "21M") for exits in EXITS]
    settings += [("parameters", 1024, 8, size) for size in SIZES]
    for over, thought, exits, size in settings:
        measured = probe("spine", thought, exits=exits, size=size)
        value = {"thought": thought, "exits": exits, "parameters": int(size[:-1])}[over]
        yield {"case": f"{over}-{value}", "over": over, "value": value} | measured


def draw(rows: list[dict[str, Any]]) -> None:
    """Seconds above, memory below; a column for each of what grows."""
    mpl.use("Agg")
    figure, panels = plt.subplots(2, len(AXES), figsize=(10, 5), sharex="col", layout="constrained")
    for column, (over, label) in enumerate(AXES.items()):
        points = [row for row in rows if row["over"] == over]
        values = [point["value"] for point in points]
        for axis, key, unit in ((panels[0, column], "seconds", "seconds"), (panels[1, column], "mib", "peak MiB")):
            axis.plot(values, [point[key] for point in points], "o-", color="#2f6f4f")
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(unit)
        panels[1, column].set_xlabel(label)
    figure.suptitle("An update in the spine layout: 21M parameters, 8 exits, a thought of 1,024 tokens, or as shown")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    typer.run(main)
