"""What the turn loop needs from the world, as narrow interfaces.

The services give it these; tests give it small ones of their own. The loop itself never sees a
store, a provider or a client.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from treadle.domain.events import ThreadEvent
from treadle.domain.records import ThreadRecord


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


BeforeModelCall = Callable[[], Awaitable[None]]
