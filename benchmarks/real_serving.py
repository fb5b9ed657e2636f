"""A model before and after training behind a real vLLM: the same problems as are asked here, and the bill.

    python -m benchmarks.real_serving FOLDER NAME=CHECKPOINT [NAME=CHECKPOINT …] [--record]

FOLDER is that of `benchmarks.real_training`; checkpoints are named from there, the first is the base. The `vllm` on the
PATH serves them in turn, on the CPU in float32. Requests are sent 32 at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.real_training import SAMPLED, TEST, run
from benchmarks.record import Json, Record, publish
from benchmarks.servers import PARSED, vllm
from suffice.run.files import read_json
from suffice.run.layout import SUMMARY


def main(
    folder: Path,
    models: Annotated[list[str], typer.Argument(help="NAME=CHECKPOINT, the base first.")],
    problems: int = 400,
    as_json: Json = False,
    record: Record = False,
) -> None:
    rows = (served(folder, *each.split("=", 1), problems) for each in models)
    publish("real_serving", rows, as_json=as_json, record=record)


def served(folder: Path, name: str, checkpoint: str, problems: int) -> dict[str, Any]:
    """What a served model thinks, answers and takes."""
    out = f"served-{name}"
    with vllm(folder / checkpoint, PARSED, folder / f"{out}.log") as url:
        model = (folder / checkpoint).name
        run(folder, f"suffice doctor --base-url {url} --model {model} --tokenizer {checkpoint}".split())
        asked = f"{TEST} {SAMPLED} --samples 1 --problems {problems}"
        run(folder, f"suffice eval {model} --base-url {url} --tokenizer {checkpoint} {asked} --out {out}".split())
    summary = read_json(folder / out / SUMMARY)
    return {"case": name, "summary": summary}


if __name__ == "__main__":
    typer.run(main)
