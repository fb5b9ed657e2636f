"""What there is: the methods, and what this machine offers."""

from __future__ import annotations

from typing import Annotated

import typer

from suffice.cli.options import Json, Set, refuse
from suffice.cli.screen import emit, say, tell


def methods(as_json: Json = False) -> None:
    """List the training methods: paper, formula, parameters."""
    from suffice.methods import registry

    if as_json:
        emit(
            {
                name: {
                    "paper": method.paper,
                    "formula": method.formula,
                    "groups": "serial" if method.serial else "parallel",
                    "parameters": {
                        key: {"default": field.default, "description": field.description}
                        for key, field in method.model_fields.items()
                    },
                }
                for name, method in registry().items()
            }
        )
        return
    for name, method in registry().items():
        say.print(f"[bold]{name}[/bold]  [dim]{method.paper}[/dim]", highlight=False)
        tell(f"    {method.formula}")
        for key, field in method.model_fields.items():
            tell(f"    {key} = {field.default}  {field.description}")


def doctor(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="Also what this recipe needs and will cost: a .toml file or a packaged name."
        ),
    ] = None,
    overrides: Set = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Kind of GPU to estimate for, such as H100.")] = None,
    mean_thought: Annotated[
        float | None, typer.Option("--mean-thought", min=1, help="Tokens of a thought; default half of its budget.")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option("--tokens-per-second", min=1, help="That one GPU samples, if you have measured it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, devices, memory, disk, the shipped model, the grader; or what a recipe needs."""
    from suffice import doctor as doing

    estimate = None
    if recipe is None:
        refuse(
            context, "nothing is estimated unless you give a recipe, as in suffice doctor lab-s-grpo", but={"as_json"}
        )
        findings = doing.examine()
    else:
        from suffice.config import load_recipe

        resolved = load_recipe(recipe, overrides or [])
        findings, estimate = doing.examine_recipe(
            resolved, gpu=gpu, mean_thought=mean_thought, tokens_per_second=tokens_per_second
        )
    if as_json:
        plain = [finding._asdict() for finding in findings]
        emit(plain if recipe is None else {"findings": plain, "estimate": estimate and estimate.as_dict()})
    for finding in findings:
        mark = "[green]ok  [/green]" if finding.ok else "[red]fail[/red]"
        say.print(mark, end=" ")
        tell(f"{finding.what}: {finding.found}")
    for what, how_much in doing.said_of(estimate) if estimate else ():
        tell(f"     {what}: {how_much}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(2)
