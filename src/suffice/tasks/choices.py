"""Multiple choice: the options of a record, what its gold answer points at, and how both are put to a model.

Options come as a list, as labels and texts, as JSON in a text, or as columns such as `A`, `B`, `C`, `D`. Gold answers
come as a label, as an option's text, or as an index from 0 or from 1. A column of them has one meaning, so a reading
must fit every record; where several fit and disagree, none is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suffice.errors import DataError
from suffice.grading.exact import normalise
from suffice.grading.extract import gold_expression
from suffice.tasks.text import is_blank, opened, plain

LETTERS = "ABCDEFGHIJ"
"""How options are called in a prompt, and so how many there may be."""

_FIRST_EVERYWHERE = 20
"""Records whose right option always stands in the same place, from which on that is no accident."""

_LABELS, _TEXTS = ("label", "labels", "key", "letter", "id"), ("text", "texts", "value", "content", "option", "choices")
_LETTERED = re.compile(r"\s*\(?([A-Ja-j])\s*[).:]\s*(\S.*)", re.DOTALL)
_STEMS = ("op", "opt", "option", "options", "choice", "choices", "ending", "endings", "sol")
_NUMBERED = re.compile(r"(.*?)[ _.-]?([a-j]|[0-9])")


@dataclass(frozen=True, slots=True)
class Options:
    """The texts to choose from, and the labels that the record gives them (None: only their places)."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None = None


