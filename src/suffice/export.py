"""A trained checkpoint as a model to serve or to share: weights, tokenizer, generation config, and a card of what was
measured.

A checkpoint is an ordinary Hugging Face folder already, LoRA merged; what only training needs stays behind.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors import SafetensorError, safe_open

from suffice.config import Recipe, load_recipe
from suffice.errors import RunError
from suffice.evaluation.compare import compare
from suffice.evaluation.sides import read_checked
from suffice.methods import registry
from suffice.model.checkpoint import MANIFEST, checkpoints, damage, step_folder
from suffice.model.resolve import BASES
from suffice.report.findings import Unit, headline, shown
from suffice.report.source import Comparison, Interval, read_run
from suffice.run.chosen import read_chosen
from suffice.run.files import read_json, whole_directory, write_text

TRAINERS_OWN = ("trainer.", MANIFEST)
"""How files begin that only a resumed training reads."""

REASONING_PARSERS = {"qwen3": "qwen3", "qwen3_moe": "qwen3", "qwen2": "deepseek_r1", "llama": "deepseek_r1"}
"""vLLM's parser of thoughts by model type. A qwen2 or llama that writes `<think>` is a QwQ or an R1-Distill."""

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
ROWS: list[tuple[str, str, Unit]] = [
    ("accuracy", "accuracy", "percent"),
    ("thought_tokens", "thinking tokens", "tokens"),
    ("answer_tokens", "answer tokens", "tokens"),
    ("truncated", "cut at a limit", "percent"),
]


class Exported(NamedTuple):
    """Where the model lies, the step it was taken at, why that one where the guard says so, and the command that serves
    it."""

    folder: Path
    step: int
    why: str
    serve: str


def export(run: Path, out: Path | None = None, step: int | None = None) -> Exported:
    """Write the model of a training run to `out` (default: `export` in the run), whole or not at all.

    Args:
        step: of the checkpoint to take; default: the one that the guard chose, or else the newest.

    Raises:
        RunError: no such run or checkpoint, a damaged checkpoint, `out` is taken or cannot be written.
    """
    if not (run / "recipe.toml").is_file():
        raise RunError(f"{run} is not a training run: it holds no recipe.toml; give what suffice train wrote")
    recipe = load_recipe(str(run / "recipe.toml"))
    checkpoint = find_checkpoint(run, step)
    target = out or run / "export"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} exists already; choose another directory with --out, or remove it")
    card = render_card(run, recipe, checkpoint)
    with whole_directory(target) as folder:
        for file in checkpoint.iterdir():
            if not file.name.startswith(TRAINERS_OWN):
                shutil.copyfile(file, folder / file.name)
        write_text(folder / "README.md", card)
    why = ", which the guard chose" if step is None and read_chosen(run) else ""
    return Exported(target, step_of(checkpoint), why, serve_command(str(target), checkpoint))


def find_checkpoint(run: Path, step: int | None) -> Path:
    """The checkpoint of a step; without one what the guard chose, or else the newest.

    Raises:
        RunError: it is not there or damaged, or the guard chose the base.
    """
    if step is None and (chosen := read_chosen(run)):
        if chosen.step == 0:
            raise RunError(f"{run} keeps {chosen.words}; use that, or give a step with --checkpoint")
        step = chosen.step
    there = checkpoints(run)
    if not there:
        raise RunError(f"{run} has no checkpoint yet; wait for its first, or continue it with --resume {run}")
    found = there[-1] if step is None else step_folder(run, step)
    if found not in there:
        steps = ", ".join(str(step_of(folder)) for folder in there)
        raise RunError(f"{run} has no checkpoint of step {step}; it has: {steps}")
    if reason := damage(found):
        raise RunError(f"{found} is damaged ({reason}); give the step of another with --checkpoint")
    return found


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def serve_command(folder: str, checkpoint: Path) -> str:
    """The vLLM command that serves a folder; without a parser where the model's type does not tell which is right."""
    parser = REASONING_PARSERS.get(read_json(checkpoint / "config.json").get("model_type"))
    return shlex.join(["vllm", "serve", folder, *(["--reasoning-parser", parser] if parser else [])])


