"""Loading a checkpoint: a local folder, a hub id, or a base that ships with the lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from suffice.errors import ModelError, RecipeError
from suffice.groups import Problem
from suffice.model.chat import Chat
from suffice.run.directory import Run
from suffice.run.layout import CHECKPOINTS

SHIPPED = "lab/arithmetic"
BASES = {SHIPPED: "arithmetic", "lab/ballots": "ballots", "lab/sums": "sums"}
"""The bases that ship, each with its task in the lab."""


def resolve_path(path: str) -> str:
    """Where a model lies: a shipped base by its name, a run by the checkpoint that its guard chose, or else its latest,
    anything else as given."""
    if len(path) > 4096 or any(len(part) > 255 for part in Path(path).parts):
        raise ModelError(f"no model at {path[:40]}…; that is too long for a path")
    folder, known = Path(path), " or ".join(BASES)
    if path in BASES and not folder.exists():
        from suffice.lab import base_path

        return str(base_path(BASES[path]))
    if (folder / CHECKPOINTS).is_dir() and not (folder / "config.json").exists():
        run = Run(folder)
        if chosen := run.chosen():
            return str(folder / chosen.path) if chosen.step else resolve_path(chosen.path)
        checkpoints = [*run.checkpoints().values()]
        if not checkpoints:
            raise ModelError(f"{path} is a run without checkpoints; train it first or name a checkpoint folder")
        return str(checkpoints[-1])
    if folder.exists() and not (folder / "config.json").exists():
        raise ModelError(f"{path} holds no config.json; give a Hugging Face checkpoint folder, a hub id or {known}")
    if not folder.exists() and (folder.is_absolute() or path.startswith(".") or path.count("/") != 1):
        raise ModelError(f"no model at {path}; give a Hugging Face checkpoint folder, a hub id (owner/name) or {known}")
    return path


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        ModelError: it cannot be loaded.
    """
    resolved = resolve_path(path)
    try:
        return AutoTokenizer.from_pretrained(resolved, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise _unloadable(f"the tokenizer of {path}", resolved, error) from error


def load_model(path: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None) -> Any:
    """A causal language model in evaluation mode, from safetensors only.

    `dtype` auto is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        ModelError: it cannot be loaded whole, or the device is not there.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # weights that do not fit are refused below, in one line
    place, resolved = resolve_device(device), resolve_path(path)
    if dtype == "auto":
        dtype = "bfloat16" if place == "cuda" else "float32"
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            resolved,
            revision=revision,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        raise _unloadable(path, resolved, error) from error
    absent = sorted(found["missing_keys"]) + sorted(name for name, *_ in found["mismatched_keys"])
    if absent:
        raise ModelError(
            f"{path} lacks {len(absent)} weights that its config.json asks for, such as {absent[0]}; "
            "give a complete checkpoint"
        )
    return model.to(place).eval()


def load(section: Any, inducer: str) -> tuple[Any, Chat]:
    """Model and chat of a recipe's `[model]` section."""
    chat = load_chat(section.path, inducer, section.revision)
    return load_model(section.path, device=section.device, dtype=section.dtype, revision=section.revision), chat


def load_chat(path: str, inducer: str, revision: str | None = None) -> Chat:
    """The checked chat of a checkpoint, with the end-of-turn ids of its generation config."""
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(path, revision)
    try:
        ends = GenerationConfig.from_pretrained(resolve_path(path), revision=revision).eos_token_id
    except OSError as error:
        if Path(resolve_path(path), "generation_config.json").exists():  # malformed; to have none is usual
            raise _unloadable(f"the generation config of {path}", resolve_path(path), error) from error
        ends = None
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int and end >= 0 for end in ids):
        raise ModelError(f"the generation config of {path} says eos_token_id = {ends!r:.60}; give token ids there")
    return Chat.of(tokenizer, inducer, frozenset(ids))


def resolve_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"unknown device {device!r}; use auto, cpu or cuda")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda but torch sees no GPU; set model.device = auto, or install a CUDA torch")
    return device


def suitable_budgets(
    model: Any, chat: Chat, problems: Sequence[Problem], thought: int | None, answer: int | None
) -> tuple[int, int]:
    """(thought, answer) budgets in tokens: as asked; else 8192 and 1024, or what the model's positions hold."""
    positions = positions_of(model)
    if answer is None:
        answer = min(1024, positions // 4)
    if thought is None:
        thought = max(1, min(8192, positions - longest_prompt(chat, problems) - len(chat.inducer) - answer))
    return thought, answer


def check_positions(model: Any, chat: Chat, problems: Sequence[Problem], thought: int, answer: int) -> None:
    """Refuse budgets that the model's positions cannot hold.

    Raises:
        RecipeError: prompt, thought, inducer and answer together are longer than the model's positions.
    """
    prompt, positions = longest_prompt(chat, problems), positions_of(model)
    needed = prompt + thought + len(chat.inducer) + answer
    if needed > positions:
        raise RecipeError(
            f"a prompt of {prompt} tokens, max_thought_tokens = {thought} and max_answer_tokens = {answer} need "
            f"{needed} positions with the inducer, but the model has {positions}; lower the budgets"
        )


def positions_of(model: Any) -> int:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def longest_prompt(chat: Chat, problems: Sequence[Problem]) -> int:
    """Tokens of the longest prompt, judged by the longest of the longest texts."""
    longest = sorted(problems, key=lambda problem: len(problem.prompt))[-64:]
    return max(len(chat.render(problem.prompt)) for problem in longest)


SMALL = 10_000_000  # parameters below which a second thread gains little and, on a busy machine, costs much


def set_threads(model: Any, threads: int = 0) -> None:
    """Torch threads: as asked; else one for a small model, one per core this process may use for others."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads or (1 if model.num_parameters() < SMALL else cores))


def _unloadable(what: str, resolved: str, error: Exception) -> ModelError:
    """What kept a checkpoint from loading. Each library that reads one raises kinds of its own, so all are meant."""
    cause = str(error).strip().partition("\n")[0].rstrip(".: ")
    advice = (
        "give a complete checkpoint folder: config.json, tokenizer.json, model.safetensors"
        if Path(resolved).exists()
        else "check the id and the network, or give a local checkpoint folder"
    )
    return ModelError(f"cannot load {what}: {cause or type(error).__name__}; {advice}")
