"""Take rewards and advantages from suffice, and keep your own trainer.

    python examples/score_a_batch.py

A method sees which members of a group were right and how long they were. Here two problems have four rollouts each; the
advantages weigh the tokens of a plain policy loss.
"""

import torch

from suffice import GroupBatch, get_method

correct = torch.tensor([[True, True, True, True], [True, False, False, True]])
length = torch.tensor([[40, 60, 80, 100], [50, 90, 70, 30]])

method = get_method("grpo-lambda", lam=0.5, alpha=0.2)  # the length penalty in the more accurate half of the groups
scores = method.score(GroupBatch(correct, length))
print("reward", scores.reward)
print("advantage", scores.advantage)

# Your trainer: log-probabilities of the sampled tokens, here of a policy that knows one number per member.
logit = torch.zeros(2, 4, requires_grad=True)
logprob = torch.nn.functional.logsigmoid(logit)
loss = -(scores.advantage * logprob).mean()
loss.backward()
print("pushed up", (logit.grad < 0).int())
