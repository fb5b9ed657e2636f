"""What the whole suite stands on: the same surroundings on every machine, a tiny Qwen3 checkpoint, benchmark files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# -- the same surroundings, whoever runs it and wherever

# Of the environment what is needed to run at all, and what is meant for tests. The rest would decide what they see: a
# forced colour or a narrow terminal what is printed, a proxy or a key which server answers, a cluster who works.
KEPT = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LANGUAGE", "TZ", "CI", "VIRTUAL_ENV"}
KEPT_KINDS = ("LC_", "LD_", "PYTHON", "PYTEST", "HYPOTHESIS", "COV", "OMP_", "MKL_", "ATEN_", "SUFFICE_")
for name in set(os.environ) - KEPT:
    if not name.startswith(KEPT_KINDS):
        del os.environ[name]
os.environ |= {"TERM": "xterm", "COLUMNS": "100", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
# before anything loads torch: its threads wait for each other at full speed, and on a busy machine for ever
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it puts into the background with Ctrl-C ignored, and processes hand that on to those they start.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

# The same examples every time, and none is too slow: that hangs on what else runs. To look for new ones:
# pytest --hypothesis-profile=default
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_sessionstart() -> None:
    """With SUFFICE_ROUNDING=seed, torch rounds as another processor might."""
    if seed := os.environ.get("SUFFICE_ROUNDING"):
        from rounding import OtherRounding

        OtherRounding(int(seed)).__enter__()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """verl's tests first: begun last, a whole run of it would leave the other worker idle."""
    items.sort(key=lambda item: not item.path.name.startswith("test_verl"))


# -- what several files share


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen3 checkpoint of width 32 with 400 tokens and the marks."""
    from making import CORPUS, make_qwen3

    return make_qwen3(tmp_path_factory.mktemp("tiny-qwen3"), [CORPUS], vocabulary=400, width=32)


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """Folder of the benchmark files that SUFFICE_BENCHMARKS names."""
    folder = os.environ.get("SUFFICE_BENCHMARKS")
    if folder is None:
        pytest.skip("SUFFICE_BENCHMARKS is not set to a folder of benchmark files")
    return Path(folder)
