"""One update: a scored batch in either layout, forward and backward in micro-batches, one optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from laconic.config import ObjectiveSection, TrainSection
from laconic.errors import LaconicError
from laconic.groups import Group
from laconic.objective import (
    Objective,
    RowBatch,
    SpineBatch,
    clipped,
    importance,
    policy_loss,
    row_batches,
    spine_batches,
)

LAYOUTS: dict[str, Callable[..., Sequence[RowBatch | SpineBatch]]] = {"spine": spine_batches, "rows": row_batches}


class Updater:
    """Turns scored groups into optimizer steps. `precision` is entered around every forward pass."""

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        objective: ObjectiveSection,
        train: TrainSection,
        *,
        close_id: int,
        exits: int,
        temperature: float,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.model, self.optimizer, self.train, self.precision = model, optimizer, train, precision
        self.clip = (objective.clip_low or 0.0, objective.clip_high or 0.0)
        self.layout = LAYOUTS[objective.layout]
        self.temperature = temperature
        self.objective = Objective(
            objective.aggregate or "sequence", objective.train_on, close_id, exits, objective.constant_length or 1
        )

    def __call__(self, groups: Sequence[Group], advantage_P_G: Tensor, step: int) -> dict[str, float]:
        """`updates_per_batch` optimizer steps on a batch; metrics of the last, none if no member has an advantage."""
        batches = self.layout(groups, advantage_P_G, self.objective, self.train.micro_batch_tokens)
        if not batches:
            return {}
        updates = self.train.updates_per_batch
        olds: list[Tensor | None] = [None] * len(batches)
        if updates > 1:
            with torch.no_grad(), self.precision():
                olds = [batch.logprobs(self.model, self.temperature)[0] for batch in batches]
        rate = self.train.learning_rate * min(1.0, step / max(1, self.train.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for _ in range(updates):
            metrics = self.optimizer_step(batches, olds)
        pushed = sum(batch.tokens for batch in batches) * (updates + (updates > 1))
        return metrics | {"tokens_train": pushed, "learning_rate": rate}

    def optimizer_step(
        self, batches: Sequence[RowBatch | SpineBatch], olds: Sequence[Tensor | None]
    ) -> dict[str, float]:
        """Accumulate every batch's gradient, clip its norm, step. `olds` are None where old = new.

        Raises:
            LaconicError: the gradient is not finite; the weights are as before.
        """
        total = dict.fromkeys(("loss", "entropy", "mismatch", "clip_fraction"), 0.0)
        trained = sampled = 0
        self.optimizer.zero_grad()
        for batch, frozen in zip(batches, olds, strict=True):
            with self.precision():
                new_T, entropy_T = batch.logprobs(self.model, self.temperature)
            old_T = new_T.detach() if frozen is None else frozen
            plus_T, minus_T, behaviour_T = (x.to(new_T) for x in (batch.plus, batch.minus, batch.behaviour))
            sampled_T = batch.sampled.to(new_T.device)
            loss = policy_loss(
                new_T,
                old_T,
                plus_T,
                minus_T,
                clip_low=self.clip[0],
                clip_high=self.clip[1],
                importance_T=importance(old_T, behaviour_T, sampled_T),
            )
            loss.backward()
            total["loss"] += float(loss.detach())
            total["entropy"] += float(entropy_T.sum())
            total["mismatch"] += float((old_T - behaviour_T)[sampled_T].abs().sum())
            total["clip_fraction"] += float(clipped(new_T.detach(), old_T, plus_T, minus_T, *self.clip).sum())
            trained += len(new_T)
            sampled += int(sampled_T.sum())
        learned = [p for p in self.model.parameters() if p.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(learned, self.train.max_grad_norm)
        if not torch.isfinite(norm):
            raise LaconicError(
                f"the gradient is not finite (norm {float(norm)}); no update was made: lower train.learning_rate "
                "or use model.dtype = float32, then resume"
            )
        self.optimizer.step()
        return {
            "loss": total["loss"],
            "grad_norm": float(norm),
            "entropy": total["entropy"] / trained,
            "clip_fraction": total["clip_fraction"] / trained,
            "mismatch": total["mismatch"] / max(1, sampled),
        }
