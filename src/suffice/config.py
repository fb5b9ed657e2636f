"""A recipe: everything that fixes a run, as pydantic models whose fields carry range, unit and source.

A recipe is a TOML file with the sections below; `--set section.key=value` overrides a key. Unknown keys are errors.
Keys left out of `[objective]` take the choices of the method's paper.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from copy import deepcopy
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from suffice.errors import RecipeError

if TYPE_CHECKING:
    from suffice.methods import Method

DEFAULT_INDUCER = "Time is limited, stop thinking and start answering.\n</think>\n\n"
MICRO_BATCH = 16384  # tokens of a micro-batch where memory is no limit: larger ones are not faster
LOOK_EVERY, LOOK_AT = 10, 128  # steps between looks at problems held out, and how many of them are looked at
RECIPES = files("suffice") / "recipes"

Table = dict[str, Any]
"""A TOML file as it is written: sections of keys."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


def _fields(value: Any) -> Any:
    """`prompt=query,gold=reward.answer` as a dictionary; a comma in a column's name is kept."""
    if not isinstance(value, str):
        return value
    pairs: list[str] = []
    for part in value.split(","):
        if "=" in part or not pairs:
            pairs.append(part)
        else:
            pairs[-1] += f",{part}"
    split = [pair.split("=", 1) for pair in pairs]
    if not all(len(pair) == 2 and pair[0].strip() and pair[1].strip() for pair in split):
        raise ValueError("pairs field=column, such as prompt=query,gold=reward_model.ground_truth")
    fields = {name.strip(): column.strip() for name, column in split}
    if len(fields) < len(split):
        raise ValueError("pairs field=column, each field once")
    return fields


Fields = Annotated[dict[str, str], BeforeValidator(_fields)]
"""Our field names → a file's columns, as a dictionary or as `prompt=query,gold=reward.answer`."""


class ModelSection(Section):
    path: str = Field(
        "lab/arithmetic",
        description="Checkpoint folder, hub id, or a shipped base: `lab/arithmetic`, `lab/ballots`, `lab/sums`.",
    )
    revision: str | None = Field(None, description="Hub revision; unused for a local folder.")
    system: str | None = Field(None, description="A system turn before every question; default: the template's own.")
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="Options of the chat template, such as `enable_thinking`."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on a GPU, else float32.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: int = Field(0, ge=0, description="LoRA rank on every linear layer; 0 trains all weights.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, a third more compute.")


