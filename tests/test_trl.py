"""TRL's trainer with our groups and advantages, against the local engine on the same members."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import TrainerCallback

pytest.importorskip("trl", reason="trl is not installed: pip install '.[trl]'")

import trl

from making import exact
from running import PATIENCE
from suffice.config import Recipe
from suffice.engines import trl as engine
from suffice.engines.local.update import Updater
from suffice.engines.trl.config import TESTED, batches, check_config, decided, loss_factor
from suffice.errors import DataError, ModelError, RecipeError, SufficeError
from suffice.grading import Grader
from suffice.groups import Group, GroupBatch, Problem, Spine
from suffice.methods import get_method, registry
from suffice.methods.grpo import GRPO
from suffice.model.load import load_chat, load_model
from suffice.objective import importance, to_batch
from suffice.rollout.metrics import rollout_metrics
from trl_run import METHODS as LAB
from trl_run import Run, flat, small

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def conversation(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# -- what we rely on in this minor version


def test_the_trainer_takes_a_rollout_function_and_every_argument_a_recipe_decides():
    assert tuple(map(int, trl.__version__.split(".")[:2])) == TESTED
    assert "rollout_func" in inspect.signature(trl.GRPOTrainer).parameters
    fields = trl.GRPOConfig.__dataclass_fields__
    assert decided(small("s-grpo")).keys() <= fields.keys()


def test_an_older_trl_is_refused_and_a_newer_one_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trl, "__version__", "1.9.2")
    with pytest.raises(SufficeError, match=r"trl 1\.9\.2 is older than 1\.16; install what was tested: pip install"):
        engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path))
    for newer in ("1.17.0.dev0", "2.0.1"):
        monkeypatch.setattr(trl, "__version__", newer)
        with pytest.warns(UserWarning, match=f"trl {newer} was not tested, 1.16 was"):
            engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path))
    monkeypatch.delitem(trl.GRPOConfig.__dataclass_fields__, "epsilon_high")
    with pytest.raises(SufficeError, match=r"trl 2\.0\.1 has no epsilon_high"):
        engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path))


def test_what_else_would_change_the_loss_is_off_by_default(tmp_path: Path):
    config = engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path))
    off = {
        **{"delta": None, "off_policy_mask_threshold": None, "top_entropy_quantile": 1.0, "reward_weights": None},
        **{"importance_sampling_level": "token", "mask_truncated_completions": False, "use_vllm": False},
        **{"multi_objective_aggregation": "sum_then_normalize", "entropy_coef": 0.0, "use_adaptive_entropy": False},
        **{"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "remove_unused_columns": False},
    }
    assert {name: getattr(config, name) for name in off} == off
    assert config.optim in ("adamw_torch", "adamw_torch_fused")


def test_each_step_rolls_out_once_then_asks_for_rewards_with_the_members_in_the_same_order(
    grader: Grader, tmp_path: Path
):
    run = Run(small("s-grpo"), tmp_path, grader)
    rollout, reward = run.trainer.rollout_func, run.trainer.reward_funcs[0]
    calls: list[tuple[str, Any]] = []

    def rolled(prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        calls.append(("rollout", trainer.state.global_step))
        assert [prompts[i] for i in range(16)] == [prompts[i - i % 4] for i in range(16)]
        found = rollout(prompts, trainer)
        calls.append(("members", found["completion_ids"]))
        return found

    def rewarded(**columns: Any) -> list[float]:
        calls.append(("reward", columns["completion_ids"]))
        assert {"prompts", "completions", "group", "gold", "kind", "log_metric", "trainer_state"} <= columns.keys()
        assert [group.problem.prompt for group in columns["group"]] == [
            turn[0]["content"] for turn in columns["prompts"]
        ]
        return reward(**columns)

    run.trainer.rollout_func, run.trainer.reward_funcs[0] = rolled, rewarded
    run.trainer.train()
    assert [name for name, _ in calls] == ["rollout", "members", "reward"] * 2
    assert [calls[0][1], calls[3][1]] == [0, 1]
    assert calls[1][1] == calls[2][1]
    assert calls[4][1] == calls[5][1]


# -- the same updates as the local engine's


class Ragged(engine.GroupRollout):
    """Groups that lack their first 0, 1, 2, … exits, as thoughts that are too short for them would."""

    def rows(self, groups: Any) -> dict[str, list[Any]]:
        for i, group in enumerate(groups):
            del group.spines[0].branches[: i % 4]
        return super().rows(groups)


class Shaken(TrainerCallback):
    """Keeps the weights after every update, and moves them at random after the first."""

    def __init__(self) -> None:
        self.after: list[Tensor] = []

    def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
        self.after.append(flat(model))
        if len(self.after) == 1:
            shake(model)


@torch.no_grad()
def shake(model: Any) -> None:
    """So far that ratios lie beyond both clips and beyond 3."""
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(0.4 * parameter.std() * torch.randn(parameter.shape, generator=draw))


def scored(run: Run) -> tuple[list[Group], GroupBatch, Any]:
    recipe, size = run.recipe, run.trainer.num_generations
    groups = run.calls[0][0][::size]
    batch = to_batch(groups, recipe.group.spines, recipe.group.exits, run.chat.end_ids)
    return groups, batch, get_method(recipe.method.name, **recipe.method.parameters).score(batch)


def local_updates(run: Run, groups: list[Group], advantage: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Our weights after each of two updates, and the ratios and weights of the tokens in the second."""
    recipe, model = run.recipe, exact(load_model("lab/arithmetic", device="cpu"))
    updater = Updater(
        torch.optim.SGD(model.parameters(), lr=recipe.train.learning_rate),
        recipe.objective,
        recipe.train,
        close_id=run.chat.close_id,
        exits=recipe.group.exits,
        temperature=recipe.rollout.temperature,
        precision=nullcontext,
    )
    batches = updater.layout(groups, advantage, updater.objective, updater.micro_batch)
    with torch.no_grad():
        olds = [batch.logprobs(model, updater.temperature)[0] for batch in batches]
        # our correction for a sampler that differs from the trainer, which TRL makes for vLLM alone, is not at work
        for batch, old in zip(batches, olds, strict=True):
            assert (importance(old, batch.behaviour, batch.sampled) - 1).abs().max() < 1e-9
    updater.optimizer_step(model, batches, olds)
    after = [flat(model)]
    shake(model)
    with torch.no_grad():
        news = [batch.logprobs(model, updater.temperature)[0] for batch in batches]
    ratio = torch.cat([(new - old).exp() for new, old in zip(news, olds, strict=True)])
    updater.optimizer_step(model, batches, olds)
    return [*after, flat(model)], ratio, torch.cat([batch.plus + batch.minus for batch in batches])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("s-grpo", ["objective.aggregate=sequence", "objective.train_on=all"]),
        ("s-grpo", ["objective.aggregate=constant", "objective.constant_length=50"]),
        ("s-grpo", ["objective.aggregate=token", "objective.train_on=sampled+close"]),
        ("s-grpo", ["group.spines=2", "objective.aggregate=sequence"]),
        ("grpo-lambda", []),
    ],
)
def test_two_updates_on_one_batch_of_ragged_groups_are_the_local_engines(
    name: str, changes: list[str], grader: Grader, tmp_path: Path
):
    fixed = ["train.steps=1", "train.updates_per_batch=2", "train.learning_rate=1", "train.problems_per_step=8"]
    hot = "rollout.temperature=1.5"  # unlikely tokens are what can become likelier
    recipe = small(name, *fixed, hot, "objective.layout=rows", *changes)
    run = Run(recipe, tmp_path, grader, optim="sgd")
    if recipe.group.exits:
        run.trainer.rollout_func = Ragged(recipe, run.chat)
    shaken = Shaken()
    run.trainer.add_callback(shaken)
    start = flat(run.trainer.model)
    run.trainer.train()

    groups, batch, scores = scored(run)
    absent = int((~batch.valid).sum())
    assert absent == (12 if recipe.group.exits else 0)
    said = torch.tensor(run.calls[0][1]).view_as(scores.advantage)
    assert (said != 0).any()
    torch.testing.assert_close(said, scores.advantage * loss_factor(recipe.objective, run.trainer.args, batch))
    within = torch.tensor(list(run.trainer._logs["advantages"])).view_as(said)  # after TRL took the means off
    torch.testing.assert_close(within, said, atol=1e-6 * float(said.abs().max()), rtol=0)
    logged = run.trainer.state.log_history[0]
    assert logged["suffice/reward"] == pytest.approx(float(scores.reward[batch.valid].mean()))
    assert logged["suffice/accuracy"] == pytest.approx(rollout_metrics(groups, run.chat)["accuracy"])

    after, ratio, weight = local_updates(run, groups, scores.advantage)
    assert ((ratio > 3) & (weight > 0)).any()
    assert ((ratio > 3) & (weight < 0)).any()
    assert ((ratio < 0.8) & (weight > 0)).any()
    assert ((ratio < 0.8) & (weight < 0)).any()
    for ours, theirs, before in zip(after, shaken.after, [start, after_shake(after[0])], strict=True):
        assert (ours - before).norm() > 1e-3
        # TRL has advantages in float32, and its loss sums hundreds of tokens of either sign
        assert (ours - theirs).norm() <= 1e-4 * (ours - before).norm()