def render_card(run: Path, recipe: Recipe, checkpoint: Path) -> str:
    """The model card (README.md) of a checkpoint, every figure of it from the run's records."""
    environment = Environment(
        loader=PackageLoader("suffice", ""),
        autoescape=False,  # Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    base, method, temperature = recipe.model.path, registry()[recipe.method.name], recipe.eval.temperature
    parameters, dtype = weights_of(checkpoint)
    return environment.get_template("card.md.j2").render(
        recipe=recipe,
        data=read_json(run / "data.json"),
        step=step_of(checkpoint),
        hub_id=hub_id(base),
        base=base if hub_id(base) or base in BASES else Path(base).name,
        parameters=f"{parameters:,}",
        dtype=dtype,
        paper=method.paper,
        formula=method.formula,
        sampling=f"temperature {temperature}, top-p {recipe.eval.top_p}",
        generation=f"do_sample=True, temperature={temperature}, top_p={recipe.eval.top_p}"
        if temperature
        else "do_sample=False",
        serve=serve_command(".", checkpoint),
        **measured(run, recipe, step_of(checkpoint)),
    )


def hub_id(path: str) -> str | None:
    """The base as the hub names it; None for a local folder and for the lab's bases, which the hub does not have."""
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", path) and path not in BASES and not Path(path).exists()
    return path if named else None


def weights_of(checkpoint: Path) -> tuple[int, str]:
    """(parameters stored, their types).

    Raises:
        RunError: the weights are missing or damaged.
    """
    files = sorted(checkpoint.glob("model*.safetensors"))
    if not files:
        raise RunError(f"{checkpoint} holds no model.safetensors; choose another --checkpoint")
    count, types = 0, set()
    for file in files:
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - a file handle, not a dictionary
                    weight = weights.get_slice(name)
                    count += math.prod(weight.get_shape())
                    types.add(weight.get_dtype())
        except SafetensorError as error:
            raise RunError(f"{file} is damaged ({error}); choose another --checkpoint") from None
    return count, " and ".join(sorted(DTYPES.get(each, each) for each in types))


def measured(path: Path, recipe: Recipe, step: int) -> dict[str, Any]:
    """What the card says of the evaluations before training and at a step; `rows` is empty if there are none."""
    run = read_run(path)
    chosen = read_chosen(path)
    label = "after" if step == (chosen.step if chosen else recipe.train.steps) else f"step-{step:06d}"
    pairs = {"sampled": ("before", label), "greedy": ("before-greedy", f"{label}-greedy")}
    known = {"version": run.manifest.get("suffice", ""), "rows": []}
    if not run.evaluations.keys() >= {end for ends in pairs.values() for end in ends}:
        return known
    compared = {kind: compare_records(path / "evaluations", *ends) for kind, ends in pairs.items()}
    rows = [
        [
            f"{words}, {kind}",
            *(cell(run.evaluations[end].metric(metric), unit) for end in ends),
            change(metric, compared[kind]),
        ]
        for kind, ends in pairs.items()
        for metric, words, unit in ROWS
    ]
    after = run.evaluations[label]
    return known | {
        "rows": rows,
        "headline": headline(run.model_copy(update={"comparison": compared["sampled"]})),
        "task": after.task,
        "problems": after.protocol["problems"],
    }


def compare_records(folder: Path, before: str, after: str) -> Comparison:
    return Comparison.model_validate(compare(read_checked(folder / before), read_checked(folder / after)))


def change(metric: str, compared: Comparison) -> str:
    match metric:
        case "accuracy":
            return cell(compared.accuracy, "points", " points")
        case "thought_tokens":
            return cell(compared.thought_tokens_change, "relative")
        case _:
            return ""


def cell(interval: Interval, unit: Unit, after: str = "") -> str:
    """A mean and, in brackets, its interval."""
    mean, between = shown(interval, unit)
    return f"{mean}{after} ({between})" if between else mean + after
