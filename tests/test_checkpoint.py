"""A run goes on from its newest good checkpoint and ends, file for file, as one that was never disturbed."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarks.kills import contents

from disk import snapshot
from running import adaptive
from suffice.config import load_recipe
from suffice.engines.local import train
from suffice.engines.session import forget_after, made
from suffice.errors import RunError
from suffice.model.checkpoint import damage, latest_checkpoint, restore, seal
from suffice.run.directory import Run
from suffice.run.files import write_json, write_jsonl
from suffice.run.layout import LOCK
from suffice.run.lock import locked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, saved and evaluated after two and four, that was never disturbed."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("straight") / "run"
    train(adaptive(), run)
    return run


@pytest.fixture
def run(straight: Path, tmp_path: Path) -> Path:
    return shutil.copytree(straight, tmp_path / "run")


@pytest.fixture
def folder(run: Path) -> Path:
    return Run(run).checkpoint(2)


def resume(run: Path) -> None:
    train(load_recipe(str(run / "recipe.toml")), run, resume=True)


def test_a_server_finds_the_models_weights_and_no_others(folder: Path):
    """vLLM loads every file of that ending, and ends where one holds something else."""
    assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]


# -- damage


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def exchange(path: Path) -> None:
    shutil.copyfile(path.parents[1] / "step-000004" / path.name, path)


@pytest.mark.parametrize("spoil", [flip, cut, exchange])
@pytest.mark.parametrize("name", ["model.safetensors", "trainer.tensors", "trainer.json"])
def test_a_file_that_is_not_the_one_saved_is_named(folder: Path, spoil: Callable[[Path], None], name: str):
    assert damage(folder) is None
    spoil(folder / name)
    assert damage(folder) == f"{name} is not what was saved"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "trainer.json"])
def test_a_file_that_is_gone_is_named(folder: Path, name: str):
    (folder / name).unlink()
    assert damage(folder) == f"{name} is missing"


def test_a_file_that_a_user_put_beside_the_checkpoint_is_no_damage(folder: Path):
    (folder / "NOTES.md").write_text("my favourite")
    assert damage(folder) is None


@pytest.mark.parametrize("manifest", [None, b"", b"\xff", b"{", b"[]", b"{}", b'{"config.json": 1}', b"[" * 100_000])
def test_a_checkpoint_whose_list_of_files_is_not_good_is_damaged(folder: Path, manifest: bytes | None):
    (folder / "files.json").unlink()
    if manifest is not None:
        (folder / "files.json").write_bytes(manifest)
    assert damage(folder)


def test_a_list_of_files_is_not_led_out_to_a_device_without_end(folder: Path):
    write_json(folder / "files.json", {"config.json": {}, "/dev/zero": {}})
    assert damage(folder)


# -- which checkpoint is taken


def test_checkpoints_are_ordered_by_their_number(tmp_path: Path):
    for step in (999_999, 1_000_000):
        write_json(Run(tmp_path).checkpoint(step) / "config.json", {})
        seal(Run(tmp_path).checkpoint(step))
    (tmp_path / "checkpoints" / "step-last").mkdir()
    assert latest_checkpoint(tmp_path) == Run(tmp_path).checkpoint(1_000_000)


def test_the_newest_good_checkpoint_is_taken_and_each_damaged_one_said_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str]
):
    assert latest_checkpoint(run) == Run(run).checkpoint(4)
    flip(Run(run).checkpoint(4) / "model.safetensors")
    Run(run).checkpoint(6).touch()
    capsys.readouterr()
    assert latest_checkpoint(run) == Run(run).checkpoint(2)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[1] == (
        f"warning: {Run(run).checkpoint(4)} is damaged and passed over: model.safetensors is not what was saved"
    )


@pytest.mark.parametrize("damaged", [[4], [2, 4]])
def test_a_run_goes_on_from_before_the_damage_and_ends_as_if_there_had_been_none(
    run: Path, straight: Path, damaged: list[int]
):
    for step in damaged:
        cut(Run(run).checkpoint(step) / "trainer.tensors")
    resume(run)
    assert contents(run) == contents(straight)


def test_the_state_of_other_weights_is_refused(folder: Path):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(RunError, match="other trained weights"):
        restore(folder, model, torch.optim.AdamW(model.parameters()))


# -- a run that was killed


def without(run: Path, *names: str) -> None:
    for name in names:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_finished_run_is_left_as_it_is_and_said_to_be(run: Path, capsys: pytest.CaptureFixture[str]):
    before = snapshot(run)
    resume(run)
    assert capsys.readouterr().err == f"{run} is finished: nothing is left to do\n"
    assert snapshot(run) == before


@pytest.mark.parametrize("whole", [[], ["manifest.json", "data.json"]])
def test_a_run_killed_as_it_began_is_trained_from_the_start(straight: Path, tmp_path: Path, whole: list[str]):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.toml", *whole):
        shutil.copyfile(straight / name, run / name)
    resume(run)
    assert contents(run) == contents(straight)
    assert (run / "manifest.json").exists()


@pytest.mark.parametrize(
    ("missing", "kept"),
    [
        (["comparison.json"], ["after", "after-greedy"]),
        (["comparison.json", "evaluations/after-greedy"], ["before", "before-greedy", "step-000002", "after"]),
        (["comparison.json", "evaluations/after-greedy", "evaluations/after"], ["before", "step-000002-greedy"]),
    ],
)
def test_a_run_killed_while_it_evaluated_its_end_does_only_what_is_missing(
    run: Path, straight: Path, missing: list[str], kept: list[str]
):
    without(run, *missing)
    before = [snapshot(run / "checkpoints"), *(snapshot(run / "evaluations" / label) for label in kept)]
    resume(run)
    assert contents(run) == contents(straight)
    assert [snapshot(run / "checkpoints"), *(snapshot(run / "evaluations" / label) for label in kept)] == before


def test_what_belongs_to_steps_that_are_done_again_is_forgotten(tmp_path: Path):
    labels = ["before", "before-greedy", "step-000002", "step-000010", "step-000010-greedy", "after", "after-greedy"]
    for label in labels:
        (tmp_path / "evaluations" / label).mkdir(parents=True)
    for log in ("metrics.jsonl", "rollouts.jsonl"):
        write_jsonl(tmp_path / log, [{"step": step} for step in (1, 2, 3)])
    write_json(tmp_path / "comparison.json", {})
    forget_after(tmp_path, 2, steps=12)
    assert sorted(path.name for path in (tmp_path / "evaluations").iterdir()) == labels[:3]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert not (tmp_path / "comparison.json").exists()


def test_a_run_that_another_process_resumes_is_refused_before_anything_is_loaded(run: Path):
    before = snapshot(run)
    with locked(run), pytest.raises(RunError, match="another process works in"):
        resume(run)
    assert snapshot(run) == before


def test_a_run_that_was_trained_in_is_not_begun_again(run: Path):
    before = snapshot(run)
    with pytest.raises(RunError, match=r"was trained in already; .*continue it with --resume"):
        train(adaptive(), run)
    assert snapshot(run) == before


def test_a_new_run_that_another_process_holds_is_left_empty(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    with locked(run), pytest.raises(RunError, match="another process works in"), made(run, adaptive()):
        pytest.fail("the run was begun")
    assert [path.name for path in run.iterdir()] == [LOCK]


def test_no_checkpoint_is_ahead_of_its_log_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a failure of power leaves: a file has no more than it had when it was last flushed."""
    run, flushed, published = tmp_path / "run", dict[int, int](), list[int]()
    fsync, replace = os.fsync, os.replace

    def flush(handle: int) -> None:
        fsync(handle)
        flushed[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def publish(source: Path, target: Path) -> None:
        if re.fullmatch(r"step-\d+", Path(target).name) and Path(target).parent.name == "checkpoints":
            for name in ("metrics.jsonl", "rollouts.jsonl"):
                state = (run / name).stat()
                assert flushed[state.st_ino] == state.st_size
            assert all(path.stat().st_ino in flushed for path in [*Path(source).rglob("*"), Path(source)])
            published.append(int(Path(target).name[5:]))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", publish)
    plain = adaptive()
    plain.train.eval_every = 0
    train(plain, run)
    assert published == [2, 4]


# -- what the source never does

SOURCE = Path(__file__).parent.parent / "src" / "suffice"


def used(path: Path) -> set[str]:
    """Dotted names of all that a module uses, whatever it calls them: `now` after `from time import time as now` is
    `time.time`, and a name that it did not import stands for itself."""
    tree, known, imported = ast.parse(path.read_text(encoding="utf-8")), dict[str, str](), set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                known |= {each.asname: each.name for each in names if each.asname}
                imported |= {each.name for each in names}
            case ast.ImportFrom(module=str(module), names=names):
                known |= {each.asname or each.name: f"{module}.{each.name}" for each in names}

    def dotted(node: ast.AST) -> str:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                return known.get(name, name)
            case ast.Attribute(value=owner, attr=name):
                return f"{dotted(owner)}.{name}"
        return ""

    return {*imported, *known.values(), *map(dotted, ast.walk(tree))}


def users(*names: str, source: Path = SOURCE) -> set[str]:
    """The modules of the package that use one of these, or something below it."""
    wanted = tuple(f"{name}." for name in names)
    return {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if any(f"{name}.".startswith(wanted) for name in used(path))
    }


CLOCKS = ("datetime", *(f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime")))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "import time\ntime.time()",
            "import time as t\nt.time()",
            "from time import time",
            "from time import time as t",
        ),
        *("import datetime", "import datetime as d", "from datetime import UTC"),
    ],
)
def test_every_way_to_take_the_wall_clock_is_seen(tmp_path: Path, text: str):
    (tmp_path / "module.py").write_text(text)
    assert users(*CLOCKS, source=tmp_path) == {"module.py"}
    (tmp_path / "module.py").write_text("import time\ntime.perf_counter()")
    assert users(*CLOCKS, source=tmp_path) == set()


def test_the_wall_clock_decides_nothing():
    """It names directories and is noted in manifests (run/), and `suffice watch` tells the age of a log by it."""
    assert {name for name in users(*CLOCKS) if not name.startswith("run/")} == {"watch.py"}


def test_nothing_in_the_package_unpickles_or_evaluates():
    """No import of what unpickles, no `torch.load`, no `eval` or `exec`: state is safetensors and JSON."""
    unpickle = ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "numpy.load")
    assert users(*unpickle, "eval", "exec", "compile") == set()
