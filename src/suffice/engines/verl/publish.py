"""verl's Hugging Face folder as a checkpoint of the run: in the type it is served in, adapters merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from suffice.model.checkpoint import seal
from suffice.model.tokenizer import copy_tokenizer
from suffice.run.files import read_json, whole_directory, write_json

WEIGHTS = ".safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"


def publish(source: Path, target: Path, tokenizer: Any, *, dtype: str, scale: float) -> None:
    """Write `target`, whole or not at all, and drop the float32 weights of `source`, which nothing reads again.

    Args:
        source: as verl saved it: weights in float32, adapters of peft's beside the layers they belong to.
        dtype: of the weights that are written.
        scale: of the adapters, α / rank.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    with whole_directory(target) as folder:
        for file in source.iterdir():
            if file.is_file() and WEIGHTS not in file.name:
                shutil.copyfile(file, folder / file.name)
        write_json(folder / CONFIG, {**read_json(source / CONFIG), "dtype": dtype})
        write_weights(source, folder, getattr(torch, dtype), scale)
        copy_tokenizer(tokenizer, folder)
        seal(folder)
    for file in source.glob(f"*{WEIGHTS}*"):
        file.unlink()


def write_weights(source: Path, folder: Path, dtype: torch.dtype, scale: float) -> None:
    """The weights of `source`, file by file, merged and in `dtype`. A head that is the embedding is left out."""
    files, found = sorted(source.glob(f"*{WEIGHTS}")), read_json(source / CONFIG)
    tied = found.get("tie_word_embeddings", found.get("text_config", {}).get("tie_word_embeddings", False))
    weights, index, size = _Weights(files), dict[str, str](), 0
    for file in files:
        state: dict[str, Tensor] = {}
        for name in weights.files[file].offset_keys():
            if ".lora_" in name or (tied and name.endswith("lm_head.weight")):
                continue
            plain, weight = weights.merged(name, scale)
            state[plain] = weight.to(dtype) if weight.is_floating_point() else weight
        if state:
            save_file(state, folder / file.name, metadata={"format": "pt"})
            index |= dict.fromkeys(state, file.name)
            size += sum(weight.numel() * weight.element_size() for weight in state.values())
    if len(files) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": index})


class _Weights:
    """Files of weights, read a tensor at a time."""

    def __init__(self, files: list[Path]) -> None:
        self.files = {file: safe_open(file, framework="pt") for file in files}
        self.place = {name: file for file, opened in self.files.items() for name in opened.offset_keys()}

    def tensor(self, name: str) -> Tensor:
        found: Tensor = self.files[self.place[name]].get_tensor(name)
        return found

    def merged(self, name: str, scale: float) -> tuple[str, Tensor]:
        """A weight by its name in the plain model, W + scale·B·A where it has adapters."""
        weight = self.tensor(name)
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        layer = name.removesuffix(".base_layer.weight")
        down, up = (f"{layer}.lora_{side}.default.weight" for side in "AB")
        if up in self.place:
            weight = weight.float() + scale * (self.tensor(up).float() @ self.tensor(down).float())
        return plain, weight
