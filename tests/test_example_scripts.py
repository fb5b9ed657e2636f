"""The scripts in examples/ run and print what their page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_prints_what_its_page_shows(script: Path):
    ran = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    section = PAGE.partition(f"]({script.name})")[2].partition("\n## ")[0]
    (shown,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    assert ran.stdout == shown


def test_the_method_of_the_page_is_the_one_in_the_script():
    page = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    (method,) = re.findall(r"```python\n.*?(class Brevity.*?)```", page, re.DOTALL)
    assert method in (ROOT / "examples" / "brevity.py").read_text(encoding="utf-8")
