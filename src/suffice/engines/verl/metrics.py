"""A step's figures by the names of metrics.jsonl, from the facts of its members and from verl's own metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suffice.config import GroupSection
from suffice.engines.verl.estimators import Scored
from suffice.groups import Verdict
from suffice.rollout.metrics import mean


def member_metrics(scored: Scored, group: GroupSection, problems: int) -> dict[str, float]:
    """Of a step of so many problems: means over all full rollouts, those of dropped groups included; rewards over what
    is trained on.

    `failed` counts members whose session raised: full rollouts, and exits of those that there are.
    """
    members = [member for member in scored.members.rows if member]
    full = [member for member in members if member.exit is None]
    branches = [member for member in members if member.exit is not None]
    trained = scored.members.batch.valid & scored.kept[:, None]
    wanted = problems * group.spines + sum(min(group.exits, member.thought_tokens) for member in full)
    found: dict[str, float] = {
        "failed": wanted - len(members),
        "groups": int(scored.kept.sum()),
        "dropped": int((~scored.kept).sum()),
    }
    if full:
        found |= {
            "accuracy": mean(member.correct for member in full),
            "thought_tokens": mean(member.thought_tokens for member in full),
            "answer_tokens": mean(member.answer_tokens for member in full),
            "unclosed": mean(not member.closed for member in full),
            "unclosed_tokens": mean(0 if member.closed else member.thought_tokens for member in full),
            "looping": mean(member.loop_tokens > 0 for member in full),
            "loop_tokens": mean(member.loop_tokens for member in full),
            "truncated": mean(member.truncated for member in full),
            "unparsed": mean(member.verdict == Verdict.UNPARSED for member in full),
        }
    if branches:
        found["exit_accuracy"] = mean(member.correct for member in branches)
        found["exit_truncated"] = mean(member.truncated for member in branches)
    cached = [member.cached for member in members if member.cached is not None]
    found["tokens_decode"] = sum(member.decoded for member in members)
    found["tokens_prefill"] = sum(member.prefixes for member in members) - sum(cached)
    if cached:
        found["tokens_cached"] = sum(cached)
    found["reward"] = float(scored.scores.reward[trained].mean()) if trained.any() else 0.0
    found["advantage"] = float(scored.scores.advantage[trained].abs().mean()) if trained.any() else 0.0
    return found


def update_metrics(metrics: Mapping[str, Any], seconds: Mapping[str, float], synced: float) -> dict[str, float]:
    """The update's figures out of verl's metrics, and where its seconds went; `synced` are those that the servers took
    to get the weights of the step before."""
    names = {
        "loss": "actor/pg_loss",
        "grad_norm": "actor/grad_norm",
        "clip_fraction": "actor/pg_clipfrac",
        "learning_rate": "actor/lr",
    }
    found = {ours: float(metrics[theirs]) for ours, theirs in names.items() if theirs in metrics}
    if sampled := float(metrics.get("actor/sampled_tokens", 0.0)):
        # −log p of what was sampled estimates the entropy; the exact one would need a pass of its own
        found["mismatch"] = float(metrics["actor/drift"]) / sampled
        found["entropy"] = float(metrics["actor/surprise"]) / sampled
    update = ("old_log_prob", "adv", "update_actor")
    return found | {
        "seconds_rollout": seconds["gen"],
        "seconds_update": synced + sum(seconds.get(name, 0.0) for name in update),
    }