def after_shake(weights: Tensor) -> Tensor:
    """Weights of the lab base, end to end, as `shake` leaves them."""
    model = exact(load_model("lab/arithmetic", device="cpu"))
    torch.nn.utils.vector_to_parameters(weights.clone(), model.parameters())
    shake(model)
    return flat(model)


def test_the_optimizer_of_the_configuration_is_ours(grader: Grader, tmp_path: Path):
    recipe = small("s-grpo", "train.steps=1", "objective.layout=rows")
    run = Run(recipe, tmp_path, grader)
    start = flat(run.trainer.model)
    run.trainer.train()
    groups, _, scores = scored(run)
    model = exact(load_model("lab/arithmetic", device="cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.train.learning_rate, weight_decay=0.0)
    places = {"close_id": run.chat.close_id, "exits": recipe.group.exits}
    update = Updater(optimizer, recipe.objective, recipe.train, temperature=1.0, precision=nullcontext, **places)
    update(model, groups, scores.advantage, 1)
    # advantages are float32 in TRL, and Adam brings gradients near its ε of 1e-8 to full size, rounding included
    assert (flat(model) - run.weights).norm() <= 1e-2 * (flat(model) - start).norm()


# -- processes and resumption


def test_two_processes_split_no_group_and_train_as_one(grader: Grader, tmp_path: Path):
    script = Path(__file__).with_name("trl_run.py")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(tmp_path)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in LAB:
        whole = Run(small(name), tmp_path / "one", grader)
        whole.trainer.train()
        halves = [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        for step, (groups, advantage) in enumerate(whole.calls):
            (first, first_said), (second, second_said) = (half[step] for half in halves)
            assert [len(first), len(second)] == [8, 8]
            assert first + second == [group.problem.prompt for group in groups]
            assert first_said + second_said == pytest.approx(advantage, abs=1e-6)
        weights = [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        assert torch.equal(*weights)
        # the sums of gradients are taken in another order, with advantages in float32, and Adam divides by their size
        assert (weights[0] - whole.weights).abs().max() <= 1e-6
        assert torch.equal(alone(whole), torch.tensor([said for _, said in whole.calls])) == (name == "s-grpo")


def alone(run: Run) -> Tensor:
    """The advantages of all steps, had each of two processes scored only its own groups."""
    recipe, size = run.recipe, run.trainer.num_generations
    method = get_method(recipe.method.name, **recipe.method.parameters)
    found = []
    for members, _ in run.calls:
        groups = members[::size]
        halves = [
            to_batch(half, recipe.group.spines, recipe.group.exits, run.chat.end_ids)
            for half in (groups[: len(groups) // 2], groups[len(groups) // 2 :])
        ]
        whole = to_batch(groups, recipe.group.spines, recipe.group.exits, run.chat.end_ids)
        advantage = torch.cat([method.score(half).advantage for half in halves])
        found.append((advantage * loss_factor(recipe.objective, run.trainer.args, whole)).flatten())
    return torch.stack(found)


def test_a_resumed_run_samples_and_trains_as_if_it_had_not_stopped(grader: Grader, tmp_path: Path):
    recipe = small("s-grpo", "train.steps=3")
    run = Run(recipe, tmp_path, grader, save_strategy="steps", save_steps=2)
    run.trainer.train()
    resumed = Run(recipe, tmp_path, grader)
    resumed.trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert len(resumed.calls) == 1
    assert resumed.calls[0][1] == run.calls[2][1]
    assert torch.equal(resumed.weights, run.weights)


def test_a_parallel_method_scores_what_trl_itself_sampled(grader: Grader, tmp_path: Path):
    recipe = small("grpo-lambda", "train.steps=1")
    run = Run(recipe, tmp_path, grader, ours=False)
    run.trainer.train()
    ((responses, said),) = run.calls
    assert len(responses) == len(said) == 16
    assert max(len(tokens) for tokens in responses) <= 128 + 4 + 3
    ended = [tokens[-1] in run.chat.end_ids for tokens in responses]
    logged = run.trainer.state.log_history[0]
    assert logged["suffice/truncated"] == pytest.approx(1 - sum(ended) / 16)
    assert logged["suffice/accuracy"] > 0
    assert torch.tensor(said).view(4, 4).sum(-1).abs().max() < 1e-5


# -- what is refused


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_the_advantages_of_every_method_but_two_sum_to_zero_in_every_group(data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(set(registry()) - {"grpo-lead", "exit-baseline", "decide"})))
    spines = data.draw(st.integers(1, 2)) if registry()[name].serial else None
    flags = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=3, max_size=3)
    lengths = st.lists(st.lists(st.integers(1, 99), min_size=6, max_size=6), min_size=3, max_size=3)
    batch = GroupBatch(
        torch.tensor(data.draw(flags)), torch.tensor(data.draw(lengths)), torch.tensor(data.draw(flags)), spines=spines
    )
    assert get_method(name).score(batch).advantage.sum(-1).abs().max() <= 1e-5 * 6


class Raised(GRPO):
    name = "raised"

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        return super().advantage(reward_P_G, batch, spines) + 1


def test_a_method_whose_advantages_do_not_sum_to_zero_is_refused(
    grader: Grader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(registry(), "raised", Raised)
    recipe = small("grpo-lambda", "train.steps=1")
    recipe.method.name, recipe.method.__pydantic_extra__ = "raised", {}
    run = Run(recipe, tmp_path, grader)
    with pytest.raises(SufficeError, match="those of raised sum to 4 in a group, not to 0; train it with the local"):
        run.trainer.train()


@pytest.mark.parametrize("name", ["loss_type", "scale_rewards", "beta", "temperature", "per_device_train_batch_size"])
def test_what_the_recipe_decides_is_not_overridden(name: str, tmp_path: Path):
    with pytest.raises(RecipeError, match=f"{name} follows from the recipe"):
        engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path), **{name: 1})


def test_refill_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="cannot replace groups without signal"):
        engine.grpo_config(small("s-grpo", "train.refill_cap=1"), output_dir=str(tmp_path))


def test_groups_that_do_not_divide_among_processes_or_batches_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(RecipeError, match="4 groups of 4 do not divide among 1 processes and 3 batches each"):
        engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path), gradient_accumulation_steps=3)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match="4 groups of 4 do not divide among 3 processes"):
        engine.grpo_config(small("s-grpo"), output_dir=str(tmp_path))


