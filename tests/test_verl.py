"""verl as an engine: the translation, the estimators and the loss equal the local engine's; failures end in one line.

What needs verl itself is skipped where it is not installed. Of the runs of a whole verl (a minute each, more on a busy
machine) one is in every suite, the others happen with SUFFICE_VERL_RUN=1.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from making import CLOSE, closest_call, random_group
from suffice.cli import app
from suffice.config import load_recipe, make_recipe
from suffice.engines.local.build import build_engine
from suffice.engines.verl import installed, launch, train, translate
from suffice.engines.verl.estimators import estimate, loss_factor, observe, recall, score
from suffice.engines.verl.main import reason
from suffice.engines.verl.members import Member, gather
from suffice.engines.verl.metrics import update_metrics
from suffice.engines.verl.tokens import sampled, within
from suffice.engines.verl.training import MODULES, PLUGIN, environment, find
from suffice.errors import RunError, SufficeError
from suffice.grading import Grader
from suffice.groups import Spine
from suffice.methods import get_method, list_methods
from suffice.model.load import load_chat, load_model
from suffice.model.resolve import resolve_path
from suffice.objective import Objective, policy_loss, to_batch
from suffice.objective.weights import weigh
from suffice.run.directory import Run
from suffice.run.files import read_json, read_jsonl, write_jsonl, write_text
from suffice.run.layout import LOCK
from suffice.run.lock import locked
from verl_cpu import ENVIRONMENT, begin, options
from verl_making import configured, translated

pytestmark = pytest.mark.slow

needs_verl = pytest.mark.skipif(not find_spec("verl"), reason="verl is not installed: pip install '.[verl]'")
runs_verl = pytest.mark.skipif(
    not find_spec("verl") or not os.environ.get("SUFFICE_VERL_RUN"),
    reason="a whole verl run takes a minute or more: SUFFICE_VERL_RUN=1 and verl installed",
)
END = frozenset({1})


def members_of(groups, exits):
    return [
        Member(
            group=f"uid-{p}",
            column=column,
            order=p,
            verdict=str(member.verdict),
            thought_tokens=member.thought_length,
            loop_tokens=0,
            answer_tokens=sum(token not in END for token in member.answer_tokens),
            closed=member.closed,
            truncated=member.truncated,
            exit=None if isinstance(member, Spine) else member.exit,
            injected=(0, 0),
        )
        for p, group in enumerate(groups)
        for column, _, member in group.members(exits)
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(list_methods()), st.booleans())
def test_an_estimator_gives_the_local_methods_advantages_whatever_the_order_of_rows(seed, name, refill):
    rng = random.Random(seed)
    method = get_method(name)
    spines, exits = (rng.choice([1, 2]), 4) if method.serial else (4, 0)
    groups = [random_group(rng, spines, exits, longest=6) for _ in range(rng.randint(1, 5))]  # some too short for 4
    recipe = make_recipe(
        {
            "method": {"name": name},
            "group": {"spines": spines, "exits": exits},
            "train": {"refill_cap": 2 * refill},
        }
    )
    rows = [*members_of(groups, exits), None, None]  # two rows of padding
    rng.shuffle(rows)
    mask = torch.ones(len(rows), 3)

    scored = score(rows, recipe.group, method, drops=refill)
    found, _ = estimate(name, token_level_rewards=mask, response_mask=mask, scored=scored)

    batch = to_batch(groups, spines, exits, END)
    kept = [p for p, signal in enumerate(method.has_signal(batch).tolist()) if signal or not refill]
    advantage = torch.zeros(batch.correct.shape)
    if kept:
        advantage[kept] = method.score(to_batch([groups[p] for p in kept], spines, exits, END)).advantage
    wanted = [0.0 if row is None else float(advantage[row.order, row.column]) for row in rows]
    assert found[:, 0].tolist() == wanted
    assert scored.trained == int(batch.valid[kept].sum())


LEARNING = {
    "exit-baseline": {"price": "adaptive"},
    "grpo-lambda": {"lam": "adaptive"},
    "primal-dual": {"budget": 50},
    "acoer": {"warmup": 2, "window": 3},
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_resumed_run_recalls_what_its_method_had_learned_by_that_step(name: str, tmp_path: Path) -> None:
    whole, resumed, fresh = (get_method(name, **LEARNING[name]) for _ in "123")
    lines: list[dict[str, float]] = [
        {"step": step, "accuracy": 0.5 + step / 40, "thought_tokens": 90 - step} for step in range(1, 13)
    ]
    lines[3] = {"step": 4, "failed": 16}  # every session failed: nothing to tell
    write_jsonl(tmp_path / "metrics.jsonl", lines)
    for line in lines[:10]:
        observe(whole, line)
    recall(resumed, tmp_path, 10)
    assert resumed.state_dict() == whole.state_dict() != fresh.state_dict()
    assert whole.state_dict().get("seen", 9) == whole.state_dict().get("steps", 9) == 9


def test_a_failed_member_is_missing_and_the_rest_are_scored_without_it():
    rows = members_of([random_group(random.Random(3), 1, 4) for _ in range(2)], 4)
    lost = next(row for row in rows if row.exit is not None)
    batch = gather([row for row in rows if row is not lost], 1, 4).batch
    assert not batch.valid[lost.order, lost.column]
    assert batch.valid.sum() == len(rows) - 1


def test_two_rows_for_one_member_are_refused():
    rows = members_of([random_group(random.Random(0), 1, 2)], 2)
    with pytest.raises(ValueError, match="same member"):
        gather([*rows, rows[0]], 1, 2)


def test_verls_own_trainer_cannot_use_an_estimator():
    with pytest.raises(SufficeError, match=r"trainer\.v1\.trainer_mode=suffice"):
        estimate("grpo", token_level_rewards=torch.ones(1, 1), response_mask=torch.ones(1, 1), index=["a"])


def test_a_budget_cuts_and_an_end_of_turn_within_it_does_not():
    assert within([5, 6, 1, 7], 3, END) == ([5, 6, 1], False)
    assert within([5, 6, 7, 1], 3, END) == ([5, 6, 7, 1], False)  # the end may stand just behind the budget
    assert within([5, 6, 7, 8, 1], 3, END) == ([5, 6, 7], True)
    assert within([5, 6], 3, END) == ([5, 6], True)  # the server stopped for reasons of its own


@needs_verl
@pytest.mark.parametrize("aggregate", ["sequence", "constant", "token"])
@pytest.mark.parametrize("refill", [0, 2])
def test_verls_loss_has_our_gradient_on_and_beyond_both_clips(aggregate, refill):
    """One update at ratio 1 and a second on the same batch with ratios from 0.5 to 2, by verl's own loss functions."""
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

    rng = random.Random(1)
    exits, overrides = 3, [f"objective.aggregate={aggregate}", "group.exits=3", f"train.refill_cap={refill}"]
    groups = [random_group(rng, 1, exits, longest=6) for _ in range(4)]
    recipe = load_recipe("lab-s-grpo", [*overrides, "train.problems_per_step=4"])
    mode = translated("lab-s-grpo", *overrides, "train.problems_per_step=4", "train.updates_per_batch=2")
    rows = [*members_of(groups, exits), None]
    scored = score(rows, recipe.group, get_method("s-grpo"), drops=refill > 0)
    objective = Objective(aggregate, "sampled", CLOSE, exits, recipe.objective.constant_length)
    weighed = [w for of_group in weigh(groups, torch.ones(4, exits + 1), objective) for w in of_group]
    masks = [[True] * w.kept + w.own_trained for w in weighed] + [[False]]
    width = max(map(len, masks))
    mask = torch.tensor([row + [False] * (width - len(row)) for row in masks])
    advantage, _ = estimate("s-grpo", token_level_rewards=mask, response_mask=mask, scored=scored)
    draw = torch.Generator().manual_seed(0)
    old = -torch.rand(mask.shape, dtype=torch.float64, generator=draw) * 3 - 1

    kept = [p for p in range(4) if scored.kept[p]]
    ours = weigh([groups[p] for p in kept], scored.scores.advantage[kept], objective)
    weight = torch.zeros(mask.shape, dtype=torch.float64)
    for p, of_group in zip(kept, ours, strict=True):
        for w, row in zip(of_group, [i for i, m in enumerate(rows) if m and m.order == p], strict=True):
            weight[row] = w.weight * mask[row]

    actor = SimpleNamespace(
        clip_ratio=0.2,
        clip_ratio_low=mode["actor_rollout_ref.actor.clip_ratio_low"],
        clip_ratio_high=mode["actor_rollout_ref.actor.clip_ratio_high"],
        get=lambda name, default: mode[f"actor_rollout_ref.actor.{name}"],
        global_batch_info={
            "dp_size": 1,
            "batch_num_tokens": int(mask.sum()),
            "global_batch_size": 4 * (exits + 1),
            "loss_scale_factor": mode["actor_rollout_ref.actor.loss_scale_factor"],
        },
    )
    for ratio in (torch.ones(mask.shape), torch.rand(mask.shape, generator=draw) * 1.5 + 0.5):
        new = (old + ratio.double().log()).requires_grad_()
        loss, _ = compute_policy_loss_vanilla(
            old,
            new,
            advantage * loss_factor(scored, mask, aggregate, rows=4 * (exits + 1)),
            mask,
            mode["actor_rollout_ref.actor.loss_agg_mode"],
            actor,
        )
        (theirs,) = torch.autograd.grad(loss, new)
        local = policy_loss(new, old, weight.clamp(min=0), weight.clamp(max=0), clip_low=0.2, clip_high=0.2)
        (mine,) = torch.autograd.grad(local, new)
        assert loss.item() == pytest.approx(local.item(), abs=1e-6)
        assert torch.allclose(theirs, mine, atol=1e-8)
        assert mine.abs().sum() > 0


