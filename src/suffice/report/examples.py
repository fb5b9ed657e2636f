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
from suffice.run.records import CutThought, Sample

KINDS = ("mended", "lost", "same")
CLASSES = ("lost", "mended", "saved", "other")
"""Pairs of a comparison: right then wrong, wrong then right, both right with fewer thinking tokens, all else."""
R = TypeVar("R", Sample, CutThought)


@dataclass(frozen=True, slots=True)
class Response:
    """One response; its thought is `known`, up to where it sufficed, then `rest`, empty where that is not known."""

    label: str
    verdict: Verdict
    thought_tokens: int
    note: str
    known: str
    rest: str
    answer: str


@dataclass(frozen=True, slots=True)
class Example:
    """The responses to one problem, side by side. `kind` is of KINDS or CLASSES, or empty where there is one side."""

    kind: str
    problem: str
    difficulty: str | None
    prompt: str
    gold: str
    responses: list[Response]


def sample_examples(samples: dict[str, list[Sample]], count: int) -> tuple[list[Example], Counter[str]]:
    """Up to `count` problems as before | after, balanced over KINDS, and how many pairs of each kind there are."""
    return _choose(_pairs(samples, _of_sample, _kind), count)


def cut_examples(cuts: dict[str, list[CutThought]], count: int) -> list[Example]:
    """Up to `count` diagnosed problems; the thought is split where it sufficed in at least one response."""
    examples = _pairs(cuts, _of_cut, _kind)
    return _choose([example for example in examples if any(response.rest for response in example.responses)], count)[0]


def compared_examples(
    tasks: Sequence[dict[str, list[Sample]]], count: int, longest: int
) -> tuple[dict[str, list[Example]], Counter[str]]:
    """Up to `count` examples of each of CLASSES, tasks taking turns, and how many pairs of each class there are.

    Args:
        tasks: for each the samples of two sides by name; only pairs that both have are compared.
        longest: bytes of a text that is shown whole; of a longer one the middle is left out.
    """
    chosen: dict[str, list[Example]] = {}
    totals: Counter[str] = Counter()
    queues: dict[str, list[list[Example]]] = {name: [] for name in CLASSES}
    for samples in tasks:
        first_of: dict[str, dict[str, Example]] = {name: {} for name in CLASSES}
        for example in _pairs(samples, _of_sample, _class):
            totals[example.kind] += 1
            first_of[example.kind].setdefault(example.problem, example)
        for name, found in first_of.items():
            queues[name].append(list(found.values()))
    for name, each in queues.items():
        turns = (example for turn in zip_longest(*each) for example in turn if example is not None)
        chosen[name] = [_brief(example, longest) for example in islice(turns, count)]
    return chosen, totals


def shortened(text: str, longest: int) -> str:
    """A text of at most `longest` bytes of UTF-8, or its beginning and end with a note of what is left out."""
    data = text.encode("utf-8", "replace")
    if len(data) <= longest:
        return text
    head, tail = (part.decode(errors="ignore") for part in (data[: longest // 2], data[-(longest // 2) :]))
    return f"{head}\n\n[… {len(text) - len(head) - len(tail):,} characters left out …]\n\n{tail}"


def _brief(example: Example, longest: int) -> Example:
    responses = [
        replace(each, known=shortened(each.known, longest), answer=shortened(each.answer, longest))
        for each in example.responses
    ]
    prompt, gold = shortened(example.prompt, longest), shortened(example.gold, longest)
    return replace(example, prompt=prompt, gold=gold, responses=responses)


def _of_sample(label: str, record: Sample) -> Response:
    note = "thought never closed" if not record.closed else "cut at the token limit" if record.truncated else ""
    return Response(label, record.verdict, record.thought_tokens, note, record.thought, "", record.answer)


def _of_cut(label: str, record: CutThought) -> Response:
    known, note = record.thought, "no exit sufficed"
    if record.sufficient_text is not None and record.sufficient is not None:
        # text decoded up to an exit can end in half a character, so it need not be a prefix to the letter
        known = _shared_start(record.thought, record.sufficient_text)
        note = f"{100 * record.sufficient:.0f}\u202f% of the thought sufficed"
    rest = record.thought[len(known) :]
    return Response(label, record.full_verdict, record.thought_tokens, note, known, rest, record.answer)


def _shared_start(one: str, other: str) -> str:
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differ, min(len(one), len(other)))]


def _pairs(
    records: dict[str, list[R]],
    responded: Callable[[str, R], Response],
    kind: Callable[[list[Response]], str],
) -> list[Example]:
    """Records that every label has, matched by problem and sample, as examples in hash order."""
    by_label = {label: {(r.problem, r.sample): r for r in each} for label, each in records.items() if each}
    if not by_label:
        return []
    shared = set.intersection(*(set(each) for each in by_label.values()))
    examples = []
    for key in sorted(shared, key=_shuffle):
        found = {label: each[key] for label, each in by_label.items()}
        responses = [responded(label, record) for label, record in found.items()]
        first = next(iter(found.values()))
        examples.append(Example(kind(responses), first.problem, first.difficulty, first.prompt, first.gold, responses))
    return examples


def _kind(responses: list[Response]) -> str:
    if len(responses) < 2:
        return ""
    was, now = (response.verdict is Verdict.CORRECT for response in (responses[0], responses[-1]))
    return "same" if was == now else "mended" if now else "lost"


def _class(responses: list[Response]) -> str:
    """One of CLASSES."""
    was, now = responses
    kind = _kind(responses)
    if kind != "same":
        return kind
    return "saved" if now.verdict is Verdict.CORRECT and now.thought_tokens < was.thought_tokens else "other"


def _choose(examples: Iterable[Example], count: int) -> tuple[list[Example], Counter[str]]:
    """Take turns among the kinds, first problems first."""
    queues: dict[str, dict[str, Example]] = {}
    totals: Counter[str] = Counter()
    for example in examples:
        totals[example.kind] += 1
        queues.setdefault(example.kind, {}).setdefault(example.problem, example)
    order = sorted(queues, key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS))
    chosen: dict[str, Example] = {}
    for turn in zip_longest(*(queues[kind].values() for kind in order)):
        for example in turn:
            if example is not None and len(chosen) < count:
                chosen.setdefault(example.problem, example)
    return list(chosen.values()), totals


def _shuffle(key: tuple[str, int]) -> bytes:
    return sha256(f"{key[0]}/{key[1]}".encode(errors="replace")).digest()
