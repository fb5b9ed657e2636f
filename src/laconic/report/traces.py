"""Which samples a report shows, and how their text is split.

Nobody picks: within each kind the order is that of a hash of problem and sample, and no problem comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from typing import TypeVar

from laconic.groups import Verdict
from laconic.report.source import CutSample, Sample

KINDS = ("mended", "lost", "same")
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
    """The responses to one problem, side by side. `kind` is one of KINDS, or empty where there is one side only."""

    kind: str
    problem: str
    difficulty: str | None
    prompt: str
    gold: str
    sides: list[Side]


def sample_traces(samples: dict[str, list[Sample]], count: int) -> tuple[list[Trace], Counter[str]]:
    """Up to `count` problems as before | after, balanced over KINDS, and how many pairs of each kind there are."""
    return _choose(_pairs(samples, _sample_side), count)


def cut_traces(cuts: dict[str, list[CutSample]], count: int) -> list[Trace]:
    """Up to `count` diagnosed problems; the thought is split where it sufficed in at least one side."""
    traces = _pairs(cuts, _cut_side)
    return _choose([trace for trace in traces if any(side.rest for side in trace.sides)], count)[0]


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


def _pairs(records: dict[str, list[Record]], side: Callable[[str, Record], Side]) -> list[Trace]:
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
        traces.append(Trace(_kind(sides), first.problem, first.difficulty, first.prompt, first.gold, sides))
    return traces


def _kind(sides: list[Side]) -> str:
    if len(sides) < 2:
        return ""
    was, now = (side.verdict is Verdict.CORRECT for side in (sides[0], sides[-1]))
    return "same" if was == now else "mended" if now else "lost"


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
