"""The tokenizer of a checkpoint: that of its tokenizer.json and no other, and its files as they were.

Some tokenizer classes build their own rules of splitting over the vocabulary of the file, whatever the file says: a
byte-level tokenizer.json under a Llama class encodes without blanks. So the file is what counts.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from suffice.errors import ModelError
from suffice.model.advice import unloadable
from suffice.model.marks import FAMILIES
from suffice.model.resolve import is_adapter, resolve_path

FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
)
"""What a tokenizer is stored in, as patterns."""

PROBE = (
    "What is 3 + 4?\n\nAnswer:  12.50 €, x_1 = -7;\ttabs.\r\nNaïve façade, 東京, Привет, 🙂👍🏽 'tis don't\n"
    "  indented\nTime is limited, stop thinking and start answering.\n\n \\boxed{\\frac{1}{2}} 1234567890 CamelCase"
)
"""Blanks, lines, digits and scripts, in which rules of splitting differ."""


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """The tokenizer of a checkpoint, which encodes and decodes as its tokenizer.json does, if it has one.

    Raises:
        ModelError: it cannot be loaded, or not as the file has it.
    """
    resolved = resolve_path(path)
    try:
        folder = tokenizer_folder(resolved, revision)
    except Exception as error:  # of the hub, of HTTP, of the network: each layer has kinds of its own
        raise unloadable(f"the tokenizer of {path}", resolved, error) from error
    file = folder / "tokenizer.json"
    if not any(path for pattern in FILES for path in folder.glob(pattern) if not path.match("chat_template*")):
        raise ModelError(f"{folder} holds no tokenizer; copy the tokenizer's files of its base there")
    try:
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        wrong = _difference(found, file) if file.is_file() else ""
    except Exception as error:
        if not file.is_file():
            raise unloadable(f"the tokenizer of {path}", str(folder), error) from error
        wrong = str(error)
    if wrong:
        try:
            found = PreTrainedTokenizerFast.from_pretrained(folder)
            wrong = _difference(found, file)
        except Exception as error:
            raise unloadable(f"the tokenizer of {path}", str(folder), error) from error
    if wrong:
        raise ModelError(f"the tokenizer of {path} {wrong}; mend tokenizer_config.json, or copy both files again")
    return found


def tokenizer_folder(resolved: str, revision: str | None = None) -> Path:
    """Where a model's tokenizer lies on this machine: of a hub id the snapshot, fetched if need be; of adapters without
    a tokenizer of their own that of their base."""
    folder = Path(resolved)
    if not folder.exists():
        return Path(snapshot_download(resolved, revision=revision, allow_patterns=["config.json", *FILES]))
    if is_adapter(folder) and not (folder / "tokenizer_config.json").exists():
        from suffice.model.lora import adapter_base

        base, base_revision = adapter_base(folder)
        return tokenizer_folder(resolve_path(base), base_revision)
    return folder


def copy_tokenizer(tokenizer: Any, folder: Path) -> None:
    """The tokenizer's own files into a folder, byte for byte; what is not from files is saved as transformers does."""
    source = Path(tokenizer.name_or_path)
    files = [path for pattern in FILES for path in source.glob(pattern) if path.is_file()] if source.is_dir() else []
    if not files:
        tokenizer.save_pretrained(folder)
    for file in files:
        target = folder / file.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)


def _difference(tokenizer: Any, file: Path) -> str:
    """In what a tokenizer differs from its tokenizer.json, if in anything. The file may know fewer marks as tokens than
    the tokenizer: tokenizer_config.json adds some."""
    raw = Tokenizer.from_file(str(file))
    raw.no_truncation()
    raw.no_padding()
    ids = tokenizer.encode(PROBE, add_special_tokens=False)
    if ids != raw.encode(PROBE, add_special_tokens=False).ids:
        return "does not encode text as its tokenizer.json does"
    if tokenizer.decode(ids, clean_up_tokenization_spaces=False) != raw.decode(ids, skip_special_tokens=False):
        return "does not decode text as its tokenizer.json does"
    for mark in [text for marks in FAMILIES for text in (marks.open, marks.close)]:
        encoded = raw.encode(mark, add_special_tokens=False).ids
        if len(encoded) == 1 and tokenizer.encode(mark, add_special_tokens=False) != encoded:
            return f"does not encode {mark.strip()} as its tokenizer.json does"
    return ""
