"""The command line: which verbs there are, and how a mistake is said.

Verbs import what they need when they are called: `suffice --help` loads neither torch nor transformers.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from suffice.cli import machine, measuring, runs, training
from suffice.cli.screen import say
from suffice.errors import Interrupted, NonFiniteError, SufficeError, one_line

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach reasoning language models to stop thinking when they know.",
)
lab = typer.Typer(no_args_is_help=True, help="The lab: micro reasoners that overthink, and tasks to train them on.")

app.command("methods")(machine.methods)
app.command("train")(training.train)
app.command("eval")(measuring.evaluate)
app.command("diagnose")(measuring.diagnose)
app.command("compare")(measuring.compare)
app.command("report")(runs.report)
app.command("watch")(runs.watch)
app.command("export")(runs.export)
app.command("doctor")(machine.doctor)
app.command("bench")(training.bench)
app.command("demo")(training.demo)
app.add_typer(lab, name="lab")
lab.command("build")(training.build_base)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    complain = Console(stderr=True, soft_wrap=True)
    say.stderr = False
    try:
        app()
    except Interrupted as stop:
        complain.print(one_line(stop), markup=False, highlight=False)
        sys.exit(130)
    except SufficeError as error:
        complain.print(f"error: {one_line(error)}", style="red", markup=False, highlight=False)
        sys.exit(3 if isinstance(error, NonFiniteError) else 2)
