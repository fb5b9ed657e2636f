"""From advantages to a loss: token weights, log-probabilities where they are needed, the clipped surrogate.

Useful on its own in another trainer: `to_batch` → `method.score` → `spine_batches` → `batch.logprobs` → `policy_loss`.
"""

from suffice.objective.batch import to_batch
from suffice.objective.loss import clipped, importance, policy_loss
from suffice.objective.rows import RowBatch, row_batches
from suffice.objective.spine import SpineBatch, spine_batches
from suffice.objective.weights import Objective, weigh, weigh_member

__all__ = [
    "Objective",
    "RowBatch",
    "SpineBatch",
    "clipped",
    "importance",
    "policy_loss",
    "row_batches",
    "spine_batches",
    "to_batch",
    "weigh",
    "weigh_member",
]
