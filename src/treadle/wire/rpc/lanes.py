"""Serialises requests by key: one first-in-first-out lane per key, and no other lock.

A request joins its lane at the moment it arrives, so order within a lane is order of arrival.
Neighbouring shared entries run together; an exclusive one runs alone, and nothing overtakes it. A
lane disappears in the step that finds it empty, so there is no idle timer and no race about one.
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Literal

Access = Literal["exclusive", "shared"]


class _Lane:
    __slots__ = ("exclusive", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Ticket] = deque()
        self.running = 0
        self.exclusive = False


class Ticket:
    """A place in a lane: await `turn`, do the work, then `leave` (always, also when cancelled)."""

    __slots__ = ("_access", "_admitted", "_done", "_key", "_lanes", "_ready")

    def __init__(self, lanes: "Lanes", key: Hashable, access: Access) -> None:
        self._lanes = lanes
        self._key = key
        self._access: Access = access
        self._ready: asyncio.Future[None] | None = None
        self._admitted = False
        self._done = False

    @property
    def exclusive(self) -> bool:
        """Whether the holder runs alone."""
        return self._access == "exclusive"

    async def turn(self) -> None:
        """Wait until it is this ticket's turn."""
        if self._ready is not None:
            await self._ready

    def wait_for_turn(self) -> None:
        """Mark the ticket as waiting (called by the lane)."""
        self._ready = asyncio.get_running_loop().create_future()

    def admit(self) -> None:
        """Let the holder run (called by the lane); a cancelled one has its turn until it leaves."""
        self._admitted = True
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    @property
    def abandoned(self) -> bool:
        """Whether the holder left before its turn came."""
        return self._done

    def leave(self) -> None:
        """Give the place up, whether or not its turn had come; idempotent."""
        if self._done:
            return
        self._done = True
        self._lanes.left(self._key, started=self._ready is None or self._admitted)


class Lanes:
    """All lanes of one process: two connections may ask about one thread."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}

    def __len__(self) -> int:
        """How many lanes have someone in them."""
        return len(self._lanes)

    def join(self, key: Hashable, access: Access = "exclusive") -> Ticket:
        """Queue up; returns the ticket, whose turn may have come already."""
        lane = self._lanes.setdefault(key, _Lane())
        ticket = Ticket(self, key, access)
        free = not lane.waiting and (
            lane.running == 0 or (not lane.exclusive and not ticket.exclusive)
        )
        if free:
            lane.running += 1
            lane.exclusive = ticket.exclusive
        else:
            ticket.wait_for_turn()
            lane.waiting.append(ticket)
        return ticket

    def left(self, key: Hashable, *, started: bool) -> None:
        """A ticket was given up (called by the ticket)."""
        lane = self._lanes[key]
        if started:
            lane.running -= 1
        self._advance(lane)
        if lane.running == 0 and not lane.waiting:
            del self._lanes[key]

    def _advance(self, lane: _Lane) -> None:
        while lane.waiting:
            head = lane.waiting[0]
            if head.abandoned:
                lane.waiting.popleft()
                continue
            if lane.running and (lane.exclusive or head.exclusive):
                return
            lane.waiting.popleft()
            lane.running += 1
            lane.exclusive = head.exclusive
            head.admit()
