"""What is given as a model: loaded where it can be, else refused by what lies there, in one line that helps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from suffice.config import DEFAULT_INDUCER, load_recipe
from suffice.engines.local.build import build_engine
from suffice.errors import ModelError
from suffice.grading import Grader
from suffice.model.checkpoint import try_save
from suffice.model.generation import end_ids
from suffice.model.load import load_chat, load_model
from suffice.model.resolve import resolve_path
from suffice.model.tokenizer import load_tokenizer
from suffice.model.vocabulary import check_tokens
from suffice.objective.check import check_trainable
from suffice.rollout.check import check_sampling
from tokens import CHATML, SPECIAL, checkpoint, edit, tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model")


def refusal(path: Path | str, load=load_model) -> str:
    with pytest.raises(ModelError) as error:
        load(str(path)) if load is not load_model else load(str(path), device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


def engine(path: Path, *overrides: str):
    changes = [f"model.path={path}", "model.device=cpu", "train.eval_every=0", "objective.layout=rows"]
    recipe = load_recipe("lab-s-grpo", [*changes, "train.problems_per_step=2", *overrides])
    with Grader() as grader:
        return build_engine(recipe, grader, None)[0]


# ------------------------------------------------------------------------------------------- generation configs


SETTINGS = [
    {"temperature": 0.6},
    {"temperature": 0.6, "do_sample": False},
    {"top_p": 0.9, "do_sample": None},
    {"top_k": 20},
    {"min_p": 0.1, "do_sample": False},
    {"do_sample": False, "num_return_sequences": 4},
    {"length_penalty": 2.0},
    {"early_stopping": True},
    {"pad_token_id": -1},
    {"output_scores": True},
    {"temperature": 0.7, "length_penalty": 0.5},
    {"max_new_tokens": 0},
    {"cache_implementation": "of its own"},
    {"use_cache": False, "cache_implementation": "static"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_generation_config_that_can_be_read_can_be_saved(folder, tmp_path, settings):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]} | settings))
    model = load_model(str(folder), device="cpu")
    try_save(model, load_tokenizer(str(folder)))
    model.generation_config.save_pretrained(tmp_path / "out")
    found = GenerationConfig.from_pretrained(tmp_path / "out")
    assert found.eos_token_id == [2, 3]
    assert load_chat(str(folder), DEFAULT_INDUCER).end_ids >= {2, 3}
    if "temperature" in settings and len(settings) <= 2 and "length_penalty" not in settings:
        assert (found.do_sample, found.temperature) == (True, settings["temperature"])


def test_a_sound_generation_config_is_left_as_it_is(folder):
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": [1, 2]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    found = load_model(str(folder), device="cpu").generation_config.to_diff_dict()
    assert {name: found[name] for name in settings} == settings


def test_no_generation_config_is_none(folder):
    (folder / "generation_config.json").unlink()
    try_save(load_model(str(folder), device="cpu"), load_tokenizer(str(folder)))


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "x"}', '{"eos_token_id": [1, -1]}'])
def test_a_generation_config_that_cannot_be_read_is_one_line(folder, text):
    (folder / "generation_config.json").write_text(text)
    said = refusal(folder, end_ids)
    assert "generation" in said
    assert "give token ids there" in said or "mend or remove it" in said


def test_settings_of_generation_in_the_models_own_config_do_not_stop_a_save(folder):
    edit(folder / "config.json", temperature=0.6, top_p=0.9, max_length=128)
    (folder / "generation_config.json").unlink()
    try_save(load_model(str(folder), device="cpu"), load_tokenizer(str(folder)))


# ------------------------------------------------------------------------------------------- what lies there


def test_a_git_lfs_pointer_is_called_one(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    said = refusal(folder)
    assert "model.safetensors is a git-lfs pointer" in said
    assert f"git lfs pull in {folder}" in said
    shutil.copyfile(folder / "model.safetensors", folder / "tokenizer.json")
    assert "git-lfs pointer" in refusal(folder, load_tokenizer)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "of_tomorrow"}, "does not know the model type of_tomorrow; a newer one may"),
        (
            {"model_type": "its_own", "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
            "brings its own Python code, which suffice does not run",
        ),
        ({"model_type": None}, "names no model_type"),
    ],
)
def test_a_model_that_transformers_does_not_know_is_told_from_one_that_brings_code(folder, changes, says):
    edit(folder / "config.json", **changes)
    assert says in refusal(folder)


def test_code_of_a_models_own_is_not_needed_where_transformers_has_the_model(folder):
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    load_model(str(folder), device="cpu")


def test_shards_of_verl_are_merged_by_the_command_that_is_given(folder, tmp_path):
    actor = tmp_path / "ckpt" / "global_step_50" / "actor"
    shutil.copytree(folder, actor / "huggingface")
    (actor / "huggingface" / "model.safetensors").unlink()
    for rank in range(2):
        (actor / f"model_world_size_2_rank_{rank}.pt").write_bytes(b"x")
    for given in (tmp_path / "ckpt", actor.parent, actor, actor / "huggingface"):
        said = refusal(given)
        assert "python -m verl.model_merger merge --backend fsdp" in said
        assert f"--local_dir {actor} --target_dir {actor.parent / 'merged'}" in said


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["qwen3-8b-q4.gguf"], "is in GGUF; give the safetensors checkpoint that it was made from"),
        (["__0_0.distcp", ".metadata"], "torch's distributed checkpoint; convert it"),
        (["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed; convert it"),
        (["mp_rank_00"], "Megatron; convert it"),
        (["consolidated.safetensors", "params.json"], "its makers' own format; convert it"),
        (["model.safetensors"], "weights without config.json; copy config and tokenizer of their base"),
        ([], "holds no config.json; give a Hugging Face checkpoint folder or a hub id"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_told_by_what_it_holds(tmp_path, names, says):
    folder = tmp_path / "x"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x")
    assert says in refusal(folder)
    assert says in refusal(folder, load_tokenizer)


def test_a_single_file_is_no_folder(folder):
    assert "is a file; give the folder" in refusal(folder / "model.safetensors")
    (folder / "x.gguf").write_bytes(b"GGUF")
    assert "is in GGUF" in refusal(folder / "x.gguf")


@pytest.mark.parametrize("inner", ["checkpoint-20", "snapshots/0123abc", "final/merged/model"])
def test_a_folder_around_a_checkpoint_names_it(folder, tmp_path, inner):
    around = tmp_path / "around"
    shutil.copytree(folder, around / inner)
    assert f"but {around / inner} does; give that" in refusal(around)


def test_missing_weights_are_named_by_their_files(folder):
    (folder / "model.safetensors").unlink()
    assert "it holds no weights" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "its weights are pickled" in refusal(folder)
    weights = {"lm_head.weight": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"x")
    assert "1 of its 2 files of weights are missing, such as model-00002-of-00002.safetensors" in refusal(folder)


def test_a_folder_without_a_tokenizer_says_so(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "holds no tokenizer; copy the tokenizer's files of its base there" in refusal(folder, load_tokenizer)
    load_model(str(folder), device="cpu")


# ------------------------------------------------------------------------------------------- adapters


@pytest.fixture
def adapters(folder, tmp_path) -> Path:
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install '.[lora]'")
    base = AutoModelForCausalLM.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapters")
    return tmp_path / "adapters"


def test_adapters_are_loaded_on_their_base_and_merged(adapters, folder):
    from peft import PeftModel

    merged, base = load_model(str(adapters), device="cpu"), load_model(str(folder), device="cpu")
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapters)(tokens).logits
        # float32; W + BA once against Wx + B(Ax): rounding alone
        torch.testing.assert_close(merged(tokens).logits, theirs, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(merged(tokens).logits, base(tokens).logits, atol=1e-2)
    assert type(merged) is type(base)
    chat = load_chat(str(adapters), DEFAULT_INDUCER)
    assert chat.render("a b") == load_chat(str(folder), DEFAULT_INDUCER).render("a b")
    try_save(merged, chat.tokenizer)


def test_adapters_with_a_tokenizer_of_their_own_keep_it(adapters):
    other = tokenizer(CHATML.replace("assistant\n", "assistant\n<think>\n"))
    other.save_pretrained(adapters)
    chat = load_chat(str(adapters), DEFAULT_INDUCER)
    assert chat.opened(chat.render("a b"))


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("/nowhere/at/all", "is not at /nowhere/at/all; set base_model_name_or_path in adapter_config.json"),
        ("", "names no base model"),
        (None, "names no base model"),
    ],
)
def test_adapters_whose_base_is_not_there_say_which(adapters, base, says):
    edit(adapters / "adapter_config.json", base_model_name_or_path=base)
    assert says in refusal(adapters)
    assert says in refusal(adapters, load_tokenizer)


def test_adapters_of_another_model_are_refused(adapters, tiny_qwen3):
    edit(adapters / "adapter_config.json", base_model_name_or_path=str(tiny_qwen3))
    assert "do not fit their base" in refusal(adapters)
    (adapters / "adapter_config.json").write_text("{")
    assert "is damaged; copy the adapters again" in refusal(adapters)


def test_adapters_can_be_trained_further(adapters):
    assert engine(adapters, "group.spines=2").sampler.chat.tokenizer


# ------------------------------------------------------------------------------------------- tokens and rows


def test_a_token_beyond_the_embedding_is_refused_by_its_name(tmp_path):
    made = tokenizer()
    small = checkpoint(tmp_path / "small", made, rows=len(made) - 1)  # `</think>` is the last token
    model, chat = load_model(str(small), device="cpu"), load_chat(str(small), DEFAULT_INDUCER)
    with pytest.raises(ModelError, match=r"writes '</think>' as token 404, but the model's embedding has 404 rows"):
        check_sampling(model, chat, 64)


def test_a_token_beyond_the_embedding_in_a_question_alone_is_refused_before_it_is_sampled(tmp_path):
    from suffice.groups import Problem
    from suffice.rollout import Sampler

    made = tokenizer(added=("<think>", "</think>", "<tool>"))
    small = checkpoint(tmp_path / "small", made, rows=len(made) - 1)
    model, chat = load_model(str(small), device="cpu"), load_chat(str(small), DEFAULT_INDUCER)
    check_sampling(model, chat, 64)
    sampler = Sampler(model, chat, 1.0, 1.0, 4, 4, 1.0)
    with pytest.raises(ModelError, match="writes '<tool>' as token"):
        sampler.groups([Problem("p", "t", "a <tool> b", "7")], 1, "seed")


def test_marks_that_share_one_untrained_row_are_refused(folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    rows = weights["model.embed_tokens.weight"]
    rows[-1] = rows[-2]  # </think> and <think>, as added and never trained
    save_file(weights, file, metadata={"format": "pt"})
    model, chat = load_model(str(folder), device="cpu"), load_chat(str(folder), DEFAULT_INDUCER)
    with pytest.raises(
        ModelError, match="never learnt its marks: <think> and </think> have one and the same embedding"
    ):
        check_tokens(model, chat)


# ------------------------------------------------------------------------------------------- training


def test_quantised_weights_are_sampled_and_not_trained(folder):
    model = load_model(str(folder), device="cpu")
    check_trainable(model, "it", "rows")
    model.hf_quantizer = object()
    with pytest.raises(ModelError, match="the weights of it are quantised and cannot be trained"):
        check_trainable(model, "it", "rows")


def test_a_model_that_writes_no_thought_is_refused_before_the_first_step(tmp_path):
    mute = checkpoint(tmp_path / "mute", says={"<think>": -1e4, "</think>": -1e4})
    with pytest.raises(ModelError, match=r"wrote no thought in 32 samples, so there is nothing to shorten"):
        engine(mute, "rollout.max_thought_tokens=8", "rollout.max_answer_tokens=4")


@pytest.mark.parametrize("says", [{"<think>": 1e4}, {"</think>": 5, "<think>": -1e4}])
def test_a_model_that_opens_or_closes_a_thought_is_not(tmp_path, says):
    engine(checkpoint(tmp_path / "model", says=says), "rollout.max_thought_tokens=8", "rollout.max_answer_tokens=4")


def test_a_model_whose_prompt_opens_the_thought_is_not_asked_to(tmp_path):
    opened = tokenizer(CHATML.replace("assistant\n", "assistant\n<think>\n"))
    mute = checkpoint(tmp_path / "mute", opened, says={"<think>": -1e4, "</think>": -1e4})
    engine(mute, "rollout.max_thought_tokens=8", "rollout.max_answer_tokens=4")


def test_template_options_and_a_system_turn_of_a_recipe_reach_the_prompt(tmp_path):
    asks = "{% if enable_thinking is not defined %}<think></think>{% else %}<think>\n{% endif %}"
    made = tokenizer(CHATML.replace("assistant\n{", "assistant\n" + asks + "{"))
    folder = checkpoint(tmp_path / "model", made)
    with pytest.raises(ModelError, match=r"model.chat_template_kwargs.enable_thinking = true"):
        engine(folder, "rollout.max_thought_tokens=8")
    options = ("model.chat_template_kwargs={enable_thinking = true}", "model.system=Be brief.")
    chat = engine(folder, "rollout.max_thought_tokens=8", *options).sampler.chat
    assert "Be brief." in chat.written(chat.render("a"))
    assert chat.opened(chat.render("a"))


def test_resolve_path_takes_runs_bases_hub_ids_and_adapters(folder, tmp_path):
    assert resolve_path("owner/name") == "owner/name"
    assert Path(resolve_path("lab/arithmetic")).is_dir()
    assert resolve_path(str(folder)) == str(folder)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "is a run without checkpoints" in refusal(tmp_path / "run", resolve_path)
    assert "too long for a path" in refusal("a" * 5000, resolve_path)
    assert SPECIAL


def test_a_model_larger_than_the_memory_that_is_left_is_refused_before_it_is_loaded(folder, monkeypatch):
    needed = 4 * load_model(str(folder), device="cpu", dtype="float32").num_parameters()
    monkeypatch.setattr("suffice.model.load.free_memory", lambda device: needed - 1)
    said = refusal(folder)
    assert said.startswith(f'{folder} needs 0.0 GiB for its weights (half of that with model.dtype = "bfloat16")')
    assert "--base-url" in said
    load_model(str(folder), device="cpu", dtype="bfloat16")  # which fits
    monkeypatch.setattr("suffice.model.load.free_memory", lambda device: needed)
    load_model(str(folder), device="cpu")