class Scripted:
    """A server that says what it is told to; the inducer in a prompt marks a branch."""

    def __init__(self, chat, fails="never"):
        self.chat, self.fails, self.asked = chat, fails, []

    async def generate(self, request_id, prompt_ids, sampling_params):
        await asyncio.sleep(0.001)
        branch = prompt_ids[-len(self.chat.inducer) :] == self.chat.inducer
        self.asked.append((request_id, prompt_ids, sampling_params))
        if self.fails == ("branch" if branch else "spine"):
            raise RuntimeError("the server is gone")
        end = next(iter(self.chat.end_ids))
        open_thought = [] if self.chat.opened(prompt_ids) else [self.chat.open_id]
        thought = [*open_thought, 10, 11, 12, 13, 14, self.chat.close_id]
        answers = branch or prompt_ids[-1] == self.chat.close_id
        assert answers or sampling_params["stop_token_ids"] == [self.chat.close_id]
        tokens = ([9, end] if answers else thought)[: sampling_params["max_tokens"]]
        return SimpleNamespace(token_ids=tokens, log_probs=[-1.0] * len(tokens), extra_fields={})


def row_of(name, prompt):
    """A problem as a session gets it."""
    return {
        "uid": "u",
        "index": 0,
        "global_steps": 1,
        "data_source": "arithmetic",
        "raw_prompt": [{"role": "user", "content": prompt}],
        "reward_model": {"ground_truth": "2"},
        "extra_info": {"id": name, "kind": "exact"},
    }


