"""What a real vLLM says and does: started in several ways, looked at by the doctor, evaluated and diagnosed.

python -m benchmarks.servers parrot smollm --record

The arguments are checkpoint folders: `parrot` is what `tests/parrot.py` makes, any other is asked sums. The `vllm` on
the PATH serves them, on the CPU in float32.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import Json, Record, publish
from benchmarks.serving import answers, free_port, wait_until
from suffice.config import DEFAULT_INDUCER

PARSED = ("--reasoning-parser", "qwen3")
INDUCER = json.dumps({"reasoning_start_str": "<think>", "reasoning_end_str": DEFAULT_INDUCER})
WAYS: dict[str, tuple[str, ...]] = {
    "parser": PARSED,
    "parser, our inducer ends a budget": (*PARSED, "--reasoning-config", INDUCER),
    "no parser": (),
}
PARROT = {
    "Add two and two.": "4",
    "Stop at once.": "5",
    "Answer plainly.": "6",
    "Leave the thought.": "4",
    "Never stop.": "4",
}
SUMS = {f"What is {a} + {b}?": str(a + b) for a, b in ((2, 3), (4, 4), (12, 5), (20, 22), (31, 9), (8, 17))}


@contextmanager
def vllm(folder: Path, options: tuple[str, ...], log: Path) -> Iterator[str]:
    """Serves a checkpoint under its folder's name; yields the address."""
    port = free_port()
    command = ["vllm", "serve", str(folder), "--served-model-name", folder.name, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--dtype", "float32", "--max-model-len", "512", "--enforce-eager", *options]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as said:
        server = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
    try:
        wait_until(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/health"))
        assert server.poll() is None, log.read_text()[-4000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def suffice(verb: str, *words: str) -> Any:
    """What a verb prints as JSON; what it complains of where it refuses."""
    command = [sys.executable, "-m", "suffice", verb, *words, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 2:
        complaint = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("error: "))
        return complaint.partition("; ")[0]
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sitting(folder: Path, way: str, work: Path) -> dict[str, Any]:
    """One server from its start to its end."""
    parrot = folder.name == "parrot"
    problems = work / "problems.jsonl"
    asked = PARROT if parrot else SUMS
    problems.write_text("".join(json.dumps({"prompt": p, "gold": gold}) + "\n" for p, gold in asked.items()))
    row: dict[str, Any] = {"case": f"{folder.name}: {way}"}
    started = time.monotonic()
    with vllm(folder, WAYS[way], work / "log") as url:
        row["seconds_start"] = time.monotonic() - started
        for what in suffice("doctor", "--base-url", url, "--tokenizer", str(folder)):
            row[what["what"]] = what["found"] if what["state"] is None else f"{what['state']}: {what['found']}"
        common = (folder.name, "--task", "jsonl", "--path", str(problems), "--base-url", url)
        common += ("--tokenizer", str(folder), "--prompt", "plain", "--temperature", "0", "--samples", "1")
        common += ("--max-thought-tokens", "60", "--max-answer-tokens", "15")
        found = suffice("eval", *common, "--out", str(work / "eval"))
        for name in ("accuracy", "thought_tokens", "unclosed", "unclosed_tokens", "looping", "loop_tokens"):
            row[f"eval {name}"] = found["metrics"][name]["mean"]
        row["eval doubts"] = len(found.get("doubts", []))
        found = suffice("diagnose", *common, "--out", str(work / "diagnose"))
        row["diagnose"] = found if isinstance(found, str) else found["conclusion"]
    row["seconds"] = time.monotonic() - started
    return row


def main(
    folders: Annotated[list[Path], typer.Argument(help="Checkpoint folders.")],
    as_json: Json = False,
    record: Record = False,
) -> None:
    assert shutil.which("vllm"), "there is no vllm on the PATH"

    for folder in folders:
        for way in WAYS if folder.name == "parrot" else ["no parser"]:
            with tempfile.TemporaryDirectory() as work:
                publish("servers", [sitting(folder, way, Path(work))], as_json=as_json, record=record)


if __name__ == "__main__":
    typer.run(main)
