"""A checkpoint's generation config: what ends a turn, and whether it can be saved again."""

from __future__ import annotations

from pathlib import Path

from transformers import GenerationConfig

from suffice.errors import ModelError
from suffice.model.advice import unloadable
from suffice.model.resolve import is_adapter, resolve_path


def end_ids(path: str, revision: str | None = None) -> frozenset[int]:
    """The end-of-turn ids that a checkpoint's generation config names, if it has one.

    Raises:
        ModelError: the file is malformed, or names what is no token id.
    """
    resolved = resolve_path(path)
    if is_adapter(Path(resolved)):
        from suffice.model.lora import adapter_base

        return end_ids(*adapter_base(Path(resolved)))
    try:
        ends = GenerationConfig.from_pretrained(resolved, revision=revision).eos_token_id
    except OSError as error:
        if Path(resolved, "generation_config.json").exists():  # malformed; to have none is usual
            raise unloadable(f"the generation config of {path}", resolved, error) from error
        return frozenset()
    except ValueError as error:
        raise unloadable(f"the generation config of {path}", resolved, error) from error
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int and end >= 0 for end in ids):
        raise ModelError(f"the generation config of {path} says eos_token_id = {ends!r:.60}; give token ids there")
    return frozenset(ids)


def savable(config: GenerationConfig) -> GenerationConfig:
    """A generation config that may be written: transformers reads some that it then refuses to save, such as a
    temperature without `do_sample`. Where sampling is what the rest of it means, it says so; else only the ids of
    tokens are kept."""
    for repaired in (config, GenerationConfig(**{**config.to_dict(), "do_sample": True})):
        try:
            repaired.validate(strict=True)
        except ValueError:
            continue
        return repaired
    ids = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**{name: value for name, value in ids.items() if value != -1})
