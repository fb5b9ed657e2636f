"""Exits that someone else recorded, diagnosed without a model.

A record is a thought: `id` of its question, `gold`, `thought_tokens`, `exits` as pairs [position in thought tokens,
forced answer] in rising order, and `answer`, the model's own; `sample`, `kind`, `level` and `subject` are optional.
docs/data.md shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from suffice.errors import DataError, GraderError
from suffice.evaluation.budgets import USUAL, Terms, check_budgets
from suffice.evaluation.diagnose import FRACTIONS, conclude
from suffice.evaluation.summary import check_questions
from suffice.grading import Grader
from suffice.grading.kinds import read_gold
from suffice.groups import Kind, Verdict
from suffice.run.directory import Diagnosis
from suffice.run.records import CutThought, DiagnosisSummary, Exit
from suffice.tasks.fields import joined
from suffice.tasks.files import Record, read_records
from suffice.tasks.text import is_blank, opened

NEEDED = ("id", "gold", "thought_tokens", "exits", "answer")
OPTIONAL = {"sample": "sample", "kind": "kind", "level": "level", "difficulty": "level", "subject": "subject"}
"""Columns that a record may have, and what they are to us."""

NO_ANSWER = {"", "err", "error", "none", "null", "nan", "n/a"}
"""How programs write that no answer could be read, in whatever case."""


@dataclass(slots=True)
class Thought:
    """A record as read; answers are None where there is none."""

    where: str
    id: str
    sample: int
    gold: str
    kind: Kind
    thought_tokens: int
    exits: list[tuple[int, str | None]]
    answer: str | None
    level: str | None
    subject: str | None


def holds_exits(path: Path, fields: Mapping[str, str]) -> bool:
    """Whether a file's records hold exits, and so need no model.

    Raises:
        DataError: it cannot be read.
    """
    first = read_records(path)[0]
    return "exits" in fields or "exits" in first.data


def diagnose_recorded(path: Path, fields: Mapping[str, str], grader: Grader, terms: Terms = USUAL) -> Diagnosis:
    """The diagnosis of recorded exits, under the file's name.

    Args:
        fields: our names → the file's columns or paths in them; two that are joined by `+` hold positions and answers.

    Raises:
        DataError: a record lacks something, contradicts itself or another, there are fewer than two questions, or a
            budget is above every thought.
    """
    thoughts = read_thoughts(path, fields)
    check_questions({thought.id for thought in thoughts})
    if not any(thought.exits for thought in thoughts):
        raise DataError(f"{path}: no record has an exit; force answers within the thoughts first")
    if not any(thought.thought_tokens for thought in thoughts):
        raise DataError(
            f"{path}: no thought has a token; name the column that counts them: --fields thought_tokens=COLUMN"
        )
    check_budgets(terms.budgets, max(thought.thought_tokens for thought in thoughts))
    verdicts = _verdicts(thoughts, grader)
    records = [_cut(thought, verdicts) for thought in thoughts]
    summary = DiagnosisSummary(
        model=path.name, task=path.stem, token_counts="recorded", protocol=None, **conclude(records, terms)
    )
    return Diagnosis(records, summary)


def read_thoughts(path: Path, fields: Mapping[str, str]) -> list[Thought]:
    """All records of a file.

    Raises:
        DataError: as of `diagnose_recorded`, with the place.
    """
    known = (*NEEDED, *OPTIONAL)
    for name in fields:
        if name not in known:
            raise DataError(f"fields has the unknown name {name!r}; for recorded exits it maps {', '.join(known)}")
    drawn: Counter[str] = Counter()
    thoughts = []
    for record in read_records(path):
        try:
            thoughts.append(_thought(record, fields, drawn))
        except (ValueError, GraderError) as error:
            raise DataError(f"{record.where}: {error}") from None
    _check_questions_agree(thoughts)
    return thoughts


def _thought(record: Record, fields: Mapping[str, str], drawn: Counter[str]) -> Thought:
    """
    Raises:
        ValueError, GraderError: what is wrong with it.
    """
    values = {name: _needed(record, name, fields) for name in NEEDED}
    for column, name in OPTIONAL.items():
        if column in fields or column in record.data:
            values[name] = _found(record, column, fields)
    question, gold = _text("id", values["id"]), _text("gold", values["gold"])
    kind = values.get("kind", "math")
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}; use one of {', '.join(get_args(Kind))}")
    read_gold(gold, kind)
    tokens = _whole("thought_tokens", values["thought_tokens"])
    number = drawn[question]
    drawn[question] += 1
    return Thought(
        where=record.where,
        id=question,
        sample=_whole("sample", values["sample"]) if "sample" in values else number,
        gold=gold,
        kind=kind,
        thought_tokens=tokens,
        exits=_exits(opened(values["exits"]), tokens, gold),
        answer=_answer(values["answer"], gold),
        level=_optional("level", values),
        subject=_optional("subject", values),
    )


def _found(record: Record, name: str, fields: Mapping[str, str]) -> Any:
    """
    Raises:
        ValueError: it is not there.
    """
    path = fields.get(name, name)
    try:
        found = joined(record.data, path)
    except LookupError:
        columns = ", ".join(repr(column)[:40] for column in list(record.data)[:12]) or "(none)"
        raise ValueError(
            f"no {name}: there is no {path!r} among its columns {columns}; add it, or say which holds it: "
            f"--fields {name}=COLUMN"
        ) from None
    if len(found) == 1:
        return found[0]
    if name != "exits" or len(found) != 2 or not all(isinstance(each, list) for each in found):
        raise ValueError(f"{path!r} joins columns by '+', which only exits can be made of: a list of positions and one "
                         "of answers")  # fmt: skip
    if len(found[0]) != len(found[1]):
        raise ValueError(f"{len(found[0])} positions and {len(found[1])} forced answers; they must be as many")
    return [list(pair) for pair in zip(*found, strict=True)]


def _needed(record: Record, name: str, fields: Mapping[str, str]) -> Any:
    found = _found(record, name, fields)
    if is_blank(found) and name not in ("exits", "answer"):
        raise ValueError(f"{name} is blank; add it, or leave the record out")
    return found


def _optional(name: str, values: Mapping[str, Any]) -> str | None:
    found = values.get(name)
    return None if is_blank(found) else _text(name, found)


def _text(name: str, value: Any) -> str:
    """Text, or a number as it is written."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    raise ValueError(f"{name} must be text or a number, not {value!r:.40}; correct it")


