"""One update: a scored batch in either layout, forward and backward in micro-batches, one optimizer step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from suffice.config import MICRO_BATCH, ObjectiveSection, TrainSection
from suffice.engines.policy import Precision
from suffice.errors import NonFiniteError
from suffice.groups import Group
from suffice.objective import (
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
    """Turns scored groups into optimizer steps of a model; `learning_rate` is that after the warm-up."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        objective: ObjectiveSection,
        train: TrainSection,
        *,
        close_id: int,
        exits: int,
        temperature: float,
        precision: Precision,
        base: Any = None,
    ) -> None:
        self.optimizer, self.train, self.precision, self.base = optimizer, train, precision, base
        self.decision = close_id
        self.learning_rate = train.learning_rate
        self.clip = (objective.clip_low or 0.0, objective.clip_high or 0.0)
        self.layout = LAYOUTS[objective.layout]
        self.micro_batch = train.micro_batch_tokens or MICRO_BATCH
        self.temperature = temperature
        self.told: Callable[[int, int], None] = lambda done, of: None
        self.objective = Objective(
            objective.aggregate or "sequence",
            objective.train_on or "sampled",
            close_id,
            exits,
            objective.constant_length or 1,
            objective.kl or 0.0,
        )

    def __call__(self, model: Any, groups: Sequence[Group], advantage_P_G: Tensor, step: int) -> dict[str, float]:
        """`updates_per_batch` optimizer steps on a batch; metrics of the last, none if no member has an advantage."""
        batches = self.layout(groups, advantage_P_G, self.objective, self.micro_batch)
        if not batches:
            return {}
        updates = self.train.updates_per_batch
        olds: list[Tensor | None] = [None] * len(batches)
        if updates > 1:
            with torch.no_grad(), self.precision():
                olds = [batch.logprobs(model, self.temperature)[0] for batch in batches]
        rate = self.learning_rate * min(1.0, step / max(1, self.train.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for _ in range(updates):
            try:
                metrics = self.optimizer_step(model, batches, olds)
            except NonFiniteError as error:
                error.groups = self.offenders(model, groups, advantage_P_G)
                raise
        pushed = sum(batch.tokens for batch in batches) * (updates + (updates > 1))
        return metrics | {"tokens_train": pushed, "learning_rate": rate}

    def optimizer_step(
        self, model: Any, batches: Sequence[RowBatch | SpineBatch], olds: Sequence[Tensor | None]
    ) -> dict[str, float]:
        """Accumulate every batch's gradient, clip its norm, step. `olds` are None where old = new.

        Raises:
            NonFiniteError: the gradient is not finite; the weights are as before.
        """
        total: Counter[str] = Counter()
        self.optimizer.zero_grad()
        for i, (batch, frozen) in enumerate(zip(batches, olds, strict=True), 1):
            total.update(self.backward(model, batch, frozen))
            self.told(i, len(batches))
        norm = torch.nn.utils.clip_grad_norm_(self.learned, self.train.max_grad_norm)
        if not torch.isfinite(norm):
            raise NonFiniteError(
                f"the gradient is not finite (norm {float(norm)}); no update was made: lower train.learning_rate "
                "or use model.dtype = float32, then resume"
            )
        self.optimizer.step()
        return {
            "loss": total["loss"],
            "grad_norm": float(norm),
            "entropy": total["entropy"] / max(1, total["trained"]),
            "clip_fraction": total["clipped"] / max(1, total["trained"]),
            "mismatch": total["mismatch"] / max(1, total["sampled"]),
        } | ({"drift": total["drift"]} if self.base is not None else {})

    @property
    def learned(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def backward(self, model: Any, batch: RowBatch | SpineBatch, frozen: Tensor | None) -> dict[str, float]:
        """Add a batch's gradient; its loss, and sums over its tokens."""
        with self.precision():
            if self.base is None:
                new_T, entropy_T = batch.logprobs(model, self.temperature)
                drift = new_T.new_zeros(())
            else:
                assert isinstance(batch, SpineBatch)  # a recipe with both is refused
                new_T, entropy_T, drift = self.held(model, batch)
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
        (loss + drift).backward()
        return {
            "loss": float(loss.detach()),
            "drift": float(drift.detach()),
            "entropy": float(entropy_T.sum()),
            "mismatch": float((old_T - behaviour_T)[sampled_T].abs().sum()),
            "clipped": float(clipped(new_T.detach(), old_T, plus_T, minus_T, *self.clip).sum()),
            "trained": len(new_T),
            "sampled": int(sampled_T.sum()),
        }

    def held(self, model: Any, batch: SpineBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probs and entropies of trained tokens, and how far thoughts have drifted from the base's, weighted."""
        read = batch.read(model)
        with torch.no_grad():
            base = batch.read(self.base)
        return *batch.said(read, self.temperature), batch.drift(base, read, self.decision, self.temperature)

    def offenders(self, model: Any, groups: Sequence[Group], advantage_P_G: Tensor) -> list[Group]:
        """Groups whose own gradient is not finite; all of them where only their sum is not."""
        found = []
        for group, advantage_G in zip(groups, advantage_P_G, strict=True):
            self.optimizer.zero_grad()
            for batch in self.layout([group], advantage_G[None], self.objective, self.micro_batch):
                self.backward(model, batch, None)
            if not all(p.grad is None or p.grad.isfinite().all() for p in self.learned):
                found.append(group)
        self.optimizer.zero_grad()
        return found or list(groups)