@pytest.fixture
def group_of_sessions():
    """Runs all sessions of one problem against a scripted server: (results, server, chat)."""
    pytest.importorskip("verl", reason="verl is not installed: pip install '.[verl]'")
    import suffice.engines.verl.plugin  # noqa: F401
    from suffice.engines.verl.agents import PENDING, MemberLoop

    path = resolve_path("lab/arithmetic")

    def run(recipe, fails="never"):
        chat = load_chat(path, recipe.rollout.inducer)
        server = Scripted(chat, fails)
        row = row_of("one", "1 + 1")

        async def session(number):
            loop = MemberLoop.__new__(MemberLoop)  # verl makes one a session, from what a worker holds
            loop.config = SimpleNamespace(
                suffice=SimpleNamespace(recipe=recipe.dump()),
                actor_rollout_ref=SimpleNamespace(model=SimpleNamespace(path=path)),
            )
            loop.server_manager = server
            return await loop.run({"temperature": 1.0}, session_id=number, **row)

        async def everyone():
            count = recipe.group.spines * (recipe.group.exits + 1)
            tasks = [session(number) for number in range(count)]
            return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)

        results = asyncio.run(everyone())
        assert not PENDING.spines
        return results, server, chat

    return run


def test_branches_leave_inside_the_thought_and_ask_the_server_of_their_spine(group_of_sessions):
    results, server, chat = group_of_sessions(load_recipe("lab-s-grpo", ["group.exits=3"]))
    assert {asked[0] for asked in server.asked} == {"u"}
    *branches, full = results
    found = [Member.of_fields(result.extra_fields) for result in results]
    assert [member.column for member in found] == [0, 1, 2, 3]
    exits = [member.exit for member in found]
    assert exits[:3] == sorted(set(exits[:3]))
    assert all(1 <= position <= 5 for position in exits[:3])
    start = full.response_ids.index(10)
    for member, branch in zip(found, branches, strict=False):
        cut = start + member.exit
        assert branch.response_ids[:cut] == full.response_ids[:cut]
        assert branch.response_ids[slice(*member.injected)] == chat.inducer
        wanted = [1] * cut + [0] * len(chat.inducer) + [1, 1]
        assert branch.response_mask == wanted
        assert [*sampled([member], torch.tensor([wanted]).bool())[0]] == [bool(m) for m in wanted]
    assert {asked[2]["max_tokens"] for asked in server.asked} == {256 + 1 + 3, 8 + 1}


