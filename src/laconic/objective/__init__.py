"""From advantages to a loss: token weights, log-probabilities where they are needed, the clipped surrogate.

Useful on its own in another trainer: `to_batch` → `method.score` → `member_rows` → `row_logprobs` → `policy_loss`.
"""

from laconic.objective.logprobs import row_logprobs
from laconic.objective.loss import clipped, importance, policy_loss
from laconic.objective.rows import Row, member_rows, to_batch

__all__ = ["Row", "clipped", "importance", "member_rows", "policy_loss", "row_logprobs", "to_batch"]
