"""TRL's GRPOTrainer as an engine: our groups, our advantages, its loop and its processes.

    GRPOTrainer(
        model,
        args=grpo_config(recipe, output_dir="out"),
        train_dataset=as_dataset(problems),
        rollout_func=GroupRollout(recipe, chat),
        reward_funcs=advantages(recipe, config, chat, grader),
        processing_class=chat.tokenizer,
    )

TRL subtracts the mean of a group from what a reward function returns. A function that returns *advantages* therefore
gets them through unchanged if they sum to zero in every group, and only then. What TRL's loss divides by is made ours
by one factor on all advantages of a batch (`config.loss_factor`). Gradients then equal the local engine's, in rows: TRL
computes a shared token once for every member.

TRL has no refill, so a recipe must not ask for one. Its hook for rollouts is marked as subject to change: tests hold
one minor version to what is relied on; older ones are refused, newer ones warned of.
"""

from suffice.errors import SufficeError
from suffice.extras import install_command

try:
    import trl  # noqa: F401
except ImportError as error:
    raise SufficeError(f"trl is missing; install it with: {install_command('trl')}") from error

from suffice.engines.trl.config import grpo_config
from suffice.engines.trl.data import as_dataset
from suffice.engines.trl.reward import RewardFunction, advantages
from suffice.engines.trl.rollout import GroupRollout

__all__ = ["GroupRollout", "RewardFunction", "advantages", "as_dataset", "grpo_config"]
