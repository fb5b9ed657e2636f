"""What `--engine verl` will import, looked at before anything is paid for: each lack with what mends it.

verl imports its server and its attention minutes after the start, inside a process of Ray's; a lack would be found
there, in a traceback of many processes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, NamedTuple

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from suffice.errors import RecipeError
from suffice.extras import install_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

NEEDED = {"verl": ("0.9.1", "0.10"), "TransferQueue": ("0.1.10", "0.2")}
PYTHON = "<3.13"  # of verl 0.9.1, where it is not installed to say so itself
SERVERS = {"vllm": "vllm", "sglang": "sglang"}
"""What a rollout server's name imports. Another's is its platform's own affair."""
ATTENTION = {"flash_attention_2": "flash_attn"}
FLASH = "pip install flash-attn==2.8.3 --no-build-isolation"  # it builds against the torch that is there
DEFAULT_ATTENTION = "flash_attention_2"  # verl's
# NVIDIA's oldest driver for each major version of CUDA, by which its minor versions run (CUDA's release notes, table 2)
DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
DRIVER_FILE = Path("/proc/driver/nvidia/version")
LOADING = 180.0  # seconds that an import may take


class Part(NamedTuple):
    """Something a run needs: what was found of it, or what is wrong and the command that mends it."""

    name: str
    found: str
    lack: str = ""


def check_installed() -> None:
    """
    Raises:
        RecipeError: verl is not there, or not a version that this engine is written for, or not for this Python.
    """
    _refuse([_python(), *map(_package, NEEDED)])


def check_runnable(config: DictConfig) -> None:
    """What a configuration's processes will import.

    Raises:
        RecipeError: it is not there, does not load, or does not fit the rest.
    """
    asked = config.actor_rollout_ref
    attention = asked.model.override_config.get("attn_implementation", DEFAULT_ATTENTION)
    _refuse(parts(asked.rollout.name, attention, cuda=config.trainer.device == "cuda"))


def parts(server: str = "vllm", attention: str = DEFAULT_ATTENTION, *, cuda: bool = True) -> Iterator[Part]:
    """All that a run of verl's imports, its server and attention by verl's names for them."""
    yield _python()
    yield from map(_package, NEEDED)
    if cuda:
        yield _cuda(torch.version.cuda, driver())
    for module, mend in ((SERVERS.get(server), install_command("gpu")), (ATTENTION.get(attention), FLASH)):
        if module:
            yield _module(module, mend)
            yield from _misfits(module)
    yield from _misfits("verl")


def driver() -> str | None:
    """NVIDIA's driver on this machine, if it has one."""
    if not DRIVER_FILE.is_file():
        return None
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", DRIVER_FILE.read_text())
    return found[0] if found else None


def _refuse(found: Iterator[Part] | list[Part]) -> None:
    for part in found:
        if part.lack:
            raise RecipeError(f"--engine verl {part.lack}")


def _python() -> Part:
    asked = (metadata("verl")["Requires-Python"] if _version("verl") else None) or PYTHON
    if SpecifierSet(asked).contains(python_version(), prereleases=True):
        return Part("python", python_version())
    lack = f"needs Python {asked}, not {python_version()}: python3.12 -m venv .venv, and install there"
    return Part("python", python_version(), lack)


def _package(name: str) -> Part:
    least, below = NEEDED[name]
    found = _version(name)
    if found is None:
        return Part(name, "not installed", f"needs {name}, which is not installed: {install_command('gpu')}")
    if Version(least) <= Version(found) < Version(below):
        return Part(name, found)
    wanted = f"{name}>={least},<{below}"
    lack = f"needs {name} >= {least} and < {below}, not {found}: pip install '{wanted}'"
    return Part(name, found, lack)


def _module(module: str, mend: str) -> Part:
    """A module that only a GPU's machine has; where a GPU is, it must load too: builds for another torch do not."""
    name = module.replace("_", "-")
    if find_spec(module) is None:
        return Part(name, "not installed", f"needs {name}, which is not installed: {mend}")
    found = _version(name) or "of unknown version"
    if not torch.cuda.is_available():
        return Part(name, found)
    if wrong := _loading(module):
        return Part(name, found, f"cannot load {name} {found} ({wrong}): pip uninstall {name}, then {mend}")
    return Part(name, found)


def _loading(module: str) -> str:
    """Why a module does not load, in a process of its own; empty if it does."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOADING, check=False)
    except subprocess.TimeoutExpired:
        return f"not within {LOADING:.0f} s"
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")[:200]


def _cuda(build: str | None, driver: str | None) -> Part:
    """torch's build of CUDA against the driver."""
    if build is None:
        lack = f"needs a torch with CUDA, not {torch.__version__}: {install_command('gpu')}"
        return Part("CUDA", "none in torch", lack)
    least = DRIVERS.get(int(build.partition(".")[0]))
    if driver and least and Version(driver) < Version(least):
        lack = f"needs NVIDIA's driver {least} or newer for torch's CUDA {build}, not {driver}: update the driver"
        return Part("CUDA", f"{build}, driver {driver}", lack)
    return Part("CUDA", f"{build}, driver {driver or 'not here'}")


def _misfits(name: str) -> Iterator[Part]:
    """What is installed, but not in a version that a package asks for."""
    name = name.replace("_", "-")
    for line in requires(name) or [] if _version(name) else []:
        asked = Requirement(line)
        found = _version(asked.name)
        if not found or (asked.marker and not asked.marker.evaluate({"extra": ""})):
            continue
        if not asked.specifier.contains(found, prereleases=True):
            wanted = f"{asked.name}{asked.specifier}"
            lack = f"cannot use {name} {_version(name)} with {asked.name} {found}: pip install '{wanted}'"
            yield Part(f"{name} and {asked.name}", found, lack)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
