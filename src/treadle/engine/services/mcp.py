"""MCP servers as clients ask for them: what there is, direct calls, resources, reloading.

Direct calls go through the servers of a loaded thread; what is asked without a thread goes through
servers that are held for that request only. No approval is asked: the user calls, not the model.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from treadle.engine.services.errors import McpFailed, Refused, ThreadNotLoaded
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.requests import Requests
from treadle.engine.services.threads import Threads
from treadle.engine.tools.mcp_approvals import may_ask
from treadle.engine.tools.mcp_elicit import DECLINED, FORBIDDEN, put, question_from
from treadle.engine.tools.mcp_link import Json, McpError, all_pages
from treadle.engine.tools.mcp_resources import link_to
from treadle.engine.tools.mcp_servers import Server, ThreadServers, connect, describe
from treadle.engine.tools.mcp_settings import ServerSettings

OpenServers = Callable[[], ThreadServers]
"""Servers as configured for no thread in particular; raises PlanRejected."""


class Mcp:
    """The MCP servers of one engine, for clients."""

    def __init__(self, threads: Threads, requests: Requests, open_servers: OpenServers) -> None:
        self._threads = threads
        self._requests = requests
        self._open_servers = open_servers

    # ------------------------------------------------------------------ what there is

    async def status(
        self, thread_id: str | None, name: str | None, page: "Page", *, resources: bool
    ) -> tuple[list[Json], str | None]:
        """A page of servers in the protocol's shape, and the cursor of the next one.

        Without a thread the servers of the page are connected for this alone.

        Raises:
            ThreadNotLoaded: there is no such thread in memory.
            PlanRejected: the configuration cannot be read.
            Refused: the cursor is none that we gave.
        """
        servers, temporary = self._servers(thread_id)
        try:
            found = [server for server in servers.all() if name is None or server.name == name]
            begin, end = page.of(len(found))
            rows: dict[str, Json] = {}
            async with asyncio.TaskGroup() as group:
                for server in found[begin:end]:
                    looking = _look(server, rows, start=temporary, resources=resources)
                    group.create_task(looking, name=f"status of {server.name}")
            data = [rows[server.name] for server in found[begin:end]]
            return data, str(end) if end < len(found) else None
        finally:
            if temporary:
                await servers.close()

    def _servers(self, thread_id: str | None) -> tuple[ThreadServers, bool]:
        if thread_id is None:
            servers = self._open_servers()
            servers.open("", lambda _method, _params: None, start=False)
            return servers, True
        return self._of(self._loaded(thread_id)), False

    def _loaded(self, thread_id: str) -> LoadedThread:
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        return thread

    def _of(self, thread: LoadedThread) -> ThreadServers:
        servers = self._threads.servers(thread.thread_id)
        if servers is None:
            raise Refused(f"thread {thread.thread_id} has no MCP servers")
        return servers

    # ------------------------------------------------------------------ direct use

    async def call_tool(
        self, thread_id: str, server_name: str, tool: str, arguments: Any, meta: Any
    ) -> Json:
        """Call a tool for the user; its result as the server gave it.

        Raises:
            ThreadNotLoaded: there is no such thread in memory.
            McpFailed: unknown server, disabled tool, bad arguments, or the server failed.
        """
        thread = self._loaded(thread_id)
        servers = self._of(thread)
        server = _named(servers, server_name)
        if not server.settings.offers(tool):
            raise McpFailed(f"tool '{tool}' is disabled for MCP server '{server_name}'")
        if arguments is not None and not isinstance(arguments, dict):
            raise McpFailed("MCP tool arguments must be a JSON object")
        given = cast("Json", arguments or {})
        about = cast("Json", meta) if isinstance(meta, dict) else {}
        caller = ClientCaller(self._requests, thread, server_name)
        try:
            result = await servers.call(server, tool, given, caller, meta=about)
        except McpError as error:
            raise McpFailed(str(error), error.code) from error
        return result

    async def read_resource(self, thread_id: str | None, server_name: str, uri: str) -> Json:
        """Read a resource, through a thread's server or one held for this only.

        Raises:
            ThreadNotLoaded: there is no such thread in memory.
            McpFailed: unknown server, or it failed.
        """
        servers, temporary = self._servers(thread_id)
        try:
            server = _named(servers, server_name)
            return await (await link_to(server)).read_resource(uri)
        except McpError as error:
            raise McpFailed(str(error), error.code) from error
        finally:
            if temporary:
                await servers.close()

    def settings_of(self, name: str) -> ServerSettings | None:
        """A server as it is configured now, for no thread; raises PlanRejected."""
        servers = self._open_servers()
        servers.open("", lambda _method, _params: None, start=False)
        found = servers.find(name)
        return found.settings if found is not None else None

    def reload(self) -> None:
        """Loaded threads look at the configuration again before their next turn."""
        for thread_id in self._threads.loaded_ids():
            servers = self._threads.servers(thread_id)
            if servers is not None:
                servers.reload()


async def _look(server: Server, rows: dict[str, Json], *, start: bool, resources: bool) -> None:
    """Put a server's row into `rows`; one that fails says so in its row."""
    found: list[Json] = []
    templates: list[Json] = []
    try:
        if start and server.settings.enabled:
            await connect(server)
        if resources and server.state == "connected":
            link = await link_to(server)
            found = await all_pages(link.list_resources, "resources")
            templates = await all_pages(link.list_templates, "resourceTemplates")
    except McpError as error:
        server.error = server.error or str(error)
    row = describe(server, resources=found, templates=templates)
    if start:
        row["runtimeStatus"] = None
    rows[server.name] = row


class Page(msgspec.Struct, frozen=True):
    """Which part of a list is wanted."""

    cursor: str | None = None
    limit: int | None = None

    def of(self, total: int) -> tuple[int, int]:
        """Begin and end in a list of `total`; raises Refused for a cursor that is none of ours."""
        begin = 0
        if self.cursor is not None:
            if not self.cursor.isdecimal():
                raise Refused(f"invalid cursor: {self.cursor}")
            begin = int(self.cursor)
            if begin > total:
                raise Refused(f"cursor {begin} exceeds total MCP servers {total}")
        size = total if self.limit is None else max(1, self.limit)
        return begin, min(total, begin + size)


class ClientCaller:
    """A call that a client makes itself."""

    def __init__(self, requests: Requests, thread: LoadedThread, server: str) -> None:
        self._requests = requests
        self._thread = thread
        self._server = server

    @property
    def thread_id(self) -> str:
        """The thread that calls."""
        return self._thread.thread_id

    async def elicit(self, params: Json) -> Json:
        """See `Caller.elicit`."""
        thread = self._thread
        question = question_from(params, self._server, thread_id=thread.thread_id)
        if not may_ask(thread.agent.settings):
            self._requests.declined(thread, question, FORBIDDEN.format(self._server))
            return DECLINED
        return await put(question, lambda asked: self._requests.ask(thread, asked))


def _named(servers: ThreadServers, name: str) -> Server:
    server = servers.find(name)
    if server is None:
        raise McpFailed(f"unknown MCP server '{name}'")
    return server
