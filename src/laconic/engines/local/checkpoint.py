"""Checkpoints: an ordinary Hugging Face folder that also holds what training needs to go on.

model.safetensors, config.json, tokenizer…   loadable anywhere
trainer.safetensors                          optimizer moments, and LoRA adapters if any
trainer.json                                 step, problems drawn, method state
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from laconic.engines.local.lora import merged_state
from laconic.errors import RunError
from laconic.runs import read_json, whole_directory, write_json


def step_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}"


def save_checkpoint(
    run: Path, step: int, model: Any, tokenizer: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Write `checkpoints/step-NNNNNN`, complete or absent.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    target = step_folder(run, step)
    with whole_directory(target) as folder:
        if hasattr(model, "get_base_model"):
            model.get_base_model().save_pretrained(folder, state_dict=merged_state(model))
        else:
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(_trained_state(model, optimizer), folder / "trainer.safetensors")
        write_json(folder / "trainer.json", {"step": step, **state})
    return target


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
    """The newest complete checkpoint of a run, or None."""
    found = sorted((run / "checkpoints").glob("step-*"))
    return found[-1] if found else None


def restore(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load optimizer state (and LoRA adapters) into place; the weights themselves are loaded with the model.

    Raises:
        RunError: the folder lacks its trainer files, or they are malformed.
    """
    state: dict[str, Any] = read_json(folder / "trainer.json")
    try:
        tensors = load_file(folder / "trainer.safetensors")
    except FileNotFoundError:
        raise RunError(f"{folder} lacks trainer.safetensors; resume from another checkpoint or start again") from None
    except SafetensorError as error:
        raise RunError(f"{folder / 'trainer.safetensors'} is damaged ({error}); remove {folder} and resume") from None
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
