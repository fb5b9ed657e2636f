"""Whether a model can be sampled, and thinks: looked at before anything is paid for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from suffice.errors import ModelError
from suffice.groups import Problem
from suffice.model.advice import cause_of
from suffice.model.cache import growing_cache, is_recurrent
from suffice.model.chat import NONE, Chat
from suffice.model.template import thinking_options
from suffice.model.vocabulary import check_tokens, embedding
from suffice.rollout.decode import Ask, Count, Decoder
from suffice.rollout.sampler import Sampler
from suffice.rollout.streams import PromptStream

SERVED = "evaluate it behind a server with --base-url, or take another model"
ROWS = ((5, 4), (9, 2), (2, 3))  # tokens of each row's prompt, and how many it samples
LOOKED = 32  # problems at most whose turns are looked at for a thought
CHUNK = 64  # tokens that gated linear attention reads at once; others say so in their config


def check_sampling(model: Any, chat: Chat, longest: int) -> None:
    """Refuse a model that does not have all tokens of its chat, or whose cache does not give what reading everything
    anew gives: rows of different lengths are decoded while the batch shrinks.

    Recurrent layers read a text in chunks and write it token by token; where a row of `longest` tokens, the most that
    will be asked for, is longer than a chunk, both are compared at its edge.

    Raises:
        ModelError: it is so, or the model's probabilities are not finite.
    """
    check_tokens(model, chat)
    edges = [edge for edge in chunks(model) if edge < longest]
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    for where, rows in (("", ROWS), *((f" from token {edge} on", ((edge - 2, 5),)) for edge in edges)):
        try:
            difference = decoded_difference(model, rows)
        except (ModelError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the model's own code, which may fail in any way
            raise ModelError(f"{_name(model)} cannot be sampled here ({cause_of(error)}); {SERVED}") from error
        if not difference <= (1e-3 if exact else 0.1):
            raise ModelError(
                f"{_name(model)} cannot be sampled here: with its cache, log-probabilities{where} differ by "
                f"{difference:.2g} on average from those without; {SERVED}"
            )


def chunks(model: Any) -> list[int]:
    """Lengths of the chunks in which recurrent layers may read; none for a model without such layers."""
    if not is_recurrent(growing_cache(model)):
        return []
    config = model.config.get_text_config().to_dict()
    sizes = {value for name, value in config.items() if name.endswith("chunk_size") and isinstance(value, int)}
    return sorted({CHUNK, *sizes})


def check_thinks(sampler: Sampler, problems: Sequence[Problem]) -> None:
    """Refuse to train a model that writes no thought.

    Its first tokens tell where it opens its thoughts itself; where they do not, whole turns are looked at for a close.

    Raises:
        ModelError: none of the problems makes it think.
    """
    looked = problems[:LOOKED]
    if any(sampler.chat.opened(sampler.chat.render(problem.prompt)) for problem in looked[:1]):
        return
    first = replace(sampler, max_thought_tokens=1, max_answer_tokens=1, count=Count())
    for each in (first, replace(sampler, count=Count())):
        spines = [spine for group in each.groups(looked, 1, "thinks") for spine in group.spines]
        if any(spine.thought_start or spine.thought_end for spine in spines):
            return
    tokenizer = sampler.chat.tokenizer
    options = ", ".join(thinking_options(tokenizer)) or "none"
    raise ModelError(
        f"{tokenizer.name_or_path} wrote no thought in {len(looked)} samples, so there is nothing to shorten; take a "
        "reasoning model, or have it think with model.system or model.chat_template_kwargs (options of its template: "
        f"{options})"
    )


def decoded_difference(model: Any, rows: Sequence[tuple[int, int]] = ROWS) -> float:
    """Mean absolute difference between log-probs of greedily decoded tokens and those of plain passes over each row."""
    vocabulary, draw = len(embedding(model)), random.Random(0)
    asks = [Ask([draw.randrange(vocabulary) for _ in range(n)], "", answer) for n, answer in rows]
    decoder = Decoder(NONE, NONE, frozenset(), 0.0, 1.0)
    found = []
    for ask, said in zip(asks, decoder.run(PromptStream(model, asks, pad_id=0), asks, Count()), strict=True):
        tokens = torch.tensor([ask.prefix + said.tokens], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=tokens, use_cache=False).logits[0, len(ask.prefix) - 1 : -1].float()
        plain = torch.log_softmax(logits, -1).gather(-1, tokens[0, len(ask.prefix) :, None])[:, 0].cpu()
        found.append((plain - torch.tensor(said.logprobs)).abs())
    return float(torch.cat(found).mean())


def _name(model: Any) -> str:
    return str(model.name_or_path or type(model).__name__)
