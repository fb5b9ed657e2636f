"""What a question needs and a model would never see: a passage, a picture, options under another name.

Without it every figure would be wrong and none would look so. It is refused unless the user says how it is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from suffice.errors import DataError
from suffice.tasks.columns import passages
from suffice.tasks.fields import Mapped, advice
from suffice.tasks.files import Record
from suffice.tasks.text import is_blank, opened

_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_OPTIONS = re.compile(r"(.*[ _.-])?(choices?|options?|endings?|alternatives)", re.IGNORECASE)
_WRONG = re.compile(
    r"(.*[ _.-])?(distractors?|(incorrect|wrong|false)[ _.-]?(answers?|choices?|options?))[ _.-]?[0-9]?", re.IGNORECASE
)
_LETTER = re.compile(r"\(?[A-J][).]?")
_KIND = "or give the records the kind math or exact"


def check_passages(record: Record, column: str, prompt: str, mapped: Mapped) -> None:
    """
    Args:
        column: which holds the prompt.

    Raises:
        DataError: something stands beside the question, and the user did not say what the prompt is made of.
    """
    for name, value in record.data.items():
        if is_blank(value) or isinstance(value, int | float):
            continue
        if name.casefold() in _MEDIA:
            raise DataError(
                f"{record.where}: {name!r} goes with the question, and only text is shown; leave the record out"
            )
        if name not in passages(record) or "prompt" in mapped or name == column:
            continue
        told = f"{record.where}: {name!r} may belong to the question, and only {column!r} would be shown"
        if not isinstance(value, str):
            raise DataError(
                f"{told}; write both into one text, or take that alone: {advice({**mapped, 'prompt': column})}"
            )
        if value.strip() not in prompt:
            both, alone = ({**mapped, "prompt": path} for path in (f"{name}+{column}", column))
            raise DataError(f"{told}; show both or that alone: {advice(both, alone)}")


def check_options(records: Sequence[tuple[Record, str, str]], mapped: Mapped, read: Collection[str]) -> None:
    """
    Args:
        records: those without options and without a kind, each with its prompt and its gold answer.
        read: the columns that hold their fields.

    Raises:
        DataError: they seem to be multiple choice.
    """
    for record, prompt, _ in records:
        if lists_letters(prompt):
            continue
        for name, value in record.data.items():
            if name in read or is_blank(value):
                continue
            if _OPTIONS.fullmatch(name) and _is_list(value):
                raise _unshown(record, name, mapped)
            if _WRONG.fullmatch(name) and isinstance(value, str | list):
                raise DataError(
                    f"{record.where}: {name!r} holds wrong answers to choose from, which would not be shown; write all "
                    f"answers as a list in a column named choices, {_KIND}"
                )
    if records and all(is_letter(gold) for _, _, gold in records):
        for record, prompt, _ in records:
            if not lists_letters(prompt):
                lists = [name for name, value in record.data.items() if name not in read and _is_list(value)]
                raise _unshown(record, lists[0] if lists else None, mapped)


def is_letter(gold: str) -> bool:
    """Whether a gold answer is the letter of an option and nothing else."""
    return _LETTER.fullmatch(gold.strip()) is not None


def lists_letters(prompt: str) -> bool:
    """Whether a prompt lists options by their letters, at least A and B."""
    return all(re.search(rf"(?<![\w']){letter}[).:]|\({letter}\)", prompt) for letter in "AB")


def _is_list(value: Any) -> bool:
    inner = opened(value)
    return isinstance(inner, list | dict) and len(inner) > 1


def _unshown(record: Record, name: str | None, mapped: Mapped) -> DataError:
    told = f"{name!r} may hold the options of a multiple choice" if name else "every gold answer is a letter"
    how = f"name the column of the options: {advice({**mapped, 'choices': name or 'COLUMN'})}"
    return DataError(f"{record.where}: {told}, and the prompt shows no options; {how}, {_KIND}")
