"""How an optional package is installed for this copy of suffice, which need not come from a package index."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def install_command(extra: str) -> str:
    """The pip command that adds an extra to this installation: from its checkout, its repository or the index."""
    origin = _origin()
    url = urlsplit(str(origin.get("url", "")))
    if url.scheme == "file" and "dir_info" in origin:
        folder = Path(unquote(url.path))
        where = "." if folder == Path.cwd() else str(folder)
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}'{where}[{extra}]'"
    if "vcs_info" in origin:
        return f"pip install 'suffice[{extra}] @ {origin['vcs_info']['vcs']}+{origin['url']}'"
    return f"pip install 'suffice[{extra}]'"


def _origin() -> dict[str, Any]:
    """What pip noted of where the package came from (PEP 610); nothing for one from an index."""
    try:
        noted = distribution("suffice").read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    return json.loads(noted) if noted else {}
