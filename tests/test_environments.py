"""The environments that the documents name resolve, by a resolver and an index, without a wheel being fetched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
GPU = (ROOT / "constraints-gpu.txt").read_text(encoding="utf-8").splitlines()
UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
LINUX = ("--python-platform", "x86_64-manylinux_2_35")


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.split("==") for line in lines if re.match(r"[\w.-]+==", line))


def resolved(*arguments: str, asked: str = "") -> subprocess.CompletedProcess[str]:
    """What uv makes of requirements, for Linux. Wheels are not fetched, their metadata are."""
    quiet = ("--system-certs", "--quiet", "--no-annotate", "--no-header")
    command = [str(UV), "pip", "compile", *quiet, *LINUX, *arguments]
    return subprocess.run(command, input=asked, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


@pytest.fixture(scope="module")
def index() -> None:
    """A resolver, and an index that answers."""
    if UV is None:
        pytest.skip("no resolver: uv is not installed")
    if resolved("-", "--python-version", "3.12", asked="packaging").returncode:
        pytest.skip("no package index can be reached")


def test_the_gpu_environment_pins_what_verl_says_it_runs_with():
    """verl 0.9.1 names exact versions of these in its extra `vllm`, and of flash-attn in `fsdp`."""
    found = pins(GPU)
    wanted = {"verl": "0.9.1", "vllm": "0.24.0", "torch": "2.11.0", "transformers": "5.9.0", "flash-attn": "2.8.3"}
    assert {name: found[name] for name in wanted} == wanted
    assert len(found) == sum("==" in line for line in GPU)


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_gpu_environment_resolves(index: None, python: str):
    """Of Python 3.11 and 3.12: verl goes no further. numpy has left 3.11 at the pin, so that there all may move."""
    constraints = ("--constraint", "constraints-gpu.txt") if python == "3.12" else ()
    done = resolved("pyproject.toml", "--extra", "gpu", "--python-version", python, *constraints)
    assert done.returncode == 0, done.stderr
    found, wanted = pins(done.stdout.splitlines()), pins(GPU)
    assert {"verl", "vllm", "transferqueue", "cachetools", "peft"} <= found.keys()
    for name in ("verl", "vllm", "torch", "transformers"):
        assert found[name] == wanted[name]
    if python == "3.12":  # nothing is left open, and nothing is pinned that is not wanted
        assert found == {name: version for name, version in wanted.items() if name != "flash-attn"}


@pytest.mark.slow
def test_trl_resolves_in_an_environment_of_its_own_and_with_verls_on_a_gpu_it_does_not(index: None):
    done = resolved("pyproject.toml", "--extra", "trl", "--extra", "lora", "--python-version", "3.12")
    assert done.returncode == 0, done.stderr
    found = pins(done.stdout.splitlines())
    asked = [Requirement(line) for line in ("trl>=1.16,<1.17", "transformers>=5.5.3,<6")]
    assert all(one.specifier.contains(found[one.name]) for one in asked)
    both = resolved("-", "--python-version", "3.12", asked="verl[vllm,fsdp]==0.9.1\ntrl>=1.16\n")
    assert "trl" in both.stderr
    assert both.returncode != 0
