"""LoRA through peft: adapters to train, merged weights to save, adapters of others to load."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suffice.errors import ModelError
from suffice.extras import install_command
from suffice.model.advice import cause_of


def add_lora(model: Any, rank: int) -> Any:
    """The model with rank-`rank` adapters (float32, α = 2·rank) on every linear layer but the head, the rest frozen."""
    require_peft("model.lora needs peft")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config, autocast_adapter_dtype=True)


def require_peft(why: str) -> None:
    """
    Raises:
        ModelError: it is not installed.
    """
    if find_spec("peft") is None:
        raise ModelError(f"{why}; install it with: {install_command('lora')}")


@torch.no_grad()
def merged_state(model: Any) -> dict[str, Tensor]:
    """The plain model's weights with every adapter added in; the training model is left as it is."""
    from peft.tuners.lora import LoraLayer

    causal = model.get_base_model()
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in causal.state_dict().items()
        if ".lora_" not in name
    }
    for name, module in causal.named_modules():
        if isinstance(module, LoraLayer):
            state[f"{name}.weight"] = _sum(module)
    return state


@torch.no_grad()
def _sum(layer: Any) -> Tensor:
    """A layer's weight and what its adapters add to it, in the weight's type."""
    weight = layer.get_base_layer().weight
    delta = sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
    exact = torch.promote_types(weight.dtype, torch.float32)
    return (weight.to(exact) + delta.to(exact)).to(weight.dtype)


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Adapters added into the weights meanwhile, so that sampling does not pay for them; then both are as they were,
    bit for bit. It takes another copy of the adapted weights.

    Weights of half precision stay apart from their adapters: the sum, rounded, would lose most of what small ones say.
    """
    if not hasattr(model, "get_base_model") or model.dtype.itemsize < 4:
        yield
        return
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    apart = [layer.get_base_layer().weight.data for layer in layers]
    try:
        with model.disable_adapter():
            for layer in layers:
                layer.get_base_layer().weight.data = _sum(layer)
            yield
    finally:
        for layer, weight in zip(layers, apart, strict=True):
            layer.get_base_layer().weight.data = weight


def adapter_base(folder: Path) -> tuple[str, str | None]:
    """The model that a folder of LoRA adapters belongs to, and its revision.

    Raises:
        ModelError: its adapter_config.json names none, or one that is not there.
    """
    file = folder / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
    except (ValueError, AttributeError, OSError):
        raise ModelError(f"{file} is damaged; copy the adapters again") from None
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{file} names no base model; set base_model_name_or_path there to the base's folder or hub id"
        )
    if not Path(base).exists() and (Path(base).is_absolute() or base.startswith(".") or base.count("/") != 1):
        raise ModelError(
            f"the base of the adapters in {folder} is not at {base}; set base_model_name_or_path in {file.name} to "
            "where it is, or to its hub id"
        )
    return base, revision


def merged_adapter(base: Any, folder: Path) -> Any:
    """The base with the adapters of a folder added into its weights.

    Raises:
        ModelError: peft is missing, or the adapters are not of this base.
    """
    require_peft(f"{folder} holds LoRA adapters, which need peft")
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*adapter keys")  # peft only warns of adapters without a place
            adapted = PeftModel.from_pretrained(base, str(folder), is_trainable=False)
        return adapted.merge_and_unload().requires_grad_(True).eval()  # as any model that was loaded
    except Exception as error:
        raise ModelError(
            f"the adapters in {folder} do not fit their base, {base.name_or_path} ({cause_of(error)}); set "
            "base_model_name_or_path in adapter_config.json to the model that they were trained on"
        ) from error
