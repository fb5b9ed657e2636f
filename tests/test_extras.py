"""The command that installs an extra is one that works for the way this copy was installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suffice import extras


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says what pip noted of the installation's origin (PEP 610)."""

    def note(origin: dict[str, Any] | None) -> None:
        class Installed:
            def read_text(self, name: str) -> str | None:
                assert name == "direct_url.json"
                return None if origin is None else json.dumps(origin)

        monkeypatch.setattr(extras, "distribution", lambda name: Installed())

    return note


def test_from_an_index_the_name_is_enough(noted: Any) -> None:
    noted(None)
    assert extras.install_command("verl") == "pip install 'suffice[verl]'"


def test_in_a_checkout_the_folder_stands_for_the_name(
    noted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "my copy"
    checkout.mkdir()
    noted({"url": checkout.as_uri(), "dir_info": {}})
    assert extras.install_command("lora") == f"pip install '{checkout}[lora]'"
    monkeypatch.chdir(checkout)
    assert extras.install_command("lora") == "pip install '.[lora]'"


def test_an_editable_installation_stays_editable(noted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.chdir(tmp_path)
    assert extras.install_command("trl") == "pip install -e '.[trl]'"


def test_from_a_repository_its_address_is_given_again(noted: Any) -> None:
    noted({"url": "https://host/suffice.git", "vcs_info": {"vcs": "git", "commit_id": "0"}})
    assert extras.install_command("verl") == "pip install 'suffice[verl] @ git+https://host/suffice.git'"
