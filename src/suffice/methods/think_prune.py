"""ThinkPrune (Hou et al., arXiv 2504.01296): an answer that does not come within the cap is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import mixed
from suffice.methods.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


class ThinkPrune(GRPO):
    """Right and within the cap, or nothing. No price on length below it.

    The paper trains in rounds, each with a tighter cap (4,000, 3,000, 2,000 tokens), and states it in the prompt.
    """

    name = "think-prune"
    paper = "Hou et al. 2025, ThinkPrune, arXiv 2504.01296"
    formula = "r = 1[correct and not truncated and L ≤ cap];  A as in grpo"

    cap: int = Field(4000, ge=1, description="Longest length that counts, in tokens.")

    def in_time(self, batch: GroupBatch) -> Tensor:
        """bool [P, G]: right, and neither cut nor longer than the cap."""
        return batch.correct & ~batch.truncated & (batch.length <= self.cap)

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        return self.in_time(batch).double()

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """Groups in which some members are right in time and some are not."""
        return mixed(self.in_time(batch), batch.valid)
