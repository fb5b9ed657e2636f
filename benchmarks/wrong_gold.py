"""Arithmetic of which every third training problem has a false gold answer, so that its group is all wrong.

python -m benchmarks.wrong_gold runs/wrong-gold.jsonl     then: suffice bench benchmarks/plans/wrong-gold.toml
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suffice.run.files import write_jsonl
from suffice.tasks import load_task

EVERY = 3


def main(out: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    problems = load_task("arithmetic", split="train")
    write_jsonl(
        out,
        (
            {
                "id": each.id,
                "prompt": each.prompt,
                "gold": each.gold if i % EVERY else false(each.gold),
                "kind": each.kind,
            }
            for i, each in enumerate(problems)
        ),
    )
    print(f"{len(problems)} problems in {out}; one in {EVERY} has a false gold answer")


def false(gold: str) -> str:
    """Two digits of which each is five off, so that a slip of the model does not hit them."""
    return " ".join(str((int(digit) + 5) % 10) for digit in gold.split())


if __name__ == "__main__":
    typer.run(main)
