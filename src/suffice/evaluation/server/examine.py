"""What a server is and what it honours: every wish is sent, and what comes back is counted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
from anyio.from_thread import start_blocking_portal
from openai import APIError, APIStatusError, AsyncOpenAI

from suffice.errors import ServerError
from suffice.evaluation.doubts import doubts
from suffice.evaluation.server import honoured as judge
from suffice.evaluation.server.asking import Asker
from suffice.evaluation.server.budgets import fitting
from suffice.evaluation.server.counting import told_by
from suffice.evaluation.server.honoured import Judged, Said, State
from suffice.evaluation.server.meaning import ENGINES, SPELLINGS, Engine, dialect, meaning
from suffice.evaluation.server.replies import ChatReply, Model, RawReply
from suffice.evaluation.server.transport import Transport, check_served, clipped
from suffice.evaluation.source import Sampling, Trace
from suffice.groups import Problem
from suffice.model.chat import Chat
from suffice.model.marks import answer_of
from suffice.run.progress import Advance, progress

QUESTIONS = ("Add two and two.", "How many prime numbers lie between 20 and 60?")
"""The first is short; the second is for a model that does not think about the first."""
VARIED = "Name any animal, any city and any number, in any order."
WHOLE = 512  # tokens of a reply that should come to its end
PART = 48  # tokens of a reply of which only the start matters
FEW = 8
IDS = list(range(10, 17))  # a prompt in any vocabulary
TIMEOUT, RETRIES = 600, 2
REQUESTS = 20  # or so, for the bar


class Row(NamedTuple):
    """What was looked at, what became of it (None where the server only tells), what was seen, and what follows."""

    what: str
    state: State | None
    found: str
    means: str


def examine(
    base_url: str,
    model: str | None = None,
    *,
    chat: Chat | None = None,
    options: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
) -> list[Row]:
    """Ask a server at `base_url` about twenty things, one after another.

    Args:
        model: its name there; may be left out where one is served.
        chat: of the model's tokenizer, if it is at hand: prompts are then counted exactly.
        options: arguments of the server's chat template.
        api_key: sent as bearer token; None where the server asks for none.
        timeout: seconds that one request may take.
        retries: how often a request is repeated.

    Raises:
        ServerError: it cannot be reached, refuses the key, serves no such model, no chat, or went away.
    """
    transport = Transport(base_url, api_key=api_key, timeout=timeout, retries=retries)
    with progress(f"examine {clipped(base_url)}", REQUESTS) as advance, start_blocking_portal() as portal:
        return portal.call(_examined, transport, model, chat, dict(options or {}), advance)


async def _examined(
    transport: Transport, model: str | None, chat: Chat | None, options: dict[str, Any], advance: Advance
) -> list[Row]:
    async with transport.client() as client:
        listed = await transport.models(client)
        name = _named(transport.base_url, model, listed)
        told = (listed or {}).get(name)
        try:
            engine, version = await _engine(client, transport.base_url, told)
            asker = Asker(transport, client, name, chat, options, advance)
            examination = _Examination(asker, engine, told.positions if told else None)
            return await examination.rows(version)
        except APIError as error:
            raise transport.explained(error, told.positions if told else None) from error


def _named(base_url: str, model: str | None, listed: Mapping[str, Model] | None) -> str:
    """The model to ask.

    Raises:
        ServerError: it is not served, or there is a choice.
    """
    if model is not None:
        check_served(base_url, model, listed or {})
        return model
    if listed is None or len(listed) != 1:
        served = f"serves {clipped(', '.join(listed))}" if listed else "does not list what it serves"
        raise ServerError(f"{base_url} {served}; choose with --model")
    return next(iter(listed))


async def _engine(client: AsyncOpenAI, base_url: str, told: Model | None) -> tuple[Engine | None, str]:
    """The engine, by whom it says its models are owned, and its name with its version as it tells it."""
    owner = str(told.owned_by) if told and told.owned_by else ""
    engine = ENGINES.get(owner)
    if engine is None:
        return None, f"not told (its models are owned by {clipped(owner)})" if owner else "not told"
    root = urlsplit(base_url)
    with suppress(APIStatusError, ValueError, AttributeError):
        reply = await client.get(f"{root.scheme}://{root.netloc}{engine.path}", cast_to=httpx.Response)
        if version := reply.json().get(engine.key):
            return engine, f"{engine.name} {clipped(str(version))}"
    return engine, f"{engine.name}, version not told"


class _Examination:
    """One server, looked at wish by wish. `rows` fills `found`; `question` is the one that the model thinks about."""

    def __init__(self, asker: Asker, engine: Engine | None, positions: int | None) -> None:
        self.asker = asker
        self.engine = engine
        self.positions = positions
        self.whole = min(WHOLE, positions // 2) if positions else WHOLE
        self.question = QUESTIONS[-1]
        self.found: list[Row] = []

    async def rows(self, version: str) -> list[Row]:
        name, url = self.asker.model, self.asker.transport.base_url
        self.tell("engine", version, "the rows below are what counts" if self.engine is None else "")
        self.tell("model", name, f"suffice eval {shlex.quote(name)} --base-url {url} --task gsm8k")
        self.context()
        await self.limit()
        steady = await self.greedy()
        free, seen = await self.thought()
        await self.raw(seen)
        await self.seeds()
        await self.several()
        await self.budgets(free, steady)
        return self.found

    def tell(self, what: str, found: str, means: str) -> None:
        self.found.append(Row(what, None, found, means))

    def judged(self, what: str, judged: Judged) -> None:
        self.found.append(Row(what, *judged, meaning(what, judged.state, self.engine)))

    def context(self) -> None:
        problem = Problem("of the doctor", "doctor", QUESTIONS[-1], "")
        thought, answer = fitting(self.positions, self.asker.chat, [problem], None, None)
        found = f"{self.positions:,} tokens of prompt and reply" if self.positions else "not told"
        whose = "so as to fit" if self.positions else "whether they fit or not; --max-thought-tokens asks for others"
        self.tell("context", found, f"eval asks for {thought:,} thinking and {answer:,} answer tokens, {whose}")

    async def limit(self) -> None:
        """The first request: what fails here fails all."""
        reply = await self.asker.chatted(QUESTIONS[-1], FEW)
        told = told_by(reply.usage, answered=False)
        self.judged("limit of tokens", judge.limit_kept(FEW, told and told.total, cut=reply.choices[0].cut))

    async def greedy(self) -> bool:
        """Whether greedy texts are the same again."""
        texts = []
        for seed in (1, 2):
            reply = await self.asker.tried(self.asker.chatted(QUESTIONS[-1], PART, self.asker.temperature, seed))
            if isinstance(reply, Judged):
                self.asker.temperature = None
                self.judged("greedy", reply)
                return False
            texts.append(_text(reply))
        judged = judge.greedy(*texts)
        self.judged("greedy", judged)
        return judged.state == "honoured"

    async def thought(self) -> tuple[Said | Judged, int | None]:
        """The reply without any wish to the first question that the model thinks about, and its prompt tokens."""
        chat = self.asker.chat
        for self.question in QUESTIONS:
            reply = await self.asker.chatted(self.question, self.whole, self.asker.temperature)
            said = self.asker.read(reply, self.question)
            if isinstance(said, Judged) or said.thought:
                break
        found, means = dialect(reply.choices[0].message, said)
        self.tell("thoughts", found, "; ".join(self.doubts(said)) or means)
        seen = reply.usage.prompt_tokens if reply.usage else None
        if chat:
            self.judged("chat template", judge.prompt_whole(len(chat.render(self.question)), seen))
        return said, seen

    def doubts(self, said: Said | Judged) -> list[str]:
        """What eval would doubt of samples that are all like this one."""
        if isinstance(said, Judged):
            return []
        lengths = (said.thought_tokens, said.rest_tokens)
        trace = Trace(self.question, 0, said.thought, answer_of(said.rest), *lengths, said.closed, said.cut)
        return doubts([trace], Sampling(1, 0.0, 1.0, self.whole, 0), served=True)

    async def raw(self, seen: int | None) -> None:
        """Raw completions, of text and of token ids, and log-probs with them."""
        ask, chat = self.asker, self.asker.chat
        text = await ask.tried(ask.continued(self.question, 1))
        self.judged("raw completions", text if isinstance(text, Judged) else judge.prompt_raw(_seen(text), seen))
        prompt = chat.render(self.question) if chat else IDS
        ids = await ask.tried(ask.continued(prompt, 1))
        whole = ids if isinstance(ids, Judged) else judge.prompt_whole(len(prompt), _seen(ids))
        self.judged("token-id prompts", whole)
        taken = self.question if isinstance(ids, Judged) else prompt
        told = await ask.tried(ask.continued(taken, FEW, logprobs=1))
        self.judged("log-probs", told if isinstance(told, Judged) else judge.logprobs_told(told.choices[0].logprobs))

    async def seeds(self) -> None:
        texts = []
        for seed in (1, 1, 2, 3):
            reply = await self.asker.tried(self.asker.chatted(VARIED, PART, 1.0, seed))
            if isinstance(reply, Judged):
                self.judged("seeds", reply)
                return
            texts.append(_text(reply))
        if self.asker.transport.parameters.drops("seed"):
            self.judged("seeds", Judged("refused", "the server takes no seed"))
        else:
            self.judged("seeds", judge.seed_kept(texts[:2], texts[2:]))

    async def several(self) -> None:
        reply = await self.asker.tried(self.asker.chatted(VARIED, FEW, 1.0, n=2))
        self.judged("n > 1", reply if isinstance(reply, Judged) else judge.several(2, len(reply.choices)))

    async def budgets(self, free: Said | Judged, steady: bool) -> None:
        """The engine's own way to ask for a thinking budget; of an engine without, every way until one is honoured."""
        what = "thinking budget"
        if isinstance(free, Judged) or not free.thought_tokens:
            self.judged(what, Judged("unknown", "no thought was seen and counted that a budget could end"))
            return
        own = self.engine.budget if self.engine else ()
        tried: dict[str, Judged] = {}
        for spelling in own or SPELLINGS:
            tried[spelling], spent = await self.budget(spelling, free, steady)
            if spent and tried[spelling].state == "honoured":
                self.judged(what, Judged("honoured", f"{spelling}: {tried[spelling].found}"))
                await self.beyond(spelling, free, spent, steady)
                return
        spelling = next((each for each, judged in tried.items() if judged.state != "refused"), next(iter(tried)))
        others = "".join(f", {each}: {judged.state}" for each, judged in tried.items() if each != spelling)
        self.judged(what, Judged(tried[spelling].state, f"{spelling}: {tried[spelling].found}{others}"))

    async def budget(self, spelling: str, free: Said, steady: bool) -> tuple[Judged, Said | None]:
        """What becomes of budgets so spelled, and the reply under budget 0."""
        by_budget: dict[int, Said] = {}
        for budget in judge.budgets_for(free.thought_tokens):
            said = await self.under(spelling, budget)
            if isinstance(said, Judged):
                return said, None
            by_budget[budget] = said
        return judge.budgets_kept(free, by_budget, steady=steady), by_budget[0]

    async def beyond(self, spelling: str, free: Said, spent: Said, steady: bool) -> None:
        """Whether a budget that the thought does not reach leaves the answer alone."""
        budget = judge.budget_beyond(free)
        if budget is None:
            return
        said = await self.under(spelling, budget)
        judged = said if isinstance(said, Judged) else judge.answer_untouched(free, said, budget, spent, steady=steady)
        self.judged("budget above the thought", judged)

    async def under(self, spelling: str, budget: int) -> Said | Judged:
        ask, wish = self.asker, SPELLINGS[spelling](budget)
        reply = await ask.tried(ask.chatted(self.question, self.whole, ask.temperature, **wish))
        return reply if isinstance(reply, Judged) else ask.read(reply, self.question)


def _text(reply: ChatReply) -> str:
    message = reply.choices[0].message
    return f"{message.thought or ''}\n{message.said}"


def _seen(reply: RawReply) -> int | None:
    return reply.usage.prompt_tokens if reply.usage else None
