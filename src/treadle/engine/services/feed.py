"""The way up: domain events from the engine to whoever watches.

One feed per engine. Listeners are called in order and must not block; a listener that has a slow
reader behind it says so through `room`, and the model's stream waits for it, but not for ever: past
the patience the stream goes on and the listener drops what may be dropped.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from treadle.domain.events import ThreadEvent

PATIENCE_SECONDS = 5.0
"""How long one slow reader may hold up a model's stream, per batch of deltas."""


class Listener(Protocol):
    """Someone who watches all threads."""

    def hear(self, event: ThreadEvent) -> None:
        """Take an event; never blocks, never raises."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether every reader behind this listener keeps up."""
        ...

    async def room(self) -> None:
        """Wait until they do."""
        ...


class Feed:
    """Publishes events to its listeners."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._listeners: list[Listener] = []
        self._patience = patience_seconds

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the returned function takes it away again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def publish(self, event: ThreadEvent) -> None:
        """Tell all listeners, in the order they came."""
        for listener in self._listeners:
            listener.hear(event)

    async def room(self) -> None:
        """Give slow readers a chance to catch up.

        Always lets other tasks run once, so that writers get their turn within a long stream.
        """
        await asyncio.sleep(0)
        for listener in self._listeners:
            if not listener.has_room:
                try:
                    async with asyncio.timeout(self._patience):
                        await listener.room()
                except TimeoutError:
                    continue
