"""HTTP for model streams: one POST, chunks as large as the socket gives. Home of aiohttp.

Keeps connections alive per host, bounds the wait for a connection and for the next byte, and ends
an exchange at once when it is closed early. Owns no meaning: statuses, headers and bytes go up as
they are. The library loads with the first request (`docs/decisions/0001`).
"""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    import aiohttp

CONNECTIONS_PER_HOST = 256
"""Streams at once to one provider; further requests wait for a free one."""
KEEPALIVE_SECONDS = 60.0
"""How long an idle connection is kept; most providers' front ends close after 60 s or more."""
READ_BUFFER_BYTES = 256 * 1024
"""Bytes buffered per stream before the socket is paused."""
DRAIN_SECONDS = 1.0
"""How long a connection may take to say that an answer, read to its last event, has ended."""
_IN_ONE_PIECE_BYTES = 1024 * 1024
"""Larger bodies are written in pieces, so that other connections get their turn."""


class HttpRequest(msgspec.Struct, frozen=True):
    """A POST that is ready to be sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    connect_seconds: float
    idle_seconds: float


class TransportError(Exception):
    """The exchange failed below HTTP."""


class ConnectFailed(TransportError):
    """No connection came about; nothing was sent."""


class IdleTimeout(TransportError):
    """The other side stayed silent for `idle_seconds`."""


class Disconnected(TransportError):
    """The connection broke, or what came over it was not HTTP."""


class BadRequest(TransportError):
    """Address or headers cannot be sent at all."""


class Answer(Protocol):
    """An answer whose head has arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, names in lower case."""
        ...

    async def next_chunk(self) -> bytes:
        """Whatever has arrived since the last call; empty at the end.

        Raises:
            TransportError: silence for too long, or a broken connection.
        """
        ...

    def leave(self) -> None:
        """Say that what still comes does not matter, but that the connection is worth keeping."""
        ...


class Transport(Protocol):
    """Sends requests."""

    def exchange(self, request: HttpRequest) -> AbstractAsyncContextManager[Answer, bool | None]:
        """Send `request`; the context holds the answer and ends the exchange when left.

        Raises:
            TransportError: on entering; as its subclasses say.
        """
        ...

    async def close(self) -> None:
        """Close idle connections; idempotent."""
        ...


class HttpTransport:
    """The transport over aiohttp; one per server, shared by all providers."""

    def __init__(self) -> None:
        """Nothing is imported or opened before the first request."""
        self._session: aiohttp.ClientSession | None = None
        self._tasks = TaskScope("model transport")
        self._closed = False

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncGenerator[Answer, None]:
        """Send `request` and hold its answer; leaving early closes the connection.

        Raises:
            TransportError: as its subclasses say.
        """
        answer = _HttpAnswer(await self._send(request))
        try:
            yield answer
        finally:
            if answer.left and not self._closed:
                self._tasks.start(answer.drain(), "drain")
            else:
                answer.end()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        self._closed = True
        await self._tasks.close(DRAIN_SECONDS)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, request: HttpRequest) -> "aiohttp.ClientResponse":
        import aiohttp

        trace = SimpleNamespace(reused=False)
        while True:
            trace.reused = False
            try:
                return await self._post(request, trace)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise ConnectFailed(_why_unconnected(error)) from error
                # The provider closed an idle connection just as we took it from the pool: no byte
                # was answered, so the request goes out again on another one.
                if not trace.reused:
                    raise Disconnected(_plain(error)) from error
            except aiohttp.ConnectionTimeoutError as error:
                waited = f"no connection within {request.connect_seconds:g} s"
                raise ConnectFailed(waited) from error
            except TimeoutError as error:
                raise IdleTimeout from error
            except (aiohttp.InvalidURL, ValueError) as error:
                raise BadRequest(_plain(error)) from error
            except aiohttp.ClientError as error:
                raise Disconnected(_plain(error)) from error

    async def _post(self, request: HttpRequest, trace: SimpleNamespace) -> "aiohttp.ClientResponse":
        import aiohttp

        if self._closed:
            raise Disconnected("the model transport is closed")
        if self._session is None:
            self._session = _open_session()
        body = request.body
        return await self._session.post(
            request.url,
            data=body if len(body) < _IN_ONE_PIECE_BYTES else io.BytesIO(body),
            headers=request.headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=request.connect_seconds, sock_read=request.idle_seconds
            ),
            allow_redirects=False,
            trace_request_ctx=trace,
        )


class _HttpAnswer:
    """An answer of aiohttp, reduced to what a stream needs."""

    def __init__(self, response: "aiohttp.ClientResponse") -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self._response = response
        self._content = response.content
        self.left = False
        """Whether only the end of the answer is missing, and nobody waits for it."""

    async def next_chunk(self) -> bytes:
        import aiohttp

        try:
            return await self._content.readany()
        except TimeoutError as error:
            raise IdleTimeout from error
        except aiohttp.ClientPayloadError as error:
            # The library's text names its own errors, with status codes that nobody sent.
            raise Disconnected("network error: the answer broke off") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(_plain(error)) from error

    def leave(self) -> None:
        self.left = not self._content.at_eof()

    async def drain(self) -> None:
        """Wait a little for the end of the answer: its connection can then serve again."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._content.readany():
                    pass
        except (TransportError, OSError, TimeoutError):
            return
        finally:
            self.end()

    def end(self) -> None:
        """Give back a connection that was read to its end; close any other."""
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()


def load_library() -> None:
    """Load what requests are made with, ahead of the first one; blocks for some 90 ms."""
    import aiohttp

    del aiohttp


def _open_session() -> "aiohttp.ClientSession":
    import aiohttp

    async def note_reuse(_session: Any, context: Any, _params: Any) -> None:
        context.trace_request_ctx.reused = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note_reuse)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, limit_per_host=CONNECTIONS_PER_HOST, keepalive_timeout=KEEPALIVE_SECONDS
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Compression would hold events back until a block of them is full.
        skip_auto_headers=("Accept-Encoding",),
        read_bufsize=READ_BUFFER_BYTES,
        trace_configs=[tracing],
    )


def _why_unconnected(error: "aiohttp.ClientConnectorError") -> str:
    import aiohttp

    # Not every error of the family carries the attributes that its base class promises.
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _plain(error.certificate_error)
    return _plain(error.os_error)


def _plain(error: BaseException) -> str:
    """What happened, without addresses of objects or the library's own names."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
