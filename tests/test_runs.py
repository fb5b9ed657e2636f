"""What a run writes is there whole or not at all, and what stood there before survives every failure."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from disk import files_of_at_most, names, unwritable
from suffice.errors import RunError
from suffice.run.files import (
    append_jsonl,
    read_json,
    read_jsonl,
    whole_directory,
    write_json,
    write_jsonl,
    write_text,
)
from suffice.run.lock import locked
from suffice.run.start import create_run, free_run, start_run, timestamped


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def refusal(error: pytest.ExceptionInfo[RunError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# -- files


def test_a_file_is_written_with_the_folders_it_needs_and_nothing_beside_it(tmp_path: Path):
    write_text(tmp_path / "a" / "b" / "file.txt", "λ − done\n")
    assert (tmp_path / "a" / "b" / "file.txt").read_text(encoding="utf-8") == "λ − done\n"
    assert names(tmp_path / "a" / "b") == ["file.txt"]


def test_a_full_disk_leaves_the_former_file_and_nothing_half_written(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "former")
    with files_of_at_most(1000), pytest.raises(RunError) as error:
        write_text(path, "x" * 100_000)
    assert "free space" in refusal(error)
    assert str(path) in refusal(error)
    assert path.read_text() == "former"
    assert names(tmp_path) == ["file.txt"]


def test_a_disk_that_really_is_full_is_named_as_such(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        write_text(disk / "file.txt", "former")
        with pytest.raises(RunError, match="No space left on device"):
            write_text(disk / "file.txt", "x" * 200_000)
        with pytest.raises(RunError, match="No space left on device"), whole_directory(disk / "folder") as aside:
            save_file({"weight": torch.zeros(100_000)}, aside / "model.safetensors")
        assert (disk / "file.txt").read_text() == "former"
        assert names(disk) == ["file.txt"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_what_is_written_has_the_permissions_that_the_user_asked_for(
    tmp_path: Path, mask: int, file_mode: int, folder_mode: int
):
    with umask(mask):
        write_text(tmp_path / "file.txt", "text")
        with whole_directory(tmp_path / "folder") as aside:
            write_text(aside / "file.txt", "text")
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == file_mode
    assert stat.S_IMODE((tmp_path / "folder" / "file.txt").stat().st_mode) == file_mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder_mode


def test_a_file_below_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(RunError) as error:
        write_text(tmp_path / "file" / "inner.txt", "text")
    assert "choose another directory" in refusal(error)


def test_a_folder_without_write_permission_is_refused():
    with unwritable() as folder, pytest.raises(RunError, match="Permission denied"):
        write_text(folder / "file.txt", "text")


# -- folders


def test_a_folder_appears_whole_and_replaces_the_former_one(tmp_path: Path):
    target = tmp_path / "runs" / "folder"
    for content in ("former", "new"):
        with whole_directory(target) as aside:
            write_text(aside / f"{content}.txt", content)
            assert not (target / f"{content}.txt").exists()
    assert names(target) == ["new.txt"]
    assert names(target.parent) == ["folder"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("a bug"), KeyboardInterrupt()])
def test_a_failure_leaves_the_former_folder_and_nothing_beside_it(tmp_path: Path, failure: BaseException):
    target = tmp_path / "folder"

    def fill(text: str, end: BaseException | None = None) -> None:
        with whole_directory(target) as aside:
            write_text(aside / "file.txt", text)
            if end:
                raise end

    fill("former")
    with pytest.raises((RunError, ValueError, KeyboardInterrupt)):
        fill("half", failure)
    assert (target / "file.txt").read_text() == "former"
    assert names(tmp_path) == ["folder"]


def test_only_a_failed_write_becomes_a_users_error(tmp_path: Path):
    with pytest.raises(ValueError, match="a bug"), whole_directory(tmp_path / "folder"):
        raise ValueError("a bug")


def test_a_full_disk_under_safetensors_is_the_same_one_line(tmp_path: Path):
    with files_of_at_most(1000), pytest.raises(RunError) as error, whole_directory(tmp_path / "folder") as aside:
        save_file({"weight": torch.zeros(10_000)}, aside / "model.safetensors")
    assert "File too large" in refusal(error)
    assert names(tmp_path) == []


def test_a_full_disk_under_a_tokenizer_is_the_same_one_line(tmp_path: Path):
    from suffice.model.resolve import SHIPPED
    from suffice.model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(SHIPPED)
    with files_of_at_most(1000), pytest.raises(RunError) as error, whole_directory(tmp_path / "folder") as aside:
        tokenizer.save_pretrained(aside)
    assert "File too large" in refusal(error)
    assert names(tmp_path) == []


# -- logs


def test_a_log_grows_and_reads_back(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"step": 1, "text": "λ\u2028x"}])
    append_jsonl(path, [{"step": 2}, {"step": 3}])
    assert [line["step"] for line in read_jsonl(path)] == [1, 2, 3]
    assert read_jsonl(path)[0]["text"] == "λ\u2028x"


@given(st.data())
def test_a_log_cut_anywhere_reads_as_its_finished_lines(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = [f'{{"step": {step}, "text": "λ − 你好"}}\n'.encode() for step in range(3)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    assert [line["step"] for line in read_jsonl(path)] == list(range(whole[:cut].count(b"\n")))


@pytest.mark.parametrize("broken", [b"{", b"\xff\xfe", b"", b"{'step': 2}"])
def test_a_broken_line_in_the_middle_is_named_by_file_and_line(tmp_path: Path, broken: bytes):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + broken + b'\n{"step": 3}\n')
    with pytest.raises(RunError) as error:
        read_jsonl(path)
    assert f"{path}:2 is not valid JSON" in refusal(error)


def test_records_and_values_read_back_as_written(tmp_path: Path):
    write_jsonl(tmp_path / "records.jsonl", [{"a": 1}, {"b": "\n"}])
    write_json(tmp_path / "value.json", {"λ": [1.5, None]})
    assert read_jsonl(tmp_path / "records.jsonl") == [{"a": 1}, {"b": "\n"}]
    assert read_json(tmp_path / "value.json") == {"λ": [1.5, None]}
    assert "λ" in (tmp_path / "value.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_a_file_that_is_missing_is_named(tmp_path: Path, read):
    with pytest.raises(RunError, match="is missing"):
        read(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_a_malformed_json_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as error:
        read_json(path)
    assert f"{path} is not valid JSON" in refusal(error)


# -- run directories


def test_a_run_starts_with_its_recipe_and_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/suffice", "train", "mine"])
    run = start_run(tmp_path / "runs" / "mine", "[train]\nsteps = 1\n")
    assert names(run) == ["manifest.json", "recipe.toml"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["command"] == ["suffice", "train", "mine"]
    assert manifest["torch"] == torch.__version__
    assert manifest["created"].endswith("+00:00")


def test_an_empty_folder_may_become_a_run(tmp_path: Path):
    assert create_run(tmp_path) == tmp_path


@pytest.mark.parametrize("remnant", [".lock", ".recipe.toml.0123abcd", ".request.json.89abcdef"])
def test_what_a_process_left_that_was_killed_as_it_began_does_not_take_a_directory(tmp_path: Path, remnant: str):
    (tmp_path / remnant).write_text("half")
    assert names(start_run(tmp_path, "")) == sorted([remnant, "manifest.json", "recipe.toml"])
    with locked(tmp_path):
        assert names(tmp_path) == [".lock", "manifest.json", "recipe.toml"]


def test_a_run_directory_with_something_in_it_is_refused(tmp_path: Path):
    (tmp_path / "something").touch()
    for make in (free_run, create_run):
        with pytest.raises(RunError) as error:
            make(tmp_path)
        assert refusal(error) == f"{tmp_path} exists already; choose another directory"


def test_asking_for_a_free_directory_makes_nothing(tmp_path: Path):
    assert free_run(tmp_path / "a" / "run") == tmp_path / "a" / "run"
    assert names(tmp_path) == []


def test_a_file_is_no_run_directory_and_none_can_lie_below_it(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError) as error:
            create_run(path)
        assert "choose another" in refusal(error)


def test_a_name_too_long_for_a_directory_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="name too long"):
        create_run(tmp_path / ("x" * 300))


def test_a_run_in_a_folder_without_write_permission_is_refused():
    with unwritable() as folder, pytest.raises(RunError, match="Permission denied"):
        create_run(folder / "run")


def test_two_runs_of_one_second_get_two_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    first = create_run(timestamped("train"))
    second = create_run(timestamped("train"))
    assert first != second
    assert first.parent == second.parent == Path("runs")


def test_what_a_killed_process_left_half_written_is_swept_when_the_next_one_begins(tmp_path):
    half = tmp_path / "checkpoints" / ".step-000050.0123abcd"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".metrics.jsonl.89abcdef").write_text("half")
    (tmp_path / ".hidden").write_text("the user's own")
    with locked(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".hidden", ".lock", "checkpoints"]


def test_what_made_room_for_a_new_folder_that_never_came_is_put_back(tmp_path):
    former = tmp_path / ".e.0123abcd.former"
    former.mkdir()
    (former / "summary.json").write_text("precious")
    (tmp_path / ".e.89abcdef").mkdir()
    with locked(tmp_path):
        assert (tmp_path / "e" / "summary.json").read_text() == "precious"
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "e"]


def test_a_run_directory_is_held_by_one_process_and_given_back(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="another process works in"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


HOLDS = """
import subprocess, sys
from pathlib import Path
from suffice.run.lock import locked
with locked(Path(sys.argv[1])) as lock:
    child = subprocess.Popen(["sleep", "60"], pass_fds=[lock] * (sys.argv[2] == "passed on"), stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kept", "passed on"])
def test_a_killed_process_holds_its_run_only_through_a_child_that_it_passed_the_lock_on_to(tmp_path: Path, how: str):
    command = [sys.executable, "-c", HOLDS, str(tmp_path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        with pytest.raises(RunError, match=rf"fuser {tmp_path}/\.lock"), locked(tmp_path):
            pass
        process.kill()
    try:
        if how == "passed on":
            with pytest.raises(RunError, match="another process works in"), locked(tmp_path):
                pass
        else:
            with locked(tmp_path):
                pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_what_cannot_be_read_is_named(tmp_path: Path, read):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "deep.json").write_text("[" * 100_000 + "\n")
    (tmp_path / "other.jsonl").write_text("1\n")
    for name in ["folder.json", "deep.json", *["other.jsonl"] * (read is read_jsonl)]:
        with pytest.raises(RunError) as error:
            read(tmp_path / name)
        assert name in refusal(error)
