"""A TCP proxy that makes the network as bad as a test wants it, between any two parties.

Trouble is switched on and off while connections live: delay, holding one direction or both (what is
held arrives when it is over, as after a partition), a reset at the k-th byte from now, the answer
to a COMMIT that never arrives, a POST that arrives twice. `up` is from who connected to the server.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

UP, DOWN = "up", "down"
READ_BYTES = 1 << 16
COMMITTED = b"COMMIT\0"


@dataclass(slots=True)
class Trouble:
    """What goes wrong now; counters count down to zero."""

    delay_seconds: tuple[float, float] = (0.0, 0.0)
    held: set[str] = field(default_factory=set[str])
    cut_after: dict[str, int] = field(default_factory=dict[str, int])
    lose_commits: int = 0
    double_posts: int = 0
    refuse: bool = False


class Cut(Exception):
    """The connection is to be reset."""


class Proxy:
    """Listens on a port of its own and passes on to `target`."""

    def __init__(
        self, target: tuple[str, int], rng: random.Random, *, speaks: str = "http"
    ) -> None:
        """`speaks` is http or postgres: what the doubling and losing of single messages knows."""
        self.target = target
        self.trouble = Trouble()
        self.port = 0
        self.done: dict[str, int] = {"cut": 0, "commit-lost": 0, "doubled": 0}
        self._rng = rng
        self._speaks = speaks
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._doubles: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End with all connections."""
        assert self._server is not None
        self._server.close()
        self.reset_all()
        for task in self._doubles:
            task.cancel()

    def heal(self) -> None:
        """End all trouble; what was held goes on its way."""
        self.trouble = Trouble()
        self._wake()

    def hold(self, *directions: str) -> None:
        """Let nothing through in these directions until `heal`."""
        self.trouble.held |= set(directions)
        self._wake()

    def reset_all(self) -> None:
        """Reset every connection there is."""
        for link in list(self._links):
            link.reset()

    async def delay(self) -> None:
        low, high = self.trouble.delay_seconds
        if high > 0:
            await asyncio.sleep(self._rng.uniform(low, high))

    async def passable(self, direction: str) -> None:
        while direction in self.trouble.held:
            self._changed.clear()
            await self._changed.wait()

    def take_commit(self) -> bool:
        return self._count_down("lose_commits", "commit-lost")

    def take_double(self) -> bool:
        return self._count_down("double_posts", "doubled")

    def pass_bytes(self, direction: str, data: bytes) -> tuple[bytes, bool]:
        """What of it still arrives, and whether the connection is cut then."""
        left = self.trouble.cut_after.get(direction)
        if left is None:
            return data, False
        if len(data) <= left:
            self.trouble.cut_after[direction] = left - len(data)
            return data, False
        del self.trouble.cut_after[direction]
        self.done["cut"] += 1
        return data[:left], True

    def send_again(self, request: bytes) -> None:
        """The same request on another connection; nobody reads the answer's content."""
        task = asyncio.get_running_loop().create_task(self._again(request))
        self._doubles.add(task)
        task.add_done_callback(self._doubles.discard)

    async def _again(self, request: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(*self.target)
                writer.write(request)
                await reader.read(1)
                writer.close()

    def _count_down(self, name: str, note: str) -> bool:
        left = getattr(self.trouble, name)
        if left <= 0:
            return False
        setattr(self.trouble, name, left - 1)
        self.done[note] += 1
        return True

    def _wake(self) -> None:
        self._changed.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.trouble.refuse:
            _reset(writer)
            return
        try:
            there = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), there)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: Proxy,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._here, self._there = here, there
        speaks = proxy._speaks
        self._requests = _Requests(proxy) if speaks == "http" else None
        self._replies = _Replies(proxy) if speaks == "postgres" else None

    async def run(self) -> None:
        pumps = [
            asyncio.create_task(self._pump(self._here[0], self._there[1], UP)),
            asyncio.create_task(self._pump(self._there[0], self._here[1], DOWN)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._here[1].close()
            self._there[1].close()

    def reset(self) -> None:
        _reset(self._here[1])
        _reset(self._there[1])

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str
    ) -> None:
        try:
            while data := await source.read(READ_BYTES):
                await self._proxy.delay()
                await self._proxy.passable(direction)
                if direction == DOWN and self._replies is not None:
                    self._replies.look(data)
                data, is_cut = self._proxy.pass_bytes(direction, data)
                sink.write(data)
                await sink.drain()
                if is_cut:
                    self.reset()
                    return
                if direction == UP and self._requests is not None:
                    self._requests.look(data)
        except (OSError, Cut):
            self.reset()


class _Requests:
    """Finds whole requests in what a client sends, to send some of them again."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._buffer = b""

    def look(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            end = head + 4 + _content_length(self._buffer[:head])
            if len(self._buffer) < end:
                return
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            if request.startswith(b"POST ") and self._proxy.take_double():
                self._proxy.send_again(request)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


class _Replies:
    """Finds the server's word that a COMMIT is done, to keep some of them from arriving."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._buffer = b""

    def look(self, data: bytes) -> None:
        """Raise Cut when this connection's commit is to be lost with it."""
        if self._proxy.trouble.lose_commits <= 0:
            # Only a commit within one read is ever looked for; most are.
            return
        self._buffer = data
        while len(self._buffer) >= 5:
            kind, length = struct.unpack_from("!cI", self._buffer)
            body, self._buffer = self._buffer[5 : 1 + length], self._buffer[1 + length :]
            if kind == b"C" and body == COMMITTED and self._proxy.take_commit():
                raise Cut


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an end."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def proxied(
    target: tuple[str, int], *, seed: int = 0, speaks: str = "http"
) -> AsyncGenerator[Proxy]:
    """A proxy in front of `target`."""
    proxy = Proxy(target, random.Random(seed), speaks=speaks)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
