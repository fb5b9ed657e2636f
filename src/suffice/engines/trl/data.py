"""Problems as TRL reads them, and as it hands them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from suffice.errors import DataError, SufficeError
from suffice.groups import Problem


def as_dataset(problems: Sequence[Problem]) -> Dataset:
    """The problems as TRL reads them: `prompt` as one user turn, `gold` and `kind` for the grader."""
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": p.prompt}], "gold": p.gold, "kind": p.kind} for p in problems]
    )


def texts_of(prompts: Sequence[Any], size: int) -> list[str]:
    """The problem of each group of `size` prompts in a row.

    Raises:
        SufficeError: a group is split among processes.
        DataError: a prompt is not one user turn.
    """
    firsts = [prompts[i - i % size] for i in range(len(prompts))]
    if len(prompts) % size or list(prompts) != firsts:
        raise SufficeError(f"groups of {size} are split among processes; make the configuration with grpo_config")
    for prompt in prompts[::size]:
        if not isinstance(prompt, list) or [turn.get("role") for turn in prompt] != ["user"]:
            raise DataError("a prompt is not one user turn; make the data set with as_dataset")
    return [prompt[0]["content"] for prompt in prompts[::size]]
