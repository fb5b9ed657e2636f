"""What this machine offers, and whether a recipe can run on it: each finding with what was looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from suffice.config import Recipe, RolloutSection, RunSection
from suffice.devices import DEVICES, GIB, NEEDS_GPU, Gpu, cpu_here, device_for, gpus_here, memory_here
from suffice.errors import ModelError, RecipeError, SufficeError
from suffice.estimate import Estimate, engine_of, estimate, layout_of
from suffice.extras import install_command
from suffice.model.shape import KNOWN, Shape, shape_of

if TYPE_CHECKING:
    from suffice.model.chat import Chat


class Finding(NamedTuple):
    what: str
    found: str
    ok: bool = True


def examine() -> list[Finding]:
    """Versions, devices, memory, disk, and whether the shipped model and the grader work."""
    import platform
    from importlib.metadata import version

    import torch

    findings = [
        Finding("python", platform.python_version()),
        *(Finding(package, version(package)) for package in ("suffice", "torch", "transformers")),
        Finding("cores", f"{len(os.sched_getaffinity(0))}, torch threads {torch.get_num_threads()}"),
        Finding("memory", f"{memory_here():.0f} GiB"),
        Finding("disk here", f"{shutil.disk_usage(Path.cwd()).free / GIB:.0f} GiB free"),
        Finding("device", _device()),
        Finding("LoRA (peft)", _installed("peft", "lora")),
    ]
    return [*findings, _shipped_model(), _grader()]


def examine_recipe(
    recipe: Recipe,
    *,
    gpu: str | None = None,
    mean_thought: float | None = None,
    tokens_per_second: float | None = None,
) -> tuple[list[Finding], Estimate | None]:
    """Whether a recipe can run here, and what it will take: nothing is loaded whole, and the hub is asked only for what
    the recipe names there. The estimate is None for a model whose shape is not known.

    Args:
        gpu: kind of GPU to estimate for, a name of `DEVICES`; default: the one that is here.
        mean_thought, tokens_per_second: as `suffice.estimate.estimate` takes them.

    Raises:
        RecipeError: there is no such kind of GPU.
        DataError: local problems are malformed.
    """
    from suffice.model.device import threads_for

    if gpu is not None and gpu not in DEVICES:
        raise RecipeError(f"unknown --gpu {gpu!r}; known: {', '.join(DEVICES)}")
    gpus = gpus_here()
    if recipe.cluster.nodes > 1 and not recipe.cluster.gpus:  # what is there
        recipe = recipe.model_copy(deep=True)
        recipe.cluster.gpus = max(1, len(gpus))
    shape, chat, model = _model(recipe)
    here, data = _data(recipe)
    findings = [*_versions(recipe), *model, *data]
    if shape is None:
        return findings, None
    known: dict[str, Any] = {
        "mean_thought": mean_thought,
        "prompts": _prompts(recipe, chat) if chat and here else (256, 256),
        "inducer": len(chat.inducer) if chat else None,
    }
    device = DEVICES[gpu] if gpu else device_for(gpus, shape)
    if device.name == "cpu" and gpu is None:
        device = cpu_here(threads_for(shape.parameters, recipe.train.threads))
    found = estimate(recipe, shape, device, tokens_per_second=tokens_per_second, **known)
    findings += [_positions(recipe.rollout, shape, found), _gpus(recipe, shape, gpus), _fits(recipe, gpus, found)]
    if found.engine == "local" and found.device != "cpu":
        findings.append(_engine(recipe, shape, found, known))
    return [*findings, _disk(recipe.run, found)], found


def _versions(recipe: Recipe) -> Iterator[Finding]:
    from importlib.metadata import version
    from importlib.util import find_spec

    yield from (Finding(package, version(package)) for package in ("torch", "transformers"))
    if recipe.model.lora:
        there = find_spec("peft") is not None
        yield Finding("peft", version("peft") if there else f"not installed: {install_command('lora')}", ok=there)
    if engine_of(recipe) == "verl":
        from suffice.engines.verl.installed import parts

        for part in parts():
            yield Finding(part.name, f"--engine verl {part.lack}" if part.lack else part.found, ok=not part.lack)


def _model(recipe: Recipe) -> tuple[Shape | None, Chat | None, list[Finding]]:
    """The model's shape, if it is known, its chat, if it lies here, and what was found of both; of a hub id only that
    it can be had."""
    from suffice.model.load import chat_of, skeleton
    from suffice.model.resolve import resolve_path

    section = recipe.model
    shape = KNOWN.get(section.path)
    try:
        resolved = resolve_path(section.path)
        if not Path(resolved).exists():
            commit = _hub_commit(section.path, section.revision)
            with suppress(ModelError):  # of a kind that is not estimated, or its config.json cannot be had
                shape = shape_of(resolved, section.revision)
            size = f"{_count(shape.parameters)} parameters" if shape else "of unknown size, so no estimate"
            return shape, None, [Finding("model", f"{section.path}, {size}, commit {commit}")]
        model = skeleton(section.path)
        chat = chat_of(section, recipe.rollout.inducer)
        _check(recipe, model, chat)
    except SufficeError as error:
        return shape, None, [Finding("model", str(error), ok=False)]
    marks = f"{chat.marks.open} is token {chat.open_id}, {chat.marks.close} {chat.close_id}" if chat.marks else "none"
    ends = " ".join(map(str, chat.tokenizer.convert_ids_to_tokens(sorted(chat.end_ids))))
    chats = f"{marks}; a turn ends with {ends}; the inducer has {len(chat.inducer)} tokens"
    found = [Finding("model", f"{section.path}, {_count(model.num_parameters())} parameters"), Finding("chat", chats)]
    try:
        return shape_of(resolved), chat, found
    except ModelError as error:
        return None, chat, [*found, Finding("estimate", str(error))]


def _check(recipe: Recipe, model: Any, chat: Chat) -> None:
    """What of a model is checked before a run begins, as far as its weights are not needed.

    Raises:
        ModelError: the run would be refused.
    """
    from suffice.model.checkpoint import try_save
    from suffice.model.vocabulary import chat_ids, check_ids
    from suffice.objective.spine import check_config, fitting

    check_ids(model, chat, chat_ids(chat))
    chat.render("1 + 1 = ?")
    try_save(model, chat.tokenizer)
    if layout_of(recipe) == "spine":
        with fitting(recipe.model.path):
            check_config(model.config)


def _hub_commit(path: str, revision: str | None) -> str:
    """
    Raises:
        ModelError: the hub is out of reach, or has no such model or revision.
    """
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(path, revision=revision).sha)
    except Exception as error:  # of the hub, of HTTP, of the network: each layer has kinds of its own
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path} cannot be had from the hub ({cause:.120}); give a local checkpoint folder") from error


def _data(recipe: Recipe) -> tuple[bool, list[Finding]]:
    """Whether the training problems are here, without the hub, and what was found of them and of the evaluation's."""
    from suffice.tasks import locate

    task, held_out = recipe.task, recipe.eval
    sides = {"data": (task.name, task.path, task.split, task.revision)}
    if recipe.train.eval_every:
        sides["eval data"] = (held_out.task or task.name, held_out.path, held_out.split, held_out.revision)
    here, findings = False, []
    for what, (name, path, split, revision) in sides.items():
        try:
            where = locate(name, path=path, split=split, revision=revision)
        except SufficeError as error:
            findings.append(Finding(what, str(error), ok=False))
            continue
        here |= what == "data" and "hub" not in where
        findings.append(Finding(what, ", ".join(f"{key} {value}" for key, value in where.items())))
    return here, findings


