"""S-GRPO (Dai, Yang and Si, arXiv 2505.07686): one thought, cut at m exits; the earliest right answer earns most.

With several spines a group also knows how good whole thoughts are, and the full member of each spine is credited with
it. That two-level form is ours; `spines = 1` is the paper's method exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from suffice.groups import GroupBatch
from suffice.methods.base import Method, centre

if TYPE_CHECKING:
    from torch import Tensor


class Serial(Method):
    """What S-GRPO and the ablations of its reward share: serial groups, and a baseline without std.

    Subclasses say what the n-th correct member earns, counted in order of exit, the full thought last.
    """

    serial = True

    between: float = Field(
        0.5, ge=0, le=100, description="Weight β of the between-spine term; no effect with one spine."
    )

    def credit(self, right_before: Tensor) -> Tensor:
        """float64 [P, K, M]: reward of a correct member with so many correct ones before it."""
        raise NotImplementedError

    def reward(self, batch: GroupBatch, spines: int) -> Tensor:
        correct_P_K_M = batch.correct.unflatten(1, (spines, -1))
        right_before_P_K_M = (correct_P_K_M.cumsum(-1) - 1).clamp(min=0)
        return (correct_P_K_M * self.credit(right_before_P_K_M.double())).flatten(1)

    def advantage(self, reward_P_G: Tensor, batch: GroupBatch, spines: int) -> Tensor:
        valid_P_K_M = batch.valid.unflatten(1, (spines, -1))
        advantage_P_K_M = centre(reward_P_G.unflatten(1, (spines, -1)), valid_P_K_M)
        full_correct_P_K = batch.correct.unflatten(1, (spines, -1))[..., -1].double()
        advantage_P_K_M[..., -1] += self.between * centre(full_correct_P_K, valid_P_K_M[..., -1])
        return advantage_P_K_M.flatten(1)

    def has_signal(self, batch: GroupBatch) -> Tensor:
        """A group without a right answer has nothing to say; one where every exit is right says: earlier."""
        return batch.correct.any(-1)


class SGRPO(Serial):
    """Reward decay^(n − 1) for the n-th correct member in order of exit, the full thought last; no std.

    The paper's Fig. 5: wrong, then eight right → 0, 1, 1/2, …, 1/128.
    """

    name = "s-grpo"
    paper = "Dai, Yang and Si 2025, S-GRPO, arXiv 2505.07686, Alg. 1 (several spines: ours)"
    formula = (
        "r = 1[correct]·decay^(n_right − 1);  A = r − mean r of the spine + β·(c − mean c of the spines; full member)"
    )

    decay: float = Field(0.5, gt=0, le=1, description="Factor per correct member so far; the paper halves.")

    def credit(self, right_before: Tensor) -> Tensor:
        return self.decay**right_before


class ShortestOne(Serial):
    """S-GRPO's ablation "Shortest 1": only the earliest right exit earns 1. Shortens more, and errs more."""

    name = "shortest-one"
    paper = "Dai, Yang and Si 2025, S-GRPO, arXiv 2505.07686, Table 2 (several spines: ours)"
    formula = "r = 1[correct and n_right = 1];  A as in s-grpo"

    def credit(self, right_before: Tensor) -> Tensor:
        return (right_before == 0).double()


class AllOne(Serial):
    """S-GRPO's ablation "All 1": every right exit earns 1. Nothing says that earlier is better, and it does not
    shorten."""

    name = "all-one"
    paper = "Dai, Yang and Si 2025, S-GRPO, arXiv 2505.07686, Table 2 (several spines: ours)"
    formula = "r = 1[correct];  A as in s-grpo"

    def credit(self, right_before: Tensor) -> Tensor:
        return right_before.new_ones(right_before.shape)
