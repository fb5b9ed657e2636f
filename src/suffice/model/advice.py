"""What lies where a model was asked for and cannot be loaded, and what to do about it, in one line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from suffice.errors import ModelError, one_line

COMPLETE = "give a complete checkpoint folder: config.json, tokenizer.json, model.safetensors"
DEEP = 3  # levels below a folder at which a checkpoint is looked for
POINTER = b"version https://git-lfs"
FOREIGN = {
    "*.distcp": "torch's distributed checkpoint",
    "*zero_pp_rank_*": "DeepSpeed",
    "*_model_states.pt": "DeepSpeed",
    "mp_rank_*": "Megatron",
    "iter_*": "Megatron",
    "pytorch_model_fsdp*": "FSDP",
    "consolidated*": "its makers' own format",
}
"""Files and folders in which trainers keep a model that is no Hugging Face checkpoint, and whose they are."""

Look = Callable[[Path], str]
"""What is wrong with a folder and what to do, or nothing."""


def no_checkpoint(path: Path) -> ModelError:
    """Of a path that exists but holds no config.json."""
    return ModelError(f"{path} {_first((_gguf, _file, _verl, _below, _foreign, _bare), path)}")


def unloadable(what: str, resolved: str, error: Exception) -> ModelError:
    """What kept a checkpoint from loading, and what to do: by what is there, else by what was raised. Each library that
    reads one raises kinds of its own, so all are meant."""
    looks = (_pointer, _config, _type, _verl_above, _index, _no_weights, _quantised)
    folder = Path(resolved)
    advice = (_first(looks, folder) or COMPLETE) if folder.exists() else _by_the_hub(error)
    return ModelError(f"cannot load {what}: {cause_of(error)}; {advice}")


def cause_of(error: Exception) -> str:
    """The first line of a library's message."""
    first = one_line(str(error).strip().partition("\n")[0]).rstrip(".: ") or type(error).__name__
    return first if len(first) <= 200 else first[:199] + "…"


def _first(looks: tuple[Look, ...], path: Path) -> str:
    return next((found for look in looks if (found := look(path))), "")


def _gguf(path: Path) -> str:
    there = path.suffix == ".gguf" or any(path.glob("*.gguf"))
    return "is in GGUF; give the safetensors checkpoint that it was made from" if there else ""


def _file(path: Path) -> str:
    return "" if path.is_dir() else "is a file; give the folder of a Hugging Face checkpoint, which holds config.json"


def _verl(folder: Path) -> str:
    shards = _shards_of_verl(folder)
    return f"holds shards of a model that verl trained; merge them first: {_merge(shards)}" if shards else ""


def _below(folder: Path) -> str:
    """The newest checkpoint inside a folder, on the first level that has one."""
    for level in range(1, DEEP + 1):
        names = ["/".join(["*"] * level + [name]) for name in ("config.json", "adapter_config.json")]
        if found := [path for name in names for path in folder.glob(name)]:
            newest = max(found, key=lambda path: (path.stat().st_mtime, str(path)))
            return f"holds no config.json, but {newest.parent} does; give that"
    return ""


def _foreign(folder: Path) -> str:
    whose = next((whose for pattern, whose in FOREIGN.items() if any(folder.glob(pattern))), None)
    return f"holds a model in {whose}; convert it to a Hugging Face checkpoint first" if whose else ""


def _bare(folder: Path) -> str:
    if any(folder.glob("*.safetensors")):
        return "holds weights without config.json; copy config and tokenizer of their base there"
    return "holds no config.json; give a Hugging Face checkpoint folder or a hub id (owner/name)"


def _pointer(folder: Path) -> str:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    return f"{path.name} is a git-lfs pointer and not the file itself: run git lfs pull in {folder}"
    return ""


def _config(folder: Path) -> str:
    return "" if read_config(folder) else f"{folder / 'config.json'} is not a JSON object; copy it again"


def _type(folder: Path) -> str:
    from transformers import CONFIG_MAPPING, __version__

    config = read_config(folder)
    kind = config.get("model_type")
    if kind in CONFIG_MAPPING:
        return ""
    if config.get("auto_map"):
        return (
            "it brings its own Python code, which suffice does not run; give a checkpoint of a model that transformers "
            f"{__version__} has itself, or evaluate it behind a server with --base-url"
        )
    if not kind:
        return f"its config.json names no model_type; {COMPLETE}"
    return (
        f"transformers {__version__} does not know the model type {kind}; a newer one may (pip install -U "
        "transformers), or evaluate it behind a server with --base-url"
    )


def _verl_above(folder: Path) -> str:
    """verl keeps config and tokenizer in a folder beside its shards."""
    shards = None if any(folder.glob("*.safetensors")) else _shards_of_verl(folder.parent, deep=0)
    return f"its weights are still the shards that verl trained; merge them first: {_merge(shards)}" if shards else ""


def _index(folder: Path) -> str:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ""
    try:
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{index.name} is damaged; copy it again"
    absent = sorted(name for name in wanted if not (folder / name).is_file())
    if not absent:
        return ""
    return f"{len(absent)} of its {len(wanted)} files of weights are missing, such as {absent[0]}; copy them too"


def _no_weights(folder: Path) -> str:
    if any(folder.glob("*.safetensors")):
        return ""
    if any(path for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)):
        return (
            "its weights are pickled, which can run any code; save them as safetensors first: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)"
        )
    if any(folder.glob("*.gguf")):
        return "its weights are in GGUF; give the safetensors checkpoint that they were made from"
    return f"it holds no weights; {COMPLETE}"


def _quantised(folder: Path) -> str:
    if not read_config(folder).get("quantization_config"):
        return ""
    return "it is quantised; install what its format needs, or give the checkpoint it was made from"


def _by_the_hub(error: Exception) -> str:
    names = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    if "GatedRepoError" in names:
        return "accept its terms on the hub and log in: hf auth login"
    if "RevisionNotFoundError" in names:
        return "check the revision"
    return "check the id and the network, or give a local checkpoint folder"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json; empty where it is missing or malformed."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _shards_of_verl(folder: Path, deep: int = DEEP) -> Path | None:
    """The newest folder of verl's shards at or below a folder."""
    for level in range(deep + 1):
        if found := list(folder.glob("/".join(["*"] * level + ["model_world_size_*_rank_*"]))):
            return max(found, key=lambda path: path.stat().st_mtime).parent
    return None


def _merge(shards: Path) -> str:
    merged = shards.parent / "merged"
    command = ["python", "-m", "verl.model_merger", "merge", "--backend", "fsdp", "--local_dir", str(shards)]
    return f"{shlex.join([*command, '--target_dir', str(merged)])}, then give {merged}"