def _prompts(recipe: Recipe, chat: Chat) -> tuple[float, int]:
    """Tokens of the mean and of the longest prompt of problems that are here.

    Raises:
        DataError: they cannot be read.
    """
    from suffice.model.positions import longest_prompt, mean_prompt
    from suffice.tasks.provenance import training_problems

    problems = training_problems(recipe.task, recipe.run.seed)
    return mean_prompt(chat, problems), longest_prompt(chat, problems)


def _positions(rollout: RolloutSection, shape: Shape, found: Estimate) -> Finding:
    a = found.assumptions
    needed = a.longest_prompt + rollout.max_thought_tokens + a.inducer + rollout.max_answer_tokens
    text = f"{needed:,} needed with a prompt of {a.longest_prompt} tokens, the model has {shape.positions:,}"
    if needed <= shape.positions:
        return Finding("positions", text)
    return Finding("positions", f"{text}; lower rollout.max_thought_tokens or max_answer_tokens", ok=False)


def _gpus(recipe: Recipe, shape: Shape, here: list[Gpu]) -> Finding:
    wanted = recipe.cluster.gpus or int(recipe.model.device == "cuda" or shape.parameters >= NEEDS_GPU)
    nodes = f" on each of {recipe.cluster.nodes} nodes; this one" if recipe.cluster.nodes > 1 else "; this machine"
    what = f"{len(here)} × {here[0].name}, {here[0].gib:.0f} GiB" if here else "none"
    return Finding("GPUs", f"{wanted} wanted{nodes} has {what}", ok=len(here) >= wanted)


def _engine(recipe: Recipe, shape: Shape, found: Estimate, known: dict[str, Any]) -> Finding:
    """The same on verl: one GPU with vLLM samples many rows at the price of few."""
    there = recipe.model_copy(deep=True)
    there.cluster.gpus = 1
    served = estimate(there, shape, DEVICES[found.device], **known)
    said = f"local, which is for laptops and the lab: {_time(found.hours_steps)} of steps"
    if served.hours_steps < found.hours_steps:
        said += f"; with --engine verl --set cluster.gpus=1, which samples with vLLM, {_time(served.hours_steps)}"
    return Finding("engine", said)


