"""An evaluation killed (SIGKILL) again and again at random moments, against one that was never disturbed.

    python -m benchmarks.kills [--times 20] [--json] [--record]

Twice: with the lab's base as a local model, and behind a real server (`transformers serve`) and a proxy that counts
what was delivered whole.

A moment is a random part of the time that an undisturbed evaluation takes, so that kills fall on loading, sampling and
writing. Between kills the evaluation goes on with `--resume`.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from benchmarks.record import Json, Record, publish
from benchmarks.serving import MODEL, forwarding, proxied, transformers_serve
from laconic.lab import base_path
from laconic.runs import read_jsonl

BUDGETS = ["--max-thought-tokens", "256", "--max-answer-tokens", "8"]
LOCAL = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "300", "--baselines", *BUDGETS]
SERVED = ["eval", MODEL, "--task", "arithmetic", "--problems", "20", "--samples", "2", "--concurrency", "4", *BUDGETS]


def main(times: int = 20, as_json: Json = False, record: Record = False) -> None:
    publish("kills", cases(times), as_json=as_json, record=record)


def cases(times: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        yield {"case": "local"} | disturbed(Path(folder), LOCAL, times)[0]
    with tempfile.TemporaryDirectory() as folder:
        with transformers_serve(base_path(), Path(folder, "home")) as url, proxied(forwarding(url)) as proxy:
            asked = [*SERVED, "--base-url", proxy.url, "--tokenizer", "lab/arithmetic"]
            found, evaluations = disturbed(Path(folder), asked, times)
        samples = [len({(r["problem"], r["sample"]) for r in records(run)}) for run in evaluations]
        chats = proxy.of("/v1/chat/completions")
        yield (
            {"case": "server"}
            | found
            | {
                "samples_missing_or_twice": sum(
                    abs(len(records(run)) - 40) + 40 - n for run, n in zip(evaluations, samples, strict=True)
                ),
                "replies_delivered_whole": sum(exchange.whole for exchange in chats),
                "samples_kept": sum(samples),
            }
        )


def disturbed(folder: Path, arguments: list[str], times: int) -> tuple[dict[str, Any], list[Path]]:
    """As many evaluations, one after the other, as it takes to be killed so often; all are then finished.

    The first is left in peace. Returns what is to be told, and the directories of all.
    """
    draw = random.Random(0)
    runs = [folder / "undisturbed"]
    begun = time.monotonic()
    assert start(folder, [*arguments, "--out", runs[0].name]).wait() == 0
    whole = time.monotonic() - begun
    kills = 0
    while kills < times:
        runs.append(folder / f"run-{len(runs)}")
        process = None
        while process is None or process.returncode != 0:
            begun_before = (runs[-1] / "request.json").exists()
            process = start(
                folder, ["eval", "--resume", runs[-1].name] if begun_before else [*arguments, "--out", runs[-1].name]
            )
            try:
                process.wait(draw.uniform(0, whole) if kills < times else None)
                assert process.returncode == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
    expected = contents(runs[0])
    return {
        "kills": kills,
        "evaluations": len(runs) - 1,
        "equal_to_undisturbed": sum(contents(run) == expected for run in runs[1:]),
        "files_left_behind": sum(map(left_behind, runs)),
        "seconds_undisturbed": whole,
    }, runs


def records(run: Path) -> list[dict[str, Any]]:
    return read_jsonl(run / "evaluations" / "arithmetic" / "records.jsonl")


def left_behind(run: Path) -> int:
    """What only a killed process leaves: a journal, or something prepared aside."""
    return sum(path.name == "journal" or (path.name.count(".") > 1 and path.name[0] == ".") for path in run.rglob("*"))


def contents(run: Path) -> dict[str, bytes]:
    """Every figure and record of an evaluation, by file."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob("evaluations/*/*.json*")}


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "laconic", *arguments], cwd=folder, **quiet)


if __name__ == "__main__":
    typer.run(main)
