"""A real language model from overthinking to shorter: taught, diagnosed, trained by several methods, compared.

    python -m benchmarks.real_training MODEL --data FILE [--data FILE …] --out FOLDER [--record NAME]

MODEL is an instruct model without a thought and FILE holds worked problems, both as `benchmarks.think` takes them.
Every stage is a command that is printed before it runs, in FOLDER. What is done stands: the same command goes on where
it was stopped. `--record` keeps the figures as benchmarks/results/real-NAME.json and bench-real-NAME.json.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import findings, readme
from benchmarks.think import Data, Model
from suffice.model.checkpoint import latest_checkpoint
from suffice.run.files import read_json
from suffice.run.layout import DIAGNOSES, REQUEST, SUMMARY, TRAINER

PLANS = Path(__file__).parent / "plans" / "real"
TEST = "--task jsonl --path test.jsonl --prompt answer-boxed --max-thought-tokens 128 --max-answer-tokens 24"
SAMPLED = "--temperature 0.7 --top-p 1"
BUDGETS = "16,24,32,40,48,64,80,96"
STAGES = {
    "diagnosis": f"diagnose base {TEST} {SAMPLED} --problems 200 --out diagnosis",
    "stopped": f"eval base {TEST} {SAMPLED} --samples 2 --baselines --budgets {BUDGETS} --out stopped",
    "bench": "bench plan.toml --out bench",
}
"""What follows the teaching, by the folder that each fills."""


def main(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="Where everything is kept.")],
    examples: int = 480,
    operations: int = 1,
    rate: float = 2e-4,
    record: Annotated[str | None, typer.Option(help="Keep the figures by this name.")] = None,
) -> None:
    files = [each for file in data for each in ("--data", str(file.resolve()))]
    source = str(Path(model).resolve()) if Path(model).exists() else model
    out.mkdir(parents=True, exist_ok=True)
    for plan in PLANS.glob("*.toml"):
        shutil.copy(plan, out)
    taught = ["benchmarks.think", source, *files, "--out", "."]
    run(out, [*taught, "--examples", str(examples), "--operations", str(operations), "--rate", str(rate)])
    for command in commands(out):
        run(out, command)
    last = sorted({path.name for path in out.glob("bench/runs/*/evaluations/step-??????")})[-1]
    trained = [str(path.relative_to(out)) for path in sorted(out.glob(f"bench/runs/*-seed-*/evaluations/{last}"))]
    said = run(out, ["suffice", "compare", "stopped", *trained, "--out", "comparison.html", "--json"])
    if record:
        findings.keep(f"real-{record}", out / "bench")
        keep(record, out, json.loads(said))


def commands(out: Path) -> list[list[str]]:
    """A stage that was begun before goes on; what is done is only shown again."""
    stages = {folder: shlex.split(command) for folder, command in STAGES.items()}
    begun = {folder for folder in stages if (out / folder / REQUEST).exists()}
    return [
        ["suffice", *([words[0], "--resume", folder] if folder in begun else words)] for folder, words in stages.items()
    ]


def run(folder: Path, command: list[str]) -> str:
    """Run a module's command line in a folder; where it fails, so does this. What it says as JSON."""
    print(f"$ {shlex.join(command)}", file=sys.stderr)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE if "--json" in command else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    return done.stdout or ""


def keep(name: str, out: Path, comparison: dict[str, Any]) -> None:
    """What the page shows beside the bench: how the base was taught, its diagnosis, and stopping it early."""
    checkpoint = latest_checkpoint(out)
    assert checkpoint is not None
    found = {
        "taught": read_json(checkpoint / TRAINER),
        "diagnosis": read_json(out / "diagnosis" / DIAGNOSES / "jsonl" / SUMMARY),
        "stopped": comparison,
        "over": readme.stops_of(comparison),
    }
    readme.keep(readme.RESULTS / f"real-{name}.json", found)


if __name__ == "__main__":
    typer.run(main)
