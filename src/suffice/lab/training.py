"""Train a base by supervised learning on a task's thoughts: about 3 minutes on one CPU core."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from suffice.config import DEFAULT_INDUCER
from suffice.errors import DataError
from suffice.lab import ballots, sums, thoughts
from suffice.lab.lesson import Lesson
from suffice.lab.tokenizer import MAX_LENGTH, build_tokenizer
from suffice.run.files import read_json, write_json
from suffice.run.start import create_run

IGNORED = -100
SORTED_BATCHES = 16  # batches whose examples are sorted by length together, to pad little


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """What a base is made from.

    Args:
        steps: optimizer steps.
        batch: examples a step.
        learning_rate: AdamW's peak, reached after `warmup` steps; it falls linearly to 0 over the last `decay` of all.
        cut: share of the examples whose thought is cut at a random place, the inducer injected, so that the base
            knows how to answer at an exit.
        habits: how the thoughts are written.
    """

    steps: int = 1500
    batch: int = 32
    learning_rate: float = 5e-3
    warmup: int = 50
    decay: float = 0.4
    cut: float = 0.5
    habits: thoughts.Habits | ballots.Habits = field(default_factory=thoughts.Habits)


@dataclass(frozen=True, slots=True)
class Course:
    """What the base of one task is taught.

    Args:
        vocabulary: the words of its problems and thoughts.
        lessons: from a source of randomness and the recipe's habits, what to imitate, without end.
        recipe: how its base that ships was made.
    """

    vocabulary: tuple[str, ...]
    lessons: Callable[[random.Random, Any], Iterator[Lesson]]
    recipe: BaseRecipe


_BALLOTS = BaseRecipe(steps=1800, cut=0.15, habits=ballots.Habits())
COURSES = {
    "arithmetic": Course(thoughts.VOCABULARY, thoughts.lessons, BaseRecipe()),
    **{poll.name: Course(ballots.VOCABULARY, partial(ballots.lessons, poll), _BALLOTS) for poll in ballots.POLLS},
    "sums": Course(sums.VOCABULARY, sums.lessons, BaseRecipe()),
}


def course(task: str) -> Course:
    """What the base of a lab task is taught.

    Raises:
        DataError: the lab has no such task.
    """
    if task not in COURSES:
        raise DataError(f"the lab has no task {task!r}; use one of: {', '.join(COURSES)}")
    return COURSES[task]


def build(
    out: Path,
    seed: int = 0,
    recipe: BaseRecipe | None = None,
    progress: Callable[[int, float], None] | None = None,
    *,
    task: str = "arithmetic",
) -> None:
    """Train a base of a lab task and write it to the new folder `out` in Hugging Face's layout, with `lab.json`.

    The caller sets torch's threads and random state is the function's own. `progress(step, loss)` is called after
    every step; loss is in nats per trained token.

    Raises:
        DataError: the lab has no such task.
        RunError: `out` has something in it already, or cannot be made.
    """
    taught = course(task)
    recipe = recipe or taught.recipe
    create_run(out)
    tokenizer = build_tokenizer(taught.vocabulary)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(_config(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    rng = random.Random(seed)
    batches = _batches(tokenizer, recipe, taught.lessons(rng, recipe.habits), rng)
    model.train()
    for step, (ids_B_T, labels_B_T) in enumerate(itertools.islice(batches, recipe.steps)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe)
        logits_B_T_V = model(input_ids=ids_B_T).logits[:, :-1]
        targets_B_T = labels_B_T[:, 1:]
        total = cross_entropy(logits_B_T_V.flatten(0, 1), targets_B_T.flatten(), ignore_index=IGNORED, reduction="sum")
        # a constant, not the batch's own count: batches of short thoughts must not weigh more per token
        (total / (recipe.batch * 64)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if progress:
            progress(step, total.item() / int((targets_B_T != IGNORED).sum()))

    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.eval().save_pretrained(part)
    tokenizer.save_pretrained(part)
    write_card(part, {"task": task, "seed": seed, "recipe": asdict(recipe)})
    os.replace(part, out)


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Add `facts` (how a base was made, or what was measured on it) to the folder's `lab.json`."""
    card = folder / "lab.json"
    write_json(card, (read_json(card) if card.exists() else {}) | facts)


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.08,  # from the usual 0.02 so narrow a model learns to copy several times later
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _schedule(step: int, recipe: BaseRecipe) -> float:
    """Warm up, hold, fall to 0."""
    return min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / (recipe.decay * recipe.steps))


def _example(
    tokenizer: PreTrainedTokenizerFast, cut: float, lesson: Lesson, rng: random.Random
) -> tuple[list[int], list[int]]:
    """Token ids and labels of one conversation; neither the prompt nor an injected inducer is a target."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    turn = [{"role": "user", "content": lesson.prompt}]
    prompt = encode(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    thought = encode(f"\n{lesson.thought}\n")
    opened, closed, inducer = encode("<think>"), encode("</think>\n\n"), encode(DEFAULT_INDUCER)
    if rng.random() >= cut:
        ids = prompt + opened + thought + closed + encode(f"{lesson.answer}<|im_end|>")
        return ids, [IGNORED] * len(prompt) + ids[len(prompt) :]
    thought = thought[: rng.randint(0, len(thought))]
    before = prompt + opened + thought + inducer
    after = encode(f"{lesson.answer_at(tokenizer.convert_ids_to_tokens(thought))}<|im_end|>")
    labels = [IGNORED] * len(prompt) + opened + thought + [IGNORED] * len(inducer) + after
    return before + after, labels


def _batches(
    tokenizer: PreTrainedTokenizerFast, recipe: BaseRecipe, lessons: Iterator[Lesson], rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of right-padded (ids, labels), int64 [B, T]; causal attention needs no mask for them."""
    while True:
        examples = [
            _example(tokenizer, recipe.cut, lesson, rng)
            for lesson in itertools.islice(lessons, recipe.batch * SORTED_BATCHES)
        ]
        examples.sort(key=lambda example: len(example[0]))
        batches = [examples[start : start + recipe.batch] for start in range(0, len(examples), recipe.batch)]
        rng.shuffle(batches)
        for batch in batches:
            width = max(len(ids) for ids, _ in batch)
            yield (
                torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in batch]),
                torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in batch]),
            )
