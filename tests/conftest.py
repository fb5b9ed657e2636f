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
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("suite")


# -- what several files share

CORPUS = """
Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.
How many clips did Natalia sell altogether in April and May? Please reason step by step, and put your final answer
within \\boxed{}. Time is limited, stop thinking and start answering. Let me think about this again. Wait, so she sold
48 / 2 = 24 clips in May, and 48 + 24 = 72 clips altogether. The final answer is \\boxed{72}.
A farmer has 12 hens, and each hen lays 5 eggs a week. How many eggs are there after 3 weeks? In one week there are
12 * 5 = 60 eggs, and in 3 weeks there are 60 * 3 = 180 eggs. Let me check: 180 / 3 = 60. The answer is \\boxed{180}.
"""


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen3 checkpoint of width 32 with 400 tokens and the marks."""
    from making import make_qwen3

    return make_qwen3(tmp_path_factory.mktemp("tiny-qwen3"), [CORPUS], vocabulary=400, width=32)


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """Folder of the benchmark files that SUFFICE_BENCHMARKS names."""
    folder = os.environ.get("SUFFICE_BENCHMARKS")
    if folder is None:
        pytest.skip("SUFFICE_BENCHMARKS is not set to a folder of benchmark files")
    return Path(folder)