def test_gradient_accumulation_makes_batches_smaller_and_changes_nothing_else(grader: Grader, tmp_path: Path):
    recipe = small("s-grpo", "train.steps=1", "objective.aggregate=sequence")
    whole, parts = (
        Run(recipe, tmp_path, grader, optim="sgd"),
        Run(recipe, tmp_path, grader, optim="sgd", gradient_accumulation_steps=4),
    )
    start = flat(whole.trainer.model)
    for run in (whole, parts):
        run.trainer.rollout_func = Ragged(recipe, run.chat)
        run.trainer.train()
    assert parts.trainer.args.per_device_train_batch_size == 4
    assert (whole.weights - parts.weights).norm() <= 1e-6 * (whole.weights - start).norm()


def test_batches_are_as_small_as_the_tokens_that_fit_ask_for(tmp_path: Path):
    recipe = small("s-grpo")
    longest = decided(recipe)["max_completion_length"]  # 128 + 4 and the marks; 16 rows
    for room, wanted in ((16 * longest, 1), (16 * longest - 1, 2), (5 * longest, 4), (longest - 1, 16)):
        recipe.train.micro_batch_tokens = room
        assert batches(recipe, 16) == wanted
        config = engine.grpo_config(recipe, output_dir=str(tmp_path))
        assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (16 // wanted, wanted)
    assert batches(recipe, 15) == 15
    recipe.train.micro_batch_tokens = 8 * longest
    assert batches(recipe, 15) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_vllm": True}, "a vLLM would stand idle"),
        ({"scale_rewards": "group"}, "scale_rewards = 'group', the recipe means 'none'"),
        ({"loss_type": "dapo"}, "loss_type = 'dapo', the recipe means 'dr_grpo'"),
        ({"num_generations": 8}, "num_generations = 8, the recipe means 4"),
        ({"per_device_train_batch_size": 8}, "generation_batch_size = 8"),
        ({"steps_per_generation": 2, "per_device_train_batch_size": 8}, "steps_per_generation = 2"),
    ],
)
def test_a_configuration_made_by_hand_must_mean_the_same(change: dict[str, Any], said: str, tmp_path: Path):
    recipe = small("s-grpo")
    same = decided(recipe) | {"per_device_train_batch_size": 16, "use_cpu": True, "bf16": False}
    check_config(recipe, trl.GRPOConfig(output_dir=str(tmp_path), **same))
    with pytest.raises(RecipeError, match=said):
        check_config(recipe, trl.GRPOConfig(output_dir=str(tmp_path), **same | change))


