"""The local engine on the shipped base: what a step does to the weights, and what it must not do to them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from making import exact
from suffice.config import Recipe, load_recipe, recipe_names
from suffice.engines.local import train
from suffice.engines.local.build import build_engine
from suffice.engines.local.engine import Engine, Problems
from suffice.engines.local.loop import take_step
from suffice.errors import ModelError, NonFiniteError, SufficeError
from suffice.grading import Grader
from suffice.groups import Branch, Group, Problem, Verdict
from suffice.model.load import load_model
from suffice.model.lora import merged
from suffice.report import write_report
from suffice.run.directory import Run
from suffice.run.files import read_json, read_jsonl

TINY = {
    "train.problems_per_step": 4,
    "train.eval_every": 0,
    "group.exits": 3,
    "rollout.max_thought_tokens": 64,
    "rollout.max_answer_tokens": 4,
}
PARALLEL = {"group.exits": 0, "group.spines": 4}
ALWAYS = {
    *("accuracy", "thought_tokens", "answer_tokens", "unclosed", "truncated", "unparsed"),
    *("unclosed_tokens", "looping", "loop_tokens"),
    *("groups", "dropped"),
    *("reward", "tokens_prefill", "tokens_decode", "tokens_train", "seconds", "seconds_rollout", "seconds_update"),
}
WITH_EXITS = {"exit_accuracy", "exit_truncated"}
WITH_UPDATE = {"advantage", "loss", "grad_norm", "entropy", "clip_fraction", "mismatch", "learning_rate"}


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


Build = Callable[..., Engine]


@pytest.fixture
def build(grader: Grader) -> Build:
    """An engine of a lab recipe, made small; changes are written `train__steps=2`."""
    torch.set_num_threads(1)

    def make(name: str = "lab-s-grpo", checkpoint: Path | None = None, **changes: object) -> Engine:
        return build_engine(tiny(name, **changes), grader, checkpoint)[0]

    return make


def tiny(name: str = "lab-s-grpo", **changes: object) -> Recipe:
    parallel = PARALLEL if load_recipe(name).group.exits == 0 else {}
    chosen = TINY | parallel | {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe(name, [f"{key}={str(value).lower()}" for key, value in chosen.items()])


def weights(engine: Engine) -> torch.Tensor:
    """Every parameter, trained or not, end to end."""
    return torch.cat([parameter.detach().flatten() for parameter in engine.model.parameters()])


def gradient(engine: Engine) -> torch.Tensor:
    """The gradient of the last update, as clipped."""
    return torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None])


def exactly(*engines: Engine) -> tuple[Engine, ...]:
    """Engines whose models compute in float64: Adam divides by the size of a gradient, and so makes a step out of the
    rounding of one that is near 0; and a weight that is off by rounding moves the tokens that are sampled next."""
    for engine in engines:
        exact(engine.model)
    return engines


def without_answers(engine: Engine, keep: int = 0) -> None:
    """Make every problem after the first `keep` impossible."""
    problems = engine.problems.problems
    impossible = [replace(problem, gold="no such answer") for problem in problems[keep:]]
    engine.problems = Problems([*problems[:keep], *impossible], engine.problems.seed)


def tokens_of(groups: list[Group]) -> list[list[int]]:
    return [member.answer_tokens for group in groups for _, _, member in group.members(3)]


# -- whole runs


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("lab-")])
def test_every_lab_recipe_trains_evaluates_compares_and_reports(name: str, tmp_path: Path):
    run = tmp_path / "run"
    recipe = tiny(name, train__steps=2, train__eval_every=2, train__checkpoint_every=1, eval__problems=4)
    if recipe.rollout.answers == "gold":  # which must fit
        recipe.rollout.max_answer_tokens = load_recipe(name).rollout.max_answer_tokens
    checkpoint = train(recipe, run)
    assert checkpoint == run / "checkpoints" / "step-000002"
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1, 2]
    ends = ["after", "after-greedy", "before", "before-greedy"]
    assert sorted(path.name for path in (run / "evaluations").iterdir()) == ends
    assert len(read_jsonl(run / "evaluations" / "after" / "records.jsonl")) == 4 * recipe.eval.samples
    assert set(read_json(run / "comparison.json")) >= {"accuracy", "thought_tokens_change", "greedy"}
    assert load_recipe(str(run / "recipe.toml")) == recipe
    load_model(str(checkpoint))
    assert write_report(run).stat().st_size > 1000


@pytest.mark.slow
def test_s_grpo_shortens_the_thoughts_of_the_lab_within_eight_steps(tmp_path: Path):
    torch.set_num_threads(1)
    run = tmp_path / "run"
    quick = ["train.steps=8", "train.eval_every=8", "train.learning_rate=1e-3", "eval.problems=64", "eval.samples=2"]
    train(load_recipe("lab-s-grpo", quick), run)
    # a third is what other seeds give too: the end of the paired interval leaves room for other kernels
    assert read_json(run / "comparison.json")["thought_tokens_change"]["high"] < -0.1


# -- the same update by another way


def test_both_layouts_train_the_same_weights(build: Build):
    spine, rows = exactly(build(objective__layout="spine"), build(objective__layout="rows"))
    start = weights(spine)
    for step in (1, 2):
        (_, ours), (_, theirs) = spine.step(step), rows.step(step)
        assert tokens_of(ours) == tokens_of(theirs)
        assert (gradient(spine) - gradient(rows)).norm() <= 1e-9 * gradient(rows).norm()
    assert (weights(spine) - weights(rows)).abs().max() <= 1e-9
    assert (weights(spine) - start).abs().max() >= 1e-4


@pytest.mark.parametrize("layout", ["spine", "rows"])
def test_micro_batches_accumulate_the_gradient_of_the_whole_batch(build: Build, layout: str):
    whole, parts = exactly(
        build(objective__layout=layout), build(objective__layout=layout, train__micro_batch_tokens=1)
    )
    for step in (1, 2):
        whole.step(step), parts.step(step)
        assert (gradient(whole) - gradient(parts)).norm() <= 1e-9 * gradient(whole).norm()
    assert (weights(whole) - weights(parts)).abs().max() <= 1e-9


@pytest.mark.parametrize("layout", ["spine", "rows"])
def test_gradient_checkpointing_trains_the_same_weights(build: Build, layout: str):
    plain, recomputed = exactly(
        build(objective__layout=layout), build(objective__layout=layout, model__gradient_checkpointing=True)
    )
    assert recomputed.model.is_gradient_checkpointing
    for step in (1, 2):
        plain.step(step), recomputed.step(step)
    assert (weights(plain) - weights(recomputed)).abs().max() <= 1e-9


def attends_in_bfloat16() -> bool:
    """Not where the processor has AMX and ATEN_CPU_CAPABILITY withholds AVX-512: torch takes that for granted then."""
    x = torch.zeros(1, 1, 64, 16, dtype=torch.bfloat16)
    try:
        torch.nn.functional.scaled_dot_product_attention(x, x, x)
    except RuntimeError as error:
        if "avx512" in str(error):
            return False
        raise
    return True


@pytest.mark.skipif(not attends_in_bfloat16(), reason="torch's bfloat16 attention asks for the AVX-512 withheld here")
@pytest.mark.parametrize("layout", ["spine", "rows"])
def test_bfloat16_trains_float32_weights_in_the_direction_of_float32(build: Build, layout: str):
    exact, rounded = (build(objective__layout=layout, model__dtype=dtype) for dtype in ("float32", "bfloat16"))
    groups, _ = exact.rollout(1)
    advantage = exact.method.score(exact.batch(groups)).advantage
    for engine in (exact, rounded):
        engine.update(engine.model, groups, advantage, 1)
    assert {parameter.dtype for parameter in rounded.model.parameters()} == {torch.float32}
    assert cosine_similarity(gradient(exact), gradient(rounded), dim=0) >= 0.99
    metrics, _ = rounded.step(2)
    assert all(math.isfinite(value) for value in metrics.values())
    assert weights(rounded).isfinite().all()


# -- several updates of one batch


def test_a_second_update_moves_away_from_frozen_log_probs_and_meets_the_clip(build: Build):
    (engine,) = exactly(build(train__updates_per_batch=2, train__learning_rate=1e-2))
    metrics, _ = engine.step(1)
    assert 0 < metrics["clip_fraction"] < 1
    assert metrics["mismatch"] < 1e-9  # in the last update the old log-probs are still those of the sampler


def test_the_only_update_of_a_batch_meets_no_clip(build: Build):
    metrics, _ = build(train__learning_rate=1e-2).step(1)
    assert metrics["clip_fraction"] == 0


def test_every_further_update_and_the_old_pass_push_the_batch_again(build: Build):
    once, twice = build(), build(train__updates_per_batch=2)
    assert twice.step(1)[0]["tokens_train"] == 3 * once.step(1)[0]["tokens_train"]


# -- adapters


def test_lora_trains_adapters_alone_and_saves_a_plain_model_with_the_same_logits(build: Build, tmp_path: Path):
    engine = build(model__lora=4, train__learning_rate=1e-2)
    before = {name: parameter.detach().clone() for name, parameter in engine.model.named_parameters()}
    engine.step(1), engine.step(2)
    changed = {name for name, p in engine.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".lora_" in name}

    engine.save(tmp_path, 2, {})
    plain, base = load_model(str(Run(tmp_path).checkpoint(2))), load_model("lab/arithmetic")
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in base.named_parameters()}
    ids = torch.tensor([engine.chat.render(engine.problems.problems[0].prompt)])
    with torch.no_grad():
        merged, adapted, former = (model.eval()(input_ids=ids).logits for model in (plain, engine.model, base))
    # float32: some hundred roundings of 2⁻²⁴ of the largest logit
    assert (merged - adapted).abs().max() <= 1e-4 * former.abs().max()
    assert (merged - former).abs().max() >= 1e-2


def test_lora_resumes_its_adapters_and_its_optimizer_bit_for_bit(build: Build, tmp_path: Path):
    engine = build(model__lora=4)
    engine.step(1)
    engine.save(tmp_path, 1, {})
    resumed = build(model__lora=4, checkpoint=Run(tmp_path).checkpoint(1))
    assert torch.equal(weights(resumed), weights(engine))
    engine.step(2), resumed.step(2)
    assert torch.equal(weights(resumed), weights(engine))


def test_what_merged_adapters_sample_is_what_adapters_beside_the_weights_sample(build: Build):
    engine = build(model__lora=4, train__learning_rate=1e-2)
    engine.step(1)
    exactly(engine)
    before, drawn = weights(engine), engine.problems.drawn
    apart, _ = engine.rollout(2)
    engine.problems.drawn = drawn
    with merged(engine.model):
        together, _ = engine.rollout(2)
        assert not torch.equal(weights(engine), before), "they are merged"
    assert tokens_of(together) == tokens_of(apart)
    for one, other in zip(together, apart, strict=True):
        assert one.spines[0].logprobs == pytest.approx(other.spines[0].logprobs, abs=1e-10)
    assert torch.equal(weights(engine), before)
    trained = {name for name, parameter in engine.model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in engine.model.named_parameters() if ".lora_" in name}


def test_adapters_are_apart_again_after_a_rollout_that_failed(build: Build):
    engine = build(model__lora=4)
    before = weights(engine)
    with pytest.raises(KeyboardInterrupt), merged(engine.model):
        raise KeyboardInterrupt
    assert torch.equal(weights(engine), before)


# -- groups without signal


def test_groups_without_signal_are_replaced_up_to_the_cap_and_counted(build: Build):
    engine = build(train__refill_cap=1, train__problems_per_step=8)
    without_answers(engine, keep=len(engine.problems.problems) // 2)
    metrics, groups = engine.step(1)
    solvable = {problem.id for problem in engine.problems.problems if problem.gold != "no such answer"}
    assert 0 < len(groups) <= 8
    assert {group.problem.id for group in groups} <= solvable
    assert all(any(m.verdict is Verdict.CORRECT for _, _, m in group.members(3)) for group in groups)
    # the second round draws as many as the first one dropped
    assert metrics["groups"] == len(groups)
    assert metrics["dropped"] > 0
    assert metrics["groups"] + metrics["dropped"] == engine.problems.drawn <= 16


def test_refill_stops_as_soon_as_the_batch_is_full(build: Build):
    engine = build("lab-grpo-lambda", train__refill_cap=5)
    metrics, groups = engine.step(1)
    assert (len(groups), metrics["dropped"], engine.problems.drawn) == (4, 0, 4)


def test_a_cap_of_zero_keeps_every_group(build: Build):
    engine = build(train__refill_cap=0)
    without_answers(engine)
    metrics, groups = engine.step(1)
    assert (len(groups), metrics["dropped"], engine.problems.drawn) == (4, 0, 4)


@pytest.mark.parametrize("cap", [0, 2])
def test_a_step_where_nothing_has_signal_changes_no_weight(build: Build, cap: int):
    engine = build(train__refill_cap=cap, train__weight_decay=0.1)
    engine.step(1)  # moments are in place: an optimizer step would move the weights even without a gradient
    without_answers(engine)
    before = weights(engine)
    metrics, groups = engine.step(2)
    assert torch.equal(weights(engine), before)
    assert metrics["accuracy"] == metrics["reward"] == metrics["tokens_train"] == 0
    assert (len(groups), metrics["dropped"]) == ((4, 0) if cap == 0 else (0, 12))
    assert not WITH_UPDATE - {"advantage"} & set(metrics)


@pytest.mark.parametrize("name", ["lab-s-grpo", "lab-grpo", "lab-length-penalty", "lab-grpo-lambda"])
@pytest.mark.parametrize("layout", ["spine", "rows"])
def test_equal_rewards_have_no_gradient(build: Build, name: str, layout: str):
    engine = build(name, objective__layout=layout, train__refill_cap=0)
    groups, _ = engine.rollout(1)
    for group in groups:
        for _, _, member in group.members(engine.group.exits):
            member.verdict = Verdict.WRONG
    scores = engine.method.score(engine.batch(groups))
    assert engine.update(engine.model, groups, scores.advantage, 1) == {}
    assert all(parameter.grad is None for parameter in engine.model.parameters())


def test_a_group_without_advantage_dilutes_the_gradient_of_the_others_and_adds_nothing(build: Build):
    (engine,) = exactly(build(train__max_grad_norm=1e9))
    groups, _ = engine.rollout(1)
    for _, _, member in groups[0].members(3):
        member.verdict = Verdict.WRONG
    advantage = engine.method.score(engine.batch(groups)).advantage
    pushed = engine.update(engine.model, groups, advantage, 1)["tokens_train"]
    among = gradient(engine)
    (engine,) = exactly(build(train__max_grad_norm=1e9))
    assert engine.update(engine.model, groups[1:], advantage[1:], 1)["tokens_train"] == pushed
    # a mean over all members, all groups of four: three quarters of what the others' own mean is
    assert (among - 0.75 * gradient(engine)).norm() <= 1e-9 * among.norm()


# -- what a step says


@pytest.mark.parametrize(
    ("name", "exits"),
    [("lab-s-grpo", WITH_EXITS), ("lab-grpo-lambda", set())],
)
def test_metrics_of_a_step_are_complete_and_finite(build: Build, name: str, exits: set[str]):
    metrics, _ = build(name).step(1)
    assert set(metrics) == ALWAYS | WITH_UPDATE | exits
    assert all(math.isfinite(value) for value in metrics.values())
    assert json.loads(json.dumps(metrics)) == metrics


def test_trained_tokens_are_each_shared_token_once_in_the_spine_layout(build: Build):
    spine, rows = build(train__refill_cap=0), build(train__refill_cap=0, objective__layout="rows")
    metrics, groups = spine.step(1)
    advantage = spine.method.score(spine.batch(groups)).advantage
    packed = each = 0
    for group, advantage_G in zip(groups, advantage.tolist(), strict=True):
        pushed = [(spine_, m) for g, spine_, m in group.members(3) if advantage_G[g]]
        if not pushed:
            continue
        prompt, full = len(group.prompt), len(group.spines[0].tokens)
        own = [len(group.inducer) + len(m.answer) for _, m in pushed if isinstance(m, Branch)]
        kept = [spine_.thought_start + m.exit for spine_, m in pushed if isinstance(m, Branch)]
        packed += prompt + full + sum(own)
        each += sum(prompt + k + o for k, o in zip(kept, own, strict=True))
        each += sum(prompt + full for spine_, m in pushed if m is spine_)
    assert metrics["tokens_train"] == packed
    assert rows.step(1)[0]["tokens_train"] == each > packed


def test_the_learning_rate_warms_up_in_equal_parts(build: Build):
    engine = build("lab-grpo-lambda", train__warmup_steps=4, train__learning_rate=1e-3)
    rates = [engine.step(step)[0]["learning_rate"] for step in range(1, 6)]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])


# -- weights that went wrong


def test_a_gradient_that_is_not_finite_stops_before_the_update(build: Build):
    engine = build()
    groups, _ = engine.rollout(1)
    scores = engine.method.score(engine.batch(groups))
    name, broken = next(iter(engine.model.named_parameters()))
    with torch.no_grad():
        broken[7, 0] = math.nan
    before = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    with pytest.raises(SufficeError, match=r"no update was made.*train\.learning_rate") as caught:
        engine.update(engine.model, groups, scores.advantage, 1)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(p, before[n]) for n, p in engine.model.named_parameters() if n != name)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_stop_the_rollout(build: Build, value: float):
    engine = build()
    with torch.no_grad():
        next(engine.model.parameters())[7, 0] = value
    with pytest.raises(SufficeError, match="not finite") as caught:
        engine.step(1)
    assert "\n" not in str(caught.value)


def test_the_groups_whose_gradient_is_not_finite_are_named(build: Build):
    engine = build(train__refill_cap=0)
    groups, _ = engine.rollout(1)
    scores = engine.method.score(engine.batch(groups))
    trained = [i for i, row in enumerate(scores.advantage) if row.any()]
    assert len(trained) >= 2
    broken = scores.advantage.clone()
    broken[trained[1]] = math.nan
    with pytest.raises(NonFiniteError) as caught:
        engine.update(engine.model, groups, broken, 1)
    assert [group.problem.id for group in caught.value.groups] == [groups[trained[1]].problem.id]


def test_a_step_that_is_not_finite_leaves_its_groups_to_look_at(build: Build, tmp_path: Path):
    engine = build(train__refill_cap=0)
    engine.update.optimizer.register_step_pre_hook(lambda *_: pytest.fail("an update was made"))

    method: Any = type(engine.method)

    class Hopeless(method):
        def advantage(self, reward_P_G, batch, spines):
            return super().advantage(reward_P_G, batch, spines) * math.inf

    engine.method = Hopeless()
    with pytest.raises(NonFiniteError, match=r"step 1: the gradient is not finite .*non-finite\.jsonl\)$"):
        take_step(engine, tmp_path, 1)
    left = read_jsonl(tmp_path / "non-finite.jsonl")
    assert left
    assert all({"problem", "prompt", "gold", "spines"} <= set(line) for line in left)


def test_a_step_without_memory_names_what_to_lower(build: Build, tmp_path: Path):
    engine = build(rollout__cache_gb=1e6)
    with torch.no_grad():  # a cache that no machine holds
        engine.sampler.max_thought_tokens = 2**40
    with pytest.raises(
        ModelError, match=r"lower rollout\.cache_gb \(now 1e\+06\).*train\.micro_batch_tokens"
    ) as caught:
        take_step(engine, tmp_path, 1)
    assert "\n" not in str(caught.value)


# -- the order of problems


@given(count=st.integers(1, 40), seed=st.integers(0, 2**32), draws=st.lists(st.integers(0, 50), max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation_and_drawn_alone_resumes_it(count: int, seed: int, draws: list[int]):
    problems = [Problem(str(i), "test", "prompt", "gold") for i in range(count)]
    order = Problems(problems, seed)
    drawn = [order.draw(count) for _ in range(3)]
    assert all(sorted(p.id for p in epoch) == sorted(p.id for p in problems) for epoch in drawn)
    straight = [problem for epoch in drawn for problem in epoch]
    done = 0
    for draw in draws:
        resumed = Problems(problems, seed)
        resumed.drawn = done
        assert resumed.draw(draw)[: 3 * count - done] == straight[done : done + draw]
        assert resumed.drawn == done + draw
        done = min(done + draw, 3 * count)


def test_another_epoch_and_another_seed_are_another_order():
    problems = [Problem(str(i), "test", "prompt", "gold") for i in range(100)]
    first = Problems(problems, 0)
    orders = [first.draw(100), first.draw(100), Problems(problems, 1).draw(100), problems]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
