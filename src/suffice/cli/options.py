"""Options that verbs share, and how one that does not go with another is refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.errors import SufficeError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Out = Annotated[Path | None, typer.Option("--out", help="Directory for the results; default runs/<verb>-<time>.")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Continue the run in this directory.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a recipe key: section.key=value.")]
Seed = Annotated[int, typer.Option("--seed", min=0)]

RESUMED = "--resume continues a run as it was"

_of_problems = partial(typer.Option, rich_help_panel="Problems")
_of_sampling = partial(typer.Option, rich_help_panel="Sampling")
_of_server = partial(typer.Option, rich_help_panel="A model on a server")

Count = Annotated[int | None, _of_problems("--problems", min=2, help="Problems, drawn by the seed; unset: all.")]
Samples = Annotated[int, _of_sampling("--samples", min=1, help="Samples per problem.")]

_of_budgets = partial(typer.Option, rich_help_panel="A budget to serve")

Budgets = Annotated[
    str | None, _of_budgets("--budgets", help="Thinking tokens to weigh, such as 4096,8192; unset: chosen by lengths.")
]
Points = Annotated[
    float, _of_budgets("--points", min=0, max=100, help="Points of accuracy that the recommended budget may cost.")
]
Price = Annotated[float | None, _of_budgets("--price", min=0, help="Of a million generated tokens, for savings.")]
Speed = Annotated[
    float | None, _of_budgets("--speed", min=0, help="Tokens a second that one request gets, for the time saved.")
]


@dataclass(frozen=True)
class Asked:
    """What eval and diagnose have in common: which model answers which problems, how, and where results go."""

    context: typer.Context
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoint folder, run directory, hub id, lab/arithmetic, lab/ballots or lab/sums; its name on a "
            "server.",
        ),
    ] = None
    task: Annotated[list[str] | None, _of_problems("--task", help="Where problems come from; may be repeated.")] = None
    path: Annotated[str | None, _of_problems("--path", help="Local file or folder of the tasks' format.")] = None
    fields: Annotated[str | None, _of_problems("--fields", help="Columns of a jsonl file: prompt=query,gold=a.b.")] = (
        None
    )
    split: Annotated[str, _of_problems("--split")] = "test"
    prompt: Annotated[
        str | None, _of_problems("--prompt", help="How a problem is put; default: the task's own way.")
    ] = None
    revision: Annotated[str | None, _of_problems("--revision", help="Hub revision of the task's data.")] = None
    temperature: Annotated[float, _of_sampling("--temperature", min=0, max=2, help="0 is greedy.")] = 0.6
    top_p: Annotated[float, _of_sampling("--top-p", min=0.01, max=1)] = 0.95
    top_k: Annotated[int, _of_sampling("--top-k", min=0, help="Most likely tokens to sample from; 0: all.")] = 0
    min_p: Annotated[
        float, _of_sampling("--min-p", min=0, max=1, help="Least probability, as a part of the most likely token's.")
    ] = 0.0
    presence_penalty: Annotated[
        float,
        _of_sampling("--presence-penalty", min=-2, max=2, help="Off the logits of tokens that were sampled before."),
    ] = 0.0
    max_thought_tokens: Annotated[
        int | None,
        _of_sampling("--max-thought-tokens", min=1, help="Default 8192, or what the model's positions hold."),
    ] = None
    max_answer_tokens: Annotated[
        int | None,
        _of_sampling("--max-answer-tokens", min=1, help="Default 1024, or a quarter of the model's positions."),
    ] = None
    system: Annotated[str | None, _of_sampling("--system", help="Text of a system turn before every problem.")] = None
    chat_template_kwargs: Annotated[
        str | None,
        _of_sampling("--chat-template-kwargs", help="For the chat template, as JSON: '{\"enable_thinking\": true}'."),
    ] = None
    seed: Annotated[int, _of_sampling("--seed", min=0, help="Of the problems drawn and of the samples.")] = 0
    device: Annotated[str, _of_sampling("--device", help="auto, cpu or cuda.")] = "auto"
    base_url: Annotated[
        str | None,
        _of_server("--base-url", help="OpenAI-compatible server to sample from, such as http://host:8000/v1."),
    ] = None
    tokenizer: Annotated[
        str | None, _of_server("--tokenizer", help="Of the served model (folder or hub id): exact counts, and exits.")
    ] = None
    concurrency: Annotated[int, _of_server("--concurrency", min=1, help="Requests to the server at once.")] = 32
    api_key_env: Annotated[
        str, _of_server("--api-key-env", help="Environment variable that holds the server's key.")
    ] = "OPENAI_API_KEY"
    out: Out = None
    resume: Resume = None
    as_json: Json = False


def asking(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb as typer reads it: the fields of `Asked`, its first parameter, as parameters of the verb's own.

    With `--resume` everything else is decided already, and refused.
    """
    shared = inspect.signature(Asked, eval_str=True).parameters
    _, *own = inspect.signature(verb, eval_str=True).parameters.values()

    @wraps(verb)
    def flat(**options: Any) -> None:
        asked = Asked(**{name: options.pop(name) for name in shared})
        if asked.resume is not None:
            refuse(asked.context, RESUMED, but={"resume", "as_json"})
        verb(asked, **options)

    flat.__signature__ = inspect.Signature([*shared.values(), *own])  # type: ignore[attr-defined]
    return flat


def given(context: typer.Context) -> dict[str, str]:
    """What stands on the command line: names of parameters, each as a user writes it."""
    written = {
        str(each.name): each.opts[0] if each.param_type_name == "option" else each.metavar or str(each.name)
        for each in context.command.params
    }
    return {
        name: words
        for name, words in written.items()
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def refuse(context: typer.Context, why: str, names: Collection[str] = (), but: Collection[str] = ()) -> None:
    """Refuse options that would be ignored, rather than ignore them.

    Args:
        why: they would be.
        names: of their parameters; without any, all but those in `but`.

    Raises:
        SufficeError: one of them was given; it is named.
    """
    found = [words for name, words in given(context).items() if (name in names if names else name not in but)]
    if found:
        raise SufficeError(f"{why}: leave {' and '.join(found)} out")


def numbers(option: str, text: str, least: int = 0) -> list[int]:
    """`0,1,2` as numbers.

    Raises:
        SufficeError: it is something else, or one of them is below `least`.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 20 and int(part) >= least for part in parts):
        raise SufficeError(f"{option} {text!r} is not a list of whole numbers from {least} on, such as 8,16,32")
    return [int(part) for part in parts]


def fields_of(text: str | None) -> dict[str, str]:
    """`gold=label,exits=probes` as a dictionary.

    Raises:
        SufficeError: it is something else.
    """
    from pydantic import TypeAdapter, ValidationError

    from suffice.config import Fields

    try:
        return TypeAdapter(dict[str, str]).validate_python(TypeAdapter(Fields).validate_python(text or {}))
    except ValidationError:
        raise SufficeError(f"--fields {text!r:.60} is not a list of pairs field=column, such as gold=label") from None


def json_object(option: str, text: str) -> dict[str, Any]:
    """`{"enable_thinking": true}` as a dictionary.

    Raises:
        SufficeError: it is something else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SufficeError(f"{option} {text!r:.60} is not a JSON object, such as '{{\"enable_thinking\": true}}'")
    return found