def reward(recipe: Recipe, grader: Grader, tmp_path: Path) -> engine.RewardFunction:
    chat = load_chat("lab/arithmetic", recipe.rollout.inducer)
    return engine.advantages(recipe, engine.grpo_config(recipe, output_dir=str(tmp_path)), chat, grader)


@pytest.mark.parametrize("sets", [("s-grpo", "method.name=exit-baseline"), ("grpo-lambda", "method.lam=adaptive")])
def test_a_method_that_learns_from_step_to_step_is_refused(sets: tuple[str, str], grader: Grader, tmp_path: Path):
    with pytest.raises(SufficeError, match=r"learns from step to step, which TRL does not keep; use another engine$"):
        reward(small(*sets), grader, tmp_path)


def test_a_split_group_is_refused(grader: Grader, tmp_path: Path):
    ask = reward(small("grpo-lambda"), grader, tmp_path)
    columns = {"completion_ids": [[1]] * 6, "gold": ["1"] * 6, "kind": ["math"] * 6}
    with pytest.raises(SufficeError, match="groups of 4 are split among processes"):
        ask(prompts=[conversation("a")] * 4 + [conversation("b")] * 2, **columns)
    with pytest.raises(SufficeError, match="groups of 4 are split among processes"):
        ask(prompts=[conversation("a")] * 3 + [conversation("b")] * 5, **columns)


