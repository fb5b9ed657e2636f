"""DLER (Liu et al., arXiv 2510.15110): plain truncation, optimised well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from suffice.methods.grpo import SCALE
from suffice.methods.think_prune import ThinkPrune


class DLER(ThinkPrune):
    """A cap, as ThinkPrune's; advantages divided by one standard deviation for the whole batch; token mean.

    Truncation makes the deviations of single groups noisy, and dividing by them biases the advantage.
    """

    name = "dler"
    paper = "Liu et al. 2025, DLER, arXiv 2510.15110"
    formula = "r = 1[correct and not truncated and L ≤ cap];  A = (r − mean r) / (std of that in the batch + 1e-6)"
    aggregate = "token"
    clip_high = 0.28

    scale_rewards: Literal["std", "batch", "none"] = Field("batch", description=SCALE)
