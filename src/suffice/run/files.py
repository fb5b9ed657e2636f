"""Files and folders that are written whole or not at all, and JSON that is read with the place of every mistake."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from suffice.errors import RunError

ASIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<former>\.former)?")
"""The name under which `name` is prepared; with `former` what made room for it."""


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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write a file at; it appears at `path` complete, or not at all: flushed to the disk, then renamed."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path)
        try:
            yield aside
            _flush(aside)
            os.replace(aside, path)
            _flush(path.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


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


def _aside(path: Path) -> Path:
    """Where to prepare what will be renamed to `path`; unlike `tempfile`, what is made there has usual permissions."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def append_jsonl(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to a growing log; they are on the disk when this returns, so that no checkpoint is ahead of its log."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
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


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that a killed process left unfinished is ignored."""
    if not path.exists():
        raise RunError(f"{path} is missing; is {path.parent} what a suffice command wrote?")
    try:
        lines = path.read_bytes().split(b"\n")  # as bytes: the unfinished line may end inside a character
    except OSError as error:
        raise _unreadable(path, error) from None
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # malformed JSON or UTF-8, brackets nested without end
            value = None
        if not isinstance(value, dict):
            raise RunError(f"{path}:{number} is not valid JSON; write it again with the command that made it")
        found.append(value)
    return found


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot read {path}: {error.strerror}; check that it is a readable file")