def test_prompts_and_columns_of_another_form_are_refused(grader: Grader, tmp_path: Path):
    ask = reward(small("grpo-lambda"), grader, tmp_path)
    with pytest.raises(DataError, match="needs the columns gold and kind; make it with as_dataset"):
        ask(prompts=[conversation("a")] * 4, completion_ids=[[1]] * 4)
    columns = {"completion_ids": [[1]] * 4, "gold": ["1"] * 4, "kind": ["math"] * 4}
    for prompt in ("a", [*conversation("a"), *conversation("b")], [{"role": "system", "content": "a"}]):
        with pytest.raises(DataError, match="a prompt is not one user turn"):
            ask(prompts=[prompt] * 4, **columns)


def test_serial_groups_need_our_rollouts(grader: Grader, tmp_path: Path):
    ask = reward(small("s-grpo"), grader, tmp_path)
    columns = {"completion_ids": [[1]] * 4, "gold": ["1"] * 4, "kind": ["math"] * 4}
    with pytest.raises(SufficeError, match="pass rollout_func=GroupRollout"):
        ask(prompts=[conversation("a")] * 4, **columns)


def test_a_model_that_is_split_among_processes_is_not_sampled_from(grader: Grader, tmp_path: Path):
    run = Run(small("s-grpo"), tmp_path, grader)
    run.trainer.is_fsdp_enabled = True
    with pytest.raises(SufficeError, match="needs a whole model in each process"):
        run.trainer.rollout_func([conversation("a")] * 4, run.trainer)


def test_a_model_whose_cache_cannot_be_reused_is_named_the_other_layout(grader: Grader, tmp_path: Path):
    run = Run(small("s-grpo"), tmp_path, grader)
    run.trainer.model.config.layer_types = ["sliding_attention"]
    with pytest.raises(ModelError, match="it has sliding_attention layers; set"):
        run.trainer.rollout_func([conversation("a")] * 4, run.trainer)


def test_a_missing_member_is_one_masked_token_in_its_column():
    recipe = small("s-grpo")
    chat = load_chat("lab/arithmetic", recipe.rollout.inducer)
    spine = Spine([9, 9, chat.close_id, 8], [-1.0] * 4, 0, 2, closed=True, truncated=False)
    group = Group(Problem("p", "t", "a", "1"), [3, 4], chat.inducer, [spine])
    found = engine.GroupRollout(recipe, chat).rows([group])
    assert found["completion_ids"] == [[chat.pad_id], [chat.pad_id], [chat.pad_id], [9, 9, chat.close_id, 8]]
    assert found["env_mask"] == [[0], [0], [0], [1, 1, 1, 1]]
    assert found["prompt_ids"] == [[3, 4]] * 4
