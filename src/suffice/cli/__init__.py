"""The command line: which verbs there are, and how a mistake is said.

Verbs import what they need when they are called: `suffice --help` loads neither torch nor transformers.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from suffice import __version__
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


def print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def of_every_verb(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command("demo")(training.demo)
app.command("doctor")(machine.doctor)
app.command("diagnose")(measuring.diagnose)
app.command("train")(training.train)
app.command("watch")(runs.watch)
app.command("eval")(measuring.evaluate)
app.command("compare")(measuring.compare)
app.command("report")(runs.report)
app.command("export")(runs.export)
app.command("bench")(training.bench)
app.command("methods")(machine.methods)
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
