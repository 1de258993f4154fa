"""One connection: a reader that hands messages up, a writer that sends what was queued.

First queued, first written. Knows the channel and the envelopes, and no method. Replies, server
requests and must-deliver notifications always enter the outbox; droppable ones are counted once it
is full, and the peer learns of the gap from whoever watches `dropped`.
"""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from treadle.kit.queues import Closed, Outbox
from treadle.kit.tasks import TaskScope
from treadle.wire.protocol import jsonrpc
from treadle.wire.protocol.errors import RpcError
from treadle.wire.transport.channel import Channel, ChannelClosed

logger = logging.getLogger(__name__)

ROOM_BYTES = 1 << 20
"""Past this many waiting bytes a model's stream waits for the reader."""
DROP_BYTES = 16 << 20
"""Past this many deltas are dropped: the reader was waited for, and did not come."""

OUTBOX_LIMIT_BYTES = 64 << 20
"""Past this many waiting bytes a connection among others is ended, as it does not read."""

OnMessage = Callable[[jsonrpc.Message], None]


class Peer:
    """The other side of one channel."""

    def __init__(
        self,
        channel: Channel,
        *,
        room_bytes: int = ROOM_BYTES,
        drop_bytes: int = DROP_BYTES,
        limit_bytes: int | None = None,
    ) -> None:
        """Speak over `channel`; nothing happens before `run`.

        With `limit_bytes` the connection ends once more than that waits for a peer that does not
        read; without, what may not be lost waits for as long as the peer likes.
        """
        self._channel = channel
        self.outbox = Outbox(room_bytes, drop_bytes)
        self._limit_bytes = limit_bytes
        self.overrun = False
        """Whether the connection was ended because its peer did not read."""
        self._tasks = TaskScope("peer")

    async def run(self, on_message: OnMessage) -> None:
        """Read until the peer ends its side; `on_message` must not block.

        Returns at end of input; what is queued is still being written (see `close`).
        """
        self._tasks.start(self._write(), "writer")
        with contextlib.suppress(ChannelClosed):
            while frames := await self._channel.receive():
                for frame in frames:
                    message = jsonrpc.decode(frame)
                    if message is None:
                        logger.warning("ignored a frame that is no message: %.200r", frame)
                        continue
                    on_message(message)

    async def _write(self) -> None:
        with contextlib.suppress(Closed, ChannelClosed):
            while True:
                parts = await self.outbox.take()
                await self._channel.send(parts)
                self.outbox.written()
        self.outbox.close()

    def reply(self, raw_id: bytes, result: Any) -> None:
        """Answer a request with a result."""
        self._put(jsonrpc.encode_result(raw_id, result))

    def refuse(self, raw_id: bytes, error: RpcError) -> None:
        """Answer a request with an error."""
        self._put(jsonrpc.encode_error(raw_id, error.code, error.message, error.data))

    def send(self, frame: bytes, *, droppable: bool = False) -> bool:
        """Queue an encoded notification or request; False when it was dropped."""
        return self._put(frame, droppable=droppable)

    def _put(self, frame: bytes, *, droppable: bool = False) -> bool:
        # What waited before this frame counts: one long reply to a quick reader is no lag.
        lag_bytes = self.outbox.waiting_bytes
        if self._limit_bytes is not None and lag_bytes > self._limit_bytes and not self.overrun:
            self.overrun = True
            logger.warning("disconnecting a client that left %d bytes unread", lag_bytes)
            self.outbox.close()
            self._tasks.start(self._channel.close(), "overrun")
        return self.outbox.put(frame, droppable=droppable)

    async def close(self, seconds: float = 2.0) -> None:
        """Write what is queued, for at most `seconds`, then end the channel."""
        self.outbox.close()
        await self._tasks.join(seconds)
        await self._tasks.close(0.5)
        await self._channel.close()
