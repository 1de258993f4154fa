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

OUTBOX_BYTES = 1 << 20
"""Past this many waiting bytes deltas are dropped; the model stream waits for room before that."""

OnMessage = Callable[[jsonrpc.Message], None]


class Peer:
    """The other side of one channel."""

    def __init__(self, channel: Channel, *, outbox_bytes: int = OUTBOX_BYTES) -> None:
        """Speak over `channel`; nothing happens before `run`."""
        self._channel = channel
        self.outbox = Outbox(outbox_bytes)
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
        self.outbox.put(jsonrpc.encode_result(raw_id, result))

    def refuse(self, raw_id: bytes, error: RpcError) -> None:
        """Answer a request with an error."""
        self.outbox.put(jsonrpc.encode_error(raw_id, error.code, error.message, error.data))

    def send(self, frame: bytes, *, droppable: bool = False) -> bool:
        """Queue an encoded notification or request; False when it was dropped."""
        return self.outbox.put(frame, droppable=droppable)

    async def close(self, seconds: float = 2.0) -> None:
        """Write what is queued, for at most `seconds`, then end the channel."""
        self.outbox.close()
        await self._tasks.join(seconds)
        await self._tasks.close(0.5)
        await self._channel.close()
