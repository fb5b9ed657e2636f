"""LoRA through peft: adapters to train, merged weights to save."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from suffice.errors import ModelError
from suffice.extras import install_command


def add_lora(model: Any, rank: int) -> Any:
    """The model with rank-`rank` adapters (float32, α = 2·rank) on every linear layer but the head, the rest frozen."""
    if find_spec("peft") is None:
        raise ModelError(f"model.lora needs peft; install it with: {install_command('lora')}")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config, autocast_adapter_dtype=True)


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
            weight = module.get_base_layer().weight
            delta = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
            state[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
    return state
