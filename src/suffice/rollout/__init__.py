"""Sampling: prompts in, groups of token ids out."""

from suffice.model.chat import Chat
from suffice.rollout.decode import Ask, Count, Decoder, Sampled
from suffice.rollout.sampler import Sampler, grade_groups, random_exits

__all__ = ["Ask", "Chat", "Count", "Decoder", "Sampled", "Sampler", "grade_groups", "random_exits"]
