"""JET (Han et al., arXiv 2509.23392): among right answers, a bonus from the longest to the shortest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import extremes
from suffice.methods.grpo import LengthReward

if TYPE_CHECKING:
    from torch import Tensor


class JET(LengthReward):
    """The longest right member earns 1 + δ, the shortest (1 − δ)·α more; a wrong one nothing.

    The paper's other half is its rollout: part of a group's thoughts are cut early and made to answer. `s-grpo` is this
    project's way to do that; here members are whole thoughts.
    """

    name = "jet"
    paper = "Han et al. 2025, JET, arXiv 2509.23392"
    formula = "r = 1[correct]·(1 + δ + (1 − δ)·α·(max L − L) / (max L − min L)), over the right;  A as in grpo"
    aggregate = "token"
    clip_high = 0.28

    alpha: float = Field(1.2, ge=0, le=100, description="Bonus α of the shortest right member.")
    delta: float = Field(0.05, ge=0, le=1, description="Share δ of the bonus that every right member earns.")

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        length_P_G = batch.length.double()
        low_P_1, high_P_1 = extremes(length_P_G, batch.correct)
        saved_P_G = ((high_P_1 - length_P_G) / (high_P_1 - low_P_1)).where(batch.correct & (high_P_1 > low_P_1), 0.0)
        return batch.correct * (1 + self.delta + (1 - self.delta) * self.alpha * saved_P_G)

    pressure = "alpha"
