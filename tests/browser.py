"""A headless browser for tests of pages; a test that asks for it is skipped where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from running import PATIENCE


def measured(harness: str, folder: Path) -> Any:
    """What a page of HTML and script left as JSON in its first `<pre>`; it may look into frames of other files."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page = folder / "measure.html"
    page.write_text(harness)
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        # the harness must look into a page of another file; the page itself is judged as it is
        "--disable-web-security", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    found = ElementTree.fromstring(dom[dom.index("<pre") : dom.index("</pre>") + len("</pre>")]).text
    assert found, "the harness measured nothing"
    return json.loads(found)
