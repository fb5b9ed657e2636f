"""GSM8K (Cobbe et al., arXiv 2110.14168): grade-school word problems whose answers are numbers.

Read from the hub's data set, a copy of it (folder or file), or files that carry the final answer alone. The prompt ends
with the instruction that S-GRPO (arXiv 2505.07686, Fig. 4) gives.
"""

from __future__ import annotations

import re
from pathlib import Path

from laconic.errors import DataError
from laconic.groups import Problem
from laconic.tasks.records import Record, read_records, to_problems

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
SPLITS = ("train", "test")
HUB = "openai/gsm8k"


def load(path: str | None, split: str | None, fields: dict[str, str] | None, revision: str | None) -> list[Problem]:
    """The problems of a split (default: train).

    Args:
        path: a `.jsonl`, `.json` or `.parquet` file, or a folder with `gsm8k_<split>.jsonl`, `<split>.jsonl` or
            `<split>-*.parquet`; None loads the hub's data set at `revision`.
    """
    if fields:
        raise DataError("task gsm8k has fields of its own; leave fields out, or use task jsonl for other files")
    split = split or "train"
    if split not in SPLITS:
        raise DataError(f"gsm8k has no split {split!r}; use 'train' or 'test'")
    records = _from_hub(split, revision) if path is None else read_records(_find(Path(path), split))
    return to_problems(map(_normal, records), "gsm8k", split)


def _find(path: Path, split: str) -> Path:
    if not path.is_dir():
        return path
    patterns = (f"gsm8k_{split}.jsonl", f"{split}.jsonl", f"{split}-*.parquet", f"main/{split}-*.parquet")
    for pattern in patterns:
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"{path} has {len(found)} files {pattern}; give the path of the one to read")
    raise DataError(f"{path} has no {' or '.join(patterns)}; give the path of a GSM8K file or folder")


def _from_hub(split: str, revision: str | None) -> list[Record]:
    import datasets  # type: ignore[import-untyped]

    try:
        rows = datasets.load_dataset(HUB, "main", split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        cause = str(error).strip().split("\n", 1)[0]
        raise DataError(f"{HUB} cannot be loaded from the hub ({cause}); give path, a local copy of it") from error
    return [Record(f"{HUB} {split} row {n}", n, row) for n, row in enumerate(rows, start=1)]


def _normal(record: Record) -> Record:
    """The record with the instruction after its question and its final answer, commas removed, as the gold."""
    data = {name: record.data.get(name) for name in ("id", "question", "answer")}
    if isinstance(data["question"], str) and data["question"].strip():
        data["question"] = f"{data['question'].strip()}\n{INSTRUCTION}"
    if isinstance(data["answer"], str) and data["answer"].strip():
        final = data["answer"].rsplit("####", 1)[-1].strip().replace(",", "")
        if not re.fullmatch(r"-?\d+(\.\d+)?", final):
            raise DataError(f"{record.where}: answer ends in no number; write the number alone, or after '####'")
        data["answer"] = final
    return Record(record.where, record.number, data)