def test_a_thought_too_short_for_all_exits_leaves_members_out(group_of_sessions):
    results, _, _ = group_of_sessions(load_recipe("lab-s-grpo"))  # 8 exits in a thought of 5
    assert [result == [] for result in results] == [False] * 5 + [True] * 3 + [False]


@pytest.mark.parametrize("spines", [1, 2])
def test_a_spine_that_fails_fails_its_siblings_and_none_hangs(group_of_sessions, spines):
    results, _, _ = group_of_sessions(load_recipe("lab-s-grpo", [f"group.spines={spines}"]), fails="spine")
    assert all(isinstance(result, RuntimeError) for result in results)
    assert sum("full rollout of problem one failed" in str(result) for result in results) == 8 * spines


def test_a_branch_that_fails_leaves_the_others_whole(group_of_sessions):
    results, _, _ = group_of_sessions(load_recipe("lab-s-grpo", ["group.exits=3"]), fails="branch")
    assert [isinstance(result, RuntimeError) for result in results] == [True, True, True, False]


def test_a_parallel_group_is_sessions_that_do_not_wait(group_of_sessions):
    results, _, _ = group_of_sessions(load_recipe("lab-grpo-lambda"))
    assert [Member.of_fields(result.extra_fields).exit for result in results] == [None] * 8


def test_a_ray_address_where_nothing_answers_is_refused_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(SufficeError, match="unset RAY_ADDRESS"):
        launch.check_ray(nodes=1)


def test_without_a_gpu_or_a_cluster_that_may_have_some_the_way_out_is_said(monkeypatch):
    without_gpus(monkeypatch)
    with pytest.raises(
        SufficeError, match=r"this machine has none: start a run without --engine verl, .*RAY_ADDRESS=HEAD:6379"
    ):
        launch.check_gpus()
    for name, value in (("RAY_ADDRESS", "head:6379"), ("VERL_PLATFORM", "cpu")):
        with monkeypatch.context() as named:
            named.setenv(name, value)
            launch.check_gpus()


def test_modules_that_verl_is_told_to_load_are_loaded_before_ours(monkeypatch):
    monkeypatch.setenv(MODULES, "theirs,another")
    assert environment()[MODULES] == f"theirs,another,{PLUGIN}"
    monkeypatch.delenv(MODULES)
    assert environment()[MODULES] == PLUGIN


@needs_verl
@pytest.mark.parametrize("ours", [True, False])
def test_verl_itself_is_changed_in_our_runs_alone_and_workers_wait_for_a_slow_disk(ours):
    code = (
        "import verl; from verl.workers import engine_workers; import torch.distributed as d;"
        "d.init_process_group = lambda **more: print('waits', more['timeout']);"
        "engine_workers.initialize_global_process_group_ray(timeout_second=None);"
        "from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as known; print('suffice-s-grpo' in known)"
    )
    surroundings = environment() if ours else {k: v for k, v in environment().items() if k != translate.OURS}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings | ENVIRONMENT, check=False)
    said = done.stdout.splitlines()[-2:]
    # ENVIRONMENT names the CPU's platform, whose module imports ours
    assert said == [f"waits {'2:00:00' if ours else 'None'}", "True"], done.stderr[-500:]


def test_several_nodes_need_a_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    launch.check_ray(nodes=1)
    with pytest.raises(SufficeError, match="ray start --head"):
        launch.check_ray(nodes=2)


def test_the_reason_of_a_failure_is_the_last_line_of_its_cause():
    assert reason(RuntimeError("traceback\n  of many lines\nKeyError: 'x'")) == "RuntimeError: KeyError: 'x'"
    assert reason(ValueError()) == "ValueError: "
    assert reason(RuntimeError("The actor is dead because its worker process has died.\nx")).startswith("one of its")


@pytest.mark.parametrize(("engine", "other"), [("local", "verl"), ("verl", "local")])
def test_a_run_is_continued_by_the_engine_that_began_it(tmp_path, engine, other):
    (tmp_path / "recipe.toml").write_text(load_recipe("lab-s-grpo").dump())
    if engine == "verl":
        (tmp_path / "verl.yaml").touch()
    found = CliRunner().invoke(app, ["train", "--resume", str(tmp_path), "--engine", other])
    assert isinstance(found.exception, SufficeError)
    assert f"was trained with --engine {engine}" in str(found.exception)


