"""The documentation builds without a warning, and its pages fetch nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


def test_every_page_of_docs_is_in_the_site(site: Path):
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    missing = [page for page in pages if page.name != "index" and not (site / page / "index.html").exists()]
    assert missing == []


def test_no_page_loads_anything_from_the_network(site: Path):
    loaded = [
        (page.relative_to(site), found[0])
        for page in site.rglob("*.html")
        for found in LOADED.finditer(page.read_text(encoding="utf-8"))
        if 'rel="canonical"' not in found[0]
    ]
    assert loaded == []


def test_the_api_page_says_what_docstrings_say(site: Path):
    page = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert "Reward and advantage of every member" in page
