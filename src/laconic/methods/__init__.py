"""Methods: how the members of a group are rewarded and baselined, one module per paper.

>>> get_method("grpo-lambda", lam=0.2).score(GroupBatch(correct_P_G, length_P_G))  # doctest: +SKIP
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from laconic.groups import GroupBatch, Scores
from laconic.methods.base import Method
from laconic.methods.grpo import GRPO
from laconic.methods.grpo_lambda import GRPOLambda
from laconic.methods.length_penalty import LengthPenalty
from laconic.methods.s_grpo import SGRPO

__all__ = ["METHODS", "GroupBatch", "Method", "Scores", "get_method", "list_methods"]

METHODS: dict[str, type[Method]] = {method.name: method for method in (GRPO, LengthPenalty, GRPOLambda, SGRPO)}


def list_methods() -> list[str]:
    """Names that `get_method` and a recipe's `[method] name` take."""
    return list(METHODS)


def get_method(name: str, **parameters: Any) -> Method:
    """The method of that name with the given parameters, defaults elsewhere.

    Raises:
        ValueError: unknown name, unknown parameter or a parameter out of range.
    """
    if name not in METHODS:
        nearest = get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(METHODS)}"
        raise ValueError(f"unknown method {name!r}; {hint}")
    return METHODS[name](**parameters)