# -- a run of verl's, as a session finds it


def run_of_verl(folder: Path, steps: int, *overrides: str) -> Path:
    """What a run of verl's leaves that has saved its last of so many steps and evaluated neither end."""
    asked = ["train.steps=12", "train.eval_every=0", *overrides]
    write_text(folder / "recipe.toml", load_recipe("lab-s-grpo", asked).dump())
    write_text(folder / "verl.yaml", "")
    write_text(folder / "verl" / "latest_checkpointed_iteration.txt", str(steps))
    Run(folder).checkpoint(steps).mkdir(parents=True)
    lines = [{"step": step, "accuracy": 0.9, "thought_tokens": 60.0} for step in range(1, steps + 1)]
    write_jsonl(folder / "metrics.jsonl", lines)
    return folder


def resume(run: Path) -> Path:
    return train(load_recipe(str(run / "recipe.toml")), run, resume=True)


def without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("RAY_ADDRESS", "VERL_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


def test_a_finished_run_of_verls_is_left_as_it_is_and_said_to_be(tmp_path, monkeypatch, capsys):
    without_gpus(monkeypatch)  # nor is anything of verl looked for
    monkeypatch.setattr(installed, "NEEDED", {"no-such-engine": ("1", "2")})
    run = run_of_verl(tmp_path / "run", 12)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != LOCK}
    assert resume(run) == Run(run).checkpoint(12)
    assert capsys.readouterr().err == f"{run} is finished: nothing is left to do\n"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != LOCK} == before


def test_a_run_of_verls_is_over_at_its_last_step_or_where_its_guard_stopped_it(tmp_path):
    def over(run: Path) -> bool:
        return find(load_recipe(str(run / "recipe.toml")), run).over

    whole = run_of_verl(tmp_path / "whole", 12)
    assert over(whole)
    shutil.rmtree(Run(whole).checkpoint(12))  # saved by verl, and not yet published
    assert not over(whole)
    assert not over(run_of_verl(tmp_path / "half", 6))
    stopped = run_of_verl(tmp_path / "stopped", 30, "train.steps=40", "guard.action=stop")
    assert not over(stopped)
    lines = read_jsonl(stopped / "metrics.jsonl")
    write_jsonl(stopped / "metrics.jsonl", [line | {"accuracy": 0.9 if line["step"] <= 20 else 0.2} for line in lines])
    assert over(stopped)


def test_a_run_of_verls_that_another_process_holds_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    without_gpus(monkeypatch)
    run = run_of_verl(tmp_path / "run", 6)
    with locked(run), pytest.raises(RunError, match="another process works in"):
        resume(run)


@needs_verl
def test_a_run_that_is_resumed_is_held_against_what_is_installed_by_now(tmp_path, monkeypatch):
    from omegaconf import OmegaConf

    run = run_of_verl(tmp_path / "run", 6)
    config, _ = configured()
    config.trainer.device = "cpu"
    OmegaConf.save(config, run / "verl.yaml")
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setattr(installed, "SERVERS", {"vllm": "no_such_server"})
    with pytest.raises(SufficeError, match="needs no-such-server, which is not installed"):
        resume(run)


def test_an_evaluation_that_would_take_hours_here_is_refused_on_verl():
    from suffice.engines.verl.training import check_evaluation

    check_evaluation(load_recipe("lab-s-grpo"))
    recipe = load_recipe("qwen3-8b-s-grpo", ["train.eval_every=50"])
    with pytest.raises(
        SufficeError, match=r"train\.eval_every = 50 would evaluate for about .* hours .* set train"
    ) as error:
        check_evaluation(recipe)
    assert "\n" not in str(error.value)
    check_evaluation(load_recipe("qwen3-8b-s-grpo"))


