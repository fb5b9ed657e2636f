"""A recipe as verl's configuration: what it becomes, what verl takes, and what is refused."""

from __future__ import annotations

import huggingface_hub
import pytest
from transformers import Qwen3Config

from making import SHAPE
from suffice.config import load_recipe, local_only, recipe_names
from suffice.engines.verl import launch
from suffice.engines.verl.translate import check, memory_share
from suffice.errors import SufficeError
from verl_making import configured, translated

pytestmark = pytest.mark.slow

SURROUNDINGS = [f"ray_kwargs.ray_init.runtime_env.env_vars.SUFFICE_VERL{more}" for more in ("", "_LAYOUT")]


@pytest.fixture
def no_hub(monkeypatch):
    """No network."""

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)


def test_s_grpo_becomes_nine_sessions_whose_tokens_carry_their_whole_weights():
    found = translated("lab-s-grpo")
    wanted = {
        "data.train_batch_size": 32,
        "data.shuffle": False,
        "data.max_prompt_length": 20,
        "data.max_response_length": 256 + 10 + 8 + 3,
        "actor_rollout_ref.rollout.n": 9,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.temperature": 1.0,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 32,
        "actor_rollout_ref.actor.ppo_epochs": 1,
        "actor_rollout_ref.actor.loss_agg_mode": "token-sum",
        "actor_rollout_ref.actor.loss_scale_factor": None,
        "actor_rollout_ref.actor.clip_ratio_low": 0.2,
        "actor_rollout_ref.actor.clip_ratio_high": 0.2,
        "actor_rollout_ref.actor.use_kl_loss": False,
        "actor_rollout_ref.actor.entropy_coeff": 0,
        "actor_rollout_ref.actor.optim.lr": 3e-4,
        "actor_rollout_ref.actor.optim.weight_decay": 0.0,
        "actor_rollout_ref.actor.optim.clip_grad": 1.0,
        "actor_rollout_ref.actor.fsdp_config.mixed_precision": {
            "param_dtype": "fp32",
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
        "algorithm.adv_estimator": "suffice-s-grpo",
        "algorithm.norm_adv_by_std_in_grpo": False,
        "trainer.v1.trainer_mode": "suffice",
        "trainer.total_training_steps": 100,
        "trainer.save_freq": 25,
        "trainer.n_gpus_per_node": 2,
        "trainer.device": "cuda",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert found["actor_rollout_ref.actor.clip_ratio_c"] >= 1e6


@pytest.mark.parametrize(
    ("asked", "layout", "aggregation"),
    [
        ([], "spine", "token-sum"),
        (["objective.layout=rows"], "rows", "seq-mean-token-sum-norm"),
        # the clips of members that share a token, and no exits: rows are right, and rows are the same
        (["train.updates_per_batch=2"], "rows", "seq-mean-token-sum-norm"),
        (["method.name=grpo", "group.exits=0", "group.spines=8"], "rows", "seq-mean-token-sum-norm"),
    ],
)
def test_the_update_is_in_the_recipes_layout_where_that_is_exact_and_pays(asked, layout, aggregation):
    found = translated("lab-s-grpo", *asked)
    assert found[SURROUNDINGS[1]] == layout
    assert found["actor_rollout_ref.actor.loss_agg_mode"] == aggregation
    assert found["actor_rollout_ref.actor.loss_scale_factor"] == (None if layout == "spine" else 128)


SPINE_ONLY = [
    "actor_rollout_ref.actor.strategy=fsdp",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2",
    "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2",
    "actor_rollout_ref.actor.pad_to_length=true",
    "actor_rollout_ref.actor.use_dynamic_bsz=false",
    "actor_rollout_ref.actor.calculate_entropy=true",
    "actor_rollout_ref.model.use_fused_kernels=true",
]


@pytest.mark.parametrize("own", SPINE_ONLY)
def test_what_splits_or_pads_rows_is_refused_in_the_spine_layout_alone(own):
    with pytest.raises(SufficeError, match=r'must be .*: objective\.layout = "spine" asks for it, and "rows"') as error:
        configured(own=[f"verl.{own}"])
    assert "\n" not in str(error.value)
    configured("objective.layout=rows", own=[f"verl.{own}"])


def test_a_server_takes_its_weights_its_cache_and_room_to_work_in():
    # Qwen3-8B, 30 GiB of keys and values, a GPU of 80 GiB: 15.3 + 30 + 2 of 80
    assert memory_share(8_190_735_360, 30.0, 80 * 2**30) == pytest.approx(0.5907, abs=1e-4)
    assert memory_share(8_190_735_360, 300.0, 80 * 2**30) == 0.9


def test_grpo_lambda_becomes_eight_plain_sessions_and_a_mean_per_sequence():
    found = translated("lab-grpo-lambda", gpus=8)
    wanted = {
        "data.train_batch_size": 16,
        "actor_rollout_ref.rollout.n": 8,
        "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
        "actor_rollout_ref.actor.loss_scale_factor": None,
        "algorithm.adv_estimator": "suffice-grpo-lambda",
        "trainer.n_gpus_per_node": 8,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert [name for name in found if name.startswith("ray_kwargs.")] == SURROUNDINGS  # which cluster, and how large,
    # is its user's affair


def test_a_recipe_says_how_many_nodes_and_gpus():
    found = translated("lab-s-grpo", "cluster.nodes=4", gpus=8)
    assert (found["trainer.nnodes"], found["trainer.n_gpus_per_node"]) == (4, 8)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ('guard.action="roll back"', r"guard\.action to warn or stop"),
        ("cluster.tensor_parallel=3", r"does not divide the 2 GPUs of a node: .* set it to a divisor"),
    ],
)
def test_what_is_not_carried_over_to_verl_is_refused_before_anything_starts(asked, says):
    with pytest.raises(SufficeError, match=says) as error:
        translated("lab-s-grpo", asked)
    assert "\n" not in str(error.value)


def test_of_a_hub_model_with_a_revision_verl_loads_the_snapshot(monkeypatch, tmp_path):
    asked = {}

    def snapshot(path, **more):
        asked.update(more, path=path)
        return "/cache/snapshots/0123abcd"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    section = load_recipe("qwen3-8b-s-grpo", ["model.revision=0123abcd"]).model
    assert launch.model_folder(section, weights=True) == "/cache/snapshots/0123abcd"
    assert asked == {"path": "Qwen/Qwen3-8B", "revision": "0123abcd", "allow_patterns": None}
    launch.model_folder(section, weights=False)
    assert "*.json" in asked["allow_patterns"]  # a dry run fetches no weights
    local = section.model_copy(update={"path": str(tmp_path)})
    (tmp_path / "config.json").write_text("{}")
    assert launch.model_folder(local, weights=True) == str(tmp_path)  # of which a revision says nothing
    plain = load_recipe("qwen3-8b-s-grpo").model
    assert launch.model_folder(plain, weights=True) == "Qwen/Qwen3-8B"


def test_a_revision_that_is_not_there_is_one_line(no_hub):
    section = load_recipe("qwen3-8b-s-grpo", ["model.revision=0123abcd"]).model
    with pytest.raises(SufficeError) as error:
        launch.model_folder(section, weights=True)
    assert "\n" not in str(error.value)


def test_a_servers_context_is_the_longest_member_and_its_seed_the_runs():
    found = translated("lab-s-grpo", "run.seed=7")
    assert found["actor_rollout_ref.rollout.max_model_len"] == 20 + 256 + 10 + 8 + 3
    assert found["actor_rollout_ref.rollout.seed"] == found["actor_rollout_ref.actor.data_loader_seed"] == 7
    assert not any(name.startswith("transfer_queue.") for name in found)


def test_shards_stay_inside_a_machine():
    assert translated("lab-s-grpo", gpus=8)["actor_rollout_ref.actor.fsdp_config.fsdp_size"] == -1
    assert translated("lab-s-grpo", "cluster.nodes=2", gpus=8)["actor_rollout_ref.actor.fsdp_config.fsdp_size"] == 8


@pytest.mark.parametrize("offload", ["no", "rollout", "always"])
def test_weights_leave_the_gpu_while_a_server_samples_or_always(offload):
    between, always = offload == "rollout", offload == "always"
    found, fsdp = translated("lab-s-grpo", f"cluster.offload={offload}"), "actor_rollout_ref.actor.fsdp_config"
    assert [found[f"{fsdp}.{part}_offload"] for part in ("param", "optimizer")] == [between, between]
    assert found[f"{fsdp}.offload_policy"] is always
    assert found["actor_rollout_ref.rollout.free_cache_engine"] is True


def test_adapters_have_verls_names_and_the_local_engines_scale():
    found, model = translated("lab-s-grpo", "model.lora=8"), "actor_rollout_ref.model"
    assert (found[f"{model}.lora_rank"], found[f"{model}.lora_alpha"]) == (8, 16)
    assert found[f"{model}.target_modules"] == "all-linear"
    assert found[f"{model}.lora.merge"] is True
    assert translated("lab-s-grpo")[f"{model}.lora_rank"] == 0


def test_every_setting_of_ours_is_one_of_verls():
    from suffice.engines.verl.main import compose

    theirs = pytest.importorskip("omegaconf", reason="verl is not installed").OmegaConf.to_container(compose({}, {}))
    added = {"suffice.recipe", "suffice.run", "actor_rollout_ref.actor.fsdp_config.mixed_precision"}
    added |= {*SURROUNDINGS}
    added |= {f"trainer.v1.{mode}.parameter_sync_step" for mode in ("suffice", "sync")}
    for name in translated("lab-s-grpo").keys() - added:
        node = theirs
        for part in name.split("."):
            assert part in node, name
            node = node[part]


@pytest.mark.parametrize("name", [name for name in recipe_names() if not local_only(load_recipe(name))])
def test_verl_takes_what_every_recipe_becomes(name):
    """By verl's own check of its configuration, and as the dataclasses that its workers make of it."""
    pytest.importorskip("verl", reason="verl is not installed: pip install '.[verl]'")
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    from suffice.engines.verl.main import compose

    recipe = load_recipe(name)
    config = compose(translated(name, gpus=recipe.cluster.gpus or 2), {})
    check(config, recipe)
    assert not need_critic(config)
    assert not need_reference_policy(config)
    validate_config(config, use_reference_policy=False, use_critic=False)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert rollout.enable_sleep_mode
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert actor.fsdp_config.mixed_precision["reduce_dtype"] == "fp32"


def test_a_recipe_may_hold_settings_of_verls_own_and_the_command_line_has_the_last_word():
    section = {"actor_rollout_ref": {"rollout": {"max_num_seqs": 64}}, "trainer.balance_batch": False}
    assert launch.flat(section) == {"actor_rollout_ref.rollout.max_num_seqs": 64, "trainer.balance_batch": False}
    asked = "cluster.verl.actor_rollout_ref.rollout.max_num_seqs=64"
    assert configured(asked)[0].actor_rollout_ref.rollout.max_num_seqs == 64
    over = ["verl.actor_rollout_ref.rollout.max_num_seqs=32"]
    assert configured(asked, own=over)[0].actor_rollout_ref.rollout.max_num_seqs == 32
    with pytest.raises(SufficeError, match=r"rollout\.n is 4 but must be 9"):
        configured("cluster.verl.actor_rollout_ref.rollout.n=4")


@pytest.mark.parametrize(
    "own",
    [
        "trainer.v1.suffice.parameter_sync_step=4",
        "+trainer.v1.sync.parameter_sync_step=4",
        "trainer.v1.trainer_mode=separate_async",
        "trainer.v1.sampler.custom_sampler.path=mine.py",
        "trainer.total_training_steps=7",
        "trainer.resume_mode=disable",
        "data.shuffle=true",
        "data.train_files=mine.parquet",
        "data.max_response_length=64",
        "actor_rollout_ref.model.path=other/model",
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=16",
        "actor_rollout_ref.actor.ppo_epochs=2",
        "actor_rollout_ref.actor.loss_agg_mode=token-mean",
        "actor_rollout_ref.actor.policy_loss.loss_mode=gspo",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.actor.entropy_coeff=0.01",
        "actor_rollout_ref.actor.clip_ratio_high=0.28",
        "actor_rollout_ref.actor.optim.lr=1e-4",
        "actor_rollout_ref.actor.optim.lr_scheduler_type=cosine",
        "actor_rollout_ref.rollout.n=8",
        "actor_rollout_ref.rollout.temperature=0.6",
        "actor_rollout_ref.rollout.top_k=20",
        "actor_rollout_ref.rollout.logprobs_mode=raw_logprobs",
        "actor_rollout_ref.rollout.calculate_log_probs=false",
        "algorithm.adv_estimator=grpo",
        "algorithm.filter_groups.enable=true",
        "algorithm.use_pf_ppo=true",
        "algorithm.use_kl_in_reward=true",
        "algorithm.rollout_correction={bypass_mode = true}",
        "+algorithm.rollout_correction.bypass_mode=true",
    ],
)
def test_what_would_make_the_run_another_than_the_recipes_is_refused_in_one_line_with_the_reason(own):
    name = own.partition("=")[0].removeprefix("+").removesuffix(".bypass_mode")
    with pytest.raises(SufficeError, match=rf"verl\.{name} is .* but must be .*: .*; leave it out") as error:
        configured(own=[f"verl.{own}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "own",
    [
        "actor_rollout_ref.rollout.max_num_seqs=64",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.7",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_dtype=fp8",
        "actor_rollout_ref.actor.fsdp_config.offload_policy=true",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "trainer.balance_batch=false",
    ],
)
def test_what_suits_the_machine_is_left_to_its_user(own):
    configured(own=[f"verl.{own}"])


def test_a_model_whose_config_rules_the_spine_layout_out_is_refused_before_anything_starts(capsys):
    from suffice.engines.verl.training import check_layout

    window = Qwen3Config(**SHAPE, sliding_window=8, use_sliding_window=True, max_window_layers=1)
    with pytest.raises(
        SufficeError, match=r"layout would be wrong for lab/arithmetic: it has .*; set objective\.layou"
    ):
        check_layout(window, load_recipe("lab-s-grpo"))
    check_layout(window, load_recipe("lab-s-grpo", ["objective.layout=rows"]))
    check_layout(window, load_recipe("lab-grpo-lambda"))  # no exits: nothing to lay out
    check_layout(Qwen3Config(**SHAPE), load_recipe("lab-s-grpo"))
    assert capsys.readouterr() == ("", "")


def test_rows_that_were_not_asked_for_are_said(capsys):
    from suffice.engines.verl.training import check_layout

    check_layout(Qwen3Config(**SHAPE), load_recipe("lab-s-grpo", ["train.updates_per_batch=2"]))
    said = capsys.readouterr().err
    assert said == (
        "the update is in rows: train.updates_per_batch = 2, and on verl the spine layout is right for one\n"
    )
