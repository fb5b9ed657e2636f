"""What `--engine verl` imports is looked at before it starts: each lack is one line with what mends it."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from suffice.engines.verl import installed
from suffice.errors import SufficeError
from suffice.extras import install_command
from suffice.run.files import write_text
from verl_making import configured

pytestmark = pytest.mark.slow

needs_verl = pytest.mark.skipif(not find_spec("verl"), reason="verl is not installed: pip install '.[verl]'")


@pytest.mark.parametrize(
    ("needed", "says"),
    [
        ({"no-such-engine": ("1", "2")}, f"not installed: {re.escape(install_command('gpu'))}$"),
        ({"pytest": ("999", "1000")}, r"pip install 'pytest>=999,<1000'"),
    ],
)
def test_a_missing_or_unfit_verl_is_one_line_with_the_way_out(monkeypatch, needed, says):
    monkeypatch.setattr(installed, "NEEDED", needed)
    with pytest.raises(SufficeError, match=says) as error:
        installed.check_installed()
    assert "\n" not in str(error.value)


def lacks(**asked):
    return {part.name: part.lack for part in installed.parts(**asked) if part.lack}


def package(folder: Path, name: str, code: str = "", version: str = "1.0", requires: tuple[str, ...] = ()) -> None:
    """A package as an installer leaves it."""
    write_text(folder / name / "__init__.py", code)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    write_text(folder / f"{name}-{version}.dist-info" / "METADATA", "\n".join(lines) + "\n")


@needs_verl
def test_what_the_recipe_runs_on_here_is_not_asked_for_a_server_or_an_attention_of_a_gpu():
    assert not lacks(server="suffice-cpu", attention="sdpa", cuda=False)


@needs_verl
def test_a_server_and_an_attention_that_are_missing_are_named_with_their_commands(monkeypatch):
    monkeypatch.setattr(installed, "SERVERS", {"vllm": "no_such_server"})
    monkeypatch.setattr(installed, "ATTENTION", {"flash_attention_2": "no_such_attention"})
    found = lacks(cuda=False)
    assert found["no-such-server"] == f"needs no-such-server, which is not installed: {install_command('gpu')}"
    assert found["no-such-attention"].endswith("pip install flash-attn==2.8.3 --no-build-isolation")
    config, _ = configured()
    config.trainer.device = "cpu"
    with pytest.raises(SufficeError, match="--engine verl needs no-such-server") as error:
        installed.check_runnable(config)
    assert "\n" not in str(error.value)


@needs_verl
def test_a_build_that_does_not_load_is_found_before_ray_is_started(monkeypatch, tmp_path):
    package(tmp_path, "broken_attention", "raise ImportError('undefined symbol: _ZN3c10')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(installed, "ATTENTION", {"flash_attention_2": "broken_attention"})
    monkeypatch.setattr(installed, "SERVERS", {})
    assert not lacks(cuda=False)  # without a GPU it is not loaded
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (said,) = lacks(cuda=False).values()
    assert "cannot load broken-attention 1.0 (ImportError: undefined symbol: _ZN3c10)" in said


@needs_verl
def test_versions_that_do_not_fit_each_other_are_named_with_the_command(monkeypatch, tmp_path):
    package(tmp_path, "some_server", requires=("torch==2.11.0", "absent>=1", "numpy>=1; extra == 'never'"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(installed, "SERVERS", {"vllm": "some_server"})
    monkeypatch.setattr(installed, "ATTENTION", {})
    said = lacks(cuda=False)["some-server and torch"]
    assert said == f"cannot use some-server 1.0 with torch {torch.__version__}: pip install 'torch==2.11.0'"
    assert len(lacks(cuda=False)) == 1


@pytest.mark.parametrize(
    ("build", "driver", "says"),
    [
        (None, None, r"needs a torch with CUDA, not .*: pip install"),
        (
            "13.0",
            "570.86.15",
            r"driver 580\.65\.06 or newer for torch's CUDA 13\.0, not 570\.86\.15: update the driver",
        ),
        ("12.8", "470.57.02", r"driver 525\.60\.13 or newer"),
        ("13.0", "580.65.06", ""),
        ("12.8", "535.54.03", ""),  # within a major version an older driver will do
        ("13.0", None, ""),
        ("14.1", "600.1.1", ""),  # of which nothing is known here
    ],
)
def test_a_torch_is_held_against_the_driver(build, driver, says):
    found = installed._cuda(build, driver)
    assert re.search(says, found.lack) if says else not found.lack


@pytest.mark.parametrize(
    ("said", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n", "535.54.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  570.86  Release Build\n", "570.86"),
        ("nothing that is known", None),
    ],
)
def test_a_driver_says_its_version_in_a_file(monkeypatch, tmp_path, said, driver):
    monkeypatch.setattr(installed, "DRIVER_FILE", tmp_path / "version")
    assert installed.driver() is None
    (tmp_path / "version").write_text(said + "GCC version:  gcc version 12.3.0\n")
    assert installed.driver() == driver


def test_a_python_beyond_verls_is_refused(monkeypatch):
    monkeypatch.setattr(installed, "python_version", lambda: "3.13.2")
    with pytest.raises(SufficeError, match=r"needs Python .*<3\.13.*, not 3\.13\.2: python3\.12 -m venv"):
        installed.check_installed()
