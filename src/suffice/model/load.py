"""Loading a model and its chat, whole and from safetensors, or refusing it in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from suffice.errors import ModelError
from suffice.model.advice import faults, unloadable
from suffice.model.chat import Chat, Use
from suffice.model.device import free_memory, resolve_device
from suffice.model.generation import end_ids, read_generation, savable
from suffice.model.lora import adapter_base, merged_adapter
from suffice.model.resolve import is_adapter, resolve_path
from suffice.model.tokenizer import load_tokenizer


def load_model(path: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None) -> Any:
    """A causal language model in evaluation mode, from safetensors only. LoRA adapters are merged into their base.

    `dtype` auto is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        ModelError: it cannot be loaded whole, it does not fit the memory that is left, or the device is not there.
    """
    _quiet()
    place, resolved = resolve_device(device), resolve_path(path)
    if is_adapter(Path(resolved)):
        base, base_revision = adapter_base(Path(resolved))
        return merged_adapter(load_model(base, device=device, dtype=dtype, revision=base_revision), Path(resolved))
    if dtype == "auto":
        dtype = "bfloat16" if place == "cuda" else "float32"
    generation = read_generation(path, revision)
    try:
        config = AutoConfig.from_pretrained(resolved, revision=revision, trust_remote_code=False)
        check_room(path, config, getattr(torch, dtype), torch.device(place))
        model, found = _kind(config).from_pretrained(
            resolved,
            config=config,
            generation_config=savable(generation) if generation else None,
            revision=revision,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except ModelError:
        raise
    except Exception as error:
        raise unloadable(path, resolved, error) from error
    absent = sorted(found["missing_keys"]) + sorted(name for name, *_ in found["mismatched_keys"])
    if absent:
        raise ModelError(
            f"{path} lacks {len(absent)} weights that its config.json asks for, such as {absent[0]}; "
            "give a complete checkpoint"
        )
    if model.generation_config is not None:  # else made of what stands in config.json
        model.generation_config = savable(model.generation_config.to_dict())
    placed = model if getattr(model, "hf_quantizer", None) else model.to(place)  # a quantiser places its model itself
    return without_noise(placed).eval()


def check_room(path: str, config: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a model whose weights alone are more than the memory that is left: the system would kill the process.

    Raises:
        ModelError: it is so.
    """
    if getattr(config, "quantization_config", None):
        return  # of a size of its own
    needed = _without_weights(config).num_parameters() * dtype.itemsize
    if needed > (left := free_memory(device)):
        half = "" if dtype.itemsize == 2 else ' (half of that with model.dtype = "bfloat16")'
        raise ModelError(
            f"{path} needs {needed / 2**30:.1f} GiB for its weights{half} and {left / 2**30:.1f} are left on {device}; "
            "take a smaller model, free memory, or evaluate it behind a server with --base-url"
        )


def without_noise(model: Any) -> Any:
    """The model without dropout and jitter, in training too: what is trained must be what was sampled."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or "jitter" in name):
                setattr(module, name, 0.0)
    return model


def skeleton(path: str, revision: str | None = None) -> Any:
    """The model of a checkpoint folder or hub id without its weights, which is enough to count them and to try a save:
    of the hub its configuration alone is asked for.

    Raises:
        ModelError: something would keep the model from loading.
    """
    _quiet()
    resolved = resolve_path(path)
    if is_adapter(Path(resolved)):
        return skeleton(*adapter_base(Path(resolved)))
    if Path(resolved).exists() and (wrong := faults(Path(resolved))):
        raise ModelError(f"{path} cannot be loaded: {wrong}")
    try:
        config = AutoConfig.from_pretrained(resolved, revision=revision, trust_remote_code=False)
        model = _without_weights(config)
    except Exception as error:
        raise unloadable(path, resolved, error) from error
    if generation := read_generation(path, revision):
        model.generation_config = savable(generation)
    return model


def _quiet() -> None:
    """No bars of transformers' own, and no warnings: what does not fit is refused in one line."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _without_weights(config: Any) -> Any:
    with torch.device("meta"):
        return _kind(config).from_config(config)


def _kind(config: Any) -> Any:
    """What loads a config's own architecture: a model that also sees stays one that sees, so that its checkpoints are
    served as it is."""
    sees = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    return AutoModelForImageTextToText if sees in (config.architectures or ()) else AutoModelForCausalLM


def load(section: Any, inducer: str, *, use: Use = "train") -> tuple[Any, Chat]:
    """Model and chat of a recipe's `[model]` section."""
    chat = chat_of(section, inducer, use=use)
    return load_model(section.path, device=section.device, dtype=section.dtype, revision=section.revision), chat


def chat_of(section: Any, inducer: str, *, use: Use = "train") -> Chat:
    """The chat of a recipe's `[model]` section."""
    return load_chat(
        section.path,
        inducer,
        section.revision,
        options=section.chat_template_kwargs,
        system=section.system,
        use=use,
    )


def load_chat(
    path: str,
    inducer: str,
    revision: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    system: str | None = None,
    use: Use = "train",
) -> Chat:
    """The checked chat of a checkpoint, with the end-of-turn ids of its generation config.

    Args: as of `Chat.of`.
    """
    tokenizer = load_tokenizer(path, revision)
    return Chat.of(tokenizer, inducer, end_ids(path, revision), options=options, system=system, use=use)
