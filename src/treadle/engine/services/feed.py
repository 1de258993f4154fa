"""The way up: domain events from the engine to whoever watches, numbered per thread.

One feed per engine. Listeners are called in order and must not block; a listener that has a slow
reader behind it says so through `room`, and the model's stream waits for it, but not for ever: past
the patience the stream goes on and the listener drops what may be dropped.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from treadle.domain.event_log import KEPT, STRIDE
from treadle.domain.events import (
    RateLimitsUpdated,
    RequestRaised,
    ThreadEvent,
    ThreadRested,
    TurnBegan,
)
from treadle.kit.mint import new_id

PATIENCE_SECONDS = 5.0
"""How long one slow reader may hold up a model's stream, per batch of deltas."""

_UNNUMBERED = (RequestRaised, RateLimitsUpdated, ThreadRested)
"""None of them is told as something that happened in the thread."""


class Listener(Protocol):
    """Someone who watches all threads."""

    def hear(self, event: ThreadEvent, seq: int | None) -> None:
        """Take an event and its number in its thread; never blocks, never raises."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether every reader behind this listener keeps up."""
        ...

    async def room(self) -> None:
        """Wait until they do."""
        ...


class _Sequence(msgspec.Struct):
    """Where the numbers of one loaded thread stand."""

    last: int
    epoch: str


class Feed:
    """Publishes events to its listeners, each thread's with growing numbers.

    Numbers are those of `domain.event_log`: given while a thread is in memory, to all events that
    tell of it. The `epoch` names one stay in memory: between two of them only events that the log
    keeps have numbers that can be compared.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._listeners: list[Listener] = []
        self._patience = patience_seconds
        self._sequences: dict[str, _Sequence] = {}

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the returned function takes it away again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def publish(self, event: ThreadEvent) -> None:
        """Tell all listeners, in the order they came."""
        seq = self._number(event)
        for listener in self._listeners:
            listener.hear(event, seq)

    # ------------------------------------------------------------------ numbers

    def begin(self, thread_id: str, count: int) -> None:
        """A thread is in memory, and its log has this many kept events so far."""
        known = self._sequences.get(thread_id)
        if known is None:
            self._sequences[thread_id] = _Sequence(count * STRIDE, new_id())
        else:
            known.last = max(known.last, count * STRIDE)

    def end(self, thread_id: str) -> None:
        """A thread left memory: what is told of it now has no numbers."""
        self._sequences.pop(thread_id, None)

    def last(self, thread_id: str) -> int | None:
        """The number given last; None for a thread that is not in memory."""
        sequence = self._sequences.get(thread_id)
        return sequence.last if sequence is not None else None

    def position(self, thread_id: str) -> int:
        """The number given last; 0 for a thread that is not in memory."""
        return self.last(thread_id) or 0

    def epoch(self, thread_id: str) -> str | None:
        """What names the thread's stay in memory; None when it is not there."""
        sequence = self._sequences.get(thread_id)
        return sequence.epoch if sequence is not None else None

    def count(self, thread_id: str) -> int:
        """How many kept events a thread in memory has had."""
        return self.position(thread_id) // STRIDE

    def _number(self, event: ThreadEvent) -> int | None:
        sequence = self._sequences.get(event.thread_id)
        if sequence is None or isinstance(event, _UNNUMBERED):
            return None
        if isinstance(event, KEPT) and not (isinstance(event, TurnBegan) and event.again):
            sequence.last = (sequence.last // STRIDE + 1) * STRIDE
        elif sequence.last % STRIDE == STRIDE - 1:
            return None  # as many as fit between two kept events
        else:
            sequence.last += 1
        return sequence.last

    # ------------------------------------------------------------------ slow readers

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
