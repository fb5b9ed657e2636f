"""Which samples a report shows, and how their text is split.

Nobody picks: within each kind the order is that of a hash of problem and sample, and no problem comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice, zip_longest
from typing import TypeVar

from suffice.groups import Verdict
from suffice.report.source import CutSample, Sample

KINDS = ("mended", "lost", "same")
CLASSES = ("lost", "mended", "saved", "other")
"""Pairs of a comparison: right then wrong, wrong then right, both right with fewer thinking tokens, all else."""
Record = TypeVar("Record", Sample, CutSample)


@dataclass(frozen=True, slots=True)
class Side:
    """One response; its thought is `known`, up to where it sufficed, then `rest`, empty where that is not known."""

    label: str
    verdict: Verdict
    thought_tokens: int
    note: str
    known: str
    rest: str
    answer: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The responses to one problem, side by side. `kind` is of KINDS or CLASSES, or empty where there is one side."""

    kind: str
    problem: str
    difficulty: str | None
    prompt: str
    gold: str
    sides: list[Side]


def sample_traces(samples: dict[str, list[Sample]], count: int) -> tuple[list[Trace], Counter[str]]:
    """Up to `count` problems as before | after, balanced over KINDS, and how many pairs of each kind there are."""
    return _choose(_pairs(samples, _sample_side, _kind), count)


def cut_traces(cuts: dict[str, list[CutSample]], count: int) -> list[Trace]:
    """Up to `count` diagnosed problems; the thought is split where it sufficed in at least one side."""
    traces = _pairs(cuts, _cut_side, _kind)
    return _choose([trace for trace in traces if any(side.rest for side in trace.sides)], count)[0]


def compared_traces(
    tasks: Sequence[dict[str, list[Sample]]], count: int, longest: int
) -> tuple[dict[str, list[Trace]], Counter[str]]:
    """Up to `count` traces of each of CLASSES, tasks taking turns, and how many pairs of each class there are.

    Args:
        tasks: for each the samples of two sides by name; only pairs that both have are compared.
        longest: bytes of a text that is shown whole; of a longer one the middle is left out.
    """
    chosen: dict[str, list[Trace]] = {}
    totals: Counter[str] = Counter()
    queues: dict[str, list[list[Trace]]] = {name: [] for name in CLASSES}
    for samples in tasks:
        first_of: dict[str, dict[str, Trace]] = {name: {} for name in CLASSES}
        for trace in _pairs(samples, _sample_side, _class):
            totals[trace.kind] += 1
            first_of[trace.kind].setdefault(trace.problem, trace)
        for name, found in first_of.items():
            queues[name].append(list(found.values()))
    for name, each in queues.items():
        turns = (trace for turn in zip_longest(*each) for trace in turn if trace is not None)
        chosen[name] = [_clipped(trace, longest) for trace in islice(turns, count)]
    return chosen, totals


def clip(text: str, longest: int) -> str:
    """A text of at most `longest` bytes of UTF-8, or its beginning and end with a note of what is left out."""
    data = text.encode("utf-8", "replace")
    if len(data) <= longest:
        return text
    head, tail = (part.decode(errors="ignore") for part in (data[: longest // 2], data[-(longest // 2) :]))
    return f"{head}\n\n[… {len(text) - len(head) - len(tail):,} characters left out …]\n\n{tail}"


def _clipped(trace: Trace, longest: int) -> Trace:
    sides = [replace(side, known=clip(side.known, longest), answer=clip(side.answer, longest)) for side in trace.sides]
    return replace(trace, prompt=clip(trace.prompt, longest), gold=clip(trace.gold, longest), sides=sides)


def _sample_side(label: str, record: Sample) -> Side:
    note = "thought never closed" if not record.closed else "cut at the token limit" if record.truncated else ""
    return Side(label, record.verdict, record.thought_tokens, note, record.thought, "", record.answer)


def _cut_side(label: str, record: CutSample) -> Side:
    known, note = record.thought, "no exit sufficed"
    if record.sufficient_text is not None and record.sufficient is not None:
        # text decoded up to an exit can end in half a character, so it need not be a prefix to the letter
        known = _shared_start(record.thought, record.sufficient_text)
        note = f"{100 * record.sufficient:.0f}\u202f% of the thought sufficed"
    rest = record.thought[len(known) :]
    return Side(label, record.full_verdict, record.thought_tokens, note, known, rest, record.answer)


def _shared_start(one: str, other: str) -> str:
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differ, min(len(one), len(other)))]


def _pairs(
    records: dict[str, list[Record]],
    side: Callable[[str, Record], Side],
    kind: Callable[[list[Side]], str],
) -> list[Trace]:
    """Records that every label has, matched by problem and sample, as traces in hash order."""
    by_label = {label: {(r.problem, r.sample): r for r in each} for label, each in records.items() if each}
    if not by_label:
        return []
    shared = set.intersection(*(set(each) for each in by_label.values()))
    traces = []
    for key in sorted(shared, key=_shuffle):
        found = {label: each[key] for label, each in by_label.items()}
        sides = [side(label, record) for label, record in found.items()]
        first = next(iter(found.values()))
        traces.append(Trace(kind(sides), first.problem, first.difficulty, first.prompt, first.gold, sides))
    return traces


def _kind(sides: list[Side]) -> str:
    if len(sides) < 2:
        return ""
    was, now = (side.verdict is Verdict.CORRECT for side in (sides[0], sides[-1]))
    return "same" if was == now else "mended" if now else "lost"


def _class(sides: list[Side]) -> str:
    """One of CLASSES."""
    was, now = sides
    kind = _kind(sides)
    if kind != "same":
        return kind
    return "saved" if now.verdict is Verdict.CORRECT and now.thought_tokens < was.thought_tokens else "other"


def _choose(traces: Iterable[Trace], count: int) -> tuple[list[Trace], Counter[str]]:
    """Take turns among the kinds, first problems first."""
    queues: dict[str, dict[str, Trace]] = {}
    totals: Counter[str] = Counter()
    for trace in traces:
        totals[trace.kind] += 1
        queues.setdefault(trace.kind, {}).setdefault(trace.problem, trace)
    order = sorted(queues, key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS))
    chosen: dict[str, Trace] = {}
    for turn in zip_longest(*(queues[kind].values() for kind in order)):
        for trace in turn:
            if trace is not None and len(chosen) < count:
                chosen.setdefault(trace.problem, trace)
    return list(chosen.values()), totals


def _shuffle(key: tuple[str, int]) -> bytes:
    return sha256(f"{key[0]}/{key[1]}".encode(errors="replace")).digest()
