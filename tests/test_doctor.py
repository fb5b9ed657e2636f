"""What a recipe lacks on this machine is said before anyone pays for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from benchmarks.families import FAMILIES, make

from suffice import cli, doctor
from suffice.config import load_recipe, recipe_names
from suffice.devices import DEVICES, Gpu, device_for
from suffice.doctor import Finding, examine_recipe, said_of
from suffice.errors import RecipeError
from suffice.lab import base_path
from suffice.methods import list_methods
from suffice.model.load import load_chat
from suffice.model.shape import KNOWN, shape_of
from suffice.tasks import list_tasks
from tokens import CHATML, checkpoint, edit, tokenizer

H100 = Gpu("NVIDIA H100 80GB HBM3", 79.1)
GPU_RECIPE = "qwen3-8b-s-grpo"


def found(name: str, *overrides: str, **options) -> dict[str, Finding]:
    findings, _ = examine_recipe(load_recipe(name, overrides), **options)
    return {finding.what: finding for finding in findings}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """A hub that has every model and data set at one commit."""
    answer = SimpleNamespace(sha="c0ffee")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: answer)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: answer)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch):
    """No network."""

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)


def gpus(monkeypatch: pytest.MonkeyPatch, *here: Gpu) -> None:
    monkeypatch.setattr(doctor, "gpus_here", lambda: list(here))


# -- the recipes that ship


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_names_what_exists(name: str):
    recipe = load_recipe(name)
    assert recipe.task.name in list_tasks()
    assert recipe.eval.task in list_tasks()
    assert recipe.method.name in list_methods()
    assert recipe.model.path in KNOWN or recipe.model.path.startswith("lab/")


@pytest.mark.parametrize("name", [name for name in recipe_names() if "lora" not in name and not name.startswith("lab")])
def test_a_recipe_after_the_papers_has_their_settings(name: str):
    recipe = load_recipe(name)
    assert (recipe.task.name, recipe.task.prompt) == ("deepmath", "boxed")
    assert (recipe.task.solved, recipe.task.solved_of) == ((2, 6), 8)
    assert recipe.train.learning_rate == 1e-6
    assert recipe.train.problems_per_step == 128 * recipe.cluster.nodes
    shape = (recipe.group.spines, recipe.group.exits)
    assert shape == ((1, 8) if recipe.method.name == "s-grpo" else (16, 0))
    member = 256 + recipe.rollout.max_thought_tokens + 13 + recipe.rollout.max_answer_tokens
    assert member <= recipe.train.micro_batch_tokens


# -- what is found


def test_the_labs_recipe_passes_here():
    report = found("lab-s-grpo", "model.device=cpu")
    assert all(finding.ok for finding in report.values()), report
    assert "prompt of 51 tokens" in report["positions"].found
    assert report["model"].found == "lab/arithmetic, 102,016 parameters"


def test_budgets_beyond_the_models_positions_fail_with_the_way_out():
    finding = found("lab-s-grpo", "rollout.max_thought_tokens=500")["positions"]
    assert not finding.ok
    assert finding.found.startswith("572 needed")
    assert "lower rollout.max_thought_tokens" in finding.found


def test_a_local_model_is_looked_at_whole(tiny_qwen3: Path):
    report = found("lab-s-grpo", f"model.path={tiny_qwen3}")
    assert report["model"].ok
    assert report["chat"].ok
    assert "</think>" in report["chat"].found


def test_what_would_keep_a_run_from_starting_or_from_saving_is_found(tmp_path: Path):
    def model(name: str, made=None, **options) -> tuple[Path, list[str]]:
        folder = checkpoint(tmp_path / name, made, **options)
        return folder, [f"model.path={folder}", "model.device=cpu"]

    folder, override = model("sound")
    assert all(finding.ok for finding in found("lab-s-grpo", *override).values())
    edit(folder / "generation_config.json", temperature=0.6)  # and no do_sample: checkpoints say so themselves
    assert found("lab-s-grpo", *override)["model"].ok
    edit(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast", backend=None)
    assert found("lab-s-grpo", *override)["chat"].ok
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in found("lab-s-grpo", *override)["model"].found

    made = tokenizer()
    _, override = model("short", made, rows=len(made) - 1)
    assert "the model's embedding has" in found("lab-s-grpo", *override)["model"].found
    _, override = model("quiet", tokenizer(CHATML.replace("assistant\n", "assistant\n<think></think>")))
    assert "closes an empty thought" in found("lab-s-grpo", *override)["model"].found
    _, override = model("other end", tokenizer(eos="<|endoftext|>"))
    assert "a turn ends with <|endoftext|> <|im_end|>" in found("lab-s-grpo", *override)["chat"].found


def test_a_hybrid_model_is_told_the_layout_that_trains_it_and_has_no_estimate(tmp_path: Path):
    folder = make(next(family for family in FAMILIES if family.case == "Qwen3.5"), tmp_path)
    refused = found("lab-s-grpo", f"model.path={folder}")["model"]
    assert not refused.ok
    assert 'set objective.layout = "rows"' in refused.found
    report = found("lab-s-grpo", f"model.path={folder}", "objective.layout=rows")
    assert report["model"].ok
    assert report["chat"].ok
    assert report["estimate"].ok
    assert "is not the config of a decoder that can be estimated" in report["estimate"].found


def test_a_model_without_a_chat_template_or_that_is_not_there_fails(tmp_path: Path):
    (tmp_path / "config.json").write_text((base_path() / "config.json").read_text())
    assert not found("lab-s-grpo", f"model.path={tmp_path}")["model"].ok
    absent = found("lab-s-grpo", "model.path=./absent")["model"]
    assert not absent.ok
    assert "\n" not in absent.found


def test_data_that_is_not_there_fails(tmp_path: Path):
    finding = found("lab-s-grpo", "task.name=jsonl", f"task.path={tmp_path / 'absent.jsonl'}")["data"]
    assert not finding.ok
    assert "absent.jsonl" in finding.found


def test_a_hub_model_is_asked_for_and_not_loaded(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch, *[H100] * 8)
    report = found(GPU_RECIPE)
    assert report["model"] == Finding("model", "Qwen/Qwen3-8B, 8.19B parameters, commit c0ffee")
    assert report["data"].ok
    assert "chat" not in report


def test_a_hub_out_of_reach_is_one_line_and_the_estimate_comes_all_the_same(no_hub: None):
    findings, estimated = examine_recipe(load_recipe(GPU_RECIPE))
    report = {finding.what: finding for finding in findings}
    assert not report["model"].ok
    assert not report["data"].ok
    assert "\n" not in report["model"].found
    assert estimated is not None


def test_a_hub_model_of_unknown_shape_has_no_estimate(hub: None):
    findings, estimated = examine_recipe(load_recipe(GPU_RECIPE, ["model.path=some/model"]))
    assert estimated is None
    assert "no estimate" in next(finding.found for finding in findings if finding.what == "model")


def test_gpus_are_counted_and_their_memory_compared(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch)
    report = found(GPU_RECIPE)
    assert report["GPUs"] == Finding("GPUs", "8 wanted; this machine has none", ok=False)
    assert "one H100 has 79" in report["memory"].found
    gpus(monkeypatch, *[H100] * 8)
    report = found(GPU_RECIPE)
    assert report["GPUs"].ok
    assert report["memory"].ok
    gpus(monkeypatch, *[Gpu("NVIDIA L4", 22.0)] * 8)
    report = found(GPU_RECIPE, "model.gradient_checkpointing=false")
    assert report["GPUs"].ok
    assert not report["memory"].ok
    assert "model.gradient_checkpointing = true" in report["memory"].found


def test_nodes_are_judged_by_this_one(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch, *[H100] * 8)
    finding = found("qwen3-8b-s-grpo-2-nodes")["GPUs"]
    assert finding == Finding("GPUs", "8 wanted on each of 2 nodes; this one has 8 × NVIDIA H100 80GB HBM3, 79 GiB")


def test_a_cluster_that_counts_no_gpus_has_as_many_on_each_node_as_are_here(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch, *[H100] * 4)
    recipe = load_recipe("qwen3-8b-s-grpo-2-nodes", ["cluster.gpus=0"])
    _, estimated = examine_recipe(recipe)
    assert estimated is not None
    assert estimated.gpus == 8
    assert recipe.cluster.gpus == 0


def test_a_large_model_wants_a_gpu_and_the_lab_does_not(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch)
    assert not found("qwen3-1.7b-s-grpo-lora")["GPUs"].ok
    assert found("lab-s-grpo")["GPUs"].ok
    assert not found("lab-s-grpo", "model.device=cuda")["GPUs"].ok


def test_checkpoints_that_the_disk_cannot_hold_fail():
    finding = found("lab-s-grpo", "train.checkpoint_every=1", "train.steps=1000000000")["disk"]
    assert not finding.ok
    assert "raise train.checkpoint_every" in finding.found


def test_packages_are_asked_for_only_where_the_recipe_uses_them(hub: None):
    assert {"peft", "verl"}.isdisjoint(found("lab-s-grpo"))
    assert "verl" in found(GPU_RECIPE)
    assert "peft" in found("qwen3-1.7b-s-grpo-lora")


def test_the_estimate_is_for_the_gpu_that_is_here_or_that_was_named():
    large, small = KNOWN["Qwen/Qwen3-8B"], shape_of(str(base_path()))
    assert device_for([Gpu("NVIDIA H200", 140)], large) == DEVICES["H200"]
    assert device_for([Gpu("NVIDIA L40S", 44)], large) == DEVICES["L40S"]
    assert device_for([Gpu("NVIDIA L4", 22)], large) == DEVICES["L4"]
    assert device_for([Gpu("NVIDIA GeForce RTX 4090", 23.6)], large) == DEVICES["4090"]
    assert device_for([Gpu("another maker's", 64)], small) == DEVICES["H100"]
    assert device_for([], large) == DEVICES["H100"]
    assert device_for([], small) == DEVICES["cpu"]
    with pytest.raises(RecipeError, match="known: H200"):
        examine_recipe(load_recipe("lab-s-grpo"), gpu="409")


def test_what_was_assumed_is_said_with_the_estimate(no_hub: None):
    _, estimated = examine_recipe(load_recipe(GPU_RECIPE), gpu="A100", mean_thought=5000)
    assert estimated is not None
    lines = dict(said_of(estimated))
    assert "8 × A100" in lines["assumed"]
    assert "thoughts of 5,000 tokens" in lines["assumed"]
    assert "not measured" in lines["assumed"]
    assert "pass rates" in lines["before it"]


def test_pass_rates_of_an_unknown_number_of_problems_are_not_passed_over(no_hub: None, tmp_path: Path):
    (tmp_path / "mine.toml").write_text(load_recipe(GPU_RECIPE).dump().replace("limit = 8192\n", ""))
    _, estimated = examine_recipe(load_recipe(str(tmp_path / "mine.toml")))
    assert estimated is not None
    assert estimated.hours_pass_rates is None
    assert "not counted" in dict(said_of(estimated))["before it"]


def test_one_gpu_is_told_of_verl_and_a_cpu_is_not(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch, Gpu("NVIDIA GeForce RTX 4090", 23.6))
    said = found("qwen3-1.7b-s-grpo-lora")["engine"]
    assert said.ok
    assert "with --engine verl --set cluster.gpus=1, which samples with vLLM" in said.found
    assert "engine" not in found("qwen3-1.7b-s-grpo-lora", "cluster.gpus=1")
    gpus(monkeypatch)
    assert "engine" not in found("lab-s-grpo")


def test_verl_on_one_gpu_is_asked_for_all_it_imports(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch, H100)
    report = found("qwen3-1.7b-s-grpo-lora", "cluster.gpus=1")
    assert {"python", "verl", "TransferQueue", "CUDA", "vllm", "flash-attn"} <= report.keys()
    for name in ("vllm", "flash-attn"):
        if not report[name].ok:
            assert "pip install" in report[name].found


def test_memory_that_does_not_suffice_is_told_of_the_hosts(hub: None, monkeypatch: pytest.MonkeyPatch):
    gpus(monkeypatch, H100)
    asked = ["cluster.gpus=1", "model.lora=32"]
    refused = found(GPU_RECIPE, *asked)["memory"]
    assert not refused.ok
    assert "set cluster.offload = rollout" in refused.found
    assert found(GPU_RECIPE, *asked, "cluster.offload=rollout")["memory"].ok


# -- the command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Runs `suffice doctor` as from a shell; its exit code."""
    monkeypatch.setattr(sys, "argv", ["suffice", "doctor", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_the_command_exits_with_2_where_something_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, "lab-s-grpo", "--json", "--set", "rollout.max_thought_tokens=999") == 2
    report = json.loads(capsys.readouterr().out)
    assert [finding["what"] for finding in report["findings"] if not finding["ok"]] == ["positions"]
    assert report["estimate"]["engine"] == "local"


def test_the_command_prints_what_was_found_and_an_estimate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    gpus(monkeypatch)
    assert not command(monkeypatch, "lab-s-grpo")
    said = capsys.readouterr().out
    assert "fail" not in said
    assert "the run takes: " in said
    assert "1 × cpu" in said


def test_options_without_a_recipe_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "--gpu", "H100") == 2
    assert "give a recipe" in capsys.readouterr().err


def test_the_estimate_takes_the_inducer_that_the_models_tokenizer_makes(tiny_qwen3):
    recipe = load_recipe("lab-s-grpo", [f"model.path={tiny_qwen3}"])
    _, found = examine_recipe(recipe)
    assert found
    assert found.assumptions.inducer == len(load_chat(str(tiny_qwen3), recipe.rollout.inducer).inducer) > 13
