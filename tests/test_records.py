"""Records: what is written is what is read, what is not known is refused, and a file's name stands in one place."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sides import PROTOCOL, evaluation, sample, write
from suffice.errors import RunError
from suffice.interval import UNKNOWN, Interval
from suffice.run import layout
from suffice.run.directory import Diagnosis, Run, read_evaluation
from suffice.run.files import write_json, write_jsonl
from suffice.run.records import (
    Change,
    Chosen,
    Comparison,
    CurvePoint,
    CutThought,
    DiagnosisSummary,
    Exit,
    Full,
    GuardLine,
    ShownExit,
    ShownGroup,
    ShownSpine,
    Step,
)

ROOT = Path(__file__).parent.parent
NAMES = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
LABELS = {layout.BEFORE, layout.AFTER}


def change(mean: float = -0.25) -> Change:
    return Change(**dict.fromkeys(Change.model_fields, Interval(mean, mean - 1, mean + 1)))


def refusal(error: pytest.ExceptionInfo[RunError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# -- the names


def listed() -> set[str]:
    """Every name in the first column of the listings of design.md, placeholders left out."""
    section = (ROOT / "docs/design.md").read_text().partition("\n## The run directory\n")[2].partition("\n## ")[0]
    names = set()
    for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL):
        for line in block.splitlines():
            if line.startswith(" " * 6):
                continue  # goes on with what the line before says
            for path in re.split(r" {2,}", line.strip())[0].split():
                names |= {part for part in path.split("/") if part and not re.search(r"<|step-N", part)}
    return names


def test_the_design_lists_every_name_of_a_run_and_no_other():
    assert listed() == NAMES - LABELS


def test_no_other_module_spells_the_name_of_a_file():
    files = tuple(name for name in NAMES if "." in name)
    spelled: dict[str, list[str]] = {}
    for path in (ROOT / "src/suffice").rglob("*.py"):
        if path.name == "layout.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value.rpartition("/")[2]
                if name in files or name == "step-":
                    spelled.setdefault(str(path.relative_to(ROOT)), []).append(node.value)
    assert spelled == {}


def test_a_step_is_named_and_told_from_its_name():
    assert [layout.step_name(step) for step in (0, 50, 1_000_000)] == ["step-000000", "step-000050", "step-1000000"]
    assert [
        layout.step_of(name) for name in ("step-000050", "step-1000000", "step-000050-greedy", "after", "step-")
    ] == [
        50,
        1_000_000,
        None,
        None,
        None,
    ]


# -- what is written is what is read


def test_intervals_of_every_kind_come_back(tmp_path: Path):
    found = Comparison(**dict(change()), greedy=change(0.5))
    Run(tmp_path).write(found)
    assert Run(tmp_path).comparison() == found
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["accuracy"] == {"difference": -0.25, "low": -1.25, "high": 0.75}
    assert written["tokens_change"] == {"mean": -0.25, "low": -1.25, "high": 0.75}
    assert written["greedy"]["thought_tokens"]["difference"] == 0.5


@pytest.mark.parametrize(
    ("known", "written"),
    [
        (UNKNOWN, {"mean": None, "low": None, "high": None}),
        (UNKNOWN._replace(mean=0.5), {"mean": 0.5, "low": None, "high": None}),
        (Interval(0.5, -math.inf, math.inf), {"mean": 0.5, "low": None, "high": None}),
    ],
)
def test_what_is_not_known_is_null_and_never_nan_in_a_file(known: Interval, written: dict[str, float | None]):
    assert json.loads(json.dumps(known.as_dict(), allow_nan=False)) == written


def test_an_evaluation_without_an_interval_comes_back_without_one(tmp_path: Path):
    one = [sample("p", "CORRECT"), sample("p", "WRONG", number=1)]
    write(tmp_path / "evaluations/t", one)
    metrics = Run(tmp_path).evaluation("t").summary.metrics
    assert (metrics.accuracy.mean, metrics.accuracy.bounded) == (0.5, False)
    assert not any("NaN" in path.read_text() for path in tmp_path.rglob("*.json*"))


def test_what_was_not_given_is_not_written_and_what_is_known_to_be_nothing_is_null(tmp_path: Path):
    record = sample("p", "CORRECT", level=None)
    written = record.as_dict()
    assert written["difficulty"] is None
    assert "variant" not in evaluation([record, sample("q", "WRONG")]).summary.as_dict()


def test_a_diagnosis_comes_back(tmp_path: Path):
    part, tokens = Interval(0.5, 0.4, 0.6), Interval(10.0, 8.0, 12.0)
    thought = CutThought(
        problem="p", difficulty=None, sample=0, thought_tokens=4, full_verdict="WRONG",
        exits=[Exit(fraction=0.5, exit=2, verdict="CORRECT")], sufficient=None, saveable_tokens=0, prompt="?", gold="7",
        thought="a b c d", sufficient_text=None, answer="8",
    )  # fmt: skip
    point = CurvePoint(fraction=0.5, accuracy=part, thought_tokens=2.0, lost=part, mended=UNKNOWN)
    summary = DiagnosisSummary(
        model="m", task="t", protocol=PROTOCOL, token_counts="server", curve=[point],
        full=Full(accuracy=part, thought_tokens=tokens), lost=part, sufficient_fraction=UNKNOWN, saveable_fraction=part,
        saveable_tokens=tokens, safe_fraction=None, conclusion="Perhaps.", worth_training=False,
    )  # fmt: skip
    Run(tmp_path).write_diagnosis("t", Diagnosis([thought], summary))
    back = Run(tmp_path).diagnosis("t")
    assert back.records == [thought]
    assert back.summary.as_dict() == summary.as_dict()
    assert Run(tmp_path).diagnoses()["t"].conclusion == "Perhaps."


def test_lines_go_to_the_log_of_their_kind(tmp_path: Path):
    run = Run(tmp_path)
    step = Step.model_validate({"step": 1, "accuracy": 0.5, "tokens_decode": 7, "price": 0.25, "rank": 3})
    shown = ShownExit(exit=1, answer="8", verdict="WRONG")
    group = ShownGroup(
        step=1, problem="p", prompt="?", gold="7",
        spines=[ShownSpine(thought="a", answer="7", verdict="CORRECT", exits=[shown])],
    )  # fmt: skip
    line = GuardLine(step=0, action="go", reason="", score=None, accuracy=0.75)
    for lines in ([step], [group], [line], []):
        run.append(lines)
    assert run.metrics() == [step]
    assert step.figures() == {"accuracy": 0.5, "tokens_decode": 7, "price": 0.25, "rank": 3}  # as they were measured
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "accuracy": 0.5, "tokens_decode": 7, "price": 0.25, "rank": 3}\n'
    )
    assert run.guard() == [line]
    assert json.loads((tmp_path / "rollouts.jsonl").read_text()) == group.as_dict()


@given(st.dictionaries(st.sampled_from(["price", "lam", "mine"]), st.floats(allow_nan=False) | st.integers()))
def test_what_a_method_says_of_a_step_comes_back_as_it_was(found: dict[str, float]):
    step = Step.model_validate({"step": 3, **found})
    assert json.loads(json.dumps(step.figures())) == found
    assert Step.model_validate(step.as_dict()) == step


# -- what is not known is refused


RECORD = sample("p", "CORRECT").as_dict()
SUMMARY = evaluation([sample("p", "CORRECT"), sample("q", "WRONG")]).summary.as_dict()


def with_(record: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(record))
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        (with_(RECORD, "probe_tokens", value=9), "has probe_tokens, which this version of suffice does not know"),
        (with_(RECORD, "verdict", value="RIGHT"), "has a bad verdict"),
        (with_(RECORD, "thought_tokens", value=-1), "has a bad thought_tokens"),
        (with_(RECORD, "closed", value=None), "has a bad closed"),
        ({name: value for name, value in RECORD.items() if name != "gold"}, "lacks gold"),
    ],
)
def test_a_record_that_is_not_what_it_should_be_is_one_line_with_its_place(
    tmp_path: Path, record: dict[str, Any], wrong: str
):
    write(tmp_path / "evaluations/t", [sample("p", "CORRECT"), sample("q", "WRONG")])
    write_jsonl(tmp_path / "evaluations/t/records.jsonl", [RECORD, record])
    with pytest.raises(RunError) as error:
        read_evaluation(tmp_path / "evaluations/t")
    assert f"records.jsonl:2 {wrong}" in refusal(error)


@pytest.mark.parametrize(
    ("summary", "wrong"),
    [
        (with_(SUMMARY, "verdict", value="Worth it."), "has verdict, which this version"),
        (with_(SUMMARY, "metrics", "accuracy", value={"mean": 0.5, "low": 0.4}), "lacks metrics.accuracy.high"),
        (with_(SUMMARY, "metrics", "accuracy", value=0.5), "has a bad metrics.accuracy"),
        (with_(SUMMARY, "protocol", "temperature", value="hot"), "has a bad protocol.temperature"),
        (with_(SUMMARY, "variant", value={"kind": "patience"}), "has a bad variant.kind"),
        ([], "is not what it should be"),
    ],
)
def test_a_summary_that_is_not_what_it_should_be_is_one_line(tmp_path: Path, summary: Any, wrong: str):
    write_json(tmp_path / "evaluations/t/summary.json", summary)
    with pytest.raises(RunError) as error:
        Run(tmp_path).evaluations()
    assert f"summary.json {wrong}" in refusal(error)


@pytest.mark.parametrize("line", ['{"accuracy": 1}', '{"step": 0}', '{"step": 1, "accuracy": "high"}'])
def test_a_line_of_a_log_that_cannot_be_read_is_to_be_removed(tmp_path: Path, line: str):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 7}}\n{line}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 .*; remove that line$") as error:
        Run(tmp_path).metrics()
    refusal(error)


def test_a_document_that_cannot_be_read_is_to_be_removed_and_the_run_resumed(tmp_path: Path):
    write_json(tmp_path / "chosen.json", {"step": 3})
    with pytest.raises(RunError, match=f"chosen.json lacks path; remove it and resume {tmp_path}$") as error:
        Run(tmp_path).chosen()
    refusal(error)


# -- a run as a whole


def test_of_a_step_done_twice_the_later_line_counts_and_steps_are_in_order(tmp_path: Path):
    rows = [
        {"step": 1, "reward": 0.1},
        {"step": 3, "reward": 0.2},
        {"step": 2, "reward": 0.3},
        {"step": 3, "reward": 0.4},
    ]
    write_jsonl(tmp_path / "metrics.jsonl", rows)
    assert [(step.step, step.reward) for step in Run(tmp_path).metrics()] == [(1, 0.1), (2, 0.3), (3, 0.4)]


def test_checkpoints_are_in_order_of_step_whatever_the_width_of_their_names(tmp_path: Path):
    for name in ("step-1000000", "step-000002", "step-000010", ".step-000011.0123abcd", "step-final"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert list(Run(tmp_path).checkpoints()) == [2, 10, 1_000_000]
    assert Run(tmp_path).checkpoints()[10] == Run(tmp_path).checkpoint(10)


def test_evaluations_begin_with_the_ends_and_leave_out_stops_and_what_is_unfinished(tmp_path: Path):
    records = [sample("p", "CORRECT"), sample("q", "WRONG")]
    for label in ("after-greedy", "step-000010", "after", "t@budget-8", "before", ".before.0123abcd"):
        write(tmp_path / "evaluations" / label, records)
    (tmp_path / "evaluations/half").mkdir()
    run = Run(tmp_path)
    assert list(run.evaluations()) == ["before", "after", "after-greedy", "step-000010"]
    assert run.evaluated() == ["before", "after", "after-greedy", "step-000010", "t@budget-8"]
    assert not run.is_evaluated("half")


def test_figures_need_no_texts(tmp_path: Path):
    records = [sample("p", "CORRECT"), sample("q", "WRONG")]
    write(tmp_path / "evaluations/t", records)
    light = Run(tmp_path).evaluation("t", texts=False)
    assert {record.thought + record.prompt for record in light.records} == {""}
    assert [record.verdict for record in light.records] == [record.verdict for record in records]
    assert light.summary == Run(tmp_path).evaluation("t").summary


def test_what_the_guard_chose_lies_in_the_run_and_the_base_where_it_is(tmp_path: Path):
    assert Run(tmp_path).chosen_checkpoint() is None
    for step, path, lies in (
        (7, "checkpoints/step-000007", tmp_path / "checkpoints/step-000007"),
        (0, "lab/sums", Path("lab/sums")),
    ):
        Run(tmp_path).write(Chosen(step=step, path=path, accuracy=0.5, thought_tokens=9.0, rule="…"))
        assert Run(tmp_path).chosen_checkpoint() == lies
