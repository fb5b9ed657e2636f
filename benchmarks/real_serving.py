"""A model before and after training behind a real vLLM: the same problems as are asked here, and the bill.

    python -m benchmarks.real_serving FOLDER NAME=CHECKPOINT [NAME=CHECKPOINT …] [--record]

FOLDER is that of `benchmarks.real_training`; checkpoints are named from there, the first is the base. The `vllm` on the
PATH serves them in turn, on the CPU in float32. Requests are sent 32 at a time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.real_training import TEST, run
from benchmarks.record import Json, Record, publish
from benchmarks.servers import PARSED, suffice, vllm
from suffice.run.files import read_json
from suffice.run.layout import EVALUATIONS, SUMMARY

FIGURES = ("accuracy", "thought_tokens", "tokens")


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
    """What a served model thinks and answers, what it takes, and whether the server keeps a budget."""
    model, out = (folder / checkpoint).name, f"served-{name}"
    with vllm(folder / checkpoint, PARSED, folder / f"{out}.log") as url:
        found = suffice("doctor", "--base-url", url, "--model", model, "--tokenizer", str(folder / checkpoint))
        kept = {each["what"]: each["state"] for each in found}
        asked = f"{TEST} --samples 1 --problems {problems} --concurrency 32"
        where = f"--base-url {url} --tokenizer {checkpoint} --out {out}"
        began = time.monotonic()
        run(folder, ["suffice", "eval", model, *asked.split(), *where.split()])
        seconds = time.monotonic() - began
    summary = read_json(folder / out / EVALUATIONS / "jsonl" / SUMMARY)
    figures = {f"{each}_{end}": summary["metrics"][each][end] for each in FIGURES for end in ("mean", "low", "high")}
    row = {"case": name, "requests": problems, "seconds": seconds, **figures}
    return row | {"budget": kept.get("thinking budget")}


if __name__ == "__main__":
    typer.run(main)
