"""What there is: the methods, what this machine offers, and what a server does."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from suffice.cli.options import Json, Set, json_object, refuse
from suffice.cli.screen import emit, say, tell

_of_server = partial(typer.Option, rich_help_panel="A server")


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
    base_url: Annotated[
        str | None,
        _of_server("--base-url", help="Look at this OpenAI-compatible server instead, such as http://host:8000/v1."),
    ] = None,
    model: Annotated[
        str | None, _of_server("--model", help="Its name on the server; may be left out where one is served.")
    ] = None,
    tokenizer: Annotated[
        str | None, _of_server("--tokenizer", help="Of the served model (folder or hub id): exact counts.")
    ] = None,
    chat_template_kwargs: Annotated[
        str | None,
        _of_server("--chat-template-kwargs", help="For its chat template, as JSON: '{\"enable_thinking\": true}'."),
    ] = None,
    api_key_env: Annotated[
        str, _of_server("--api-key-env", help="Environment variable that holds the server's key.")
    ] = "OPENAI_API_KEY",
    as_json: Json = False,
) -> None:
    """Check this machine: versions, devices, memory, disk, the shipped model, the grader; or what a recipe needs; or
    whether a server does what it is asked."""
    from suffice import doctor as doing

    if base_url is not None:
        refuse(
            context, "--base-url looks at a server", {"recipe", "overrides", "gpu", "mean_thought", "tokens_per_second"}
        )
        look_at(base_url, model, tokenizer, chat_template_kwargs, api_key_env, as_json)
        return
    served = {"model", "tokenizer", "chat_template_kwargs", "api_key_env"}
    refuse(context, "--base-url is missing, so no server is looked at", served)
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


def look_at(
    base_url: str, model: str | None, tokenizer: str | None, template: str | None, key_variable: str, as_json: bool
) -> None:
    """Say what a server is and what it honours."""
    from rich.table import Table
    from rich.text import Text

    from suffice.config import DEFAULT_INDUCER
    from suffice.evaluation.server import examine

    options = json_object("--chat-template-kwargs", template or "{}")
    chat = None
    if tokenizer:
        from suffice.model.load import load_chat

        chat = load_chat(tokenizer, DEFAULT_INDUCER, options=options, use="evaluate")
    rows = examine(base_url, model, chat=chat, options=options, api_key=os.environ.get(key_variable))
    if as_json:
        emit([row._asdict() for row in rows])
    table = Table("", "", "seen", "so", show_edge=False)
    styles = {"honoured": "green", "ignored": "red", "refused": "yellow", "unknown": "dim"}
    for row in rows:
        state = Text(row.state or "", style=styles.get(row.state or "", ""))
        table.add_row(Text(row.what), state, Text(row.found), Text(row.means))
    say.print(table)
