"""A connection whose peer does not read is ended once too much waits for it."""

import asyncio

from treadle.wire.protocol import jsonrpc
from treadle.wire.rpc.peer import Peer
from treadle.wire.transport.memory import memory_channels


def ignore(_message: jsonrpc.Message) -> None:
    """Take a message and do nothing."""


async def test_past_the_limit_the_connection_ends_and_nothing_more_is_queued():
    near, far = memory_channels(bound=1)
    peer = Peer(near, limit_bytes=1000)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(peer.run(ignore))
        await asyncio.sleep(0)  # the writer starts
        assert peer.send(b"x" * 5000), "one long message to a reader that keeps up is no lag"
        assert not peer.send(b"late")
        await running
    assert peer.overrun
    await far.close()


async def test_without_a_limit_everything_waits_for_the_reader():
    near, _far = memory_channels(bound=1)
    peer = Peer(near)
    assert all(peer.send(b"x" * 5000) for _ in range(100))
    assert not peer.overrun
