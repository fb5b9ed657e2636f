"""How a run directory begins: its place and name, and the note of where it came from."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from suffice.errors import RunError
from suffice.run.files import write_json, write_text
from suffice.run.layout import RECIPE, REQUEST, RUNS
from suffice.run.lock import is_remnant
from suffice.run.records import Manifest


def timestamped(name: str) -> Path:
    """`runs/<name>-<time>`, free at the time of asking."""
    base = Path(RUNS) / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, n = base, 1
    while path.exists():
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def free_run(directory: str | Path) -> Path:
    """The path of a run to be, which nothing occupies. Nothing is made yet: first see that model and data are good.

    What a process left that was killed before its first file was whole occupies nothing.

    Raises:
        RunError: it exists already with something in it, or cannot be looked into.
    """
    path = Path(directory)
    with _run_errors(path):
        taken = path.exists() and not (path.is_dir() and all(is_remnant(inner.name) for inner in path.iterdir()))
    if taken:
        verb = "train" if (path / RECIPE).exists() else "eval or diagnose"
        begun = (path / RECIPE).exists() or (path / REQUEST).exists()
        go_on = f", or continue what was begun there: suffice {verb} --resume {path}" if begun else ""
        raise RunError(f"{path} exists already; choose another directory{go_on}")
    return path


def create_run(directory: str | Path) -> Path:
    """Make a fresh run directory.

    Raises:
        RunError: it exists already with something in it, or cannot be made.
    """
    path = free_run(directory)
    with _run_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _run_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot create the run directory {path}: {error.strerror}; choose another") from None


def start_run(directory: str | Path, recipe: str) -> Path:
    """A fresh run directory that holds a resolved recipe (TOML text) and where it came from."""
    run = create_run(directory)
    write_text(run / RECIPE, recipe)
    write_json(run / Manifest.FILE, manifest().as_dict())
    return run


def manifest() -> Manifest:
    """Of this process, now."""
    return Manifest(
        suffice=version("suffice"),
        torch=version("torch"),
        transformers=version("transformers"),
        python=platform.python_version(),
        git=_git_revision(),
        command=["suffice", *sys.argv[1:]],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _git_revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
