"""A real language model from overthinking to shorter: taught, diagnosed, trained by several methods, compared.

    python -m benchmarks.real_training MODEL --data FILE [--data FILE …] --out FOLDER

MODEL is an instruct model without a thought and FILE holds worked problems, both as `benchmarks.think` takes them.
Every stage is a command that is printed before it runs, in FOLDER. What is done stands: the same command goes on where
it was stopped.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

PLANS = Path(__file__).parent / "plans" / "real"
TEST = "--task jsonl --path test.jsonl --prompt answer-boxed --max-thought-tokens 160 --max-answer-tokens 24"
SAMPLED = "--temperature 0.7 --top-p 1"
BUDGETS = "0,16,24,32,40,48,64,96,128"
STAGES = {  # what each leaves behind, by which it is known to be done
    "diagnosis/report.html": f"diagnose base {TEST} {SAMPLED} --problems 200 --out diagnosis",
    "base-eval/report.html": f"eval base {TEST} {SAMPLED} --samples 2 --baselines --budgets {BUDGETS} --out base-eval",
    "bench/pareto.png": "bench plan.toml --out bench",
}


def main(
    model: Annotated[str, typer.Argument(help="A checkpoint folder or a hub id.")],
    data: Annotated[list[Path], typer.Option(help="Worked problems; may be given again.")],
    out: Annotated[Path, typer.Option(help="Where everything is kept.")],
    examples: int = 1200,
    operations: int = 1,
) -> None:
    files = [each for file in data for each in ("--data", str(file.resolve()))]
    source = str(Path(model).resolve()) if Path(model).exists() else model
    out.mkdir(parents=True, exist_ok=True)
    for plan in PLANS.glob("*.toml"):
        shutil.copy(plan, out)
    taught = ["benchmarks.think", source, *files, "--out", "."]
    run(out, [*taught, "--examples", str(examples), "--operations", str(operations)])
    for result, command in STAGES.items():
        if not (out / result).exists():
            run(out, ["suffice", *shlex.split(command)])


def run(folder: Path, command: list[str]) -> None:
    """Run a module's command line in a folder; where it fails, so does this."""
    print(f"$ {shlex.join(command)}", file=sys.stderr)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=os.environ | {"PYTHONPATH": paths}, check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)


if __name__ == "__main__":
    typer.run(main)
