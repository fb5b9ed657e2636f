"""The run directory: what is written there, and how nothing is ever half-written.

recipe.toml      the resolved recipe            metrics.jsonl    one line per step
manifest.json    versions, revision, command    rollouts.jsonl   sampled groups to look at
checkpoints/step-NNNNNN/                        evaluations/<label>/{summary.json, records.jsonl}
diagnosis/<label>/{summary.json, records.jsonl} report.html
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from laconic.errors import RunError


def create_run(directory: str | Path) -> Path:
    """Make a fresh run directory.

    Raises:
        RunError: it exists already with something in it, or cannot be made.
    """
    path = Path(directory)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{path} exists already; choose another directory with --out, or continue it with --resume {path}"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create the run directory {path}: {error.strerror}; choose another with --out") from None
    return path


def start_run(directory: str | Path, recipe: str) -> Path:
    """A fresh run directory that holds a resolved recipe (TOML text) and where it came from."""
    run = create_run(directory)
    write_text(run / "recipe.toml", recipe)
    write_json(run / "manifest.json", manifest())
    return run


def timestamped(name: str) -> Path:
    """`runs/<name>-<time>`, free at the time of asking."""
    base = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, n = base, 1
    while path.exists():
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def manifest() -> dict[str, Any]:
    """Versions, git revision (if the working folder is a checkout) and the command that started the run."""
    return {
        **{package: version(package) for package in ("laconic", "torch", "transformers")},
        "python": platform.python_version(),
        "git": _git_revision(),
        "command": ["laconic", *sys.argv[1:]],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failed write below `path` into one line; whatever stood there before is untouched."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; nothing was half-written: "
            "free space or choose another directory"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: aside, flushed to disk, then renamed."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def append_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add lines to a growing log."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing; is {path.parent} what a laconic command wrote?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not valid JSON ({error}); write it again with the command that made it") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Records of a log; a last line that a killed process left unfinished is ignored."""
    if not path.exists():
        raise RunError(f"{path} is missing; is {path.parent} what a laconic command wrote?")
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            raise RunError(f"{path}:{number} is not valid JSON; write it again with the command that made it") from None
    return records


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A folder to fill; it appears at `path` complete, or not at all."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield aside
            for file in aside.rglob("*"):
                _flush(file)
            if path.exists():
                shutil.rmtree(path)
            os.replace(aside, path)
            _flush(path.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
