"""The run directory: what is written there, and how nothing is ever half-written.

recipe.toml      the resolved recipe            metrics.jsonl    one line per step
manifest.json    versions, revision, command    rollouts.jsonl   sampled groups to look at
data.json        where problems come from       request.json     what eval or diagnose was asked
journal/<task>.jsonl  samples of an unfinished eval or diagnose
checkpoints/step-NNNNNN/                        evaluations/<label>/{summary.json, records.jsonl}
diagnosis/<label>/{summary.json, records.jsonl} report.html
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from suffice.errors import RunError


def free_run(directory: str | Path) -> Path:
    """The path of a run to be, which nothing occupies. Nothing is made yet: first see that model and data are good.

    What a process left that was killed before its first file was whole occupies nothing.

    Raises:
        RunError: it exists already with something in it, or cannot be looked into.
    """
    path = Path(directory)
    with _run_errors(path):
        taken = path.exists() and not (path.is_dir() and all(_is_remnant(inner.name) for inner in path.iterdir()))
    if taken:
        verb = "train" if (path / "recipe.toml").exists() else "eval or diagnose"
        begun = (path / "recipe.toml").exists() or (path / "request.json").exists()
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
        **{package: version(package) for package in ("suffice", "torch", "transformers")},
        "python": platform.python_version(),
        "git": _git_revision(),
        "command": ["suffice", *sys.argv[1:]],
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
    except Exception as error:
        # safetensors and tokenizers raise kinds of their own, whose message ends as Rust writes a failed system call
        native = re.search(r"\(os error (\d+)\)", str(error))
        if native is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(int(native[1])) if native else getattr(error, "strerror", None) or error
        raise RunError(
            f"cannot write {path}: {reason}; nothing was half-written: free space or choose another directory"
        ) from None


LOCK = ".lock"
_ASIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<former>\.former)?")


def _is_remnant(name: str) -> bool:
    return name == LOCK or _ASIDE.fullmatch(name) is not None


def _aside(path: Path) -> Path:
    """Where to prepare what will be renamed to `path`; unlike `tempfile`, what is made there has usual permissions."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: aside, flushed to disk, then renamed."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path)
        try:
            with aside.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            _flush(path.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def append_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add lines to a growing log; they are on the disk when this returns, so that no checkpoint is ahead of its log."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing; is {path.parent} what a suffice command wrote?") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:  # malformed JSON or UTF-8, brackets nested without end
        raise RunError(f"{path} is not valid JSON ({error}); write it again with the command that made it") from None


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot read {path}: {error.strerror}; check that it is a readable file")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Records of a log; a last line that a killed process left unfinished is ignored."""
    if not path.exists():
        raise RunError(f"{path} is missing; is {path.parent} what a suffice command wrote?")
    try:
        lines = path.read_bytes().split(b"\n")  # as bytes: the unfinished line may end inside a character
    except OSError as error:
        raise _unreadable(path, error) from None
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # malformed JSON or UTF-8, brackets nested without end
            record = None
        if not isinstance(record, dict):
            raise RunError(f"{path}:{number} is not valid JSON; write it again with the command that made it")
        records.append(record)
    return records


@contextmanager
def locked(run: Path) -> Iterator[int]:
    """Holds a run directory for this process alone. The lock goes with the process, however it ends; what a process
    that was killed left half-written is removed.

    Yields the descriptor that holds the lock. Children do not inherit it, unless it is passed on to one that must hold
    the directory beyond its parent's end.

    Raises:
        RunError: another process works in it.
    """
    with disk_errors(run):
        handle = (run / LOCK).open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process works in {run}; wait for it, end it (fuser {run / LOCK}), or choose another directory"
            ) from None
        _sweep(run)
        yield handle.fileno()


def _sweep(run: Path) -> None:
    """Remove what was prepared aside and never took its place; put back what had made room for it."""
    for path in [*run.rglob(".*")]:
        found = _ASIDE.fullmatch(path.name)
        if found is None or not path.exists():
            continue
        target = path.with_name(found["name"])
        if found["former"] and not target.exists():
            os.replace(path, target)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class Journal:
    """A log of work in progress that loses nothing written, whenever the process is killed. Use it as a context.

    A line that a killed process left unfinished is cut off before more is appended; appended records are on the disk
    when `append` returns; a second process that opens the same log is refused.

    Raises:
        RunError: another process has it open, or it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []

    def __enter__(self) -> Journal:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise RunError(f"another process is writing {self.path}; wait for it, or choose another --out") from None
        self.records = read_jsonl(self.path)
        self.file.seek(0)
        self.file.truncate(self.file.read().rfind(b"\n") + 1)
        return self

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        with disk_errors(self.path):
            self.file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
            self.file.flush()
            os.fsync(self.file.fileno())

    def __exit__(self, *error: object) -> None:
        self.file.close()


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A folder to fill; it appears at `path` complete, or not at all, and what stood there goes last."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside, former = _aside(path), path.with_name(f"{_aside(path).name}.former")
        try:
            aside.mkdir()
            yield aside
            for written in (*aside.rglob("*"), aside):
                _flush(written)
            if path.exists():
                os.replace(path, former)
            os.replace(aside, path)
            _flush(path.parent)
            shutil.rmtree(former, ignore_errors=True)
        except BaseException:
            if former.exists() and not path.exists():
                os.replace(former, path)
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
