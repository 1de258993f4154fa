"""The port to one connected MCP server, and what can go wrong behind it.

Values are JSON objects in the protocol's own spelling. Light on purpose: the library that speaks
the protocol is heavy and loads with the first connection.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

Json = dict[str, Any]
OnProgress = Callable[[str], None]
"""Hears what a running call says of its progress."""
OnElicit = Callable[[Json], Awaitable[Json]]
"""Answers `elicitation/create` parameters with `{action, content?}`."""


class McpError(Exception):
    """A server or the way to it failed; the text is for people and models.

    Attributes:
        code: the server's own JSON-RPC code, None when it did not get as far as answering.
        lost: whether the connection is gone with it.
    """

    def __init__(self, text: str, *, code: int | None = None, lost: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.lost = lost


class McpTimeout(McpError):
    """A start or a call took longer than it may."""


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said of itself when it started."""

    tools: tuple[Json, ...] = ()
    info: Json = msgspec.field(default_factory=dict[str, Any])
    capabilities: Json = msgspec.field(default_factory=dict[str, Any])
    instructions: str | None = None

    def tool(self, name: str) -> Json | None:
        """A tool's description."""
        return next((tool for tool in self.tools if tool.get("name") == name), None)


class Link(Protocol):
    """A connected server."""

    @property
    def catalog(self) -> Catalog:
        """What it offers."""
        ...

    async def call_tool(
        self, name: str, arguments: Json, meta: Json, seconds: float, on_progress: OnProgress | None
    ) -> Json:
        """Call a tool, waiting at most `seconds`; raises McpError, McpTimeout."""
        ...

    async def list_resources(self, cursor: str | None = None) -> Json:
        """One page: `{resources, nextCursor?}`; raises McpError."""
        ...

    async def list_templates(self, cursor: str | None = None) -> Json:
        """One page: `{resourceTemplates, nextCursor?}`; raises McpError."""
        ...

    async def read_resource(self, uri: str) -> Json:
        """`{contents}`; raises McpError."""
        ...


async def all_pages(read: Callable[[str | None], Awaitable[Json]], key: str) -> list[Json]:
    """The entries under `key` of every page, at most fifty pages; raises McpError."""
    entries: list[Json] = []
    cursor: str | None = None
    for _ in range(50):
        page = await read(cursor)
        entries += page.get(key) or []
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    return entries
