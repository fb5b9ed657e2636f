"""What was asked of `suffice eval` or `suffice diagnose`: `request.json`, which decides all that is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from suffice.config import Fields, Section
from suffice.errors import RunError
from suffice.run.files import read_json
from suffice.run.layout import REQUEST


class ServerPart(Section):
    base_url: str
    key_variable: str = Field("OPENAI_API_KEY", description="Environment variable of the key, if one is needed.")
    tokenizer: str | None = Field(None, description="Checkpoint folder or hub id: exact counts, and exits.")
    concurrency: int = Field(32, ge=1, description="Requests in flight at once.")


class TaskPart(Section):
    name: str
    path: str | None = None
    fields: Fields = Field({})
    split: str = "test"
    revision: str | None = None
    prompt: str | None = None
    problems: int | None = Field(None, ge=2)


class Request(Section):
    """Everything that decides what an evaluation or a diagnosis finds."""

    verb: Literal["eval", "diagnose"]
    model: str
    checkpoint: str | None = Field(None, description="What a local `model` stood for when the run began.")
    device: str = "auto"
    server: ServerPart | None = None
    tasks: list[TaskPart] = Field([])
    recorded: str | None = Field(None, description="records.jsonl whose thoughts are answered early.")
    samples: int | Literal["paper"] = 4
    temperature: float = Field(0.6, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    protocol: str | None = Field(None, description="The published one that the sampling follows.")
    max_thought_tokens: int | None = Field(None, ge=1)
    max_answer_tokens: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    system: str | None = None
    chat_template_kwargs: dict[str, Any] = Field({})
    baselines: bool = False
    budgets: list[int] = Field([])
    price: float | None = Field(None, gt=0, description="Of a million generated tokens, in any currency.")
    points: float = Field(2.0, ge=0, le=100, description="Of accuracy that a recommended budget may cost.")
    speed: float | None = Field(None, gt=0, description="Tokens a second that one request gets.")


def read_request(run: Path, verb: str) -> Request:
    """The request that a run directory began with.

    Raises:
        RunError: it is no directory of this verb.
    """
    path = run / REQUEST
    if not path.is_file():
        raise RunError(f"{run} is no directory of suffice {verb}: it holds no {REQUEST}")
    try:
        request = Request.model_validate(read_json(path))
    except ValidationError as error:
        raise RunError(f"{path} is damaged ({error.errors()[0]['msg']}); start again") from None
    if request.verb != verb:
        raise RunError(f"{run} was made by suffice {request.verb}; continue it with that")
    return request
