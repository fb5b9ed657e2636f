"""Our advantages as TRL's reward function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from suffice.config import Recipe
from suffice.engines.trl.config import check_config, loss_factor
from suffice.engines.trl.data import texts_of
from suffice.errors import DataError, SufficeError
from suffice.grading import Grader
from suffice.groups import Group, GroupBatch, Problem
from suffice.methods import get_method
from suffice.objective import to_batch
from suffice.rollout import Chat, grade_groups
from suffice.rollout.metrics import rollout_metrics

RewardFunction = Callable[..., list[float]]


def advantages(recipe: Recipe, config: Any, chat: Chat, grader: Grader) -> RewardFunction:
    """What to pass as the only one of `reward_funcs`: it grades, and returns our advantages scaled to TRL's loss.

    A method sees the whole generation batch, gathered from all processes. TRL's log then shows advantages (mean 0) as
    `reward`; what they come from is under `suffice/`.

    Args:
        config: the trainer's, from `grpo_config`.
    """
    check_config(recipe, config)
    method = get_method(recipe.method.name, **recipe.method.parameters)
    if method.learns:
        raise SufficeError(f"{method.name} learns from step to step, which TRL does not keep; use another engine")
    spines, exits, size = recipe.group.spines, recipe.group.exits, recipe.group.members

    def advantage(prompts: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        if not {"gold", "kind"} <= columns.keys():
            raise DataError("the data set needs the columns gold and kind; make it with as_dataset")
        texts = texts_of(prompts, size)
        if "group" in columns:
            groups = columns["group"][::size]
        elif exits:
            raise SufficeError(f"{method.name} samples serial groups; pass rollout_func=GroupRollout(recipe, chat)")
        else:
            groups = _read_groups(texts, completion_ids, size, chat)
        answers = zip(columns["gold"][::size], columns["kind"][::size], strict=True)
        for group, (gold, kind) in zip(groups, answers, strict=True):
            group.problem = replace(group.problem, gold=gold, kind=kind)
        grade_groups(groups, chat, grader)
        batch = _gather(to_batch(groups, spines, exits, chat.end_ids))
        scores = method.score(batch)
        if (left := float(scores.advantage.sum(-1).abs().max())) > 1e-5 * size:
            raise SufficeError(
                f"TRL takes each group's mean off its advantages, and those of {method.name} sum to {left:.2g} in a "
                "group, not to 0; train it with the local engine"
            )
        found = rollout_metrics(groups, chat) | {"reward": float(scores.reward[batch.valid].mean())}
        for name, value in found.items():
            columns["log_metric"](f"suffice/{name}", value)
        first = PartialState().process_index * len(groups)
        mine_P_G = scores.advantage[first : first + len(groups)] * loss_factor(recipe.objective, config, batch)
        return mine_P_G.flatten().tolist()

    return advantage


def _read_groups(texts: Sequence[str], responses: Sequence[list[int]], size: int, chat: Chat) -> list[Group]:
    """Parallel groups from responses that TRL sampled."""
    groups = []
    for i, text in enumerate(texts):
        prompt = chat.render(text)
        group = Group(Problem(text, "", text, ""), prompt, chat.inducer, [])
        for tokens in responses[i * size : (i + 1) * size]:
            group.spines.append(chat.read(prompt, tokens, [], truncated=tokens[-1] not in chat.end_ids))
        groups.append(group)
    return groups


def _gather(batch: GroupBatch) -> GroupBatch:
    """The groups of all processes, in the order of processes, which is the order of the problems."""
    names = ("correct", "length", "valid", "thought_length", "truncated")
    rows = gather_object(list(zip(*(getattr(batch, name).tolist() for name in names), strict=True)))
    columns = {name: torch.tensor(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return GroupBatch(spines=batch.spines, **columns)
