"""Evaluations and trainings killed (SIGKILL) again and again at random moments, against ones never disturbed.

    python -m benchmarks.kills {eval,train} [--times 50] [--json] [--record]

Evaluations: with the lab's base as a local model, and behind a real server (`transformers serve`) and a proxy that
counts what was delivered whole. Trainings: two small runs that save every three steps and evaluate every six, one of
them with a controller that keeps state.

A moment is a random part of the time that an undisturbed command takes, so that kills fall on loading, sampling,
updating and writing; every second kill of a training waits from there for the next write and falls inside it. Between
kills the command goes on with `--resume`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from benchmarks.record import Json, Record, publish
from benchmarks.serving import MODEL, forwarding, proxied, transformers_serve
from suffice.lab import base_path
from suffice.model.checkpoint import damage
from suffice.run.directory import Run
from suffice.run.files import read_jsonl
from suffice.run.layout import JOURNAL, LOCK, MANIFEST, METRICS, RECIPE, REQUEST, SUMMARY
from suffice.run.records import Sample

BUDGETS = ["--max-thought-tokens", "256", "--max-answer-tokens", "8"]
LOCAL = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "300", "--baselines", *BUDGETS]
SERVED = ["eval", MODEL, "--task", "arithmetic", "--problems", "20", "--samples", "2", "--concurrency", "4", *BUDGETS]
SMALL = {
    "train.steps": 12,
    "train.checkpoint_every": 3,
    "train.eval_every": 6,
    "train.problems_per_step": 8,
    "rollout.max_thought_tokens": 128,
    "eval.problems": 40,
    "eval.samples": 2,
}
TRAININGS = {"lab-s-grpo": {}, "lab-grpo-lambda": {"method.lam": "adaptive", "group.spines": 4}}
BEGUN = {"eval": REQUEST, "train": RECIPE}


class Verb(StrEnum):
    EVAL = "eval"
    TRAIN = "train"


def main(verb: Verb, times: int = 50, as_json: Json = False, record: Record = False) -> None:
    cases = trainings if verb is Verb.TRAIN else evaluations
    publish(f"kills-{verb}", cases(times), as_json=as_json, record=record)


def evaluations(times: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        yield {"case": "eval, local model"} | disturbed(Path(folder), LOCAL, times)[0]
    with tempfile.TemporaryDirectory() as folder:
        with transformers_serve(base_path(), Path(folder, "home")) as url, proxied(forwarding(url)) as proxy:
            asked = [*SERVED, "--base-url", proxy.url, "--tokenizer", "lab/arithmetic"]
            found, runs = disturbed(Path(folder), asked, times)
        samples = [len({(r["problem"], r["sample"]) for r in records(run)}) for run in runs]
        chats = proxy.of("/v1/chat/completions")
        yield (
            {"case": "eval, server"}
            | found
            | {
                "samples_missing_or_twice": sum(
                    abs(len(records(run)) - 40) + 40 - n for run, n in zip(runs, samples, strict=True)
                ),
                "replies_delivered_whole": sum(exchange.whole for exchange in chats),
                "samples_kept": sum(samples),
            }
        )


def trainings(times: int) -> Iterator[dict[str, Any]]:
    for recipe, changes in TRAININGS.items():
        chosen = [word for key, value in (SMALL | changes).items() for word in ("--set", f"{key}={value}")]
        with tempfile.TemporaryDirectory() as folder:
            found, _ = disturbed(Path(folder), ["train", recipe, *chosen], times, aimed=True)
        yield {"case": ", ".join([f"train {recipe}", *(f"{key} = {value}" for key, value in changes.items())])} | found


def disturbed(
    folder: Path, arguments: list[str], times: int, *, aimed: bool = False
) -> tuple[dict[str, Any], list[Path]]:
    """As many runs, one after the other, as it takes to be killed so often; all are then finished.

    The first is left in peace. Returns what is to be told, and the directories of all.
    """
    draw, verb = random.Random(0), arguments[0]
    runs = [folder / "undisturbed"]
    begun = time.monotonic()
    assert start(folder, [*arguments, "--out", runs[0].name]).wait() == 0, (folder / "log").read_text()
    whole = undisturbed = time.monotonic() - begun
    kills = inside = damaged = again = 0
    while kills < times:
        runs.append(folder / f"run-{len(runs)}")
        process = None
        while process is None or process.returncode != 0:
            begun_before = (runs[-1] / BEGUN[verb]).exists()
            former = half_written(runs[-1])
            process = start(
                folder, [verb, "--resume", runs[-1].name] if begun_before else [*arguments, "--out", runs[-1].name]
            )
            started = time.monotonic()
            try:
                process.wait(draw.uniform(0, whole) if kills < times else None)
                assert process.returncode == 0, (folder / "log").read_text()
                whole = min(whole, time.monotonic() - started)  # the machine may be less busy now
                continue
            except subprocess.TimeoutExpired:
                if aimed and kills % 2:
                    wait_for_a_write(process, runs[-1], former)
                process.kill()
                process.wait()
            kills += process.returncode != 0
            inside += bool(half_written(runs[-1]) - former)
            folders = [path for path in runs[-1].glob("checkpoints/step-*") if path.is_dir()]
            damaged += sum(damage(path) is not None for path in folders)
            again = max(again, steps_logged(runs[-1]) - max((int(path.name[5:]) for path in folders), default=0))
    expected = contents(runs[0])
    return {
        "kills": kills,
        "kills_inside_a_write": inside,
        "runs": len(runs) - 1,
        "equal_to_undisturbed": sum(contents(run) == expected for run in runs[1:]),
        "damaged_checkpoints": damaged,
        "most_steps_done_again": again,
        "files_left_behind": sum(map(left_behind, runs)),
        "seconds_undisturbed": undisturbed,
    }, runs


def wait_for_a_write(process: subprocess.Popen[bytes], run: Path, former: set[Path]) -> None:
    while process.poll() is None and not half_written(run) - former:
        time.sleep(0.0005)


def half_written(run: Path) -> set[Path]:
    """What is prepared aside and has not taken its place."""
    return {path for path in run.rglob(".*") if path.name.count(".") > 1}


def steps_logged(run: Path) -> int:
    return len(Run(run).metrics())


def records(run: Path) -> list[Sample]:
    return Run(run).evaluation("arithmetic").records


def left_behind(run: Path) -> int:
    """What only a killed process leaves: a journal, or something prepared aside."""
    return (run / JOURNAL).exists() + len(half_written(run))


def contents(run: Path) -> dict[str, Any]:
    """All that a run wrote but when and how long: bytes by file, records of what holds times."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        if path.name in (METRICS, SUMMARY):
            lines = read_jsonl(path) if path.suffix == ".jsonl" else [json.loads(path.read_text())]
            timeless = [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]
            found[str(path.relative_to(run))] = timeless
        elif path.is_file() and path.name not in (MANIFEST, LOCK):
            found[str(path.relative_to(run))] = path.read_bytes()
    return found


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "suffice", *arguments]
    with (folder / "log").open("ab") as log:  # to be read where one fails
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


if __name__ == "__main__":
    typer.run(main)
