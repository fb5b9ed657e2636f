"""A recipe is checked whole before anything runs, and every mistake is one line that says what to do."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.config import Recipe, load_recipe, make_recipe, recipe_names
from suffice.errors import RecipeError
from suffice.methods import list_methods, registry

LAB = "lab-s-grpo"


def complaint(recipe: str | Path = LAB, *overrides: str) -> str:
    """The one line with which a recipe is refused."""
    with pytest.raises(RecipeError) as refusal:
        load_recipe(str(recipe), overrides)
    text = str(refusal.value)
    assert "\n" not in text
    return text


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parallel(method: str, **sections: Any) -> dict[str, Any]:
    return {"method": {"name": method}, "group": {"spines": 4, "exits": 0}} | sections


def of_method(name: str) -> dict[str, Any]:
    serial = registry()[name].serial
    return {"method": {"name": name}, "group": {"spines": 1 if serial else 4, "exits": 8 if serial else 0}}


# -- recipes that are good


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_dumps_to_a_file_that_loads_to_the_same_recipe(name: str, tmp_path: Path):
    recipe = load_recipe(name)
    again = load_recipe(str(written(tmp_path, recipe.dump())))
    assert again == recipe
    assert again.dump() == recipe.dump()


def test_recipes_ship_with_the_package():
    assert LAB in recipe_names()


@pytest.mark.parametrize("name", list_methods())
def test_a_method_fills_in_its_papers_objective_and_its_own_parameters(name: str):
    recipe = make_recipe(of_method(name))
    method = registry()[name]
    assert (recipe.objective.clip_low, recipe.objective.clip_high) == (method.clip_low, method.clip_high)
    assert recipe.objective.aggregate == method.aggregate
    assert recipe.method.parameters == method().model_dump()


def test_what_a_recipe_says_of_the_objective_overrides_the_paper():
    recipe = make_recipe(parallel("grpo", objective={"clip_low": 0.0, "clip_high": 0.28, "aggregate": "token"}))
    assert recipe.objective.clip_low == 0.0
    assert recipe.objective.clip_high == 0.28
    assert recipe.objective.aggregate == "token"


def test_the_constant_length_is_both_rollout_budgets_together_unless_it_is_set():
    budgets = {"max_thought_tokens": 300, "max_answer_tokens": 20}
    assert make_recipe(parallel("grpo", rollout=budgets)).objective.constant_length == 320
    mine = make_recipe(parallel("grpo", rollout=budgets, objective={"constant_length": 128}))
    assert mine.objective.constant_length == 128


def test_an_evaluation_falls_back_to_the_training_task_and_the_rollouts_budgets():
    recipe = make_recipe(
        parallel("grpo", task={"name": "jsonl", "path": "mine.jsonl"}, rollout={"max_thought_tokens": 77})
    )
    assert (recipe.eval.task, recipe.eval.path) == ("jsonl", "mine.jsonl")
    assert (recipe.eval.max_thought_tokens, recipe.eval.max_answer_tokens) == (77, 1024)


def test_an_evaluation_on_another_task_does_not_take_the_training_tasks_file():
    recipe = make_recipe(parallel("grpo", task={"name": "jsonl", "path": "mine.jsonl"}, eval={"task": "gsm8k"}))
    assert (recipe.eval.task, recipe.eval.path) == ("gsm8k", None)


def test_a_resolved_recipe_resolves_to_itself():
    recipe = load_recipe(LAB)
    assert make_recipe(recipe.model_dump(exclude_none=True)) == recipe


# -- overrides


def test_an_override_is_read_as_toml_and_a_bare_word_as_a_string():
    recipe = load_recipe(
        LAB, ["train.steps=7", "train.learning_rate=1e-5", "model.dtype=bfloat16", 'model.path="a/b"', "eval.top_p=1"]
    )
    assert (recipe.train.steps, recipe.train.learning_rate) == (7, 1e-5)
    assert (recipe.model.dtype, recipe.model.path, recipe.eval.top_p) == ("bfloat16", "a/b", 1.0)


def test_an_override_may_hold_an_equals_sign_and_an_inline_table():
    recipe = load_recipe(LAB, ["run.dir=a=b", 'task.fields={ prompt = "query" }'])
    assert recipe.run.dir == "a=b"
    assert recipe.task.fields == {"prompt": "query"}


def test_the_last_of_two_overrides_counts():
    assert load_recipe(LAB, ["train.steps=7", "train.steps=8"]).train.steps == 8


@pytest.mark.parametrize("override", ["train.steps", "steps=50", "=50", "", "train"])
def test_an_override_without_section_or_value_is_shown_the_form_it_should_have(override: str):
    assert "section.key=value, for example train.steps=50" in complaint(LAB, override)


def test_an_override_below_a_value_says_that_the_value_is_no_section():
    assert "steps is not a section" in complaint(LAB, "train.steps.more=1")


@given(st.text(max_size=30))
def test_no_override_whatever_breaks_the_command(text: str):
    with suppress(RecipeError):
        load_recipe(LAB, [text])


# -- unknown keys


@pytest.mark.parametrize(
    ("override", "where", "nearest"),
    [
        ("trian.steps=1", "trian", "train"),
        ("train.stpes=1", "train.stpes", "steps"),
        ("rollout.temprature=1", "rollout.temprature", "temperature"),
        ("objective.agregate=token", "objective.agregate", "aggregate"),
        ("method.decya=0.5", "method.decya", "decay"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override: str, where: str, nearest: str):
    assert complaint(LAB, override) == f"unknown key {where}; did you mean {nearest}?"


def test_an_unknown_key_that_is_near_to_nothing_is_shown_what_there_is():
    assert complaint(LAB, "run.zzz=1") == "unknown key run.zzz; known here: seed, dir, track"


def test_a_parameter_of_another_method_is_refused():
    text = complaint(LAB, "method.lam=2")
    assert text.startswith("unknown key method.lam; ")
    assert "decay" in text


def test_an_unknown_parameter_near_to_none_names_the_methods_own():
    assert complaint("lab-grpo", "method.decay=0.5") == "unknown key method.decay; known here: scale_rewards"


def test_another_method_begins_with_its_own_parameters_wherever_they_are_set():
    for overrides in (["method.name=all-one", "method.between=2"], ["method.between=2", "method.name=all-one"]):
        assert load_recipe(LAB, overrides).method.model_dump() == {"name": "all-one", "between": 2}
    assert load_recipe(LAB, ["method.decay=0.1", "method.name=s-grpo"]).method.parameters["decay"] == 0.1


@pytest.mark.parametrize("name", list_methods())
def test_every_method_runs_from_the_labs_recipe_of_its_kind_of_group(name: str):
    serial = registry()[name].serial
    recipe = load_recipe("lab-s-grpo" if serial else "lab-grpo", [f"method.name={name}"])
    assert recipe.method.parameters == registry()[name]().model_dump()
    assert recipe.objective.aggregate == ("constant" if serial else registry()[name].aggregate)


@pytest.mark.parametrize("name", ["s-grp", "S-GRPO", "grpo_lambda"])
def test_an_unknown_method_names_the_nearest(name: str):
    text = complaint(LAB, f"method.name={name}")
    assert text.startswith("method.name: unknown method")
    assert "did you mean" in text or "known: " in text


# -- values


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps=0", "greater than or equal to 1"),
        ("train.steps=x", "valid integer"),
        ("train.steps=1.5", "valid integer"),
        ("train.learning_rate=0", "greater than 0"),
        ("train.learning_rate=nan", "finite number"),
        ("train.learning_rate=inf", "finite number"),
        ("rollout.temperature=2.1", "less than or equal to 2"),
        ("rollout.top_p=0", "greater than 0"),
        ("objective.clip_low=1", "less than 1"),
        ("objective.aggregate=mean", "'sequence', 'constant' or 'token'"),
        ("group.spines=0", "greater than or equal to 1"),
        ("eval.problems=1", "greater than or equal to 2"),
        ("model.dtype=int8", "'auto', 'float32' or 'bfloat16'"),
        ("model.lora=-1", "greater than or equal to 0"),
        ("method.decay=2", "less than or equal to 1"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(override: str, words: str):
    key, _, value = override.partition("=")
    text = complaint(LAB, override)
    assert text.startswith(f"{key} = ")
    assert value in text
    assert words in text


def test_a_section_that_is_a_value_is_refused(tmp_path: Path):
    assert complaint(written(tmp_path, 'train = "soon"')).startswith("train = 'soon' is not allowed")


def test_a_method_parameter_out_of_range_is_named_with_its_section():
    with pytest.raises(RecipeError, match=r"^method\.lam = 2 is not allowed"):
        make_recipe({"method": {"name": "grpo-lambda", "lam": 2}, "group": {"spines": 4, "exits": 0}})


# -- keys that contradict each other


@pytest.mark.parametrize("name", [name for name in list_methods() if not registry()[name].serial])
def test_a_parallel_method_with_exits_is_told_to_set_none(name: str):
    with pytest.raises(RecipeError, match=r"set group\.exits = 0"):
        make_recipe({"method": {"name": name}, "group": {"spines": 4, "exits": 8}})


@pytest.mark.parametrize("name", [name for name in list_methods() if registry()[name].serial])
def test_a_serial_method_without_exits_is_told_to_set_some(name: str):
    with pytest.raises(RecipeError, match=r"set group\.exits to 1 or more"):
        make_recipe({"method": {"name": name}, "group": {"spines": 4, "exits": 0}})


def test_a_group_of_one_has_nothing_to_compare_with():
    with pytest.raises(RecipeError, match=r"set group\.spines to 2 or more"):
        make_recipe({"method": {"name": "grpo"}, "group": {"spines": 1, "exits": 0}})


# -- files


def test_a_recipe_that_is_not_there_names_the_nearest():
    assert complaint("lab-sgrpo") == "no recipe 'lab-sgrpo'; did you mean lab-s-grpo?"


def test_a_name_near_to_nothing_is_shown_all_recipes():
    text = complaint("zzz")
    assert all(name in text for name in recipe_names())


def test_malformed_toml_names_file_and_line(tmp_path: Path):
    path = written(tmp_path, "[train]\nsteps = = 5\n")
    text = complaint(path)
    assert str(path) in text
    assert "line 2" in text


def test_a_key_given_twice_is_refused(tmp_path: Path):
    assert "not valid TOML" in complaint(written(tmp_path, "[train]\nsteps = 5\nsteps = 6\n"))


def test_a_folder_is_not_a_recipe(tmp_path: Path):
    assert "give a .toml file" in complaint(tmp_path)


@pytest.mark.parametrize("content", [b"\x80\x04\x95\xff\xfe", b"\x00\x01\x02", b"PK\x03\x04\xf0\x9f"])
def test_a_binary_file_is_not_a_recipe(tmp_path: Path, content: bytes):
    assert str(tmp_path) in complaint(written(tmp_path, content))


@pytest.mark.parametrize("name", ["", "x" * 300, "no\x00name", "no\nname"])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str):
    assert complaint(name)


def test_an_empty_recipe_is_all_defaults(tmp_path: Path):
    assert load_recipe(str(written(tmp_path, ""))) == make_recipe({})


def test_every_field_of_a_recipe_is_in_its_dump_unless_unset():
    recipe = load_recipe(LAB)
    text = recipe.dump()
    for section in Recipe.model_fields:
        for key, value in getattr(recipe, section).model_dump().items():
            assert value is None or f"{key} = " in text or f".{key}]" in text


def test_a_value_of_several_kinds_is_refused_by_all_of_them_in_one_line():
    with pytest.raises(RecipeError) as caught:
        load_recipe("lab-grpo-lambda", ["method.lam=2"])
    assert str(caught.value) == "method.lam = 2 is not allowed: it should be less than or equal to 1, or 'adaptive'"
