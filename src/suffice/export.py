"""A trained checkpoint as a model to serve or to share: weights, tokenizer, generation config, and its card.

A checkpoint is an ordinary Hugging Face folder already, LoRA merged; what only training needs stays behind.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

from suffice.card import budget_of, label_of, render_card
from suffice.errors import RunError
from suffice.evaluation.serving import Served, parser_of, serve_lines
from suffice.model.checkpoint import damage
from suffice.run.directory import Run
from suffice.run.files import whole_directory, write_text
from suffice.run.layout import EXPORT, FILES, TENSORS, TRAINER
from suffice.run.records import BudgetAdvice

TRAINERS_OWN = {TRAINER, TENSORS, FILES}
"""Files that only a resumed training reads."""


class Exported(NamedTuple):
    """Where the model lies, the step it was taken at, why that one where the guard says so, the command that serves it,
    and, where a diagnosis of it is there, which thinking budget to serve and how."""

    folder: Path
    step: int
    why: str
    serve: str
    budget: str
    lines: list[Served]


def export(directory: Path, out: Path | None = None, step: int | None = None) -> Exported:
    """Write the model of a training run to `out` (default: `export` in the run), whole or not at all.

    Args:
        step: of the checkpoint to take; default: the one that the guard chose, or else the newest.

    Raises:
        RunError: no such run or checkpoint, a damaged checkpoint, `out` is taken or cannot be written.
    """
    run = Run(directory)
    recipe = run.recipe()
    taken = find_step(run, step)
    checkpoint = run.checkpoint(taken)
    target = out or directory / EXPORT
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} exists already; choose another directory with --out, or remove it")
    advice = budget_of(run, label_of(run, recipe, taken))
    card = render_card(run, recipe, taken, serve_command(".", checkpoint), _lines(advice, ".", checkpoint))
    with whole_directory(target) as folder:
        for file in checkpoint.iterdir():
            if file.name not in TRAINERS_OWN:
                shutil.copyfile(file, folder / file.name)
        write_text(folder / "README.md", card)
    why = ", which the guard chose" if step is None and run.chosen() else ""
    said, lines = advice.sentence if advice else "", _lines(advice, str(target), checkpoint)
    return Exported(target, taken, why, serve_command(str(target), checkpoint), said, lines)


def _lines(advice: BudgetAdvice | None, folder: str, checkpoint: Path) -> list[Served]:
    """How to serve a folder with the recommended budget; none where none is safe, or nothing was diagnosed."""
    if advice is None or advice.recommended is None or advice.recommended.budget is None:
        return []
    return serve_lines(advice.recommended.budget, folder, parser_of(checkpoint))


def find_step(run: Run, step: int | None) -> int:
    """The step of the checkpoint to take: the one given, or what the guard chose, or else the newest.

    Raises:
        RunError: it is not there or damaged, or the guard chose the base.
    """
    if step is None and (chosen := run.chosen()):
        if chosen.step == 0:
            raise RunError(f"{run.path} keeps {chosen.words}; use that, or give a step with --checkpoint")
        step = chosen.step
    there = run.checkpoints()
    if not there:
        raise RunError(f"{run.path} has no checkpoint yet; wait for its first, or continue it with --resume {run.path}")
    taken = max(there) if step is None else step
    if taken not in there:
        raise RunError(f"{run.path} has no checkpoint of step {taken}; it has: {', '.join(map(str, there))}")
    if reason := damage(there[taken]):
        raise RunError(f"{there[taken]} is damaged ({reason}); give the step of another with --checkpoint")
    return taken


def serve_command(folder: str, checkpoint: Path) -> str:
    """The vLLM command that serves a folder; without a parser where the model's type does not tell which is right."""
    parser = parser_of(checkpoint)
    return shlex.join(["vllm", "serve", folder, *(["--reasoning-parser", parser] if parser else [])])
