"""Problems of which a third has a gold answer that nobody gives."""

from __future__ import annotations

from pathlib import Path

from benchmarks.wrong_gold import EVERY, main

from suffice.tasks import load_task


def test_every_third_gold_answer_is_false_in_both_digits_and_nothing_else_changes(tmp_path: Path):
    main(tmp_path / "problems.jsonl")
    ours = load_task("jsonl", path=str(tmp_path / "problems.jsonl"))
    true = load_task("arithmetic", split="train")
    assert [(each.id, each.prompt, each.kind) for each in ours] == [(each.id, each.prompt, each.kind) for each in true]
    for i, (one, other) in enumerate(zip(ours, true, strict=True)):
        apart = [(int(a) - int(b)) % 10 for a, b in zip(one.gold.split(), other.gold.split(), strict=True)]
        assert apart == ([0, 0] if i % EVERY else [5, 5])
