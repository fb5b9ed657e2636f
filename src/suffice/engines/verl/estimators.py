"""Our methods as verl's advantage estimators, `suffice-<method>`: the very `score` that the local engine calls.

verl hands an estimator token rewards and problem ids. That is too little for a method, which asks for lengths and for
the place of a member in its group, so the trainer of this package passes the members as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suffice.config import GroupSection
from suffice.engines.verl.members import Member, Members, gather
from suffice.errors import RecipeError
from suffice.groups import GroupBatch, Scores
from suffice.methods import Method, list_methods
from suffice.run.directory import Run


@dataclass(frozen=True, slots=True)
class Scored:
    """A step's members with their scores. `kept` [P] marks the groups that are trained on.

    Groups without signal are left out where a recipe would refill (`train.refill_cap` above 0): they count neither
    in a mean nor among the groups of which λ are selected, as in the local engine when its refills are used up.
    """

    members: Members
    kept: Tensor
    scores: Scores

    @property
    def trained(self) -> int:
        """N, the members the loss is a mean over."""
        return int(self.members.batch.valid[self.kept].sum())


def score(rows: Sequence[Member | None], group: GroupSection, method: Method, *, drops: bool) -> Scored:
    """Score a whole step's rows, in any order, by a method. With `drops` groups without signal are left out."""
    members = gather(rows, group.spines, group.exits)
    batch = members.batch
    kept = method.has_signal(batch) if drops else torch.ones(len(batch.correct), dtype=torch.bool)
    reward, advantage = torch.zeros(batch.correct.shape), torch.zeros(batch.correct.shape)
    if kept.any():
        scores = method.score(_groups(batch, kept))
        reward[kept], advantage[kept] = scores.reward, scores.advantage
    return Scored(members, kept, Scores(reward, advantage))


def observe(method: Method, metrics: Mapping[str, float]) -> dict[str, float]:
    """Tell the method of a step, unless every session of it failed; what metrics should say of it."""
    return method.observe(metrics["accuracy"], metrics["thought_tokens"]) if "accuracy" in metrics else {}


def recall(method: Method, run: Path, step: int) -> None:
    """What the method had learned by `step` of a run: what it was told stands in the metrics."""
    for line in Run(run).metrics():
        if line.step <= step:
            observe(method, line.figures())


def _groups(batch: GroupBatch, kept_P: Tensor) -> GroupBatch:
    return GroupBatch(
        batch.correct[kept_P],
        batch.length[kept_P],
        batch.valid[kept_P],
        spines=batch.spines,
        thought_length=batch.thought_length[kept_P],
        truncated=batch.truncated[kept_P],
    )


def estimate(
    name: str,
    *,
    token_level_rewards: Tensor,
    response_mask: Tensor,
    scored: Scored | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """(advantages, returns) [B, T] as verl asks for them: a member's advantage on each of its trained tokens.

    Raises:
        RecipeError: verl's own trainer called, which does not say what the members are.
    """
    if scored is None:
        raise RecipeError(
            f"suffice-{name} scores whole groups, which verl's own trainers do not pass on; "
            "set trainer.v1.trainer_mode=suffice"
        )
    advantage_B_T = scored.members.spread(scored.scores.advantage)[:, None] * response_mask
    return advantage_B_T, advantage_B_T


def register(register_adv_est: Callable[[str], Callable[[Any], Any]]) -> None:
    """Register all methods; `register_adv_est` is verl's."""
    for name in list_methods():
        register_adv_est(f"suffice-{name}")(partial(estimate, name))


def loss_factor(scored: Scored, mask_B_T: Tensor, aggregate: str | None, rows: int) -> float:
    """What verl's loss divides by, over what ours does: rows, or tokens under `token`.

    verl counts all unmasked tokens, or the `rows` of its configuration: a step's groups of full size.
    """
    kept = scored.members.spread(scored.kept[:, None].expand(scored.scores.reward.shape).float())
    if aggregate == "token":
        tokens_B = mask_B_T.sum(-1)
        return float(tokens_B.sum() / (tokens_B * kept).sum().clamp(min=1))
    return rows / max(1, scored.trained)
