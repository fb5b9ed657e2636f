"""Where a model lies: a local folder, a run, a hub id, or a base that ships with the lab."""

from __future__ import annotations

from pathlib import Path

from suffice.errors import ModelError
from suffice.model.advice import no_checkpoint
from suffice.run.directory import Run
from suffice.run.layout import CHECKPOINTS

SHIPPED = "lab/arithmetic"
BASES = {SHIPPED: "arithmetic", "lab/ballots": "ballots", "lab/sums": "sums"}
"""The bases that ship, each with its task in the lab."""


def resolve_path(path: str) -> str:
    """Where a model lies: a shipped base by its name, a run by the checkpoint that its guard chose, or else its latest,
    anything else as given. A folder of LoRA adapters is a model too.

    Raises:
        ModelError: there is nothing, or what is there is no checkpoint.
    """
    if len(path) > 4096 or any(len(part) > 255 for part in Path(path).parts):
        raise ModelError(f"no model at {path[:40]}…; that is too long for a path")
    folder, known = Path(path), " or ".join(BASES)
    if path in BASES and not folder.exists():
        from suffice.lab import base_path

        return str(base_path(BASES[path]))
    if folder.exists():
        if (folder / "config.json").exists() or is_adapter(folder):
            return path
        if (folder / CHECKPOINTS).is_dir():
            return _of_run(Run(folder))
        raise no_checkpoint(folder)
    if folder.is_absolute() or path.startswith(".") or path.count("/") != 1:
        raise ModelError(f"no model at {path}; give a Hugging Face checkpoint folder, a hub id (owner/name) or {known}")
    return path


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds LoRA adapters, and not the model they belong to."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").exists()


def _of_run(run: Run) -> str:
    if chosen := run.chosen():
        return str(run.path / chosen.path) if chosen.step else resolve_path(chosen.path)
    checkpoints = [*run.checkpoints().values()]
    if not checkpoints:
        raise ModelError(f"{run.path} is a run without checkpoints; train it first or name a checkpoint folder")
    return str(checkpoints[-1])
