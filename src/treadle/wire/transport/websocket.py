"""Websockets as channels, and the server that accepts them.

One JSON object per text message. Owns the opening handshake (probes, refusal of browsers, bearer
tokens), keepalive, and the end of connections that do not read. Refuses to know what the messages
say and where the listening socket comes from. The only module that imports `websockets`.
"""

import asyncio
import contextlib
import http
import logging
import socket
from collections.abc import Awaitable, Callable

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen_tcp
from websockets.asyncio.server import unix_serve as listen_unix
from websockets.exceptions import ConnectionClosed, InvalidState
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from treadle.kit.tasks import TaskScope
from treadle.wire.transport.bearer import Authenticator
from treadle.wire.transport.channel import Channel, ChannelClosed

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 << 20
"""Longest message taken (as 0.169.0); a longer one ends the connection with code 1009."""

STALL_SECONDS = 20.0
"""A connection that took no byte for this long is ended."""

CLOSE_SECONDS = 2.0
PING_SECONDS = 30.0
PONG_SECONDS = 60.0
_PENDING_FRAMES = 1024

PROBES = ("/readyz", "/healthz")

Serve = Callable[[Channel], Awaitable[None]]
"""Serves one connection to its end."""


class _Connection(ServerConnection):
    """The library's connection, safe to close more than once."""

    async def close(
        self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> None:
        # The library aborts the transport again, which fails on Python 3.11 once that is gone.
        if self.state is not State.CLOSED:
            await super().close(code, reason)


class WebsocketChannel:
    """The server's end of one websocket."""

    def __init__(self, connection: ServerConnection, stall_seconds: float = STALL_SECONDS) -> None:
        """Read from `connection` from now on."""
        self._connection = connection
        self._stall_seconds = stall_seconds
        self._frames: list[bytes] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended = False
        self._leaving = False
        self._tasks = TaskScope("websocket")
        self._tasks.start(self._read(), "reader")

    async def _read(self) -> None:
        try:
            while not self._ended:
                message = await self._connection.recv()
                if isinstance(message, bytes):
                    logger.warning("dropped a binary message of %d bytes", len(message))
                    continue
                self._frames.append(message.encode())
                self._wake.set()
                if len(self._frames) >= _PENDING_FRAMES:
                    self._room.clear()
                    await self._room.wait()
        except ConnectionClosed as closed:
            logger.info("websocket closed: %s", closed)
        finally:
            self._ended = True
            self._wake.set()

    async def receive(self) -> list[bytes]:
        """The messages that came since; empty once the client left or `end_input` was called."""
        while not self._frames and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        frames, self._frames = self._frames, []
        self._room.set()
        return frames

    async def send(self, frames: list[bytes]) -> None:
        """Send messages in one write; waits while the client has not taken the earlier ones.

        Raises:
            ChannelClosed: the client is gone, or took nothing for `stall_seconds`.
        """
        connection = self._connection
        try:
            for frame in frames:
                connection.protocol.send_text(frame)
            # One system call for the batch; the library's own `send` makes one per message.
            connection.transport.write(b"".join(connection.protocol.data_to_send()))
            await self._drained()
        except (ConnectionClosed, InvalidState, OSError) as error:
            raise ChannelClosed from error

    async def _drained(self) -> None:
        transport = self._connection.transport
        while True:
            before = transport.get_write_buffer_size()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._stall_seconds):
                    await self._connection.drain()
                    return
            # A large message on a thin line is no stall as long as something moves.
            if transport.get_write_buffer_size() >= before:
                logger.warning("disconnecting a websocket client that does not read")
                transport.abort()
                raise ChannelClosed

    def end_input(self) -> None:
        """Take nothing more in, as if the client had left; what is queued is still sent."""
        self._ended = self._leaving = True
        self._wake.set()

    async def close(self) -> None:
        """Say goodbye, for at most `CLOSE_SECONDS`; then the connection is cut."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close(1001 if self._leaving else 1000)
        except TimeoutError:
            if self._connection.state is not State.CLOSED:
                self._connection.transport.abort()
        self._frames.clear()
        self._room.set()
        await self._tasks.close(1.0)


class WebsocketServer:
    """Accepts websockets and serves each one until it ends; make it with `open`."""

    def __init__(
        self,
        serve: Serve,
        authenticator: Authenticator | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """Serve each connection with `serve`, after its client has shown its credentials."""
        self._stall_seconds = stall_seconds
        self._serve = serve
        self._authenticator = authenticator
        self._max_message_bytes = max_message_bytes
        self._channels: set[WebsocketChannel] = set()
        self._server: Server | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._channels)

    async def open(self, listener: socket.socket) -> None:
        """Accept connections on a bound socket, of TCP or unix."""
        listen = listen_unix if listener.family == socket.AF_UNIX else listen_tcp
        self._server = await listen(
            self._handle,
            sock=listener,
            process_request=self._admit,
            compression=None,
            create_connection=_Connection,
            max_size=self._max_message_bytes,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            close_timeout=CLOSE_SECONDS,
            server_header=None,
        )

    async def _handle(self, connection: ServerConnection) -> None:
        channel = WebsocketChannel(connection, self._stall_seconds)
        self._channels.add(channel)
        try:
            await self._serve(channel)
        finally:
            self._channels.discard(channel)
            await channel.close()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a request that opens no websocket; None for one that does.

        Order as 0.169.0. A browser always sends Origin with an upgrade: refusing it keeps web pages
        from talking to a server on the same machine.
        """
        headers = request.headers
        if headers.get_all("Origin"):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "")
        if request.method != "GET":
            refusal = connection.respond(http.HTTPStatus.METHOD_NOT_ALLOWED, "")
            refusal.headers["Allow"] = "GET"
            return refusal
        if "upgrade" not in ",".join(headers.get_all("Connection")).lower():
            if request.path.partition("?")[0] in PROBES:
                return connection.respond(http.HTTPStatus.OK, "")
            return connection.respond(
                http.HTTPStatus.BAD_REQUEST, "Connection header did not include 'upgrade'"
            )
        if self._authenticator is not None:
            shown = headers.get_all("Authorization")
            reason = self._authenticator.why_not(", ".join(shown) if shown else None)
            if reason is not None:
                refusal = connection.respond(http.HTTPStatus.UNAUTHORIZED, reason)
                refusal.headers["WWW-Authenticate"] = "Bearer"
                return refusal
        return None

    async def close(self, seconds: float = 5.0) -> None:
        """Accept nothing more, let every connection send what is queued, and end them all."""
        if self._server is None:
            return
        self._server.close(close_connections=False)
        for channel in tuple(self._channels):
            channel.end_input()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._server.wait_closed()


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket at an IP address; port 0 picks a free one.

    Raises:
        OSError: the address is not of this machine, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)
