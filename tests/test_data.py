"""data.json of a run: where its problems came from, and what training and evaluation share."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from suffice.config import Recipe, make_recipe
from suffice.engines.local import train
from suffice.errors import RunError
from suffice.groups import Problem
from suffice.run.files import read_json, write_json
from suffice.tasks import load_task
from suffice.tasks.provenance import check_unchanged, locate_data, overlap_record, pinned

COMMIT = "0123456789abcdef0123456789abcdef01234567"
METHOD = {"method": {"name": "grpo"}, "group": {"spines": 2, "exits": 0}}


def recipe(folder: Path, **task: object) -> Recipe:
    return make_recipe(
        METHOD
        | {
            "task": {"name": "gsm8k", "path": str(folder), **task},
            "train": {"steps": 1, "problems_per_step": 2, "eval_every": 1},
            "rollout": {"max_thought_tokens": 4, "max_answer_tokens": 4},
            "eval": {"samples": 1},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """GSM8K in miniature: two problems a split, the last of each the same but for a name."""
    copied = "has 3 red pens and 4 blue pens, and gives away two pens. How many pens are left now?"
    for split, name in (("train", "Ann"), ("test", "Bob")):
        rows = [{"question": f"{split} is what?", "answer": "1"}, {"question": f"{name} {copied}", "answer": "5"}]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def located(folder: Path, split: str) -> dict[str, str]:
    file = folder / f"{split}.jsonl"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"task": "gsm8k", "split": split, "path": str(file), "sha256": digest}


def test_a_run_records_its_data_and_what_they_share(folder: Path, tiny_qwen3: Path, capsys: pytest.CaptureFixture[str]):
    run = folder / "run"
    brief = recipe(folder)
    model = shutil.copytree(tiny_qwen3, folder / "model")
    with (model / "chat_template.jinja").open("a") as template:  # a random model would not open its thought itself
        template.write("{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}")
    brief.model.path = str(model)
    train(brief, run)
    assert read_json(run / "data.json") == {
        "train": located(folder, "train"),
        "eval": located(folder, "test"),
        "overlap": {
            "words": 13,
            "problems": {"train": 2, "eval": 2},
            "count": 1,
            "share": 0.5,
            "first": [{"train": "gsm8k-train-2", "eval": "gsm8k-test-2"}],
        },
    }
    assert (
        "overlap: 1 of 2 evaluation problems share a passage of 13 words with a training problem, the first "
        "gsm8k-test-2 with gsm8k-train-2; see overlap in data.json\n"
    ) in capsys.readouterr().err


def test_without_evaluation_there_is_no_overlap_to_tell(folder: Path):
    brief = recipe(folder)
    assert locate_data(brief.task, None) == {"train": located(folder, "train")}
    assert overlap_record(load_task("gsm8k", path=str(folder)), []) == {}


def test_the_commit_of_a_hub_data_set_goes_into_the_recipe():
    brief = make_recipe(METHOD | {"task": {"name": "gsm8k", "revision": COMMIT}, "train": {"eval_every": 1}})
    found = {"task": "gsm8k", "split": "train", "hub": "openai/gsm8k", "config": "main", "revision": COMMIT}
    data = {"train": found, "eval": found | {"split": "test"}}
    assert locate_data(brief.task, brief.eval) == data
    newer = {side: where | {"revision": COMMIT[::-1]} for side, where in data.items()}
    known = pinned(brief, newer)
    assert known.task.revision == known.eval.revision == COMMIT[::-1]
    assert brief.task.revision == brief.eval.revision == COMMIT  # what was asked stays as it was asked
    assert pinned(brief, {"train": {}}) == brief


def test_a_revision_is_not_taken_over_by_an_evaluation_of_another_task():
    brief = make_recipe(METHOD | {"task": {"name": "gsm8k", "revision": COMMIT}, "eval": {"task": "math500"}})
    assert brief.eval.revision is None


def test_a_run_does_not_go_on_with_other_problems(folder: Path):
    brief = recipe(folder)
    write_json(folder / "data.json", locate_data(brief.task, brief.eval))
    check_unchanged(folder, locate_data(brief.task, brief.eval))
    file = folder / "train.jsonl"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(RunError) as refusal:
        check_unchanged(folder, locate_data(brief.task, brief.eval))
    assert str(refusal.value) == (
        f"{file} is not what {folder} was started with (data.json, train); put it back, or start a new run"
    )


def test_the_labs_problems_are_compared_whole(capsys: pytest.CaptureFixture[str]):
    problems, held_out = (load_task("arithmetic", split=split) for split in ("train", "test"))
    found = overlap_record(problems, held_out)["overlap"]
    assert (found["words"], found["count"], found["share"], found["first"]) == (None, 0, 0.0, [])
    assert capsys.readouterr().err == ""
    assert overlap_record(problems, problems[:50])["overlap"]["share"] == 1.0
    assert "share their whole text with a training problem" in capsys.readouterr().err


def test_only_the_first_pairs_are_recorded():
    same = [Problem(str(n), "jsonl", "one text", "1") for n in range(5)]
    found = overlap_record(same, same)["overlap"]
    assert (found["count"], len(found["first"])) == (5, 10)
