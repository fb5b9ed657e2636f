"""What several test files share: a tiny Qwen3 checkpoint and the benchmark files."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads torch

CORPUS = """
Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.
How many clips did Natalia sell altogether in April and May? Please reason step by step, and put your final answer
within \\boxed{}. Time is limited, stop thinking and start answering. Let me think about this again. Wait, so she sold
48 / 2 = 24 clips in May, and 48 + 24 = 72 clips altogether. The final answer is \\boxed{72}.
A farmer has 12 hens, and each hen lays 5 eggs a week. How many eggs are there after 3 weeks? In one week there are
12 * 5 = 60 eggs, and in 3 weeks there are 60 * 3 = 180 eggs. Let me check: 180 / 3 = 60. The answer is \\boxed{180}.
"""
CHAT_TEMPLATE = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""


def make_qwen3(folder: Path, corpus: list[str], vocabulary: int, width: int) -> Path:
    """A Qwen3 checkpoint: 2 random layers of 4 heads, a BPE tokenizer learnt from a corpus, Qwen3's chat format."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet))
    bpe.add_special_tokens(special)
    bpe.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT_TEMPLATE.strip()

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=width // 4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen3 checkpoint of width 32 with 400 tokens and the marks."""
    return make_qwen3(tmp_path_factory.mktemp("tiny-qwen3"), [CORPUS], vocabulary=400, width=32)


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """Folder of the benchmark files that SUFFICE_BENCHMARKS names."""
    folder = os.environ.get("SUFFICE_BENCHMARKS")
    if folder is None:
        pytest.skip("SUFFICE_BENCHMARKS is not set to a folder of benchmark files")
    return Path(folder)