def test_nothing_is_made_where_verl_cannot_train(tmp_path, monkeypatch):
    without_gpus(monkeypatch)
    with pytest.raises(SufficeError, match="--engine verl needs"):
        train(load_recipe("lab-s-grpo"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_of_verls_own_are_read_as_toml():
    found = launch.own_settings(["verl.trainer.nnodes=2", "verl.a.b=[1, 2]", "verl.c.d=word"])
    assert found == {"trainer.nnodes": 2, "a.b": [1, 2], "c.d": "word"}
    with pytest.raises(SufficeError, match=r"verl\.key=value"):
        launch.own_settings(["verl.trainer.nnodes"])


QUICK = ["train.problems_per_step=4", "train.refill_cap=0", "train.eval_every=0", "group.exits=4"]


@needs_verl
@pytest.mark.parametrize("updates", [1, pytest.param(2, marks=runs_verl)])
def test_the_first_steps_of_verl_are_those_of_the_local_engine(tmp_path, updates):
    """Same keys, same weights: the first step's rollouts are equal, and so are scores, loss, gradient and weights.

    One update is in the spine layout on either side. With two updates a batch, in rows on verl, the second has ratios
    beyond both clips; metrics are then not of the same update.
    """
    from safetensors.torch import load_file

    with closest_call() as least, Grader() as grader:
        build_engine(load_recipe("lab-s-grpo", QUICK), grader, None)[0].rollout(1)
    assert least() > 1e-4  # so that rounding, of which a server has its own, decides no token of the first step
    rate = {1: "train.learning_rate=3e-4", 2: "train.learning_rate=3e-3"}[updates]
    wanted = [*QUICK, f"train.updates_per_batch={updates}", rate, "train.steps=2", "train.checkpoint_every=1"]
    for engine in ("local", "verl"):
        sets = [part for pair in wanted for part in ("--set", pair)] + (options() if engine == "verl" else [])
        done = begin("train", "lab-s-grpo", "--engine", engine, "--out", str(tmp_path / engine), *sets)
        _, said = done.communicate()
        assert done.returncode == 0, said
    ours, theirs = (read_jsonl(tmp_path / engine / "metrics.jsonl") for engine in ("local", "verl"))
    for name in ("accuracy", "thought_tokens", "exit_accuracy", "reward", "advantage", "groups", "dropped"):
        assert theirs[0][name] == pytest.approx(ours[0][name], abs=1e-6), name
    if updates == 1:
        for name in ("loss", "grad_norm"):
            assert theirs[0][name] == pytest.approx(ours[0][name], rel=1e-4, abs=1e-6), name
        # in trees, which end where no member has an advantage; the local engine packs whole spines
        assert theirs[0]["tokens_train"] <= ours[0]["tokens_train"] < theirs[0]["tokens_rows"]
    else:
        assert ours[0]["clip_fraction"] > 0
        assert theirs[0]["clip_fraction"] > 0
    first = [load_file(tmp_path / e / "checkpoints/step-000001/model.safetensors") for e in ("local", "verl")]
    start = load_model("lab/arithmetic", device="cpu").state_dict()
    moved, apart = (
        sum(float((weight - other[name]).norm() ** 2) for name, weight in first[0].items()) ** 0.5
        for other in (start, first[1])
    )
    # Adam's first step is as long where a gradient is mere rounding, here and there another: at a share of 1e-5 or so,
    # whose root is the error of the whole
    assert apart <= 1e-2 * moved
    assert read_jsonl(tmp_path / "verl" / "rollouts.jsonl")[0] == read_jsonl(tmp_path / "local" / "rollouts.jsonl")[0]


@runs_verl
def test_adapters_are_trained_sampled_merged_and_published_with_weights_in_the_hosts_memory_meanwhile(tmp_path):
    """The server's log-probs are the trainer's in step 2, so it has the adapters; the checkpoint has them too."""
    own = ["model.lora=8", "cluster.offload=rollout", "train.learning_rate=1e-2", "train.steps=2"]
    sets = [part for pair in [*QUICK, *own, "train.checkpoint_every=1"] for part in ("--set", pair)]
    done = begin("train", "lab-s-grpo", "--engine", "verl", "--out", str(tmp_path / "run"), *sets, *options())
    _, said = done.communicate()
    assert done.returncode == 0, said
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert max(line["mismatch"] for line in lines) < 1e-3
    assert all(line["tokens_cached"] > line["tokens_prefill"] for line in lines)
    trained = load_model(str(tmp_path / "run" / "checkpoints" / "step-000002"), device="cpu").state_dict()
    start = load_model("lab/arithmetic", device="cpu").state_dict()
    moved = {name: float((weight - trained[name]).abs().max()) for name, weight in start.items()}
    assert trained.keys() == start.keys()
    assert min(change for name, change in moved.items() if "_proj" in name) > 1e-3
    assert max(change for name, change in moved.items() if "_proj" not in name) == 0.0
    states = list((tmp_path / "run" / "verl").glob("global_step_*/actor/huggingface/*.safetensors"))
    assert not states  # the float32 copies are gone


@runs_verl
def test_a_killed_worker_ends_the_run_in_one_line_and_resume_goes_on(tmp_path):
    run = tmp_path / "run"
    sets = [part for pair in [*QUICK, "train.steps=4", "train.checkpoint_every=1"] for part in ("--set", pair)]
    started = begin("train", "lab-s-grpo", "--engine", "verl", "--out", str(run), *sets, *options())
    while not (run / "metrics.jsonl").exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.5)
    for process in psutil.Process(started.pid).children(recursive=True):
        if "WorkerDict" in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
            break
    _, said = started.communicate()
    line = said.strip().splitlines()[-1]
    assert started.returncode == 2
    assert line.startswith("error: verl failed after step")
    assert "one of its processes died" in line
    assert f"suffice train --resume {run}" in line
    resumed = begin("train", "--resume", str(run))
    _, said = resumed.communicate()
    assert resumed.returncode == 0, said
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1, 2, 3, 4]
    assert read_json(run / "checkpoints/step-000004/config.json")["model_type"] == "qwen3"
    finished = begin("train", "--resume", str(run))
    _, said = finished.communicate()
    assert finished.returncode == 0
    assert said == f"{run} is finished: nothing is left to do\n"


