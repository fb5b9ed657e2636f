"""A tokenizer is that of its tokenizer.json, whatever class its config names; a checkpoint keeps its files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from suffice.config import DEFAULT_INDUCER
from suffice.errors import ModelError
from suffice.model.checkpoint import save_checkpoint, try_save
from suffice.model.load import load_chat, load_model
from suffice.model.tokenizer import FILES, PROBE, load_tokenizer
from tokens import checkpoint, edit, tokenizer

QUESTION = "What is 3 + 4?\n\nSay it."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model")


def file_of(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("model_type", ["llama", "phi"])
@pytest.mark.parametrize(
    "named",
    [
        "LlamaTokenizerFast",  # DeepSeek-R1-Distill-Llama, deepseek-math, Yi: blanks are lost
        "LlamaTokenizer",
        "GemmaTokenizerFast",
        "T5TokenizerFast",
        "CodeLlamaTokenizer",
        "XLMRobertaTokenizer",
        "BertTokenizer",
        "PreTrainedTokenizerFast",
        "NoSuchTokenizer",
        None,
    ],
)
def test_a_tokenizer_encodes_as_its_file_does_whatever_class_its_config_names(folder, named, model_type):
    edit(folder / "tokenizer_config.json", tokenizer_class=named, backend=None)
    edit(folder / "config.json", model_type=model_type)
    found = load_tokenizer(str(folder))
    for text in (QUESTION, PROBE, "<think>\na b\n</think>\n\n7<|im_end|>"):
        ids = found.encode(text, add_special_tokens=False)
        assert ids == file_of(folder).encode(text, add_special_tokens=False).ids
        assert found.decode(ids, clean_up_tokenization_spaces=False) == text
    assert (found.eos_token, found.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert found.chat_template


def test_transformers_itself_builds_another_tokenizer_which_is_why_it_is_compared(folder):
    edit(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast", backend=None)
    edit(folder / "config.json", model_type="llama")
    other = AutoTokenizer.from_pretrained(folder)
    assert other.decode(other.encode(QUESTION, add_special_tokens=False)) != QUESTION


def test_code_of_a_tokenizers_own_is_not_needed_where_the_file_is_there(folder):
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]}, tokenizer_class="X")
    assert load_tokenizer(str(folder)).decode(file_of(folder).encode(QUESTION).ids) == QUESTION


def test_marks_that_only_the_config_adds_are_tokens_all_the_same(tmp_path):
    folder = checkpoint(tmp_path, tokenizer(added=()))
    marks = {len(file_of(folder).get_vocab()) + i: mark for i, mark in enumerate(("<think>", "</think>"))}
    edit(
        folder / "tokenizer_config.json",
        added_tokens_decoder={str(i): {"content": mark, "special": False} for i, mark in marks.items()},
    )
    found = load_tokenizer(str(folder))
    assert [found.encode(mark, add_special_tokens=False) for mark in marks.values()] == [[i] for i in marks]


def test_truncation_and_padding_that_a_file_asks_for_are_not_what_it_is_compared_by(folder):
    file = file_of(folder)
    file.enable_truncation(4)
    file.enable_padding(length=6)
    file.save(str(folder / "tokenizer.json"))
    assert load_tokenizer(str(folder)).decode(file_of(folder).encode("ab").ids[:1])


def test_a_tokenizer_that_cannot_be_that_of_its_file_is_refused(folder, monkeypatch):
    """As if transformers built another one by every way there is."""
    other = file_of(folder)
    other.pre_tokenizer = pre_tokenizers.Metaspace()
    other.save(str(folder.parent / "other.json"))
    wrong = tokenizer()
    wrong._tokenizer = Tokenizer.from_file(str(folder.parent / "other.json"))
    for name in ("AutoTokenizer", "PreTrainedTokenizerFast"):
        monkeypatch.setattr(f"suffice.model.tokenizer.{name}.from_pretrained", lambda *_, **__: wrong)
    with pytest.raises(ModelError, match=r"does not encode text as its tokenizer.json does; mend"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("broken", ["", "{}", "[1", '{"version": "1.0"}'])
def test_a_broken_file_is_one_line(folder, broken):
    (folder / "tokenizer.json").write_text(broken)
    with pytest.raises(ModelError, match="cannot load the tokenizer of") as error:
        load_tokenizer(str(folder))
    assert "\n" not in str(error.value)


def test_a_checkpoint_has_the_tokenizers_files_byte_for_byte(folder, tmp_path):
    edit(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast", backend=None, of_its_own=[1, 2])
    (folder / "special_tokens_map.json").write_text('{"eos_token":   "<|im_end|>"}')
    (folder / "vocab.json").write_text("{}\n")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("x")
    chat, model = load_chat(str(folder), DEFAULT_INDUCER), load_model(str(folder), device="cpu")
    saved = save_checkpoint(tmp_path, 1, model, chat.tokenizer, torch.optim.AdamW(model.parameters()), {})
    files = [path for pattern in FILES for path in folder.glob(pattern)]
    assert {path.name for path in files} >= {"tokenizer.json", "vocab.json", "chat_template.jinja", "tool_use.jinja"}
    for path in files:
        assert (saved / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert load_chat(str(saved), DEFAULT_INDUCER).render("a b") == chat.render("a b")


def test_a_tokenizer_made_in_memory_is_saved_as_transformers_does(folder, tmp_path):
    model, made = load_model(str(folder), device="cpu"), tokenizer()
    saved = save_checkpoint(tmp_path, 1, model, made, torch.optim.AdamW(model.parameters()), {})
    assert load_tokenizer(str(saved)).encode(QUESTION) == made.encode(QUESTION)


def test_a_checkpoint_that_could_not_be_saved_is_found_before_the_first_step(folder):
    model = load_model(str(folder), device="cpu")
    made = load_tokenizer(str(folder))
    try_save(model, made)
    model.generation_config.num_return_sequences = 3  # without sampling, which transformers refuses to write
    model.generation_config.do_sample = False
    with pytest.raises(ModelError, match=r"could not be saved .* mend its") as error:
        try_save(model, made)
    assert "\n" not in str(error.value)
    shutil.rmtree(folder)
