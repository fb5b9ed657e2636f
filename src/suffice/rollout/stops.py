"""The model's own stop: what it writes to end a thought, learnt from thoughts that it ended itself.

Where it is decided to stop is a matter of model and task: at the close of the thought, at the line break before it
(after which the close is certain), at the end of a sentence. So the *decision* is the last token up to the close that
was a choice at all, one the model gave a probability below `CERTAIN`; what follows it follows by itself. The stop that
most thoughts share is the model's: the decision, what closes the thought, and the blanks before the answer.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

from suffice.errors import ModelError
from suffice.groups import CONSIDERED, Spine
from suffice.model.chat import Chat
from suffice.rollout.decode import keyed
from suffice.rollout.sampler import Exits

CERTAIN = 0.9  # a token of this probability decides nothing
SHARED = 0.1  # of the thoughts, that must end alike


def own_stop(spines: Sequence[Spine], chat: Chat) -> list[int]:
    """The stop that most of the thoughts share; its first token is the decision.

    Raises:
        ModelError: no thought closed, or they all end differently.
    """
    stops = Counter(tuple(stop_of(spine, chat)) for spine in spines if spine.closed and spine.thought_length)
    (stop, count), *_ = stops.most_common(1) or [((), 0)]
    if count < max(1, SHARED * stops.total()):
        raise ModelError(
            f"{chat.tokenizer.name_or_path} ended {stops.total()} of {len(spines)} thoughts, no {SHARED:.0%} of them "
            "alike, so it has no stop of its own to train; raise rollout.max_thought_tokens, or take another method"
        )
    return list(stop)


def stop_of(spine: Spine, chat: Chat) -> list[int]:
    """How a thought that closed was stopped, from the decision to the answer."""
    close = spine.thought_end
    choices = (i for i in range(close, spine.thought_start - 1, -1) if spine.logprobs[i] < math.log(CERTAIN))
    answer = len(spine.tokens) - len(spine.answer_tokens)
    blanks = itertools.takewhile(chat.blank_ids.__contains__, spine.answer_tokens)
    return spine.tokens[next(choices, close) : answer + len(list(blanks))]


def likely_exits(count: int, stop: Sequence[int]) -> Exits:
    """Up to `count` of the places in a thought where its spine was likely to stop and did not, uniform without
    replacement, in order."""

    def draw(spine: Spine, key: str) -> list[int]:
        thought = range(spine.thought_start, spine.thought_end)
        likely = [
            i - spine.thought_start
            for i in thought
            if i > spine.thought_start and spine.watched[i] > math.log(CONSIDERED) and not stops(spine.tokens, i, stop)
        ]
        chosen = keyed(f"{key}/exits").choice(len(likely), size=min(count, len(likely)), replace=False)
        return sorted(likely[int(i)] for i in chosen)

    return draw


def stops(tokens: Sequence[int], at: int, stop: Sequence[int]) -> bool:
    """Whether the stop was sampled there."""
    return list(tokens[at : at + len(stop)]) == list(stop)
