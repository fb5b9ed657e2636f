"""Agent loops whose requests carry the key of their random stream, by which the server draws as the local engine."""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import register

from suffice.engines.verl import agents
from suffice.groups import Group


class Keyed(agents.MemberLoop):
    async def spine(self, group: Group, sampling: dict[str, Any], row: Any) -> Any:
        return await super().spine(group, sampling | {"key": group.key, "from": len(group.prompt)}, row)

    async def branch(self, group: Group, spine: Any, position: int, sampling: dict[str, Any], row: Any) -> Any:
        return await super().branch(group, spine, position, sampling | {"key": f"{group.key}/{position}"}, row)

    async def sample(self, prefix: list[int], room: int, sampling: dict[str, Any], row: Any) -> Any:
        """A stream goes on where an earlier request of the same member left it."""
        drawn = len(prefix) - sampling.get("from", len(prefix))
        plain = {name: value for name, value in sampling.items() if name != "from"}
        return await super().sample(prefix, room, plain | {"key": f"{sampling['key']}@{drawn}"}, row)


@register("suffice")
class KeyedMemberLoop(Keyed):
    """Takes the name of ours."""


@register("suffice-plain")
class KeyedPlainLoop(Keyed, agents.PlainLoop):
    """Takes the name of ours."""