# -- the two requests of a spine


@needs_verl
def test_an_answer_is_asked_for_with_its_own_budget_once_the_thought_has_closed(group_of_sessions):
    results, server, chat = group_of_sessions(load_recipe("lab-grpo", ["group.spines=2"]))
    first, second = server.asked[0], server.asked[-1]
    assert first[2]["stop_token_ids"] == [chat.close_id]
    assert first[2]["max_tokens"] == 256 + 1 + 3
    assert second[1][: len(first[1])] == first[1]
    assert second[1][-1] == chat.close_id
    assert second[2]["max_tokens"] == 8 + 1
    assert "stop_token_ids" not in second[2]
    facts = Member.of_fields(results[0].extra_fields)
    assert facts.prefixes == len(first[1]) + len(second[1])
    assert facts.decoded == len(results[0].response_ids)
    assert facts.cached is None  # this server does not say


@needs_verl
def test_a_thought_beyond_its_budget_gets_no_answer(group_of_sessions):
    results, server, _ = group_of_sessions(load_recipe("lab-grpo", ["rollout.max_thought_tokens=3", "group.spines=2"]))
    assert len(server.asked) == 2  # one request a spine
    facts = [Member.of_fields(result.extra_fields) for result in results]
    assert [(member.thought_tokens, member.truncated, member.closed) for member in facts] == [(3, True, False)] * 2


@needs_verl
def test_a_close_just_behind_the_budget_still_closes_the_thought(group_of_sessions):
    results, *_ = group_of_sessions(load_recipe("lab-grpo", ["rollout.max_thought_tokens=5", "group.spines=2"]))
    facts = Member.of_fields(results[0].extra_fields)
    assert (facts.thought_tokens, facts.closed, facts.truncated) == (5, True, False)


@needs_verl
def test_the_second_request_and_the_branches_push_only_what_lies_past_the_last_cached_block():
    """Against the CPU's server, whose blocks of 16 are counted as vLLM's are."""
    import suffice.engines.verl.plugin  # noqa: F401
    from suffice.engines.verl.agents import MemberLoop
    from verl_cpu.server import BLOCK, Server

    recipe = load_recipe("lab-s-grpo", ["group.exits=3"])
    asked = []

    async def group():
        server = Server("lab/arithmetic", 1)

        async def generate(request_id, prompt_ids, sampling_params):
            key = f"{sampling_params.get('key', len(asked))}@0"
            said = await server.generate(request_id, prompt_ids, sampling_params | {"key": key, "top_p": 1.0})
            asked.append((len(prompt_ids), said.extra_fields["num_cached_tokens"]))
            return said

        def session(number):
            loop = MemberLoop.__new__(MemberLoop)
            loop.config = SimpleNamespace(
                suffice=SimpleNamespace(recipe=recipe.dump()),
                actor_rollout_ref=SimpleNamespace(model=SimpleNamespace(path=resolve_path("lab/arithmetic"))),
            )
            loop.server_manager = SimpleNamespace(generate=generate)
            return loop.run({"temperature": 1.0}, session_id=number, **row_of("one", "3 + 4 - 2 + 6"))

        return await asyncio.gather(*(session(number) for number in range(4)))

    members = [Member.of_fields(result.extra_fields) for result in asyncio.run(group())]
    full = members[-1]
    (first, none), (second, held), *branches = asked
    assert none == 0
    assert full.thought_tokens > 2 * BLOCK  # or there is nothing to cache
    assert second > first
    # all but the last token of the first text were pushed, in whole blocks: at most 15 and the close are pushed again
    assert held == (second - 1) // BLOCK * BLOCK
    assert full.prefixes - full.cached == first + second - held
    for (length, cached), member in zip(branches, members, strict=False):
        kept = length - len(load_chat("lab/arithmetic", recipe.rollout.inducer).inducer)
        assert cached == kept // BLOCK * BLOCK
        assert member.prefixes - member.cached == length - cached


