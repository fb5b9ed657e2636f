"""A real language model from overthinking to shorter: taught, diagnosed, trained by several methods, compared.

    python -m benchmarks.real_training MODEL --data FILE [--data FILE …] [--other FILE] --out FOLDER [--record NAME]

MODEL is an instruct model without a thought and FILE holds worked problems, both as `benchmarks.think` takes them. On
the problems of the other file, of another kind, the base and S-GRPO's first seed are evaluated alone.
Every stage is a command that is printed before it runs, in FOLDER. What is done stands: the same command goes on where
it was stopped. `--record` keeps the figures as benchmarks/results/real-NAME.json and bench-real-NAME.json.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import findings, readme
from benchmarks.think import Data, Model
from suffice.model.checkpoint import latest_checkpoint
from suffice.run.files import read_json, read_jsonl
from suffice.run.layout import DIAGNOSES, RECORDS, REQUEST, SUMMARY, TRAINER

PLANS = Path(__file__).parent / "plans" / "real"
PROBLEMS = "--task jsonl --prompt answer-boxed --max-answer-tokens 24 --temperature 0.7 --top-p 1"
TEST = f"{PROBLEMS} --path test.jsonl --max-thought-tokens 128"
OTHER = f"{PROBLEMS} --path other.jsonl --max-thought-tokens 256 --samples 1"
BUDGETS = "16,24,32,48,64"
DIAGNOSED = ("conclusion", "curve", "full", "saveable_fraction", "saveable_right", "safe_fraction")
SHOWN = ("accuracy", "thought_tokens", "tokens")
SAID = re.compile(r"So the answer is (-?[\d.,/]+)")
STAGES = {
    "diagnosis": f"diagnose base {TEST} --problems 200 --out diagnosis",
    "stopped": f"eval base {TEST} --samples 1 --baselines --budgets {BUDGETS} --out stopped",
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
    other: Annotated[Path | None, typer.Option(help="Problems that are evaluated only.")] = None,
    record: Annotated[str | None, typer.Option(help="Keep the figures by this name.")] = None,
) -> None:
    files = [each for file in data for each in ("--data", str(file.resolve()))]
    source = str(Path(model).resolve()) if Path(model).exists() else model
    out.mkdir(parents=True, exist_ok=True)
    for plan in PLANS.glob("*.toml"):
        shutil.copy(plan, out)
    taught = ["benchmarks.think", source, *files, "--out", "."]
    run(out, [*taught, "--examples", str(examples), "--operations", str(operations), "--rate", str(rate)])
    for command in commands(out, STAGES):
        run(out, command)
    if other:
        shutil.copy(other, out / "other.jsonl")
        for command in commands(out, others(out)):
            run(out, command)
    last = sorted({path.name for path in out.glob("bench/runs/*/evaluations/step-??????")})[-1]
    trained = [str(path.relative_to(out)) for path in sorted(out.glob(f"bench/runs/*-seed-*/evaluations/{last}"))]
    said = run(out, ["suffice", "compare", "stopped", *trained, "--out", "comparison.html", "--json"])
    if record:
        findings.keep(f"real-{record}", out / "bench")
        keep(record, out, json.loads(said))


def commands(out: Path, stages: dict[str, str]) -> list[list[str]]:
    """A stage that was begun before goes on; what is done is only shown again."""
    split = {folder: shlex.split(command) for folder, command in stages.items()}
    begun = {folder for folder in split if (out / folder / REQUEST).exists()}
    return [
        ["suffice", *([words[0], "--resume", folder] if folder in begun else words)] for folder, words in split.items()
    ]


def others(out: Path) -> dict[str, str]:
    """Evaluations on the other problems: of the base, and of S-GRPO's last checkpoint."""
    (run,) = out.glob("bench/runs/s-grpo-seed-0-*")
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    models = {"other-base": "base", "other-s-grpo": str(checkpoint.relative_to(out))}
    return {folder: f"eval {model} {OTHER} --out {folder}" for folder, model in models.items()}


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
    """What the page shows beside the bench: how the base was taught, its diagnosis, stopping it early, and thoughts."""
    checkpoint = latest_checkpoint(out)
    assert checkpoint is not None
    diagnosis = read_json(out / "diagnosis" / DIAGNOSES / "jsonl" / SUMMARY)
    (task,) = comparison["tasks"].values()
    found = {
        "taught": read_json(checkpoint / TRAINER),
        "diagnosis": {each: diagnosis[each] for each in DIAGNOSED},
        "stopped": [
            {"variant": row["variant"], "kind": row["kind"]} | {each: row["metrics"][each] for each in SHOWN}
            for row in task["rows"]
            if row["side"] == "base"
        ],
        "over": readme.stops_of(comparison),
        "first": first_answers(base_evaluation(out) / RECORDS),
        "traces": traces(out),
        "other": other_rows(out),
    }
    readme.keep(readme.RESULTS / f"real-{name}.json", found)


def other_rows(out: Path) -> list[dict[str, Any]]:
    """What the evaluations on other problems gave, if they were made: the base's first, then with the change to it."""
    folders = [folder for folder in ("other-base", "other-s-grpo") if (out / folder).exists()]
    if not folders:
        return []
    said = json.loads(run(out, ["suffice", "compare", *folders, "--out", "other.html", "--json"]))
    (task,) = said["tasks"].values()
    return [
        {"questions": task["questions"], "change": row["change"]} | {each: row["metrics"][each] for each in SHOWN}
        for row in task["rows"]
    ]


def base_evaluation(out: Path) -> Path:
    (found,) = out.glob("bench/runs/base-*/evaluations/step-000000")
    return found


def first_answers(records: Path) -> dict[str, int]:
    """Of how many thoughts the first answer that they say is right; what was lost again after it, and what mended."""
    found = Counter[str]()
    for each in read_jsonl(records):
        said, ends = SAID.search(each["thought"]), each["verdict"] == "CORRECT"
        right = said is not None and said[1].rstrip(".") == each["gold"]
        found.update({"thoughts": 1, "right": right, "lost": right and not ends, "mended": ends and not right})
    return dict(found)


def traces(out: Path) -> list[dict[str, str]]:
    """A thought of the base and, about the same problem, one after S-GRPO's last step: the first problem of which both
    are right, and the first that was lost. Of SVAMP's alone: ASDiv's licence is not for every use."""
    (trained,) = sorted(out.glob("bench/runs/s-grpo-seed-0-*/evaluations"))
    folders = (base_evaluation(out), sorted(trained.glob("step-??????"))[-1])
    before, after = (
        {each["problem"]: each for each in read_jsonl(folder / RECORDS) if each["sample"] == 0} for folder in folders
    )
    found = []
    for verdicts in (("CORRECT", "CORRECT"), ("CORRECT", "WRONG")):
        each = next(
            each
            for each in before
            if each.startswith("svamp") and (before[each]["verdict"], after[each]["verdict"]) == verdicts
        )
        said = [f"{side[each]['thought'].strip()}\n→ {side[each]['answer']}" for side in (before, after)]
        question, gold = before[each]["prompt"].partition("\n")[0], before[each]["gold"]
        found.append({"question": question, "gold": gold, "before": said[0], "after": said[1]})
    return found


if __name__ == "__main__":
    typer.run(main)
