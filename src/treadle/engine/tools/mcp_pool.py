"""The MCP servers of one engine: each distinct one runs once, for all threads that want it.

Servers are shared by how they are reached (command, folder and environment, or URL and headers).
One starts when the first holder wants it, rests when nobody called it for long, is started again by
the next call, and ends soon after its last holder let go. Knows neither threads nor models.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import msgspec

from treadle.engine.tools.mcp_link import Json, Link, McpError
from treadle.engine.tools.mcp_settings import Transport
from treadle.kit.tasks import TaskScope

LINGER_SECONDS = 2.0
"""How long a server without holders is kept for the next one."""
IDLE_SECONDS = 1800.0
"""How long a held server may go without a call before its process is given up."""
STOP_SECONDS = 5.0


class Caller(Protocol):
    """Who a running call belongs to."""

    @property
    def thread_id(self) -> str:
        """The thread that calls."""
        ...

    async def elicit(self, params: Json) -> Json:
        """Answer a question that the server puts to the user: `{action, content?}`."""
        ...


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long servers are kept."""

    linger_seconds: float = LINGER_SECONDS
    idle_seconds: float = IDLE_SECONDS


class Pool:
    """All servers of one engine."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._servers: dict[Transport, SharedServer] = {}

    def hold(self, transport: Transport) -> "Hold":
        """A share in the server; nothing is started yet. Let go of it with `Hold.release`."""
        server = self._servers.get(transport)
        if server is None:
            server = self._servers[transport] = SharedServer(transport, self._patience, self._gone)
        return Hold(server)

    def _gone(self, server: "SharedServer") -> None:
        if self._servers.get(server.transport) is server:
            del self._servers[server.transport]

    @property
    def running(self) -> int:
        """How many servers are connected now."""
        return sum(server.connected for server in self._servers.values())

    async def close(self) -> None:
        """Stop all servers; bounded."""
        async with asyncio.TaskGroup() as group:
            for server in list(self._servers.values()):
                group.create_task(server.close(), name="stop an MCP server")
        self._servers.clear()


class Hold:
    """One holder's share in a server."""

    def __init__(self, server: "SharedServer") -> None:
        self._server = server
        server.holds.add(self)
        self.on_lost: Callable[[], None] = lambda: None
        """Told when the server ends by itself."""

    async def connect(self, seconds: float) -> Link:
        """The connected server, started when it does not run; raises McpError, McpTimeout."""
        return await self._server.connect(seconds)

    @asynccontextmanager
    async def calling(self, caller: Caller, seconds: float) -> AsyncGenerator[Link, None]:
        """The connected server for one call; questions it asks meanwhile go to `caller`.

        Raises McpError, McpTimeout like `connect`.
        """
        async with self._server.calling(caller, seconds) as link:
            yield link

    def release(self) -> None:
        """Let go; the last holder's leaving ends the server soon. Idempotent."""
        self._server.let_go(self)


class _Connection:
    """One life of a server: a task that opens it, and closes it when told or when it ends."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.stop = asyncio.Event()
        self.link: Link | None = None
        self.error: McpError | None = None
        self.unwanted = False
        """Whether we end it, and not it itself."""

    def end(self) -> None:
        """Stop it."""
        self.unwanted = True
        self.stop.set()

    @property
    def usable(self) -> bool:
        """Whether it lives, or may yet."""
        return not self.stop.is_set() and self.error is None


class SharedServer:
    """One server, whoever holds it."""

    def __init__(self, transport: Transport, patience: Patience, gone: Any) -> None:
        self.transport = transport
        self.holds: set[Hold] = set()
        self._patience = patience
        self._gone = gone
        self._scope = TaskScope("MCP server", on_failure=lambda _name, _error: None)
        self._connection: _Connection | None = None
        self._callers: list[Caller] = []
        self._rest: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """Whether it runs and has shaken hands."""
        connection = self._connection
        return connection is not None and connection.usable and connection.link is not None

    async def connect(self, seconds: float) -> Link:
        """See `Hold.connect`; whoever asks during a start waits for that start."""
        connection = self._connection
        if connection is None or not connection.usable:
            connection = self._connection = _Connection()
            self._scope.start(self._live(connection, seconds), "connection")
        await connection.settled.wait()
        if connection.link is None:
            error = connection.error or McpError("the server was stopped", lost=True)
            raise type(error)(str(error), code=error.code, lost=error.lost)
        self._plan_rest()
        return connection.link

    async def _live(self, connection: _Connection, seconds: float) -> None:
        try:
            # The package takes over a second to load: not on the event loop.
            client: Any = await asyncio.to_thread(
                importlib.import_module, "treadle.engine.tools.mcp_client"
            )
            opened = client.open_link(self.transport, seconds, self._elicited, connection.stop.set)
            async with opened as connection.link:
                connection.settled.set()
                await connection.stop.wait()
        except McpError as error:
            connection.error = error
        except Exception as error:  # noqa: BLE001 - whatever the package raises, a start failed
            connection.error = McpError(_innermost(error))
        finally:
            connection.stop.set()
            connection.settled.set()
        if connection.link is not None and not connection.unwanted:
            for hold in tuple(self.holds):
                hold.on_lost()

    @asynccontextmanager
    async def calling(self, caller: Caller, seconds: float) -> AsyncGenerator[Link, None]:
        """See `Hold.calling`."""
        self._callers.append(caller)
        try:
            yield await self.connect(seconds)
        except McpError as error:
            if error.lost and self._connection is not None:
                self._connection.stop.set()
            raise
        finally:
            self._callers.remove(caller)
            self._plan_rest()

    async def _elicited(self, params: Json) -> Json:
        """Put a server's question to the thread that calls it.

        The protocol does not say which call a question belongs to. With calls of several threads
        open, nobody is asked: the wrong user must not answer for another.
        """
        threads = {caller.thread_id for caller in self._callers}
        if len(threads) != 1:
            return {"action": "decline"}
        return await self._callers[-1].elicit(params)

    # ------------------------------------------------------------------ rest and end

    def let_go(self, hold: Hold) -> None:
        """A holder left."""
        if hold in self.holds:
            self.holds.remove(hold)
            self._plan_rest()

    def _plan_rest(self) -> None:
        """Look again once it may have been idle, or without holders, for long enough."""
        if self._rest is not None:
            self._rest.cancel()
        patience = self._patience
        seconds = patience.idle_seconds if self.holds else patience.linger_seconds
        loop = asyncio.get_running_loop()
        self._rest = loop.call_later(seconds, self._take_rest)

    def _take_rest(self) -> None:
        self._rest = None
        if self._callers:
            return
        if self._connection is not None:
            self._connection.end()
        if not self.holds:
            self._gone(self)

    async def close(self) -> None:
        """Stop it now; bounded."""
        if self._rest is not None:
            self._rest.cancel()
        connection = self._connection
        if connection is not None:
            connection.end()
            if connection.link is not None:
                await self._scope.join(STOP_SECONDS)
        # A start is not waited for: the cancel stops its process as well.
        await self._scope.close(STOP_SECONDS)
        if connection is not None:
            connection.settled.set()


def _innermost(error: BaseException) -> str:
    """The plainest words for a failure that may be wrapped in groups."""
    plain: BaseException = error
    while isinstance(plain, BaseExceptionGroup):
        plain = cast("BaseExceptionGroup[BaseException]", plain).exceptions[0]
    return str(plain) or type(plain).__name__
