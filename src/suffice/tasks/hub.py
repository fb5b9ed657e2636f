"""Data sets of the hub: their rows, and the commit that a revision stands for. Every error is one line."""

from __future__ import annotations

import re
from collections.abc import Collection

from suffice.errors import DataError
from suffice.tasks.files import Record


def hub_records(
    hub: str, config: str | None, split: str, revision: str | None, columns: Collection[str]
) -> list[Record]:
    """The rows of a split, of which only `columns` are read.

    Raises:
        DataError: out of reach, gated, or without that config, split or revision.
    """
    import datasets  # type: ignore[import-untyped]

    try:
        rows = datasets.load_dataset(hub, config, split=split, revision=revision)
    except Exception as error:  # each layer below has kinds of its own: of the hub, of HTTP, of files
        raise _unreachable(hub, error) from error
    rows = rows.select_columns([name for name in rows.column_names if name in columns])
    return [Record(f"{hub} {split} row {n}", n, row) for n, row in enumerate(rows, start=1)]


def hub_commit(hub: str, revision: str | None) -> str:
    """The commit, 40 hex digits, that a branch, tag or short commit (None: the main branch) stands for now.

    A full commit stands for itself: nothing is asked of the hub.

    Raises:
        DataError: out of reach, or no such revision.
    """
    from huggingface_hub import HfApi

    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    try:
        return str(HfApi().dataset_info(hub, revision=revision).sha)
    except Exception as error:  # as above
        raise _unreachable(hub, error) from error


def _unreachable(hub: str, error: Exception) -> DataError:
    cause = " ".join(str(error).split()) or type(error).__name__
    if "gated" in cause.casefold():
        return DataError(
            f"{hub} is gated: accept its terms at https://huggingface.co/datasets/{hub} and log in with "
            "`hf auth login`, or give path, a local copy of it"
        )
    return DataError(f"{hub} cannot be loaded from the hub ({cause:.200}); give path, a local copy of it")
