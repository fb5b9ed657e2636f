"""What is advised next works as it stands: the recipe fits the model, and nothing is said where none does."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from suffice.cli.advice import NEAR, after_diagnosis, after_evaluation, describe, fitting
from suffice.config import load_recipe
from suffice.evaluation.request import Request
from suffice.lab import base_path
from suffice.model.shape import KNOWN

# Qwen3-8B: 36 layers of 2·4096·128·(32 + 8) + 3·4096·12288 weights, and twice 151,936·4096 make 8.19 billion
QWEN3_8B = {
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
}


def model(folder: Path, **changes: Any) -> str:
    """A folder that is a model by its config.json."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN3_8B | changes))
    (folder / "model.safetensors").touch()
    return str(folder)


def advised(request: Request, **saveable: float) -> list[str]:
    """The lines after a diagnosis that found these fractions saveable, worth training from 0.2 on."""
    summaries = {
        task: {"worth_training": share >= 0.2, "saveable_fraction": {"mean": share}} for task, share in saveable.items()
    }
    return after_diagnosis(request, summaries)


def local(path: str, checkpoint: str | None = None) -> Request:
    return Request(verb="diagnose", model=path, checkpoint=checkpoint or path)


def served(name: str, tokenizer: str | None) -> Request:
    server = {"base_url": "http://localhost:8000/v1", "tokenizer": tokenizer}
    return Request.model_validate({"verb": "diagnose", "model": name, "server": server})


def trained(words: str) -> tuple[str, Any]:
    """Name and resolved recipe of what `suffice train` was advised to take."""
    name, *rest = shlex.split(words)
    overrides = [value for flag, value in pairwise(rest) if flag == "--set"]
    return name, load_recipe(name, overrides)


@pytest.mark.parametrize(
    ("base", "task", "words"),
    [
        ("arithmetic", "arithmetic", "lab-s-grpo"),
        ("ballots", "ballots", "lab-ballots-s-grpo"),
        ("sums", "sums", "lab-sums-s-grpo"),
    ],
)
def test_a_base_of_the_lab_is_trained_by_its_tasks_recipe(base: str, task: str, words: str):
    request = local(f"lab/{base}", str(base_path(base)))
    assert advised(request, **{task: 0.4}) == [f"Next: suffice train {words}"]


def test_a_variant_of_a_lab_task_is_trained_by_its_kinds_recipe_on_the_variant():
    words = fitting("runs/mine", str(base_path("ballots")), "ballots-4")
    assert words == "lab-ballots-s-grpo --set model.path=runs/mine --set task.name=ballots-4"


def test_a_model_of_the_lab_on_a_task_of_others_has_no_recipe():
    assert fitting("lab/sums", str(base_path("sums")), "gsm8k") is None


@pytest.mark.parametrize("path", KNOWN)
def test_a_known_model_gets_a_recipe_for_models_about_as_large(path: str):
    words = fitting(path, path, "gsm8k")
    assert words is not None
    name, recipe = trained(words)
    own = KNOWN[load_recipe(name).model.path].parameters
    assert 1 / NEAR <= own / KNOWN[path].parameters <= NEAR
    assert recipe.model.path == path
    assert recipe.task.name == "gsm8k"
    assert recipe.train.learning_rate <= 2e-5  # the lab's, 3e-4, ruins such models
    assert ("--engine verl" in words) == (recipe.cluster.gpus >= 1)


def test_a_recipe_for_one_gpu_comes_before_those_for_eight(tmp_path: Path):
    # 36 layers of 2·2560·128·(32 + 8) + 3·2560·9728 weights and 151,936·2560 tied: 4.02 billion, between 1.7 and 8
    four = model(tmp_path / "4b", hidden_size=2560, intermediate_size=9728, tie_word_embeddings=True)
    assert fitting(four, four, "gsm8k") == (
        f"qwen3-1.7b-s-grpo-lora --set model.path={four} --set cluster.gpus=1 --engine verl"
    )


def test_of_recipes_alike_in_need_the_models_family_decides(tmp_path: Path):
    for family, name in (("qwen3", "qwen3-8b-s-grpo"), ("qwen2", "r1-distill-qwen-7b-s-grpo")):
        path = model(tmp_path / family, model_type=family)
        assert str(fitting(path, path, "deepmath")).split()[0] == name


def test_a_task_that_no_recipe_trains_on_leaves_the_recipes_own():
    words = fitting("Qwen/Qwen3-1.7B", "Qwen/Qwen3-1.7B", "math500")
    assert words == "qwen3-1.7b-s-grpo-lora --set cluster.gpus=1 --engine verl"


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 3600},
        {"num_hidden_layers": 1, "hidden_size": 512, "vocab_size": 30000},
        {"num_experts": 64},
        {"hidden_size": None},
    ],
)
def test_a_model_that_is_like_no_recipes_gets_no_advice(tmp_path: Path, changes: dict[str, Any]):
    path = model(tmp_path / "model", **changes)
    assert fitting(path, path, "gsm8k") is None


@pytest.mark.parametrize("path", ["someone/unheard-of", "no/such/folder", "", "a\x00b", "-", "None"])
def test_a_model_of_which_nothing_is_known_gets_no_advice(path: str):
    assert describe(path) is None
    assert fitting(path, path, "gsm8k") is None


def test_a_path_with_spaces_arrives_as_it_was(tmp_path: Path):
    path = model(tmp_path / "my model's 8b")
    words = fitting(path, path, "deepmath")
    assert words is not None
    assert trained(words)[1].model.path == path


def test_what_needs_gpus_is_priced_first(tmp_path: Path):
    path = model(tmp_path / "8b")
    doctor, train = advised(local(path), deepmath=0.5)
    assert doctor == f"Next: suffice doctor qwen3-8b-s-grpo --set model.path={path}  # what it needs and costs"
    assert train == f"Then: suffice train qwen3-8b-s-grpo --set model.path={path} --engine verl"


def test_nothing_is_advised_where_nothing_is_worth_training():
    assert advised(local("lab/sums", str(base_path("sums"))), sums=0.05) == []


def test_of_several_tasks_the_one_with_most_to_save_is_named():
    (line,) = advised(local("lab/sums", str(base_path("sums"))), arithmetic=0.1, ballots=0.3, sums=0.5)
    assert line == "Next: suffice train lab-sums-s-grpo  # on sums"


def test_a_name_on_a_server_is_never_taken_for_a_model(tmp_path: Path):
    assert advised(served("my-model", None), gsm8k=0.5) == []
    assert advised(served("Qwen/Qwen3-8B", None), gsm8k=0.5) == []
    _, train = advised(served("my-model", model(tmp_path / "8b")), gsm8k=0.5)
    assert "my-model" not in train
    assert f"model.path={tmp_path / '8b'}" in train


def test_a_folder_with_a_tokenizer_alone_is_no_model_to_train(tmp_path: Path):
    path = model(tmp_path / "8b")
    (tmp_path / "8b" / "model.safetensors").unlink()
    assert advised(served("my-model", path), gsm8k=0.5) == []


def test_after_an_evaluation_nothing_is_compared_with_what_is_not_there():
    request = Request(verb="eval", model="m")
    assert after_evaluation(Path("runs/a b"), request).startswith(
        "Next: suffice report 'runs/a b'. To compare it, eval"
    )
    assert after_evaluation(Path("run"), request.model_copy(update={"baselines": True})) == "Next: suffice compare run"
