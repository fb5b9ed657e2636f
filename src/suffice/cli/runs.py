"""What to make of a run: a report, a look at it as it grows, a model to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.options import Json
from suffice.cli.screen import emit, say, tell
from suffice.cli.tables import show_lines

AnyRun = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a training run.")]


def report(run: AnyRun, as_json: Json = False) -> None:
    """Write a run's HTML report."""
    from suffice.report import write_report

    page = write_report(run)
    if as_json:
        emit({"report": str(page)})
    tell(f"Report: {page} (open it in a browser; it needs no network)")


def watch(
    run: Run,
    once: Annotated[bool, typer.Option("--once", help="Print the state it is in and stop.")] = False,
) -> None:
    """Follow a training run until it is complete; Ctrl-C ends the watching, not the run."""
    from suffice.watch import watch as watch_run

    watch_run(run, say, once=once)


def export(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the model; default RUN/export.")] = None,
    checkpoint: Annotated[
        int | None, typer.Option("--checkpoint", min=1, help="Its step; default: the guard's choice, else the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model to serve or share: weights, tokenizer, generation config, model card."""
    from suffice.export import export as export_model

    exported = export_model(run, out, checkpoint)
    if as_json:
        shown: dict[str, Any] = {"export": str(exported.folder), "step": exported.step, "serve": exported.serve}
        if exported.budget:
            shown |= {"budget": exported.budget, "lines": [each._asdict() for each in exported.lines]}
        emit(shown)
    tell(f"Exported: {exported.folder}, step {exported.step}{exported.why}")
    tell(f"Next: {exported.serve}")
    if exported.budget:
        tell(exported.budget)
    show_lines(exported.lines)
