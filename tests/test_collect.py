"""Collecting samples: nothing is lost, nothing is sampled twice, recorded thoughts can be answered again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from making import exact
from suffice.config import DEFAULT_INDUCER
from suffice.errors import RunError
from suffice.evaluation.collect import answer, collect
from suffice.evaluation.evaluate import owned
from suffice.evaluation.local import LocalSource
from suffice.evaluation.perform import perform
from suffice.evaluation.prepare import prepare
from suffice.evaluation.request import Request, TaskPart, read_request
from suffice.evaluation.source import Sampling
from suffice.lab import base_path
from suffice.model.load import load_chat, load_model
from suffice.run.journal import Journal
from suffice.run.start import create_run
from suffice.tasks import load_task

PROTOCOL = Sampling(samples=2, temperature=1.0, top_p=1.0, max_thought_tokens=256, max_answer_tokens=8)


def halves(trace):
    return [trace.thought_tokens // 2]


@pytest.fixture(scope="module")
def lab():
    model, chat = exact(load_model("lab/arithmetic", device="cpu")), load_chat("lab/arithmetic", DEFAULT_INDUCER)
    source = LocalSource("base", model, chat)
    source.lot = 8  # several lots of four problems
    return source, load_task("arithmetic", split="test", limit=12)


@pytest.mark.slow
def test_a_collection_cut_at_any_byte_ends_as_an_uninterrupted_one(lab, tmp_path):
    source, problems = lab
    with Journal(tmp_path / "whole.jsonl") as journal:
        whole = collect(source, problems, PROTOCOL, halves, journal)
    text = (tmp_path / "whole.jsonl").read_bytes()
    for part in (0.0, 0.2, 0.5, 0.77, 0.999):
        path = tmp_path / f"{part}.jsonl"
        path.write_bytes(text[: int(part * len(text))])
        with Journal(path) as journal:
            assert collect(source, problems, PROTOCOL, halves, journal) == whole
        assert len(path.read_bytes().splitlines()) == len(whole)


def test_what_the_journal_holds_is_not_sampled_again(lab, tmp_path):
    source, problems = lab
    with Journal(tmp_path / "j.jsonl") as journal:
        whole = collect(source, problems, PROTOCOL, None, journal)
    nobody = LocalSource("no model", None, None)
    nobody.lot = source.lot
    with Journal(tmp_path / "j.jsonl") as journal:
        assert collect(nobody, problems, PROTOCOL, None, journal) == whole


@pytest.mark.parametrize(
    "line", ['{"problem": "p"}', '{"problem": "p", "sample": "first"}', '{"id": "p", "solved": 3, "of": 8}']
)
def test_a_journal_that_holds_something_else_is_refused_with_the_line(lab, tmp_path, line):
    source, problems = lab
    (tmp_path / "j.jsonl").write_text(f"{line}\n")
    with (
        Journal(tmp_path / "j.jsonl") as journal,
        pytest.raises(RunError, match=r"j\.jsonl:1 is not what this version"),
    ):
        collect(source, problems, PROTOCOL, None, journal)


def test_one_process_at_a_time_writes_a_journal(tmp_path):
    with Journal(tmp_path / "j.jsonl"), pytest.raises(RunError, match="another process"):
        Journal(tmp_path / "j.jsonl").__enter__()
    with Journal(tmp_path / "j.jsonl"):
        pass


def test_recorded_thoughts_are_answered_as_when_they_were_sampled(lab):
    source, problems = lab
    whole = collect(source, problems, PROTOCOL, halves)
    bare = [replace(trace, forced=[], switches=[], thought_tokens=0) for trace in whole]
    again = answer(source, owned(problems, bare), PROTOCOL, halves)
    assert [trace.forced for trace in again] == [
        [replace(forced, confidence=pytest.approx(forced.confidence, abs=1e-10)) for forced in trace.forced]
        for trace in whole
    ]
    assert [trace.thought_tokens for trace in again] == [trace.thought_tokens for trace in whole]
    without_cache = LocalSource("base", source.model, source.chat)
    without_cache.fits = False
    third = answer(without_cache, owned(problems, bare), PROTOCOL, halves)
    assert [[f.answer for f in trace.forced] for trace in third] == [[f.answer for f in t.forced] for t in again]


def test_an_evaluation_of_a_run_that_trains_on_goes_on_with_the_checkpoint_it_began_with(tmp_path):
    checkpoints = tmp_path / "trained" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-000001").symlink_to(base_path())
    asked = Request(
        verb="eval", model=str(tmp_path / "trained"), tasks=[TaskPart(name="arithmetic", problems=2)], samples=1
    )
    work, run = prepare(asked), tmp_path / "run"
    (checkpoints / "step-000002").symlink_to(base_path())
    perform(work, create_run(run))
    assert read_request(run, "eval").checkpoint == str(checkpoints / "step-000001")
    assert prepare(read_request(run, "eval")).request.checkpoint == str(checkpoints / "step-000001")