def listed_below(prompt: str, texts: Sequence[str]) -> str:
    """The question with its options below it, `A) …` a line; as it is where it lists them itself."""
    if all(
        re.search(rf"{letter}\W{{1,4}}{re.escape(text)}", prompt) for letter, text in zip(LETTERS, texts, strict=False)
    ):
        return prompt
    return "\n".join([prompt.rstrip(), *(f"{letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False))])


def options_of(value: Any) -> Options:
    """The options that a column holds.

    Raises:
        ValueError: they are no list, not 2 to 10, or one of them is blank or no text.
    """
    inner = opened(value)
    labels: list[Any] | None = None
    if isinstance(inner, Mapping):
        labels, texts = _of_object(inner)
    elif isinstance(inner, list) and inner and all(isinstance(each, Mapping) for each in inner):
        labels, texts = _of_objects(inner)
    elif isinstance(inner, list):
        texts = inner
    else:
        raise ValueError(f"choices must be a list, not {inner!r:.40}; write it as one")
    return _checked(labels, texts)


def _of_object(value: Mapping[str, Any]) -> tuple[list[Any] | None, list[Any]]:
    """`{text: […], label: […]}`, or `{A: …, B: …}`."""
    texts = next((opened(value[key]) for key in _TEXTS if isinstance(opened(value.get(key)), list)), None)
    if texts is None:
        return list(value), list(value.values())
    labels = next((opened(value[key]) for key in _LABELS if isinstance(opened(value.get(key)), list)), None)
    if labels is not None and len(labels) != len(texts):
        raise ValueError(f"choices have {len(labels)} labels and {len(texts)} texts; correct them")
    return labels, texts


def _of_objects(values: Sequence[Mapping[str, Any]]) -> tuple[list[Any] | None, list[Any]]:
    """`[{label: A, text: …}, …]`."""
    label = next((key for key in _LABELS if all(key in each for each in values)), None)
    text = next((key for key in _TEXTS if all(key in each for each in values)), None)
    if text is None:
        raise ValueError(f"choices are objects without a text ({values[0]!r:.40}); write each as a text")
    return [each[label] for each in values] if label else None, [each[text] for each in values]


def _checked(labels: list[Any] | None, values: list[Any]) -> Options:
    while values and is_blank(values[-1]):  # of a table whose rows have different numbers of options
        values = values[:-1]
    if not 2 <= len(values) <= len(LETTERS):
        raise ValueError(
            f"choices are {len(values)}, and a choice is among 2 to {len(LETTERS)}; correct them, or give the record "
            "the kind math or exact, by which they are not shown"
        )
    if any(is_blank(value) for value in values):
        raise ValueError("one of the choices is blank; write it, or leave it out")
    texts = [plain(value, "a choice").strip() for value in values]
    if labels is not None:
        names = tuple(plain(label, "a label").strip() for label in labels[: len(texts)])
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"two choices have the same label ({', '.join(names)}); correct them")
        return Options(tuple(texts), names)
    lettered = [_LETTERED.fullmatch(text) for text in texts]
    if [match and match[1].upper() for match in lettered] == list(LETTERS[: len(texts)]):
        return Options(tuple(match[2].strip() for match in lettered if match), tuple(LETTERS[: len(texts)]))
    return Options(tuple(texts))


def in_columns(data: Mapping[str, Any]) -> dict[str, str]:
    """Label → column, where each option has a column of its own: `A` … `D`, `opa` … `opd`, `option_1`, `option_2`."""
    families: dict[str, dict[str, str]] = {}
    for column in data:
        if match := _NUMBERED.fullmatch(column.casefold()):
            stem, label = match.groups()
            if stem in _STEMS or (not stem and column in LETTERS) or (stem == "answer" and label.isalpha()):
                families.setdefault(f"{stem} {label.isalpha()}", {})[label.upper()] = column
    for family in families.values():
        first = min(family)
        run = [label for label in (LETTERS if first.isalpha() else "0123456789") if label >= first]
        if first in "A01" and len(family) >= 2 and sorted(family) == run[: len(family)]:
            found = {label: family[label] for label in sorted(family)}
            if len(found) > 2 or not set(found.values()) <= set(LETTERS):  # two columns A and B may be anything
                return found
    return {}


# -- what a gold answer points at


def _by_label(gold: str, options: Options) -> int | None:
    labels = options.labels or tuple(LETTERS[: len(options.texts)])
    for i, (label, text) in enumerate(zip(labels, options.texts, strict=True)):
        said = rf"\(?\s*{re.escape(label)}\s*[).:]?(\s*{re.escape(text)})?"
        if any(re.fullmatch(said, each.strip(), re.IGNORECASE) for each in (gold, normalise(gold))):
            return i
    return None


def _by_text(gold: str, options: Options) -> int | None:
    words = gold.split()
    found = [i for i, text in enumerate(options.texts) if text.split() == words]
    return found[0] if len(found) == 1 else None


def _from(first: int) -> Callable[[str, Options], int | None]:
    def index(gold: str, options: Options) -> int | None:
        number = int(gold) - first if re.fullmatch(r"\s*[0-9]{1,2}\s*", gold, re.ASCII) else -1
        return number if 0 <= number < len(options.texts) else None

    return index


_READINGS: dict[str, Callable[[str, Options], int | None]] = {
    "a label": _by_label,
    "an option's text": _by_text,
    "an index from 0": _from(0),
    "an index from 1": _from(1),
}


def right_letters(asked: Sequence[tuple[str, str, Options]]) -> tuple[list[str], str]:
    """The letter of the right option of each record, and how the gold answers were read.

    Args:
        asked: where the record stands, its gold answer, its options; at least one.

    Raises:
        DataError: no reading of the gold answers fits all records, several do and disagree, or the right option always
            stands in the same place.
    """
    cases = [(gold_expression(gold), options) for _, gold, options in asked]
    found = {name: [read(*case) for case in cases] for name, read in _READINGS.items()}
    fitting = {name: places for name, places in found.items() if None not in places}
    if "a label" in fitting and all(options.labels for _, options in cases):
        fitting = {"a label": fitting["a label"]}
    if not fitting:
        best = max(found.values(), key=lambda places: sum(place is not None for place in places))
        where, gold, options = asked[best.index(None)]
        raise DataError(
            f"{where}: gold {gold!r:.40} is none of its {len(options.texts)} choices, read as in the other records by "
            "label, text or index; give the letter of the right one in all of them"
        )
    (name, places), *others = fitting.items()
    for other, theirs in others:
        for (where, gold, _), mine, place in zip(asked, places, theirs, strict=True):
            if mine != place:
                raise DataError(
                    f"{where}: gold {gold!r:.40} may be {name} (option {LETTERS[mine or 0]}) or {other} (option "
                    f"{LETTERS[place or 0]}), and no record tells which; give the letter of the right option"
                )
    letters = [LETTERS[place] for place in places if place is not None]
    if len(letters) >= _FIRST_EVERYWHERE and len(set(letters)) == 1:
        raise DataError(
            f"{asked[0][0]}: the right option is {letters[0]} in every one of {len(letters)} records, which a model "
            "learns at once; put the options in a random order"
        )
    return letters, name
