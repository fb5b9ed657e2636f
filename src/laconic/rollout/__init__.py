"""Sampling: prompts in, groups of token ids out."""

from laconic.rollout.chat import Chat
from laconic.rollout.decode import Ask, Count, Decoder, Sampled
from laconic.rollout.sampler import Sampler, grade_groups, random_exits

__all__ = ["Ask", "Chat", "Count", "Decoder", "Sampled", "Sampler", "grade_groups", "random_exits"]
