"""What a server refuses of a request by name, and what becomes of it: only what changes no sampling is left out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

Body = dict[str, Any]

LIMITS = ("max_tokens", "max_completion_tokens")
"""Two names for the limit of tokens."""
UNKNOWN = re.compile(
    r"unsupported|not supported|not support|unrecogni[sz]ed|unknown|unexpected|extra (input|field)|"
    r"invalid (parameter|argument|field|key)|not (permitted|allowed)|deprecated|max_completion_tokens",
    re.IGNORECASE,
)
"""How servers say that it is the name they do not take, and not the value."""


class Parameters:
    """The parameters of requests to one server, which learns from its refusals."""

    def __init__(self) -> None:
        self._limit = LIMITS[0]
        self._dropped: set[str] = set()

    def drops(self, name: str) -> bool:
        """Whether the server refused it, so that it is left out."""
        return name in self._dropped

    def spelled(self, body: Body) -> Body:
        """A request as the server takes it."""
        sent = {name: value for name, value in body.items() if name not in self._dropped}
        if LIMITS[0] in sent:
            sent[self._limit] = sent.pop(LIMITS[0])
        return sent

    def learn(self, refused: Iterable[str], said: str, sent: Body) -> bool:
        """Whether a request that was refused would now be sent otherwise.

        Args:
            refused: the parameters that the refusal names.
            said: its words.
            sent: the request.
        """
        for name in refused:
            if name == LIMITS[0]:
                if UNKNOWN.search(said):
                    self._limit = LIMITS[1]
                if self._limit != name:
                    return True
            elif name in self._dropped:  # another request has found out since this one was sent
                return True
            elif harmless(name, sent):
                self._dropped.add(name)
                lost = "; samples cannot be drawn again" if name == "seed" else ", which changes nothing here"
                print(f"the server takes no {name}: it is left out{lost}", file=sys.stderr)
                return True
        return False


ADVICE = {
    "temperature": "start again with a --temperature that it takes, such as 1",
    "top_p": "start again with a --top-p that it takes, such as 1",
    "top_k": "start again without --top-k, or on a server that knows it, such as vLLM or SGLang",
    "min_p": "start again without --min-p, or on a server that knows it, such as vLLM or SGLang",
    "presence_penalty": "start again without --presence-penalty",
    "chat_template_kwargs": "start again without --chat-template-kwargs, and set them where the server is started",
}
"""What to do about a parameter that cannot be left out."""


def named(status: int, refusal: Any, said: str, sent: Body) -> list[str]:
    """The parameters that an answer of status 400 or 422 names."""
    if status not in (400, 422):
        return []
    names = set(sent) - {"model", "messages", "prompt"}
    detail = refusal.get("detail") if isinstance(refusal, dict) else None
    if isinstance(detail, list):  # as pydantic writes it, with the request quoted
        places = [place for each in detail if isinstance(each, dict) for place in each.get("loc", ())]
        return sorted(names & {place for place in places if isinstance(place, str)})
    told = refusal.get("param") if isinstance(refusal, dict) else None
    return [told] if told in names else sorted(name for name in names if re.search(rf"\b{name}\b", said))


def harmless(name: str, sent: Body) -> bool:
    """Whether a request without it is answered from the same distribution."""
    greedy = sent.get("temperature") == 0
    if name in ("top_p", "temperature") and sent.get(name) == 1:
        return True
    return name == "seed" or (greedy and name in ("top_p", "top_k", "min_p"))