def _whole(name: str, value: Any) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < 0:
        raise ValueError(f"{name} must be a whole number from 0 on, not {value!r:.40}; correct it")
    return int(value)


def _exits(pairs: Any, tokens: int, gold: str) -> list[tuple[int, str | None]]:
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) >= 2 for pair in pairs):
        raise ValueError(f"exits must be a list of pairs [position, forced answer], not {pairs!r:.60}; correct it")
    found: list[tuple[int, str | None]] = []
    for position, answer, *_ in pairs:
        at_token = _whole("the position of an exit", position)
        if at_token > tokens:
            raise ValueError(
                f"an exit at {at_token:,} lies beyond the thought of {tokens:,} tokens; count both in thought tokens"
            )
        if found and at_token <= found[-1][0]:
            raise ValueError(f"an exit at {at_token:,} follows one at {found[-1][0]:,}; write exits in rising order")
        found.append((at_token, _answer(answer, gold)))
    return found


def _answer(value: Any, gold: str) -> str | None:
    """None for what says that there is none, unless the gold answer says so too."""
    if value is None:
        return None
    text = _text("an answer", value)
    return None if text.casefold() in NO_ANSWER - {gold.casefold()} else text


def _check_questions_agree(thoughts: Sequence[Thought]) -> None:
    """
    Raises:
        DataError: two records are of one sample, or give one question two gold answers.
    """
    first: dict[str, Thought] = {}
    drawn: dict[tuple[str, int], str] = {}
    for each in thoughts:
        other = first.setdefault(each.id, each)
        if (other.gold, other.kind) != (each.gold, each.kind):
            raise DataError(
                f"{each.where}: question {each.id!r} has the gold answer {each.gold!r:.40} here and {other.gold!r:.40} "
                f"at {other.where}; keep the right one"
            )
        where = drawn.setdefault((each.id, each.sample), each.where)
        if where != each.where:
            raise DataError(
                f"{each.where}: sample {each.sample} of question {each.id!r} stands at {where} too; number the samples "
                "of a question"
            )


Verdicts = Mapping[tuple[str, str, Kind], Verdict]


def _verdicts(thoughts: Sequence[Thought], grader: Grader) -> Verdicts:
    """The verdict on every distinct answer to every question."""
    jobs = dict.fromkeys(
        (answer, thought.gold, thought.kind)
        for thought in thoughts
        for answer in (thought.answer, *(said for _, said in thought.exits))
        if answer is not None
    )
    return dict(zip(jobs, grader.grade_many([*jobs]), strict=True))


def _cut(thought: Thought, verdicts: Verdicts) -> CutThought:
    def verdict(answer: str | None) -> Verdict:
        return Verdict.UNPARSED if answer is None else verdicts[answer, thought.gold, thought.kind]

    exits = [
        Exit(fraction=fraction_of(position, thought.thought_tokens), exit=position, verdict=verdict(said), answer=said)
        for position, said in thought.exits
    ]
    full, sufficient, kept = verdict(thought.answer), None, thought.thought_tokens
    if full is Verdict.CORRECT:
        sufficient = 1.0
        for each in reversed(exits):
            if each.verdict is not Verdict.CORRECT:
                break
            sufficient, kept = each.fraction, each.exit
    return CutThought(
        problem=thought.id,
        difficulty=thought.level,
        sample=thought.sample,
        thought_tokens=thought.thought_tokens,
        full_verdict=full,
        exits=exits,
        sufficient=sufficient,
        saveable_tokens=thought.thought_tokens - kept,
        prompt="",
        gold=thought.gold,
        thought="",
        sufficient_text=None,
        answer=thought.answer or "",
        subject=thought.subject,
    )


def fraction_of(position: int, thought_tokens: int) -> float:
    """The part of a thought that an exit keeps, or the tenth that falls into the last token it keeps.

    A thought of 1,768 tokens has no exit at 176.8: the one at 177 is that of a tenth.
    """
    tenths = len(FRACTIONS) - 1
    for i, fraction in enumerate(FRACTIONS):
        if position == -(-i * thought_tokens // tenths):
            return fraction
    return position / thought_tokens
