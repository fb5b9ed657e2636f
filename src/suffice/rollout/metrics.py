"""What a step says of itself: means over its rollouts, and groups as text to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from suffice.groups import Group, Verdict, answer_length
from suffice.loops import repeated_tokens
from suffice.rollout import Chat
from suffice.run.records import ShownExit, ShownGroup, ShownSpine

KEPT_GROUPS = 2  # groups a step that rollouts.jsonl keeps


def rollout_metrics(groups: Sequence[Group], chat: Chat) -> dict[str, float]:
    """Means over all full rollouts that were sampled, those of dropped groups included."""
    spines = [spine for group in groups for spine in group.spines]
    branches = [branch for spine in spines for branch in spine.branches]
    repeated = [repeated_tokens(spine.tokens[spine.thought_start : spine.thought_end]) for spine in spines]
    found = {
        "accuracy": mean(spine.verdict is Verdict.CORRECT for spine in spines),
        "thought_tokens": mean(spine.thought_length for spine in spines),
        "answer_tokens": mean(answer_length(spine.answer_tokens, chat.end_ids) for spine in spines),
        "unclosed": mean(not spine.closed for spine in spines),
        "unclosed_tokens": mean(0 if spine.closed else spine.thought_length for spine in spines),
        "looping": mean(tokens > 0 for tokens in repeated),
        "loop_tokens": mean(repeated),
        "truncated": mean(spine.truncated for spine in spines),
        "unparsed": mean(spine.verdict is Verdict.UNPARSED for spine in spines),
    }
    if branches:
        found["exit_accuracy"] = mean(
            branch.verdict is Verdict.CORRECT if branch.value is None else branch.value for branch in branches
        )
        found["exit_truncated"] = mean(branch.truncated for branch in branches)
    return found


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def rollout_line(step: int, group: Group, chat: Chat) -> ShownGroup:
    """A group as text to look at, never to train on."""
    spines = [
        ShownSpine(
            thought=chat.text(spine.tokens[spine.thought_start : spine.thought_end]),
            answer=chat.answer_text(spine.answer_tokens),
            verdict=spine.verdict,
            exits=[
                ShownExit(
                    exit=branch.exit, answer=chat.answer_text(branch.answer), verdict=branch.verdict, value=branch.value
                )
                for branch in spine.branches
            ],
        )
        for spine in group.spines
    ]
    problem = group.problem
    return ShownGroup(step=step, problem=problem.id, prompt=problem.prompt, gold=problem.gold, spines=spines)
