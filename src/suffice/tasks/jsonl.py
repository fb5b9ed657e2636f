r"""A user's own problems, from one `.jsonl`, `.json` or `.parquet` file, in the columns it happens to have.

Known by themselves are the columns of `FIELDS` in `fields.py`: verl's and DAPO's (`prompt` as a chat,
`reward_model.ground_truth`), TRL's and MATH's (`problem`, `solution` with a box), `messages` of one user turn, GSM8K's
`####`, and multiple choice (`choices`, `options` or `A` … `D`). A prompt is used as written, unless a prompt option is
asked for: where the answer goes is for the prompt to say. Only below options that were listed here the letter is asked
for in `\boxed{}`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.errors import DataError
from suffice.grading.extract import gold_expression
from suffice.groups import Problem
from suffice.tasks.choices import Options, in_columns, listed_below, options_of, right_letters
from suffice.tasks.columns import find, missing, refused, unanswered
from suffice.tasks.fields import OPTIONAL, Mapped, our_names
from suffice.tasks.files import Record, checksum, read_records
from suffice.tasks.prompts import with_prompts
from suffice.tasks.records import Values, to_problems
from suffice.tasks.text import gold_text, is_answer, is_blank, opened, plain, prompt_text
from suffice.tasks.unread import check_options, check_passages, is_letter, lists_letters


def load(
    path: str | None, split: str | None, fields: dict[str, str] | None, revision: str | None, prompt: str | None
) -> list[Problem]:
    """The problems of the file at `path`; `split` only names those that have no id of their own.

    Args:
        fields: our field names → the file's columns, for those that differ; one named here must be in every record.
    """
    mapped = our_names(fields or {})
    drafts = [_draft(record, mapped) for record in read_records(_file(path))]
    _settle(drafts, mapped)
    values = {draft.record.number: draft.values for draft in drafts}
    problems = to_problems([draft.record for draft in drafts], "jsonl", split, lambda record: values[record.number])
    return with_prompts(
        (problem, prompt or ("boxed" if draft.options else "plain"))
        for problem, draft in zip(problems, drafts, strict=True)
    )


def locate(path: str | None, split: str | None, revision: str | None) -> dict[str, Any]:
    file = _file(path)
    return {"split": split, "path": str(file), "sha256": checksum([file])}


def _file(path: str | None) -> Path:
    if path is None:
        raise DataError("task jsonl needs the path of a problem file; set path")
    return Path(path)


@dataclass(slots=True)
class _Draft:
    """A record as read so far: its fields, the columns they stand in, and its options if it is multiple choice."""

    record: Record
    values: Values
    columns: dict[str, str]
    options: Options | None = None


def _draft(record: Record, mapped: Mapped) -> _Draft:
    found = {name: at for name in ("prompt", "gold", *OPTIONAL) if (at := find(record, name, mapped))}
    columns = {name: column for name, (column, _) in found.items()}
    values: Values = {}
    for name in ("prompt", "gold", *OPTIONAL):
        try:
            if name in found and (text := _text(name, *found[name])).strip():
                values[name] = text
        except ValueError as error:
            raise refused(record, error, mapped, columns.keys() - {name}) from None
        if name not in values and name not in OPTIONAL:
            raise missing(record, name, mapped, list(columns.values()))
    draft = _Draft(record, values, columns)
    if values.get("kind", "choice") == "choice":
        draft.options = _options(draft, mapped)
    check_passages(record, columns["prompt"], values["prompt"], mapped)
    return draft


def _text(name: str, column: str, value: Any) -> str:
    if name == "prompt":
        return prompt_text(value, column)
    return gold_text(value, column) if name == "gold" else plain(value, name)


def _options(draft: _Draft, mapped: Mapped) -> Options | None:
    record = draft.record
    try:
        if (found := find(record, "choices", mapped)) is not None:
            draft.columns["choices"] = found[0]
            return None if is_blank(opened(found[1])) else options_of(found[1])
        if "choices" in mapped:
            return None
        columns = in_columns(record.data)
        draft.columns |= {f"choice {label}": column for label, column in columns.items()}
        filled = {label: record.data[column] for label, column in columns.items()}
        return None if all(map(is_blank, filled.values())) else options_of(filled)
    except ValueError as error:
        raise refused(record, error, mapped) from None


def _settle(drafts: Sequence[_Draft], mapped: Mapped) -> None:
    """Decide what only the file as a whole tells: which option each gold answer means, and whether options are missing.

    Raises:
        DataError: it does not tell.
    """
    chosen = [(draft, draft.options) for draft in drafts if draft.options]
    if chosen:
        asked = [(draft.record.where, draft.values["gold"], options) for draft, options in chosen]
        letters, reading = right_letters(asked)
        print(
            f"jsonl: {len(chosen)} of {len(drafts)} problems are multiple choice; their options are shown, and gold "
            f"answers are read as {reading}",
            file=sys.stderr,
        )
        for (draft, options), letter in zip(chosen, letters, strict=True):
            listed = listed_below(draft.values["prompt"], options.texts)
            draft.values |= {"prompt": listed, "gold": letter, "kind": "choice"}
    open_ones = [draft for draft in drafts if "kind" not in draft.values]
    paths = {column for draft in drafts for column in draft.columns.values()}
    read = paths | {part.partition(".")[0] for path in paths for part in path.split("+")}
    check_options([(d.record, d.values["prompt"], d.values["gold"]) for d in open_ones], mapped, read)
    for draft in open_ones:
        gold = draft.values["gold"]
        if is_letter(gold) and lists_letters(draft.values["prompt"]):
            draft.values["kind"] = "choice"
            continue
        if not is_answer(gold):
            raise unanswered(draft.record, gold, mapped, draft.columns.values())
        draft.values["gold"] = gold_expression(gold)
