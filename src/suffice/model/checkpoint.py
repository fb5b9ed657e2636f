"""Checkpoints: an ordinary Hugging Face folder that also holds what training needs to go on.

model.safetensors, config.json, tokenizer…   loadable anywhere
trainer.tensors                              optimizer moments, and LoRA adapters if any, as safetensors; servers load
                                             every file that ends in .safetensors as weights
trainer.json                                 step, problems drawn, method state
files.json                                   size and SHA-256 of every other file, by which damage is found
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from suffice.errors import ModelError, RunError
from suffice.model.advice import cause_of
from suffice.model.lora import merged_state
from suffice.model.tokenizer import copy_tokenizer
from suffice.run.directory import Run
from suffice.run.files import read_json, whole_directory, write_json
from suffice.run.layout import FILES, TENSORS, TRAINER


def save_checkpoint(
    run: Path, step: int, model: Any, tokenizer: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Write `checkpoints/step-NNNNNN`, complete or absent.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    target = Run(run).checkpoint(step)
    with whole_directory(target) as folder:
        if hasattr(model, "get_base_model"):
            model.get_base_model().save_pretrained(folder, state_dict=merged_state(model))
        else:
            model.save_pretrained(folder)
        copy_tokenizer(tokenizer, folder)
        save_file(_trained_state(model, optimizer), folder / TENSORS)
        write_json(folder / TRAINER, {"step": step, **state})
        seal(folder)
    return target


def try_save(model: Any, tokenizer: Any) -> None:
    """Save all of a checkpoint but the weights, to see that it can be saved before any step is paid for.

    Raises:
        ModelError: it cannot.
    """
    with TemporaryDirectory() as folder:
        try:
            model.save_pretrained(folder, state_dict={})
            copy_tokenizer(tokenizer, Path(folder))
        except Exception as error:  # transformers refuses to save what it was able to read, for reasons of many kinds
            raise ModelError(
                f"checkpoints of {model.name_or_path} could not be saved ({cause_of(error)}); mend its config.json or "
                "generation_config.json"
            ) from error


def seal(folder: Path) -> None:
    """Write `files.json` for what is in a checkpoint folder. It reads every file once: 16 GB take 10 to 20 seconds."""
    files = {str(path.relative_to(folder)): _described(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    write_json(folder / FILES, files)


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, by the first file that is not as it was saved; None if it is good.

    Files that were not saved with it do not count.
    """
    try:
        saved = read_json(folder / FILES)
        if not isinstance(saved, dict) or "config.json" not in saved:
            return f"{FILES} is not what was saved"
        for name, description in saved.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if _described(folder / name) != description:
                return f"{name} is not what was saved"
    except RunError:
        return f"{FILES} is missing or unreadable"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _trained_state(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter name; with LoRA also the adapters themselves."""
    tensors = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
        if hasattr(model, "get_base_model"):
            tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
    return tensors


def latest_checkpoint(run: Path) -> Path | None:
    """The newest good checkpoint of a run, or None; damaged ones are passed over, each said on standard error."""
    for folder in reversed(Run(run).checkpoints().values()):
        reason = damage(folder)
        if reason is None:
            return folder
        print(f"warning: {folder} is damaged and passed over: {reason}", file=sys.stderr)
    return None


def restore(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load optimizer state (and LoRA adapters) of a good checkpoint into place; the weights are loaded with the model.

    Raises:
        RunError: it is the state of other parameters than the model's.
    """
    state: dict[str, Any] = read_json(folder / TRAINER)
    tensors = load_file(folder / TENSORS)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    for key, tensor in tensors.items():
        if tensor.ndim and shapes.get(key.partition("/")[2]) != tensor.shape:
            raise RunError(f"{folder} was saved with other trained weights than the recipe's; resume it with its own")
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if f"weight/{name}" in tensors:
            with torch.no_grad():
                parameter.copy_(tensors.pop(f"weight/{name}"))
        keys = [key for key in tensors if key.partition("/")[2] == name]
        if keys:
            optimizer.state[parameter] = {key.partition("/")[0]: tensors[key].to(parameter.device) for key in keys}
    return state