class TaskSection(Section):
    name: str = "arithmetic"
    path: str | None = Field(None, description="Local file or folder; without it the task's hub data set is loaded.")
    split: str = "train"
    revision: str | None = Field(None, description="Hub revision of the data set; a run records its commit.")
    prompt: str | None = Field(
        None, description="boxed, answer-boxed or plain; default: boxed for benchmarks, else plain."
    )
    limit: int | None = Field(None, ge=1, description="Use only so many problems, drawn by the run's seed.")
    fields: Fields = Field(
        {}, description="For `jsonl`: our field names → the file's columns, or prompt=query,gold=reward.answer."
    )
    solved_of: int = Field(8, ge=1, description="Samples a problem behind `solved`.")
    solved: tuple[int, int] | None = Field(
        None, description="Keep problems of which the model solves so many samples, from … to; GRPO-λ's paper: [2, 6]."
    )

    solved_from: str | None = Field(
        None, description="`records.jsonl` of `suffice eval` on these problems, to count in instead of sampling here."
    )

    @field_validator("solved")
    @classmethod
    def _solved_fits(cls, solved: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        most = info.data.get("solved_of", 8)
        if solved is not None and not 0 <= solved[0] <= solved[1] <= most:
            raise ValueError(f"two counts, the lower first, from 0 to task.solved_of = {most}")
        return solved


class MethodSection(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = "s-grpo"

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class GroupSection(Section):
    spines: int = Field(1, ge=1, description="K, independent full rollouts per problem.")
    exits: int = Field(8, ge=0, description="m, exits per spine (S-GRPO: 8); 0 for parallel methods.")
    at: Literal["random", "stops"] | None = Field(
        None, description="random: anywhere in the thought; stops: where the model may stop; default: the method's."
    )

    @property
    def members(self) -> int:
        """G = K·(m + 1), of a whole group."""
        return self.spines * (self.exits + 1)


class RolloutSection(Section):
    temperature: float = Field(1.0, gt=0, le=2, description="Sampling temperature; log-probabilities are taken at it.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus; below 1 the samples are off-policy.")
    max_thought_tokens: int = Field(8192, ge=1)
    max_answer_tokens: int = Field(1024, ge=1, description="Own budget of every answer; published answers run 440-520.")
    inducer: str = Field(DEFAULT_INDUCER, description="Text injected at an exit; holds the close of the thought.")
    answers: Literal["sampled", "gold"] = Field(
        "sampled", description="gold: members are valued by the probability of the gold answer; for short answers."
    )
    cache_gb: float = Field(4.0, gt=0, description="Key/value memory of the rollouts that run at once.")


class ObjectiveSection(Section):
    clip_low: float | None = Field(None, ge=0, lt=1, description="ε below 1; default: the method's paper.")
    clip_high: float | None = Field(None, ge=0, description="ε above 1; default: the method's paper.")
    aggregate: Literal["sequence", "constant", "token"] | None = Field(
        None,
        description="Weight of a member's tokens: 1/(N·own), 1/(N·constant_length) or 1/(all); default: the paper.",
    )
    constant_length: int | None = Field(
        None, ge=1, description="For `constant`; default: both rollout budgets together."
    )
    train_on: Literal["all", "sampled", "sampled+close", "decision"] | None = Field(
        None,
        description="all: thought, inducer, answer; sampled: no inducer; sampled+close: its `</think>` too; decision: "
        "of a branch the decision to stop, of the full member its answer; default: the method's.",
    )
    kl: float | None = Field(
        None, ge=0, description="κ, weight of KL(base ‖ model) on thoughts, the decision to stop left out."
    )
    layout: Literal["spine", "rows"] = Field(
        "spine", description="spine: every shared token computed once; rows: one sequence per member, the oracle."
    )


class TrainSection(Section):
    steps: int = Field(100, ge=1)
    problems_per_step: int = Field(16, ge=1)
    updates_per_batch: int = Field(1, ge=1, description="Optimizer updates per sampled batch; above 1 is off-policy.")
    micro_batch_tokens: int | None = Field(
        None, ge=1, description=f"Padded tokens per forward-backward; default: as memory holds, at most {MICRO_BATCH}."
    )
    refill_cap: int = Field(2, ge=0, description="Rounds that replace groups without signal; 0 keeps them.")
    held_out: int | None = Field(
        None, ge=0, description="Problems never trained on, which the method's pressure follows; default: the method's."
    )
    learning_rate: float = Field(1e-6, gt=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    checkpoint_every: int = Field(50, ge=1)
    eval_every: int = Field(0, ge=0, description="Steps between evaluations by [eval]; 0 = off.")
    threads: int = Field(
        0, ge=0, description="Torch threads; 0 = one for a model under 10M parameters, else one per core."
    )


class EvalSection(Section):
    task: str | None = Field(None, description="Default: the training task.")
    path: str | None = Field(None, description="Default: the training task's path.")
    split: str = "test"
    revision: str | None = Field(None, description="Hub revision; default: the training task's, if the same.")
    problems: int | None = Field(200, ge=2, description="Held-out problems, drawn by `seed`; unset: all.")
    samples: int = Field(4, ge=1, description="Samples per problem.")
    temperature: float = Field(0.6, ge=0, le=2, description="0 = greedy.")
    top_p: float = Field(0.95, gt=0, le=1)
    max_thought_tokens: int | None = Field(None, ge=1, description="Default: the rollout's.")
    max_answer_tokens: int | None = Field(None, ge=1, description="Default: the rollout's.")
    seed: int = 0


class GuardSection(Section):
    action: Literal["off", "warn", "stop", "roll back"] = Field(
        "warn", description="When accuracy has fallen or a collapse is foreseen; stop and roll back probe the model."
    )
    tolerance: float = Field(0.02, ge=0, lt=1, description="Accuracy that may be lost, as a fraction: 0.02 = 2 points.")
    threshold: float = Field(0.5, gt=0, le=1, description="Score of foresight that counts as an alarm.")
    problems: int = Field(256, ge=2, description="Set aside to probe the model on, never trained on.")
    every: int = Field(10, ge=1, description="Steps between probes; each keeps a checkpoint.")
    ease: float = Field(0.5, gt=0, lt=1, description="Factor on learning rate and length pressure per roll back.")
    max_rollbacks: int = Field(3, ge=1, description="The next alarm after so many stops.")

    @property
    def probes(self) -> bool:
        """Whether problems are set aside, and the checkpoint to keep is chosen by them."""
        return self.action in ("stop", "roll back")


class RunSection(Section):
    seed: int = Field(0, ge=0)
    dir: str | None = Field(None, description="Run directory; default runs/<recipe>-<time>.")
    track: list[Literal["tensorboard", "trackio", "wandb"]] = Field(
        [], description="Where each step's figures go beside metrics.jsonl; each needs the extra of its name."
    )


class ClusterSection(Section):
    nodes: int = Field(1, ge=1, description="Machines of the verl engine.")
    gpus: int = Field(0, ge=0, description="GPUs of each; 0 = what is there.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that one rollout server's weights are spread over.")
    offload: Literal["no", "rollout", "always"] = Field(
        "no",
        description="Weights, gradients and moments in the host's memory: while a server samples, or always but for "
        "the layer at work.",
    )
    verl: dict[str, Any] = Field({}, description='Settings of verl\'s own, such as "trainer.balance_batch" = false.')


class Recipe(Section):
    """A complete recipe. `load_recipe` reads and resolves one; `dump` writes it back as TOML."""

    model: ModelSection = ModelSection()
    task: TaskSection = TaskSection()
    method: MethodSection = MethodSection()
    group: GroupSection = GroupSection()
    rollout: RolloutSection = RolloutSection()
    objective: ObjectiveSection = ObjectiveSection()
    train: TrainSection = TrainSection()
    eval: EvalSection = EvalSection()
    guard: GuardSection = GuardSection()
    run: RunSection = RunSection()
    cluster: ClusterSection = ClusterSection()

    @property
    def layout_on_verl(self) -> Literal["spine", "rows"]:
        """Of its update. Without exits a spine is a row like any other, and beyond a batch's first update members that
        share a token meet their clips apart, so that their weights no longer add up."""
        once = self.train.updates_per_batch == 1
        return self.objective.layout if self.group.exits and once else "rows"

    def dump(self) -> str:
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def recipe_names() -> list[str]:
    """Recipes that ship with the package, as `suffice train` takes them."""
    return packaged(RECIPES)


def load_recipe(name_or_path: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe by path or packaged name, apply `section.key=value` overrides, check and resolve it.

    Raises:
        RecipeError: no such recipe, malformed TOML, unknown key, a value out of range, or contradicting keys.
    """
    return make_recipe(with_keys(recipe_table(name_or_path), map(parse_override, overrides)))


def make_recipe(table: Table) -> Recipe:
    """Check a recipe given as nested dictionaries and fill what its method and budgets imply."""
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe)) from None
    return _resolve(recipe)


def recipe_table(name_or_path: str) -> Table:
    """A recipe by path or packaged name as it is written, not checked."""
    return read_table(name_or_path, "recipe", RECIPES)


def packaged(folder: Traversable) -> list[str]:
    """Names of the TOML files that ship in a folder of the package."""
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_table(name_or_path: str, what: str, folder: Traversable) -> Table:
    """A TOML file by path or packaged name as it is written, not checked.

    Args:
        what: it should be, such as `recipe`.
        folder: of the package, where those that ship lie.

    Raises:
        RecipeError: no such file, or malformed TOML.
    """
    if os.path.isfile(name_or_path):  # unlike Path.is_file it says no to a name that cannot be a file's
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{name_or_path} is not a readable text file ({error}); give a .toml file") from None
    elif name_or_path in (known := packaged(folder)):
        text = (folder / f"{name_or_path}.toml").read_text(encoding="utf-8")
    else:
        nearest = get_close_matches(name_or_path, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"give a .toml file or one of: {', '.join(known)}"
        raise RecipeError(f"no {what} {name_or_path!r}; {hint}")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # malformed, thousands of digits, or brackets nested without end
        raise RecipeError(f"{name_or_path} is not valid TOML: {error}; mend that line") from None


def parse_override(override: str) -> tuple[str, Any]:
    """Key and value of a `section.key=value`."""
    key, equals, raw = override.partition("=")
    if not equals or "." not in key:
        raise RecipeError(f"--set {override!r} is not of the form section.key=value, for example train.steps=50")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):
        value = raw  # a bare word is a string: --set method.name=grpo
    return key.strip(), value


def with_keys(table: Table, keys: Iterable[tuple[str, Any]]) -> Table:
    """A recipe's nested dictionaries with values put at dotted keys. Another method begins with its own parameters.

    Raises:
        RecipeError: a key has no section, or goes through a value.
    """
    table = deepcopy(table)
    for key, value in sorted(keys, key=lambda each: each[0] != "method.name"):
        *sections, last = key.split(".")
        if not sections:
            raise RecipeError(f"set {key}: give section.key, for example train.steps")
        place = table
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise RecipeError(f"set {key}: {section} is not a section")
        if key == "method.name" and value != place.get("name"):
            place.clear()
        place[last] = value
    return table


def explain(error: ValidationError, model: type[BaseModel], section: str = "") -> str:
    """The first mistake of a validation as one line: where, what, and the nearest known key."""
    first, *others = error.errors()
    loc = first["loc"]
    alternatives = [first]
    if not str(loc[-1]).isidentifier() and not isinstance(loc[-1], int):  # a kind of value that the field may hold
        loc = loc[:-1]
        alternatives += [other for other in others if other["loc"][:-1] == loc]
    where = section + ".".join(map(str, loc))
    if first["type"] != "extra_forbidden":
        messages = [each["msg"].removeprefix("Value error, ").removeprefix("Input should be ") for each in alternatives]
        return f"{where} = {first['input']!r} is not allowed: it should be {', or '.join(messages)}"
    for part in first["loc"][:-1]:
        if not isinstance(part, int):  # which element of a list
            annotation = model.model_fields[part].annotation
            model = (get_args(annotation) or (annotation,))[0]
    known = list(model.model_fields)
    nearest = get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
    return f"unknown key {where}; {hint}"


def _resolve(recipe: Recipe) -> Recipe:
    from suffice.methods import get_method, registry

    section, group, objective, rollout = recipe.method, recipe.group, recipe.objective, recipe.rollout
    try:
        method = get_method(section.name, **section.parameters)
    except ValidationError as error:
        raise RecipeError(explain(error, registry()[section.name], "method.")) from None
    except ValueError as error:
        raise RecipeError(f"method.name: {error}") from None
    if method.serial and group.exits == 0:
        raise RecipeError(f"{method.name} needs exits to compare: set group.exits to 1 or more (the paper takes 8)")
    if not method.serial and group.exits > 0:
        raise RecipeError(
            f"{method.name} samples parallel groups: set group.exits = 0 and group.spines to the group size"
        )
    if group.members < 2:
        raise RecipeError("a group of one member has nothing to compare with: set group.spines to 2 or more")
    recipe.method = MethodSection(name=method.name, **method.model_dump())
    objective.aggregate = objective.aggregate or method.aggregate
    objective.train_on = objective.train_on or method.train_on
    objective.kl = method.kl if objective.kl is None else objective.kl
    group.at = group.at or method.at
    recipe.train.held_out = method.held_out if recipe.train.held_out is None else recipe.train.held_out
    _check_decision(recipe, method)
    objective.clip_low = method.clip_low if objective.clip_low is None else objective.clip_low
    objective.clip_high = method.clip_high if objective.clip_high is None else objective.clip_high
    objective.constant_length = objective.constant_length or rollout.max_thought_tokens + rollout.max_answer_tokens
    if recipe.eval.task is None:
        recipe.eval.task = recipe.task.name
        recipe.eval.path = recipe.eval.path or recipe.task.path
    if recipe.eval.task == recipe.task.name:
        recipe.eval.revision = recipe.eval.revision or recipe.task.revision
    recipe.eval.max_thought_tokens = recipe.eval.max_thought_tokens or rollout.max_thought_tokens
    recipe.eval.max_answer_tokens = recipe.eval.max_answer_tokens or rollout.max_answer_tokens
    return recipe


def _check_decision(recipe: Recipe, method: Method) -> None:
    """Keys about the decision to stop that contradict each other or the method."""
    objective, train = recipe.objective, recipe.train
    if method.train_on == "decision" != objective.train_on:
        raise RecipeError(
            f"{method.name} weighs decisions to stop, not objective.train_on = {objective.train_on}: leave it out"
        )
    if method.held_out and not train.held_out:
        raise RecipeError(
            f"{method.name} keeps to the accuracy of problems held out: set train.held_out ({method.held_out} by "
            "default), or give it a fixed price"
        )
    if recipe.rollout.answers == "gold" and not method.values:
        raise RecipeError(f'{method.name} counts right answers: set rollout.answers = "sampled"')
    if objective.kl and objective.layout == "rows":
        raise RecipeError("objective.kl needs the spine layout: set objective.layout = spine, or objective.kl = 0")


def local_only(recipe: Recipe) -> str:
    """The first key of a recipe that the local engine alone knows, with its value; empty where there is none."""
    objective, group, rollout, train = recipe.objective, recipe.group, recipe.rollout, recipe.train
    keys = {
        f"objective.train_on = {objective.train_on}": objective.train_on == "decision",
        f"group.at = {group.at}": group.at == "stops",
        f"rollout.answers = {rollout.answers}": rollout.answers == "gold",
        f"objective.kl = {objective.kl}": objective.kl,
        f"train.held_out = {train.held_out}": train.held_out,
    }
    return next((key for key, is_so in keys.items() if is_so), "")
