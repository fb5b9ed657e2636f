"""A checkpoint's generation config: what ends a turn, and a form of it that can be saved again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import GenerationConfig

from suffice.errors import ModelError
from suffice.model.lora import adapter_base
from suffice.model.resolve import is_adapter, resolve_path

NAME = "generation_config.json"
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def end_ids(path: str, revision: str | None = None) -> frozenset[int]:
    """The end-of-turn ids that a checkpoint's generation config names, if it has one.

    Raises:
        ModelError: the file is malformed, or names what is no token id.
    """
    ends = read_generation(path, revision).get("eos_token_id")
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int and end >= 0 for end in ids):
        raise ModelError(f"the generation config of {path} says eos_token_id = {ends!r:.60}; give token ids there")
    return frozenset(ids)


def savable(settings: Mapping[str, Any]) -> GenerationConfig:
    """A generation config that may be written: of what stands in such files transformers refuses some to read and more
    to save, such as a temperature without `do_sample`. Where sampling is what the rest means, it says so; else only the
    ids of tokens are kept."""
    for each in ({**settings}, {**settings, "do_sample": True}):
        try:
            config = GenerationConfig.from_dict(each)
            config.validate(strict=True)
        except (ValueError, TypeError, AttributeError):
            continue
        return config
    return GenerationConfig(**{name: settings[name] for name in IDS if settings.get(name) not in (None, -1)})


def read_generation(path: str, revision: str | None = None) -> dict[str, Any]:
    """The generation config of a checkpoint as it is written, that of adapters being their base's; empty without one.

    Raises:
        ModelError: the file is malformed.
    """
    folder = Path(resolve_path(path))
    if is_adapter(folder):
        return read_generation(*adapter_base(folder))
    file = folder / NAME
    if not folder.exists():
        try:
            file = Path(hf_hub_download(str(folder), NAME, revision=revision))
        except (EntryNotFoundError, LocalEntryNotFoundError):
            return {}
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON ({error}); mend or remove it") from None
    if not isinstance(found, dict):
        raise ModelError(f"{file} is not a JSON object; mend or remove it")
    return found
