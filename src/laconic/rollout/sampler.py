"""Groups: full rollouts (spines), then answers at exits of their thoughts (branches). Token ids throughout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from laconic.grading import Grader
from laconic.groups import Branch, Group, Problem, Spine, Verdict
from laconic.rollout.chat import Chat
from laconic.rollout.decode import Ask, Count, Decoder, keyed

Advance = Callable[[int], None]


class Sampler:
    """Samples groups from a local model.

    Randomness is keyed on (seed, problem, spine, exit), so the same call samples the same groups whatever was
    sampled before, and one group does not depend on the others in its batch.
    """

    def __init__(
        self,
        model: Any,
        chat: Chat,
        *,
        temperature: float,
        top_p: float,
        max_thought_tokens: int,
        max_answer_tokens: int,
        cache_gb: float,
    ) -> None:
        self.chat = chat
        self.thought, self.answer = max_thought_tokens, max_answer_tokens
        self.count = Count()
        self.decode = Decoder(
            model, chat.pad_id, chat.open_id, chat.close_id, chat.end_ids, temperature, top_p, cache_gb
        )

    def spines(self, problems: Sequence[Problem], count: int, seed: str, advance: Advance | None = None) -> list[Group]:
        """`count` full rollouts of every problem, one group a problem; a problem given twice is sampled anew."""
        seen: Counter[str] = Counter()
        groups = []
        for problem in problems:
            key = f"{seed}/{problem.id}/{seen[problem.id]}"
            seen[problem.id] += 1
            groups.append(Group(problem, self.chat.render(problem.prompt), self.chat.inducer, [], key))
        asks = [
            Ask(
                group.prompt,
                key=f"{group.key}/{k}",
                answer=self.answer,
                thought=self.thought,
                opens=not self.chat.opened(group.prompt),
            )
            for group in groups
            for k in range(count)
        ]
        for i, sampled in enumerate(self.decode(asks, self.count, advance)):
            group = groups[i // count]
            start, end, closed = self.chat.thought(group.prompt, sampled.tokens)
            group.spines.append(Spine(sampled.tokens, sampled.logprobs, start, end, closed, sampled.truncated))
        return groups

    def branches(
        self,
        groups: Sequence[Group],
        exits: Callable[[Group, int], Sequence[int]],
        advance: Advance | None = None,
    ) -> None:
        """Answer every spine k of every group at the exits `exits(group, k)` (thought tokens kept), in place."""
        asks, owners = [], []
        for group in groups:
            for k, spine in enumerate(group.spines):
                for position in exits(group, k):
                    prefix = group.prompt + spine.tokens[: spine.thought_start + position] + group.inducer
                    asks.append(Ask(prefix, f"{group.key}/{k}/{position}", self.answer))
                    owners.append((spine, position))
        for (spine, position), sampled in zip(owners, self.decode(asks, self.count, advance), strict=True):
            spine.branches.append(Branch(position, sampled.tokens, sampled.logprobs, sampled.truncated))


def random_exits(count: int) -> Callable[[Group, int], list[int]]:
    """Up to `count` exits 1…n of a thought of n tokens, uniform without replacement, in order (S-GRPO, Alg. 1)."""

    def draw(group: Group, k: int) -> list[int]:
        n = group.spines[k].thought_length
        chosen = keyed(f"{group.key}/{k}/exits").choice(n, size=min(count, n), replace=False)
        return sorted(int(i) + 1 for i in chosen)

    return draw


def grade_groups(groups: Sequence[Group], chat: Chat, grader: Grader) -> None:
    """Give every member its verdict, in place. A cut answer and a thought that never closed are WRONG."""
    jobs, owners = [], []
    for group in groups:
        for _, _, member in group.members(exits=0):
            if member.truncated or not member.closed:
                member.verdict = Verdict.WRONG
            else:
                jobs.append((chat.answer_text(member.answer_tokens), group.problem.gold, group.problem.kind))
                owners.append(member)
    for member, verdict in zip(owners, grader.grade_many(jobs), strict=True):
        member.verdict = verdict
