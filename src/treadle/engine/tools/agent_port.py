"""The port to sub-agents: what the agent tools ask for on behalf of one thread."""

from typing import Protocol

import msgspec

from treadle.domain.agents import AgentState
from treadle.domain.items import UserInput


class AgentRefused(Exception):
    """What was asked of an agent cannot be done; the text is for the model.

    Attributes:
        unknown: the agent it was asked of does not exist (or is closed).
    """

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


class SpawnOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a model asks of a new agent."""

    content: list[UserInput]
    model: str | None = None
    effort: str | None = None
    fork_context: bool = False
    """Whether it begins with what its parent knows."""


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """A new agent."""

    agent_id: str
    nickname: str
    model: str
    effort: str | None


class Agents(Protocol):
    """The agents that one thread commands: those it spawned, and theirs."""

    async def spawn(self, order: SpawnOrder) -> Spawned:
        """Make an agent, which does nothing yet; raises AgentRefused."""
        ...

    def begin(self, agent_id: str, order: SpawnOrder) -> None:
        """Begin the first turn of an agent that was just made."""
        ...

    async def send(self, agent_id: str, content: list[UserInput], *, interrupt: bool) -> AgentState:
        """Give an agent a message: now with `interrupt`, else when it next looks.

        Returns what it was up to before. Raises AgentRefused.
        """
        ...

    async def wait(self, agent_ids: list[str], seconds: float) -> dict[str, AgentState]:
        """Wait until one of them came to an end, or time ran out; what each is up to then."""
        ...

    async def close(self, agent_id: str) -> AgentState:
        """End an agent and those below it; what it was up to. Raises AgentRefused."""
        ...

    async def resume(self, agent_id: str) -> AgentState:
        """Open a closed agent again; raises AgentRefused."""
        ...
