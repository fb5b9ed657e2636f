"""Peak memory of an update at a thought of 4096 tokens: the spine layout against rows one by one.

python -m benchmarks.memory [--json] [--record]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from benchmarks.probe import probe
from benchmarks.record import Json, Record, publish

THOUGHT = 4096


def main(as_json: Json = False, record: Record = False) -> None:
    publish("memory", cases(), as_json=as_json, record=record)


def cases() -> Iterator[dict[str, Any]]:
    spine, rows = probe("spine", THOUGHT)["mib"], probe("rows", THOUGHT)["mib"]
    yield {
        "case": f"thought-{THOUGHT}",
        "thought": THOUGHT,
        "ratio": spine / rows,
        "mib_spine": spine,
        "mib_rows": rows,
    }


if __name__ == "__main__":
    typer.run(main)
