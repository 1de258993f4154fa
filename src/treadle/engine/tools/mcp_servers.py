"""The MCP servers of one thread: started with it, offered to its model, let go when it leaves.

Holds shares of the pool's servers, tells watchers how their start goes, and keeps what they offer.
What a thread sees of a server (names, allowed tools) is decided here; running processes are the
pool's business.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from treadle.engine.tools.mcp_link import Catalog, Json, McpError, McpTimeout, OnProgress
from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    from treadle.engine.tools.mcp_pool import Caller, Hold, Pool
    from treadle.engine.tools.mcp_settings import ServerSettings

State = Literal["notStarted", "starting", "connected", "failed", "disabled"]
STARTUP_METHOD = "mcpServer/startupStatus/updated"

Notify = Callable[[str, Json], None]
"""Tells the thread's watchers: a method and its parameters."""
ReadSettings = Callable[[], Sequence["ServerSettings"]]


class RequiredServersFailed(Exception):
    """A server without which the thread may not run did not start; the text names all such."""


class Server(msgspec.Struct, eq=False):
    """One configured server as its thread has it."""

    settings: "ServerSettings"
    hold: "Hold | None" = None
    state: State = "notStarted"
    catalog: Catalog = msgspec.field(default_factory=Catalog)
    error: str | None = None
    settled: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.settings.name

    def tools(self) -> list[Json]:
        """The tools that may be seen."""
        return [tool for tool in self.catalog.tools if self.settings.offers(tool["name"])]


