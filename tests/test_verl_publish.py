"""What verl saved becomes a checkpoint of the run: merged, in the type it is served in, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from making import make_qwen3
from suffice.engines.verl.publish import publish
from suffice.errors import RunError
from suffice.model.checkpoint import damage
from suffice.model.load import load_chat, load_model
from suffice.model.lora import add_lora, merged_state

ADAPTED = "base_model.model."


@pytest.fixture
def saved(tiny_qwen3: Path, tmp_path: Path):
    """As verl saves: plain, or with adapters of peft's, in files of a few tensors each."""

    def save(rank: int = 0, files: int = 3):
        folder = tmp_path / "huggingface"
        model = load_model(str(tiny_qwen3), device="cpu")
        model.save_pretrained(folder)
        plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if rank:
            torch.manual_seed(0)
            model = add_lora(model, rank)
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.data.normal_()
            plain = merged_state(model)
        state = [(name, tensor.clone()) for name, tensor in model.state_dict().items()]
        (folder / "model.safetensors").unlink()
        for i in range(files):
            save_file(dict(state[i::files]), folder / f"model-{i + 1:05d}-of-{files:05d}.safetensors")
        return folder, plain

    return save


def tokenizer(path: Path):
    return load_chat(str(path), "x", use="count").tokenizer


def test_adapters_are_merged_as_the_local_engine_merges_them_though_they_lie_in_other_files(
    saved, tiny_qwen3: Path, tmp_path: Path
):
    source, wanted = saved(rank=4)
    publish(source, tmp_path / "out", tokenizer(tiny_qwen3), dtype="float32", scale=2.0)
    found = load_model(str(tmp_path / "out"), device="cpu").state_dict()
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.allclose(found[name], weight, rtol=1e-5, atol=1e-5), name
    moved = load_model(str(tiny_qwen3), device="cpu").state_dict()
    assert any(not torch.equal(found[name], moved[name]) for name in found)


@pytest.mark.parametrize("files", [1, 3])
def test_a_checkpoint_is_in_the_type_it_is_served_in_and_the_float32_weights_go(
    saved, tiny_qwen3: Path, tmp_path: Path, files: int
):
    source, wanted = saved(files=files)
    publish(source, tmp_path / "out", tokenizer(tiny_qwen3), dtype="bfloat16", scale=0.0)
    assert not list(source.glob("*.safetensors*"))
    assert (source / "config.json").exists()  # verl looks for it when it goes on
    stored = {name: t for file in (tmp_path / "out").glob("*.safetensors") for name, t in load_file(file).items()}
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert all(torch.equal(tensor, wanted[name].bfloat16()) for name, tensor in stored.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert damage(tmp_path / "out") is None
    index = tmp_path / "out" / "model.safetensors.index.json"
    assert index.exists() == (files > 1)
    if files > 1:
        listed = json.loads(index.read_text())
        assert listed["weight_map"].keys() == stored.keys()
        assert listed["metadata"]["total_size"] == sum(2 * tensor.numel() for tensor in stored.values())


def test_a_head_that_is_the_embedding_is_written_once(tmp_path: Path):
    folder = make_qwen3(tmp_path / "tied", ["one two three"], vocabulary=400, width=32)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    named = tokenizer(folder)
    save_file(state, folder / "model.safetensors")
    publish(folder, tmp_path / "out", named, dtype="bfloat16", scale=0.0)
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_what_cannot_be_written_leaves_no_checkpoint_and_keeps_the_weights(
    saved, tiny_qwen3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import suffice.engines.verl.publish as publishing

    source, _ = saved()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "save_file", full)
    with pytest.raises(RunError, match="No space left"):
        publish(source, tmp_path / "out", tokenizer(tiny_qwen3), dtype="bfloat16", scale=0.0)
    assert not (tmp_path / "out").exists()
    assert len(list(source.glob("*.safetensors"))) == 3
