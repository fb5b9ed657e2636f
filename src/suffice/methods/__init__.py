"""Methods: how the members of a group are rewarded and baselined, one module per paper.

>>> import torch  # one problem: two exits of a thought and the whole of it, all of them right
>>> batch = GroupBatch(correct=torch.tensor([[True, True, True]]), length=torch.tensor([[8, 10, 9]]))
>>> get_method("s-grpo").score(batch).reward.tolist()
[[1.0, 0.5, 0.25]]

An installed package adds its own through the entry point group `suffice.methods` (docs/add-a-method.md).
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from suffice.errors import PluginError
from suffice.groups import GroupBatch, Scores
from suffice.methods.acoer import ACOER
from suffice.methods.alp import ALP, ALPRelative
from suffice.methods.base import Method
from suffice.methods.brpo import BRPO
from suffice.methods.concise_r import ConciseR
from suffice.methods.dapo import DAPO
from suffice.methods.decide import Decide
from suffice.methods.dler import DLER
from suffice.methods.exit_baseline import ExitBaseline
from suffice.methods.grpo import GRPO, DrGRPO
from suffice.methods.grpo_lambda import GRPOLambda
from suffice.methods.grpo_lead import GRPOLead
from suffice.methods.jet import JET
from suffice.methods.kimi_length import KimiLength
from suffice.methods.l1 import L1Exact, L1Max
from suffice.methods.laser import Laser
from suffice.methods.length_penalty import LengthPenalty
from suffice.methods.mrt import MRT
from suffice.methods.primal_dual import PrimalDual
from suffice.methods.qlpo import QLPO
from suffice.methods.reo_rl import REORL
from suffice.methods.s_grpo import SGRPO, AllOne, ShortestOne
from suffice.methods.shorter_better import ShorterBetter
from suffice.methods.think_prune import ThinkPrune

__all__ = ["GroupBatch", "Method", "Scores", "get_method", "list_methods", "registry"]

OURS: tuple[type[Method], ...] = (
    *(GRPO, DrGRPO, DAPO),  # blind to length
    *(SGRPO, ShortestOne, AllOne, ExitBaseline, Decide, MRT, BRPO, REORL),  # serial
    *(
        LengthPenalty,
        GRPOLambda,
        KimiLength,
        ShorterBetter,
        GRPOLead,
        JET,
        ConciseR,
        ALP,
        ALPRelative,
        QLPO,
    ),  # relative
    *(L1Exact, L1Max, Laser, ThinkPrune, DLER, PrimalDual, ACOER),  # a target or a cap in tokens
)


@cache
def registry() -> dict[str, type[Method]]:
    """Every method by name: ours, then those of installed packages, loaded on the first call.

    Raises:
        PluginError: a package's entry point cannot be loaded, is no method, or takes a name that is taken.
    """
    found: dict[str, type[Method]] = {method.name: method for method in OURS}
    for entry in entry_points(group="suffice.methods"):
        if entry.name in found:
            raise PluginError(f"{_origin(entry)} is a second method of that name; rename it or uninstall the package")
        found[entry.name] = _load(entry)
    return found


def list_methods() -> list[str]:
    """Names that `get_method` and a recipe's `[method] name` take."""
    return list(registry())


def get_method(name: str, **parameters: Any) -> Method:
    """The method of that name with the given parameters, defaults elsewhere.

    Raises:
        ValueError: unknown name, unknown parameter or a parameter out of range.
        PluginError: an installed package's method cannot be loaded.
    """
    known = registry()
    if name not in known:
        nearest = get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        raise ValueError(f"unknown method {name!r}; {hint}")
    return known[name](**parameters)


def _load(entry: EntryPoint) -> type[Method]:
    try:
        method = entry.load()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise PluginError(
            f"{_origin(entry)} cannot be loaded ({type(error).__name__}: {reason}); mend or uninstall the package"
        ) from error
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise PluginError(f"{_origin(entry)} is {method!r} and not a subclass of suffice.methods.Method; mend it")
    if missing := [field for field in ("name", "paper", "formula") if not hasattr(method, field)]:
        raise PluginError(f"{_origin(entry)} does not say its {missing[0]}; set {missing[0]} = '…' in its class")
    if method.name != entry.name:
        raise PluginError(f"{_origin(entry)} calls itself {method.name!r}; give class and entry point one name")
    return method


def _origin(entry: EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
    return f"method {entry.name!r} of {package} ({entry.value})"