class ThreadServers:
    """All servers of one thread."""

    def __init__(
        self, pool: "Callable[[], Pool]", read: ReadSettings, grace_seconds: float | None = None
    ) -> None:
        """Share servers through `pool`; nothing starts before `open`.

        Args:
            pool: gives what runs the servers; asked for when there are some.
            read: the servers as configured now.
            grace_seconds: how long a turn waits for servers that are starting; None for as long as
                their own limits let them.
        """
        self._pool = pool
        self._read = read
        self._grace_seconds = grace_seconds
        self._scope = TaskScope("MCP servers of a thread")
        self._servers: dict[str, Server] = {}
        self._namespaces: dict[str, str] = {}
        self._stale = False
        self._starting = True
        self._notices: list[tuple[str, Json]] | None = []
        self.thread_id = ""
        self._notify: Notify = lambda _method, _params: None

    # ------------------------------------------------------------------ life

    def open(self, thread_id: str, notify: Notify, *, start: bool = True) -> None:
        """Read the settings and start the servers; what there is to tell waits for `announce`.

        Without `start` each is only connected by whoever uses it.
        """
        self.thread_id, self._notify = thread_id, notify
        self._starting = start
        self._take_settings()

    def announce(self) -> None:
        """From now on somebody listens: tell what happened so far, then all as it happens."""
        notices, self._notices = self._notices, None
        for method, params in notices or ():
            self._notify(method, params)

    async def required(self) -> None:
        """Wait for the required servers; raises RequiredServersFailed."""
        needed = [server for server in self._servers.values() if server.settings.required]
        for server in needed:
            await server.settled.wait()
        failed = [f"{server.name}: {server.error}" for server in needed if server.error]
        if failed:
            raise RequiredServersFailed(
                f"required MCP servers failed to initialize: {'; '.join(failed)}"
            )

    async def ready(self) -> None:
        """Before a turn: take up a changed configuration, then wait for what is starting."""
        if self._stale:
            self._stale = False
            self._take_settings()
        starting = [server for server in self._servers.values() if server.state == "starting"]
        if not starting:
            return
        try:
            async with asyncio.timeout(self._grace_seconds):
                for server in starting:
                    await server.settled.wait()
        except TimeoutError:
            return

    def reload(self) -> None:
        """The configuration changed: look at it before the next turn."""
        self._stale = True

    async def close(self) -> None:
        """Let go of all servers."""
        await self._scope.close()
        for server in self._servers.values():
            _release(server)
        self._servers.clear()

    def _take_settings(self) -> None:
        """Keep the servers whose settings stand, let go of the others, start the new ones."""
        old, self._servers = self._servers, {}
        for settings in self._read():
            known = old.get(settings.name)
            if known is not None and known.settings == settings and not known.error:
                self._servers[settings.name] = old.pop(settings.name)
                continue
            server = self._servers[settings.name] = Server(settings)
            if not settings.enabled:
                server.state = "disabled"
                server.settled.set()
                continue
            self._start(server)
        self._namespaces = _namespaces(self._servers)
        for server in old.values():
            _release(server)

    def _start(self, server: Server) -> None:
        if server.settings.transport is not None:
            server.hold = self._pool().hold(server.settings.transport)
            server.hold.on_lost = lambda: self._lost(server)
        if not self._starting:
            server.settled.set()
            return
        server.state = "starting"
        self._tell(server, "starting")
        self._scope.start(self._connect(server), f"start {server.name}")

    async def _connect(self, server: Server) -> None:
        try:
            await connect(server)
        except McpError as error:
            server.state, server.error = "failed", str(error)
            self._tell(server, "failed", server.error)
        else:
            self._tell(server, "ready")
        finally:
            server.settled.set()

    def _tell(self, server: Server, status: str, error: str | None = None) -> None:
        params = {
            "threadId": self.thread_id,
            "name": server.name,
            "status": status,
            "error": error,
            "failureReason": None,
        }
        if self._notices is not None:
            self._notices.append((STARTUP_METHOD, params))
        else:
            self._notify(STARTUP_METHOD, params)

    def notify(self, method: str, params: Json) -> None:
        """Tell the thread's watchers something."""
        self._notify(method, params)

    # ------------------------------------------------------------------ looking up

    def all(self) -> list[Server]:
        """Every configured server, in the order of names."""
        return [self._servers[name] for name in sorted(self._servers)]

    def find(self, name: str) -> Server | None:
        """An enabled server by its configured name."""
        server = self._servers.get(name)
        return server if server is not None and server.settings.enabled else None

    def by_namespace(self, namespace: str) -> Server | None:
        """The server that the model sees under this namespace."""
        for name, given in self._namespaces.items():
            if given == namespace:
                return self.find(name)
        return None

    def offered(self) -> list[tuple[str, Server]]:
        """Connected servers with their namespaces, in the order of names."""
        return [
            (self._namespaces[server.name], server)
            for server in self.all()
            if server.state == "connected"
        ]

    # ------------------------------------------------------------------ calling

    async def call(
        self,
        server: Server,
        tool: str,
        arguments: Json,
        caller: "Caller",
        *,
        meta: Json | None = None,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """Call a tool; its result. A server that had ended is started again, once.

        Raises:
            McpError: it does not start, ended meanwhile, or answered with an error.
            McpTimeout: the call took longer than the server's settings allow.
        """
        await connect(server)
        assert server.hold is not None
        settings = server.settings
        sent = {**(meta or {}), "threadId": self.thread_id}
        try:
            async with server.hold.calling(caller, settings.startup_seconds) as link:
                return await link.call_tool(
                    tool, arguments, sent, settings.call_seconds, on_progress
                )
        except McpTimeout as error:
            raise McpTimeout(
                f"tool call timed out after {settings.call_seconds:g} seconds; "
                f"`tool_timeout_sec` of MCP server `{server.name}` sets the limit"
            ) from error
        except McpError as error:
            if error.lost:
                text = f"MCP server `{server.name}` ended during the call; the next call starts it"
                raise McpError(text, lost=True) from error
            raise

    def _lost(self, server: Server) -> None:
        self._tell(server, "failed", f"MCP server `{server.name}` ended unexpectedly")


async def connect(server: Server) -> None:
    """Connect a server, or make sure that it is; raises McpError that says how a start failed."""
    settings = server.settings
    if server.hold is None:
        raise McpError(f"MCP client for `{server.name}` failed to start: {settings.problem}")
    try:
        link = await server.hold.connect(settings.startup_seconds)
    except McpTimeout as error:
        raise McpTimeout(
            f"MCP client for `{server.name}` timed out after {settings.startup_seconds:g} seconds. "
            f"Set `startup_timeout_sec` under [mcp_servers.{server.name}] to give it longer."
        ) from error
    except McpError as error:
        text = f"MCP client for `{server.name}` failed to start: MCP startup failed: {error}"
        raise McpError(text) from error
    server.catalog, server.state, server.error = link.catalog, "connected", None


def _namespaces(servers: dict[str, Server]) -> dict[str, str]:
    if not servers:
        return {}
    from treadle.engine.tools import mcp_names

    return mcp_names.namespaces(servers)


def _release(server: Server) -> None:
    if server.hold is not None:
        server.hold.release()
        server.hold = None


def describe(server: Server, *, resources: list[Json], templates: list[Json]) -> dict[str, Any]:
    """A server in the shape of `mcpServerStatus/list` (0.169.0)."""
    catalog = server.catalog
    connected = server.state == "connected"
    return {
        "name": server.name,
        "runtimeStatus": server.state,
        "pluginId": None,
        "serverInfo": catalog.info if connected else None,
        "serverCapabilities": catalog.capabilities if connected else None,
        "tools": {tool["name"]: tool for tool in server.tools()},
        "toolsError": server.error,
        "resources": resources,
        "resourceTemplates": templates,
        "authStatus": _auth_status(server.settings),
    }


def _auth_status(settings: "ServerSettings") -> str:
    from treadle.engine.tools.mcp_settings import HttpTransport

    if settings.bearer:
        return "bearerToken"
    transport = settings.transport
    return (
        "oAuth" if isinstance(transport, HttpTransport) and transport.login_home else "unsupported"
    )
