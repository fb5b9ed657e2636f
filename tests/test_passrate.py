"""Problems by their pass rate: sampled once, kept, and the ones in between are trained on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import huggingface_hub
import pytest
import torch

from suffice.config import Recipe, load_recipe
from suffice.engines.local import passrate, train
from suffice.engines.local.build import build_engine, chat_and_problems, solved_counts
from suffice.engines.local.passrate import cache_file, check_patience, keep_solved, model_identity
from suffice.errors import Interrupted, RecipeError, RunError
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.lab import base_path
from suffice.model.load import load_chat
from suffice.rollout import Chat
from suffice.run.files import read_json, read_jsonl, write_jsonl
from suffice.tasks import load_task


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUFFICE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(passrate, "LOT", 4)
    torch.set_num_threads(1)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load_chat("lab/arithmetic", load_recipe("lab-s-grpo").rollout.inducer)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load_task("arithmetic", limit=10)


@pytest.fixture(scope="module")
def solved(problems: list[Problem], chat: Chat, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often the lab's base solves each of four times, sampled once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUFFICE_CACHE", str(tmp_path_factory.mktemp("solved")))
        return sampled(problems, chat)


@pytest.fixture
def known(problems: list[Problem], solved: dict[str, int]) -> Path:
    """The file of the pass rates, complete."""
    file = file_of(recipe(), problems)
    file.parent.mkdir(parents=True)
    file.write_text("".join(f'{{"id": "{name}", "solved": {count}, "of": 4}}\n' for name, count in solved.items()))
    return file


def recipe(*overrides: str) -> Recipe:
    settings = ["task.solved=[1, 3]", "task.solved_of=4", "train.problems_per_step=1", "task.limit=10"]
    return load_recipe("lab-s-grpo", [*settings, "rollout.max_thought_tokens=96", *overrides])


def file_of(asked: Recipe, problems: Sequence[Problem]) -> Path:
    return cache_file(asked.model, asked.rollout, problems, asked.task.solved_of)


def sampled(problems: Sequence[Problem], chat: Chat, stopped: Callable[[], bool] = lambda: False) -> dict[str, int]:
    with Grader() as grader:
        return solved_counts(recipe(), problems, chat, grader, stopped)


def test_the_model_solves_some_problems_at_times(problems, solved):
    assert list(solved) == [problem.id for problem in problems]
    assert set(solved.values()) <= {0, 1, 2, 3, 4}
    assert len(set(solved.values())) > 1


def test_what_was_sampled_is_kept_a_line_a_problem_and_is_the_same_again(problems, chat, solved, cache):
    assert sampled(problems, chat) == solved
    assert list((cache / "pass-rates").iterdir()) == [file_of(recipe(), problems)]
    lines = [{"id": name, "solved": count, "of": 4} for name, count in solved.items()]
    assert read_jsonl(file_of(recipe(), problems)) == lines


def test_what_is_known_is_not_sampled_again(problems, chat, known):
    claimed = "".join(f'{{"id": "{problem.id}", "solved": 2, "of": 4}}\n' for problem in problems)
    known.write_text(claimed)
    assert set(sampled(problems, chat).values()) == {2}
    assert known.read_text() == claimed


def test_a_killed_sampling_goes_on_where_it_was(problems, chat, solved, known):
    whole = known.read_bytes()
    known.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 20])  # the last line is torn
    assert sampled(problems, chat) == solved
    assert known.read_bytes() == whole


def test_a_wish_to_stop_is_granted_after_a_lot(problems, chat):
    with pytest.raises(Interrupted, match="pass rates of 4 of 10 problems"):
        sampled(problems, chat, stopped=lambda: True)
    assert len(read_jsonl(file_of(recipe(), problems))) == 4


def test_two_processes_do_not_sample_the_same(problems, chat):
    file = file_of(recipe(), problems)
    with passrate.Journal(file), pytest.raises(RunError, match="another process"):
        sampled(problems, chat)


def test_all_that_decides_a_pass_rate_names_its_file(problems, tmp_path):
    copy = shutil.copytree(base_path(), tmp_path / "copy")
    base = file_of(recipe(), problems)
    assert file_of(recipe(f"model.path={copy}"), problems) == base
    assert file_of(recipe("run.seed=5", "group.exits=2", "rollout.cache_gb=1", "task.solved=[0, 4]"), problems) == base
    others = [
        file_of(recipe("task.solved_of=8"), problems),
        file_of(recipe("rollout.temperature=0.5"), problems),
        file_of(recipe("rollout.max_answer_tokens=5"), problems),
        file_of(recipe(), problems[1:]),
    ]
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    others.append(file_of(recipe(f"model.path={copy}"), problems))
    assert len({base, *others}) == 6


def test_files_that_say_nothing_of_a_model_do_not_change_its_identity(tmp_path):
    copy = shutil.copytree(base_path(), tmp_path / "copy")
    (copy / "README.md").write_text("a model")
    assert model_identity(str(copy), None) == model_identity("lab/arithmetic", None)


def test_a_model_of_the_hub_is_named_by_the_commit_of_its_files(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    downloaded = tmp_path / "models--owner--name"
    (downloaded / "snapshots" / commit).mkdir(parents=True)
    (downloaded / "snapshots" / commit / "config.json").write_text("{}")
    (downloaded / "refs").mkdir()
    (downloaded / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert model_identity("owner/name", None) == f"owner/name@{commit}"
    assert model_identity("owner/name", commit) == f"owner/name@{commit}"


def test_problems_in_between_are_kept_in_order(problems, solved):
    kept = keep_solved(problems, solved, recipe().task, 1)
    assert kept == [problem for problem in problems if 1 <= solved[problem.id] <= 3]
    assert keep_solved(problems, solved, recipe("task.solved=[0, 4]").task, 1) == problems


def test_too_few_problems_in_between_are_refused_with_the_numbers(problems, solved):
    with pytest.raises(RecipeError) as refusal:
        keep_solved(problems, solved, recipe("task.solved=[1, 1]").task, 10)
    counts = list(solved.values())
    kept, rarer = counts.count(1), counts.count(0)
    assert str(refusal.value) == (
        f"task.solved = [1, 1] of 4 keeps {kept} of 10 problems ({rarer} are solved less often, "
        f"{10 - kept - rarer} more often), but train.problems_per_step is 10; widen task.solved or give more data"
    )


@pytest.mark.slow
def test_the_engine_trains_on_what_is_kept_and_a_resumed_one_too(tmp_path, cache):
    brief = recipe("train.steps=1", "train.eval_every=1", "eval.problems=2", "eval.samples=1", "group.exits=2")
    run = tmp_path / "run"
    train(brief, run)
    (file,) = (cache / "pass-rates").iterdir()
    kept = [line["id"] for line in read_jsonl(file) if 1 <= line["solved"] <= 3]
    assert read_json(run / "data.json")["overlap"]["problems"] == {"train": len(kept), "eval": 2}
    file.unlink()  # it is found again with the untrained model, not with the checkpoint
    with Grader() as grader:
        engine, done = build_engine(load_recipe(str(run / "recipe.toml")), grader, run / "checkpoints" / "step-000001")
    assert done == 1
    assert [problem.id for problem in engine.problems.problems] == kept


@pytest.mark.parametrize("solved", ["[3, 2]", "[-1, 2]", "[2, 5]"])
def test_counts_that_no_problem_can_have_are_refused(solved):
    with pytest.raises(RecipeError, match=r"task\.solved.*two counts, the lower first, from 0 to task\.solved_of = 4"):
        recipe(f"task.solved={solved}")


def test_an_evaluations_records_count_instead_of_sampling(problems, tmp_path, cache):
    verdicts = {0: "WRONG WRONG WRONG WRONG", 1: "CORRECT WRONG WRONG WRONG", 2: "CORRECT CORRECT CORRECT CORRECT"}
    records = [
        {"problem": problem.id, "sample": k, "verdict": verdict}
        for i, problem in enumerate(problems)
        for k, verdict in enumerate(verdicts[i % 3].split())
    ]
    write_jsonl(tmp_path / "records.jsonl", records)
    asked = recipe(f"task.solved_from={tmp_path / 'records.jsonl'}")
    with Grader() as grader:
        _, kept = chat_and_problems(asked, grader, lambda: False)
        assert [problem.id for problem in kept] == [problems[i].id for i in (1, 4, 7)]
        write_jsonl(tmp_path / "records.jsonl", records[1:])
        with pytest.raises(RecipeError, match="does not hold 4 samples of 1 of 10 problems, such as arithmetic-train-"):
            chat_and_problems(asked, grader, lambda: False)
    assert not cache.exists()


def refusal(recipe: Recipe, file: Path, problems: Sequence[Problem]) -> str:
    try:
        check_patience(recipe, file, problems)
    except RecipeError as error:
        return str(error)
    return ""


def many(count: int) -> list[Problem]:
    return [Problem(str(i), "gsm8k", "1 + 1", "2", "math") for i in range(count)]


def test_hours_of_sampling_before_the_first_step_are_refused(tmp_path: Path):
    """8,192 problems of Qwen3-8B eight times: the estimate says 770 hours of one H100."""
    recipe, file = load_recipe("qwen3-8b-s-grpo"), tmp_path / "rates.jsonl"
    said = refusal(recipe, file, many(8192))
    assert "8,192 problems 8 times here, about 770 hours on one H100" in said
    assert "task.solved_from" in said
    assert "task.limit" not in said  # an hour is too little for the 128 problems of a step
    assert "\n" not in said
    write_jsonl(file, [{"id": str(i), "solved": 3, "of": 8} for i in range(8190)])
    assert not refusal(recipe, file, many(8192))  # what is known costs nothing more
    assert not refusal(load_recipe("lab-s-grpo"), file, many(512))


def test_the_limit_that_is_advised_passes_and_the_next_does_not(tmp_path: Path):
    recipe, file = load_recipe("qwen3-1.7b-s-grpo-lora", ["task.solved=[2, 6]"]), tmp_path / "rates.jsonl"
    found = re.search(r"or set task\.limit to ([\d,]+) or fewer", refusal(recipe, file, many(7473)))
    fewer = int(found[1].replace(",", ""))
    assert fewer >= recipe.train.problems_per_step
    assert not refusal(recipe, file, many(fewer))
    assert refusal(recipe, file, many(fewer + 1))


def test_a_run_asks_before_it_loads_the_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passrate, "PATIENCE", 1e-9)
    recipe = load_recipe("lab-s-grpo", ["task.solved=[2, 6]", "task.limit=40"])
    with Grader() as grader, pytest.raises(RecipeError, match=r"task\.solved would first sample 40 problems 8 times"):
        build_engine(recipe, grader, None)
