"""Two channel ends joined in memory: the transport of embedded servers and of tests.

Frames stay encoded, so that an embedded server has the same contract as one behind a socket. Each
direction is bounded; a sender waits for room.
"""

import asyncio

from treadle.wire.transport.channel import ChannelClosed


class _Pipe:
    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.frames: list[bytes] = []
        self.changed = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.changed.set()
        self.room.set()


class MemoryChannel:
    """One end; `memory_channels` makes a pair."""

    def __init__(self, inward: _Pipe, outward: _Pipe) -> None:
        self._in = inward
        self._out = outward

    async def receive(self) -> list[bytes]:
        """The frames that wait; empty once the other end closed and all is read."""
        while not self._in.frames and not self._in.ended:
            self._in.changed.clear()
            await self._in.changed.wait()
        frames, self._in.frames = self._in.frames, []
        self._in.room.set()
        return frames

    async def send(self, frames: list[bytes]) -> None:
        """Hand frames over; waits while the other end has too many unread."""
        if self._out.ended:
            raise ChannelClosed
        self._out.frames += frames
        self._out.changed.set()
        if len(self._out.frames) >= self._out.bound:
            self._out.room.clear()
            await self._out.room.wait()

    async def close(self) -> None:
        """End both directions."""
        self._out.end()
        self._in.end()


def memory_channels(bound: int = 4096) -> tuple[MemoryChannel, MemoryChannel]:
    """Two joined ends, each direction holding about `bound` unread frames."""
    there, back = _Pipe(bound), _Pipe(bound)
    return MemoryChannel(back, there), MemoryChannel(there, back)