# -- the loss of a batch's only update


@needs_verl
@pytest.mark.parametrize("aggregate", ["sequence", "constant", "token"])
def test_the_loss_of_an_only_update_has_the_local_gradient_with_importance_weights(aggregate):
    """Sampled tokens weigh min(exp(new − sampler's), 2), injected ones 1, and no log-prob was made before."""
    from suffice.engines.verl.loss import on_policy_loss

    draw = torch.Generator().manual_seed(0)
    shape, dtype = (6, 9), torch.float64
    new = (-torch.rand(shape, dtype=dtype, generator=draw) * 3 - 0.1).requires_grad_()
    behaviour = new.detach() + torch.randn(shape, dtype=dtype, generator=draw)
    advantage = torch.randn(shape[0], 1, dtype=dtype, generator=draw).expand(shape)
    mask = torch.rand(shape, generator=draw) < 0.8
    sampled_B_T = torch.rand(shape, generator=draw) < 0.7
    asked = [f"objective.aggregate={aggregate}", "objective.constant_length=50", "objective.layout=rows"]
    mode = translated("lab-s-grpo", *asked)
    actor = SimpleNamespace(
        clip_ratio=0.2,
        clip_ratio_low=0.2,
        clip_ratio_high=0.2,
        get=lambda name, default: mode[f"actor_rollout_ref.actor.{name}"],
        global_batch_info={
            "dp_size": 1,
            "batch_num_tokens": int(mask.sum()),
            "global_batch_size": 6,
            "loss_scale_factor": mode["actor_rollout_ref.actor.loss_scale_factor"],
        },
    )
    loss, said = on_policy_loss(
        behaviour, new, advantage, mask, mode["actor_rollout_ref.actor.loss_agg_mode"], actor, sampled_B_T.double()
    )
    (theirs,) = torch.autograd.grad(loss, new)
    own = {"sequence": mask.sum(-1, keepdim=True) * 6, "constant": torch.tensor(50 * 6), "token": mask.sum()}
    weight = advantage * mask / own[aggregate]
    weigh_off = torch.where(sampled_B_T, (new.detach() - behaviour).exp().clamp(max=2), 1.0)
    old = new.detach()
    bounds = {"clip_low": 0.2, "clip_high": 0.2}
    local = policy_loss(new, old, weight.clamp(min=0), weight.clamp(max=0), importance_T=weigh_off, **bounds)
    (mine,) = torch.autograd.grad(local, new)
    assert torch.allclose(theirs, mine, atol=1e-12)
    assert loss.item() == pytest.approx(local.item(), abs=1e-12)
    judged = mask & sampled_B_T
    assert said["actor/sampled_tokens"] == int(judged.sum())
    assert said["actor/drift"] == pytest.approx(float((old - behaviour).abs()[judged].sum()))
    assert said["actor/surprise"] == pytest.approx(float(-old[judged].sum()))


def test_mismatch_and_entropy_are_means_over_the_tokens_of_all_micro_batches():
    # two micro-batches of 30 and 10 tokens: verl gives the means of their sums
    said = {"actor/sampled_tokens": 20.0, "actor/drift": 0.5, "actor/surprise": 8.0}
    found = update_metrics(said, {"gen": 1.0, "update_actor": 2.0}, 0.5)
    assert (found["mismatch"], found["entropy"], found["seconds_update"]) == (0.025, 0.4, 2.5)
    assert "mismatch" not in update_metrics({}, {"gen": 1.0}, 0.0)  # made before, with several updates


def test_an_only_update_pays_for_no_pass_before_it():
    loss = "actor_rollout_ref.actor.policy_loss.loss_mode"
    assert translated("lab-s-grpo")[loss] == "suffice"
    assert translated("lab-s-grpo", "train.updates_per_batch=2")[loss] == "vanilla"
