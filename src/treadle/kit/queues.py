"""Bounded queues whose overflow policy is part of their type.

`Mailbox` refuses when full (the sender must say what then happens). `Outbox` is what a connection
writes from: replies and requests always enter, droppable messages are counted instead of stored
once the bound is reached. Neither is thread-safe.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Full(Exception):
    """The queue holds as many entries as it may."""


class Closed(Exception):
    """The queue takes and gives nothing any more."""


class Mailbox(Generic[T]):
    """First in, first out; `put` raises Full at the bound; closing lets readers drain it."""

    def __init__(self, bound: int) -> None:
        """Hold at most `bound` entries (at least one)."""
        self._bound = max(1, bound)
        self._entries: deque[T] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: T) -> None:
        """Append without waiting.

        Raises:
            Full: the bound is reached.
            Closed: the mailbox was closed.
        """
        if self._closed:
            raise Closed
        if len(self._entries) >= self._bound:
            raise Full
        self._entries.append(entry)
        self._wake.set()

    def force(self, entry: T) -> None:
        """Append past the bound, for what must never be lost and is bounded elsewhere."""
        if self._closed:
            raise Closed
        self._entries.append(entry)
        self._wake.set()

    async def get(self) -> T:
        """Wait for the next entry; raises Closed once the mailbox is closed and empty."""
        while not self._entries:
            if self._closed:
                raise Closed
            self._wake.clear()
            await self._wake.wait()
        return self._entries.popleft()

    def close(self) -> None:
        """Refuse new entries; readers get what is left, then Closed."""
        self._closed = True
        self._wake.set()


class Outbox:
    """Encoded messages on their way to one peer.

    Two marks: past `room_bytes` a producer should wait (`room`) for the slow side; past
    `drop_bytes` droppable messages (deltas) are refused. Everything else always enters, since
    replies, server requests and the end of a turn may never be lost.
    """

    def __init__(self, room_bytes: int, drop_bytes: int | None = None) -> None:
        """Set the two marks; without the second one, both are the same."""
        self._bound = room_bytes
        self._drop_at = drop_bytes or room_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self.dropped = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes queued or being written."""
        return self._size + self._in_flight

    @property
    def has_room(self) -> bool:
        """Whether a droppable message would be let in now."""
        return self._room.is_set()

    def put(self, message: bytes, *, droppable: bool = False) -> bool:
        """Queue one framed message; False when it was dropped or the outbox is closed."""
        if self._closed:
            return False
        if droppable and self.waiting_bytes >= self._drop_at:
            self.dropped += 1
            return False
        self._parts.append(message)
        self._size += len(message)
        if self.waiting_bytes >= self._bound:
            self._room.clear()
        self._wake.set()
        return True

    async def take(self) -> list[bytes]:
        """Wait for messages and take all that are queued; raises Closed at the end."""
        while not self._parts:
            self._in_flight = 0
            self._room.set()
            if self._closed:
                raise Closed
            self._wake.clear()
            await self._wake.wait()
        parts, self._parts = self._parts, []
        self._in_flight, self._size = self._size, 0
        return parts

    def written(self) -> None:
        """The parts last taken are out of our hands."""
        self._in_flight = 0
        if self._size < self._bound:
            self._room.set()

    async def room(self) -> None:
        """Wait until droppable messages enter again, or the outbox is closed."""
        await self._room.wait()

    @property
    def idle(self) -> bool:
        """Nothing queued and nothing being written."""
        return not self._parts and not self._in_flight

    def close(self) -> None:
        """Let the writer drain what is queued, then end."""
        self._closed = True
        self._wake.set()
        self._room.set()
