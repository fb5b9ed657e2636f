"""A method of your own: a bonus for right answers that are shorter than their group's mean.

    python examples/brevity.py

docs/add-a-method.md says how a package registers it, so that recipes, verl and TRL know it by name.
"""

import torch
from pydantic import Field

from suffice import GroupBatch
from suffice.methods.base import masked_mean
from suffice.methods.grpo import LengthReward


class Brevity(LengthReward):
    name, paper, formula = "brevity", "our own", "r = 1[correct]·(1 + bonus·1[L < mean L]);  A as in grpo"
    bonus: float = Field(0.2, ge=0, le=1, description="Bonus of a right answer shorter than its group's mean.")

    def reward(self, batch, spines):
        mean_P_1 = masked_mean(batch.length.double(), batch.valid)
        return batch.correct * (1 + self.bonus * (batch.length < mean_P_1).double())


if __name__ == "__main__":
    batch = GroupBatch(torch.tensor([[True, True, False]]), torch.tensor([[100, 400, 100]]))
    print(Brevity(bonus=0.5).score(batch).reward.tolist())