def _fits(recipe: Recipe, here: list[Gpu], found: Estimate) -> Finding:
    """The estimate against this machine's GPU, or, where it has none, against the kind that was estimated for."""
    if found.device == "cpu":
        room, where = memory_here(), "this machine"
    elif here:
        room, where = here[0].gib, here[0].name
    else:
        room, where = DEVICES[found.device].memory, f"one {found.device}"
    needed = found.memory.needed
    text = f"about {needed:.1f} GiB needed, {where} has {room:.0f}"
    if needed <= room:
        return Finding("memory", text)
    model, remedy = recipe.model, "lower rollout.cache_gb or train.micro_batch_tokens"
    if found.engine == "verl" and recipe.cluster.offload != "always":
        remedy += f", set cluster.offload = {'rollout' if recipe.cluster.offload == 'no' else 'always'}"
    if not model.gradient_checkpointing:
        remedy += ", set model.gradient_checkpointing = true"
    if not model.lora:
        remedy += ", train adapters with model.lora = 32"
    return Finding("memory", f"{text}; {remedy}", ok=False)


def _disk(run: RunSection, found: Estimate) -> Finding:
    folder = Path(run.dir or "runs").absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    text = f"checkpoints of the whole run take {found.checkpoints_gib:.1f} GiB, {free:.0f} free"
    if found.checkpoints_gib <= free:
        return Finding("disk", text)
    return Finding("disk", f"{text}; raise train.checkpoint_every or set run.dir to a larger disk", ok=False)


def _device() -> str:
    import torch

    here = gpus_here()
    if not here:
        return "cpu; a GPU is not needed for the lab, but is for real models"
    return f"cuda: {here[0].name}, {here[0].gib:.0f} GiB, bfloat16 {torch.cuda.is_bf16_supported()}"


def _installed(package: str, extra: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed; {install_command(extra)} if you want it"


def _shipped_model() -> Finding:
    from suffice.config import DEFAULT_INDUCER
    from suffice.model.load import load_chat, load_model
    from suffice.model.resolve import SHIPPED

    load_chat(SHIPPED, DEFAULT_INDUCER)
    parameters = load_model(SHIPPED, device="cpu").num_parameters()
    return Finding("shipped model", f"{SHIPPED} loads, {parameters:,} parameters")


def _grader() -> Finding:
    from suffice.grading import Grader
    from suffice.groups import Verdict

    with Grader() as grader:
        verdict = grader.grade(r"\boxed{7^{20000} + 2 - 7^{20000}}", "2", "math")  # so long that a worker must start
    return Finding("grader", f"7^20000 + 2 - 7^20000 against 2 is {verdict}", verdict is Verdict.CORRECT)


def said_of(found: Estimate) -> Iterator[tuple[str, str]]:
    """An estimate as lines: what, and how much of it."""
    a, t, m = found.assumptions, found.tokens, found.memory
    yield "a step samples", f"{_count(t.sampled)} tokens, and pushes {_count(t.pushed)} through the update"
    sampler = f"{m.sampler:.1f} sampler's weights and " if m.sampler else ""
    yield (
        "a GPU holds" if found.device != "cpu" else "memory holds",
        f"{m.weights + m.gradients + m.optimizer:.1f} GiB weights, gradients and moments; in turns {sampler}"
        f"{m.cache:.1f} keys and values, or {m.activations:.1f} activations and {m.logits:.1f} logits; "
        f"{m.headroom:.0f} headroom",
    )
    yield "a step takes", f"{found.seconds_rollout:,.1f} s rollout and {found.seconds_update:,.1f} s update"
    parts = {"steps": found.hours_steps, "evaluations": found.hours_evaluation}
    took = " and ".join(f"{_time(value)} of {name}" for name, value in parts.items() if value)
    yield "the run takes", f"{took}: {found.gpu_hours:,.1f} GPU-hours" if found.device != "cpu" else took
    if found.hours_pass_rates is None:
        yield "before it", "pass rates of all problems, not counted here: task.limit would say of how many"
    elif found.hours_pass_rates:
        yield (
            "before it",
            f"{_time(found.hours_pass_rates)} for pass rates, sampled by the local engine on one GPU and kept for "
            "later runs; a lower task.limit makes that less, and task.solved_from counts in what a server sampled",
        )
    speeds = "short measurements of a processor, not of a run" if found.device == "cpu" else "data sheets, not measured"
    yield (
        "assumed",
        f"{found.gpus} × {found.device}; thoughts of {a.thought:,.0f} tokens, answers of {a.answer:.0f}, prompts of "
        f"{a.prompt:.0f}; no group replaced; speeds from {speeds}. --gpu, --mean-thought and "
        "--tokens-per-second say otherwise",
    )


def _count(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return f"{number:,.0f}"


def _time(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
