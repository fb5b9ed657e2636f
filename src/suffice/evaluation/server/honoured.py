"""Whether a server did what it was asked to, judged by its replies alone: what was sent against what came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from suffice.evaluation.server.forcing import seen_whole
from suffice.evaluation.server.replies import Logprobs
from suffice.model.marks import FAMILIES

State = Literal["honoured", "ignored", "refused", "unknown"]
"""What became of a wish: `unknown` where the replies would look alike either way."""

END_TOKENS = 64  # that a server writes where a budget is spent, at most
SLACK_TOKENS = 8  # marks and blanks that counts hold or leave out


class Judged(NamedTuple):
    """What became of a wish, and what it was seen by."""

    state: State
    found: str


@dataclass(frozen=True, slots=True)
class Said:
    """A reply as it was read; tokens as they were counted, marks left out."""

    thought: str
    rest: str
    closed: bool
    cut: bool
    thought_tokens: int
    rest_tokens: int

    @property
    def text(self) -> str:
        return self.thought + self.rest


def limit_kept(asked: int, generated: int | None, *, cut: bool) -> Judged:
    """A limit of tokens against what the server says it generated, None where it does not say."""
    if generated is None:
        return Judged("unknown", "the server does not tell how many tokens it generates")
    found = f"asked for {asked} at most, {generated} came"
    if generated > asked:
        return Judged("ignored", found)
    return Judged("honoured", found) if cut else Judged("unknown", f"{found}, and the reply was over")


def greedy(first: str, again: str) -> Judged:
    """Two replies at temperature 0, with different seeds."""
    if first == again:
        return Judged("honoured", "temperature 0 gave one text twice")
    return Judged("ignored", "temperature 0 gave two texts")


def seed_kept(same: Sequence[str], others: Sequence[str]) -> Judged:
    """Replies drawn from one seed, and from other seeds."""
    if len(set(same)) > 1:
        return Judged("ignored", f"one seed gave {len(set(same))} texts")
    if {*others} == {*same}:
        return Judged("unknown", f"{len(same) + len(others)} draws at temperature 1 are one text, whatever the seed")
    return Judged("honoured", "one seed gave one text twice, other seeds gave others")


def several(asked: int, came: int) -> Judged:
    """The texts of one reply."""
    return Judged("honoured" if came == asked else "ignored", f"asked for {asked} texts, {came} came")


def prompt_whole(sent: int, seen: int | None) -> Judged:
    """Tokens of a prompt as it is meant, against those that the server saw."""
    if seen is None:
        return Judged("unknown", "the server does not tell how many tokens of a prompt it saw")
    state: State = "honoured" if seen_whole(sent, seen, ids=True) else "ignored"
    return Judged(state, f"{sent} tokens meant, {seen} seen")


def prompt_raw(raw: int | None, chat: int | None) -> Judged:
    """The same words as a raw prompt and as a chat's: what a template is wrapped around has more tokens."""
    if raw is None or chat is None:
        return Judged("unknown", "the server does not tell how many tokens of a prompt it saw")
    found = f"{raw} prompt tokens, in a chat {chat}"
    return Judged("honoured" if raw < chat else "ignored", found if raw < chat else f"{found}: a template is around it")


def logprobs_told(told: Logprobs | None) -> Judged:
    """Log-probabilities of a raw completion's tokens."""
    values = [value for value in (told and told.token_logprobs) or [] if value is not None]
    if not values:
        return Judged("ignored", "none came")
    if not all(value <= 0 for value in values):
        return Judged("ignored", f"{max(values):g} came, which is none")
    return Judged("honoured", f"came for {len(values)} tokens")


def budgets_for(thought_tokens: int) -> list[int]:
    """Thinking budgets that a thought of this length must feel."""
    return sorted({0, thought_tokens // 8, thought_tokens // 4})


def budgets_kept(free: Said, by_budget: Mapping[int, Said], *, steady: bool) -> Judged:
    """Thoughts under budgets, 0 among them, against the thought of the same question without.

    A budget is kept where the thought is no longer than it, but for what the server writes at its end (budget 0 shows
    what that is), and either comes to no more than half of the free thought or is a beginning of it with that end.

    Args:
        steady: the server gives the same greedy text again.
    """
    asked, came = (
        ", ".join(map(str, values)) for values in (by_budget, (r.thought_tokens for r in by_budget.values()))
    )
    found = f"asked for {asked} thinking tokens, {came} came; {free.thought_tokens} without a budget"
    if not any(said.rest.strip() for said in by_budget.values()):
        found += "; no answer followed"
    kept = [_kept(free, said, by_budget[0], budget, steady) for budget, said in by_budget.items()]
    if all(kept):
        return Judged("honoured", found)
    return Judged("ignored" if False in kept else "unknown", found)


def _kept(free: Said, said: Said, spent: Said, budget: int, steady: bool) -> bool | None:
    if said.thought == free.thought:
        return False
    own = said.thought_tokens - min(spent.thought_tokens, END_TOKENS)
    if own > budget + budget / 4 + SLACK_TOKENS:
        return False
    if 2 * said.thought_tokens <= free.thought_tokens or (steady and _beginning(free, said, spent)):
        return True
    return False if steady else None


def _beginning(free: Said, said: Said, spent: Said) -> bool:
    """Whether a thought is how the free one begins, and then what stands where a budget is spent."""
    end = spent.thought.strip()
    kept = said.thought.strip().removesuffix(end).rstrip().rstrip("\ufffd")  # a character may be cut in two
    return said.thought.strip().endswith(end) and free.thought.strip().startswith(kept.strip())


def budget_beyond(free: Said) -> int | None:
    """A budget that the thought does not reach but thought and answer together would; None where there is none."""
    if not free.closed or free.cut or free.rest_tokens < 4:
        return None
    return free.thought_tokens + free.rest_tokens // 2


def answer_untouched(free: Said, said: Said, budget: int, spent: Said, *, steady: bool) -> Judged:
    """A reply under a budget that its thought does not reach, against the free one.

    Args:
        spent: the reply under budget 0.
    """
    found = f"a budget of {budget} for a thought of {free.thought_tokens}"
    if said.text.strip() == free.text.strip():
        return Judged("honoured", f"{found} changed nothing")
    ends = [spent.thought.strip(), *(each.close for each in FAMILIES if not each.worded)]
    if any(end and said.rest.count(end) > free.rest.count(end) for end in ends):
        return Judged("ignored", f"{found} ended the thought once more, within the answer")
    return Judged("ignored" if steady else "unknown", f"{found} gave another reply")
