"""Records become problems: the checks that every task shares. Every error names the file and the record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from suffice.errors import DataError, GraderError
from suffice.grading.exact import same
from suffice.grading.kinds import read_gold
from suffice.groups import Kind, Problem
from suffice.tasks.fields import OPTIONAL
from suffice.tasks.files import Record
from suffice.tasks.text import is_blank, plain

Values = dict[str, str]
"""The fields of a problem, as text, by our names; `id`, `difficulty` and `kind` may be absent."""


def named(record: Record, aliases: Mapping[str, tuple[str, ...]]) -> Values:
    """The fields of a record whose columns are known.

    Args:
        aliases: our names → the columns they may stand in; the first that is filled counts. A list of one is what it
            holds.

    Raises:
        DataError: a field that it must have is absent or blank, or neither text nor a number.
    """
    values: Values = {}
    for name, columns in aliases.items():
        value = next((record.data[column] for column in columns if not is_blank(record.data.get(column))), None)
        if value is None and name not in OPTIONAL:
            other = f", or read the file as task jsonl with --fields {name}=COLUMN" * (name in ("prompt", "gold"))
            raise DataError(f"{record.where}: no {name} ({' or '.join(map(repr, columns))}); add it{other}")
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        try:
            if name == "prompt" and not isinstance(value, str):
                raise ValueError(f"prompt must be text, not {value!r:.40}; correct it")
            if value is not None:
                values[name] = plain(value, name)
        except ValueError as error:
            raise DataError(f"{record.where}: {error}") from None
    return values


def to_problems(
    records: Sequence[Record],
    task: str,
    split: str | None,
    read: Callable[[Record], Values],
    *,
    tolerant: bool = False,
) -> list[Problem]:
    """Problems of records, in order. A record without an id gets `<task>-<split>-<number>`.

    Questions that are repeated are said on standard error.

    Args:
        read: the fields of a record; it raises ValueError or DataError for one it cannot use.
        tolerant: leave out records that make no problem, and say on standard error how many.

    Raises:
        DataError: a record that cannot be used, an unknown kind, a gold answer that is not of its kind, an id used
            twice, a question with two answers, or no problem at all.
    """
    prefix = f"{task}-{split}" if split else task
    problems: list[Problem] = []
    refused: list[DataError] = []
    ids: dict[str, str] = {}
    asked: dict[str, tuple[Problem, str]] = {}
    repeated: list[str] = []
    contradictions: list[DataError] = []
    for record in records:
        try:
            problem = _to_problem(record, task, prefix, read)
        except DataError as error:
            if not tolerant:
                raise
            refused.append(error)
            continue
        if problem.id in ids:
            raise DataError(
                f"{record.where}: id {problem.id!r} is taken by {ids[problem.id]}; give every problem its own"
            )
        first, where = asked.setdefault(problem.prompt.strip(), (problem, record.where))
        if not _same_gold(first, problem):
            told = f"{record.where}: the question of {where} with another gold answer"
            told += f", {problem.gold!r:.40} for {first.gold!r:.40}"
            (refused if tolerant else contradictions).append(DataError(told))
            continue
        if first is not problem:
            repeated.append(f"{record.where} that of {where}")
        ids[problem.id] = record.where
        problems.append(problem)
    if contradictions:
        more = f" ({len(contradictions)} such records)" * (len(contradictions) > 1)
        raise DataError(f"{contradictions[0]}{more}; keep the right one of each")
    if refused:
        if not problems:
            raise refused[0]
        print(f"{task}: {len(refused)} of {len(records)} records left out; the first: {refused[0]}", file=sys.stderr)
    if repeated:
        print(
            f"{task}: {len(repeated)} of {len(problems)} problems repeat an earlier question (the first: {repeated[0]})"
            "; intervals count them as different questions",
            file=sys.stderr,
        )
    return problems


def _to_problem(record: Record, task: str, prefix: str, read: Callable[[Record], Values]) -> Problem:
    try:
        values = read(record)
        kind = values.get("kind", "math")
        if kind not in get_args(Kind):
            raise ValueError(f"unknown kind {kind!r}; use one of {', '.join(get_args(Kind))}")
        read_gold(values["gold"], kind)  # type: ignore[arg-type] # better now than in the step that draws it
    except (ValueError, GraderError) as error:
        raise DataError(f"{record.where}: {error}") from None
    identity = values.get("id", f"{prefix}-{record.number}")
    return Problem(identity, task, values["prompt"], values["gold"], kind, values.get("difficulty"))  # type: ignore[arg-type]


def _same_gold(one: Problem, other: Problem) -> bool:
    if one is other or one.gold == other.gold:
        return True
    golds = [read_gold(problem.gold, problem.kind) for problem in (one, other)]
    return golds[0] == golds[1] or (one.kind == other.kind == "math" and bool(same(*golds)))
