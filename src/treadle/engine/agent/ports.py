"""What the turn loop needs from the world, as narrow interfaces.

The services give it these; tests give it small ones of their own. The loop itself never sees a
store, a provider or a client.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from treadle.domain.events import ThreadEvent
from treadle.domain.records import ThreadRecord
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput


class Log(Protocol):
    """The thread's log."""

    def append(self, records: list[ThreadRecord]) -> None:
        """Take records in order; durable after the next flush."""
        ...

    async def flush(self) -> None:
        """Return once everything appended is durable."""
        ...


class Announcer(Protocol):
    """Tells watchers what happens."""

    def publish(self, event: ThreadEvent) -> None:
        """Hand an event to whoever watches; never blocks."""
        ...

    async def room(self) -> None:
        """Wait, within limits, until slow watchers have caught up."""
        ...


class Tools(Protocol):
    """The tools of one thread."""

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of them."""
        ...

    async def ready(self) -> None:
        """Wait, within limits, for tools on their way; awaited before a turn's requests."""
        ...

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out one call; unknown tools and bad arguments become outputs too."""
        ...


BeforeModelCall = Callable[[], Awaitable[None]]
