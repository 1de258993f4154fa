"""What every transport promises: order, batches, both ends, and what happens when one leaves."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed

from treadle.wire.transport.channel import Channel, ChannelClosed
from treadle.wire.transport.claimed import claim
from treadle.wire.transport.memory import memory_channels
from treadle.wire.transport.stdio import open_stdio
from treadle.wire.transport.unix import claim_unix_socket
from treadle.wire.transport.websocket import WebsocketChannel, WebsocketServer, bind_tcp

WAIT_SECONDS = 10.0


class Far:
    """The other side of the channel under test, as raw as the transport allows."""

    def __init__(
        self,
        say: Callable[[bytes], Coroutine[Any, Any, None]],
        hear: Callable[[], Coroutine[Any, Any, bytes | None]],
        leave: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.say = say
        self.hear = hear
        self.leave = leave


@contextlib.asynccontextmanager
async def over_memory(_top: Path) -> AsyncGenerator[tuple[Channel, Far]]:
    near, far = memory_channels()
    waiting: list[bytes] = []

    async def hear() -> bytes | None:
        if not waiting:
            waiting.extend(await far.receive())
        return waiting.pop(0) if waiting else None

    yield near, Far(lambda frame: far.send([frame]), hear, far.close)
    await far.close()


@contextlib.asynccontextmanager
async def over_stdio(_top: Path) -> AsyncGenerator[tuple[Channel, Far]]:
    """Claims descriptors 0 and 1 of this process for the test and puts them back."""
    import sys

    saved = os.dup(0), os.dup(1), sys.stdout
    to_server, from_server = os.pipe(), os.pipe()
    os.dup2(to_server[0], 0)
    os.dup2(from_server[1], 1)
    os.close(to_server[0])
    os.close(from_server[1])
    try:
        channel = await open_stdio(claim())
    finally:
        os.dup2(saved[0], 0)
        os.dup2(saved[1], 1)
        sys.stdout = saved[2]
        os.close(saved[0])
        os.close(saved[1])
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_server[0], "rb", 0)
    )
    writing = os.fdopen(to_server[1], "wb", 0)

    async def say(frame: bytes) -> None:
        await asyncio.to_thread(writing.write, frame + b"\n")

    async def hear() -> bytes | None:
        try:
            return (await reader.readuntil(b"\n"))[:-1]
        except asyncio.IncompleteReadError:
            return None

    async def leave() -> None:
        writing.close()
        transport.close()

    yield channel, Far(say, hear, leave)
    await leave()


@contextlib.asynccontextmanager
async def over_websocket(top: Path) -> AsyncGenerator[tuple[Channel, Far]]:
    listener = bind_tcp("127.0.0.1", 0)
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    async with _served(listener, lambda: connect(url, proxy=None, max_size=None)) as pair:
        yield pair


@contextlib.asynccontextmanager
async def over_unix(top: Path) -> AsyncGenerator[tuple[Channel, Far]]:
    claimed = claim_unix_socket(top / "s.sock")
    opening = lambda: unix_connect(str(claimed.path), "ws://localhost/", max_size=None)  # noqa: E731
    async with _served(claimed.socket, opening) as pair:
        yield pair
    claimed.release()


@contextlib.asynccontextmanager
async def _served(
    listener: socket.socket, opening: Callable[[], Any]
) -> AsyncGenerator[tuple[Channel, Far]]:
    came: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def serve(channel: Channel) -> None:
        came.set_result(channel)
        await done.wait()

    server = WebsocketServer(serve)
    await server.open(listener)
    client: ClientConnection
    async with opening() as client:

        async def hear() -> bytes | None:
            try:
                message = await client.recv()
            except ConnectionClosed:
                return None
            assert isinstance(message, str), "one text message per frame"
            return message.encode()

        async def leave() -> None:
            await client.close()

        yield await came, Far(lambda frame: client.send(frame.decode()), hear, leave)
        done.set()
    await server.close()


OPENERS = {
    "memory": over_memory,
    "stdio": over_stdio,
    "websocket": over_websocket,
    "unix": over_unix,
}


@pytest.fixture(params=OPENERS)
async def ends(request: pytest.FixtureRequest, tmp_path: Path):
    async with OPENERS[request.param](tmp_path) as pair, asyncio.timeout(WAIT_SECONDS):
        yield pair


async def received(channel: Channel, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        more = await channel.receive()
        assert more, "the input ended early"
        frames += more
    return frames


async def test_frames_arrive_whole_and_in_order_in_both_directions(ends: tuple[Channel, Far]):
    channel, far = ends
    frames = [b'{"n":%d,"text":"\xc3\xa9"}' % number for number in range(50)]
    for frame in frames:
        await far.say(frame)
    assert await received(channel, 50) == frames
    await channel.send(list(frames))
    assert [await far.hear() for _ in frames] == frames


async def test_a_frame_of_a_megabyte_passes_in_both_directions(ends: tuple[Channel, Far]):
    channel, far = ends
    frame = b'"' + b"x" * (1 << 20) + b'"'
    async with asyncio.TaskGroup() as group:
        group.create_task(far.say(frame))
        group.create_task(channel.send([frame]))
        heard = group.create_task(far.hear())
        assert await received(channel, 1) == [frame]
    assert heard.result() == frame


async def test_what_was_said_before_leaving_is_received_before_the_end(ends: tuple[Channel, Far]):
    channel, far = ends
    await far.say(b"1")
    await far.say(b"2")
    await far.leave()
    assert await received(channel, 2) == [b"1", b"2"]
    assert await channel.receive() == []
    assert await channel.receive() == [], "the end stays the end"


async def test_sending_to_who_has_left_ends_in_channel_closed(ends: tuple[Channel, Far]):
    channel, far = ends
    await far.leave()
    assert await channel.receive() == []

    async def send_until_refused() -> None:
        while True:  # a transport may take some bytes before it learns of the loss
            await channel.send([b"x" * 1000])
            await asyncio.sleep(0)

    with pytest.raises(ChannelClosed):
        await send_until_refused()


async def test_closing_sends_what_was_written_then_ends_and_may_be_repeated(
    ends: tuple[Channel, Far],
):
    channel, far = ends
    await channel.send([b"last"])
    await channel.close()
    await channel.close()
    assert await far.hear() == b"last"
    assert await far.hear() is None


async def test_a_websocket_client_that_reads_nothing_is_cut_off_after_the_stall_time():
    listener = bind_tcp("127.0.0.1", 0)
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(channel: Channel) -> None:
        assert isinstance(channel, WebsocketChannel)
        try:
            await channel.send([b'"' + b"x" * (64 << 20) + b'"'])
        except ChannelClosed:
            outcome.set_result("cut off")
        else:
            outcome.set_result("sent")

    server = WebsocketServer(serve, stall_seconds=0.2)
    await server.open(listener)
    with socket.create_connection(listener.getsockname()) as deaf:
        deaf.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with asyncio.timeout(WAIT_SECONDS):
            assert await outcome == "cut off"
    await server.close()
