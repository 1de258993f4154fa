"""The tools with which a model looks at the resources of a thread's MCP servers."""

from typing import Any

import msgspec

from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.mcp_link import Json, Link, McpError, all_pages
from treadle.engine.tools.mcp_output import as_text
from treadle.engine.tools.mcp_servers import Server, ThreadServers, connect
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput


class _ListArguments(msgspec.Struct):
    server: str | None = None
    cursor: str | None = None


class _ReadArguments(msgspec.Struct):
    server: str
    uri: str


def _spec(name: str, description: str, fields: dict[str, str], required: list[str]) -> Json:
    return {
        "type": "function",
        "name": name,
        "description": description,
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": {
                key: {"type": "string", "description": text} for key, text in fields.items()
            },
            "required": required,
            "additionalProperties": False,
        },
    }


_SERVER = "Name of the MCP server as configured; all servers when left out."
_CURSOR = "The nextCursor of an earlier page of this server."


async def link_to(server: Server) -> Link:
    """A connected server, started when it does not run; raises McpError."""
    await connect(server)
    assert server.hold is not None
    return await server.hold.connect(server.settings.startup_seconds)


class _Lists:
    """What the two listing tools share."""

    name: str
    key: str
    spec: Json

    def __init__(self, servers: ThreadServers) -> None:
        self._servers = servers

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """List one page of one server, or everything of all."""
        del context
        try:
            wanted = read_arguments(call.arguments, _ListArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        if wanted.server is None and wanted.cursor is not None:
            return ToolOutput(text="a cursor needs the server it belongs to", success=False)
        if wanted.server is None:
            return as_text({self.key: await self._everything()})
        server = self._servers.find(wanted.server)
        if server is None:
            return ToolOutput(text=f"unknown MCP server '{wanted.server}'", success=False)
        try:
            page = await self._page(await link_to(server), wanted.cursor)
        except McpError as error:
            return ToolOutput(text=f"{self.name} failed: {error}", success=False)
        found: list[Json] = page.get(self.key) or []
        entries: list[Json] = [{"server": server.name, **entry} for entry in found]
        answer: Json = {"server": server.name, self.key: entries}
        if page.get("nextCursor"):
            answer["nextCursor"] = page["nextCursor"]
        return as_text(answer)

    async def _everything(self) -> list[Json]:
        entries: list[Json] = []
        for _, server in self._servers.offered():
            try:
                link = await link_to(server)
                found = await all_pages(
                    lambda cursor, link=link: self._page(link, cursor), self.key
                )
            except McpError as error:
                found = [{"error": str(error)}]
            entries += [{"server": server.name, **entry} for entry in found]
        return entries

    async def _page(self, link: Link, cursor: str | None) -> Json:
        raise NotImplementedError


class ListResources(_Lists):
    """Lists resources."""

    name = "list_mcp_resources"
    key = "resources"
    spec = _spec(
        "list_mcp_resources",
        "Lists resources (files, tables, documents) that MCP servers offer as context.",
        {"server": _SERVER, "cursor": _CURSOR},
        [],
    )

    async def _page(self, link: Link, cursor: str | None) -> Json:
        return await link.list_resources(cursor)


class ListTemplates(_Lists):
    """Lists templates of resources."""

    name = "list_mcp_resource_templates"
    key = "resourceTemplates"
    spec = _spec(
        "list_mcp_resource_templates",
        "Lists templates of MCP resources: URIs with parameters to fill in.",
        {"server": _SERVER, "cursor": _CURSOR},
        [],
    )

    async def _page(self, link: Link, cursor: str | None) -> Json:
        return await link.list_templates(cursor)


class ReadResource:
    """Reads a resource."""

    name = "read_mcp_resource"

    def __init__(self, servers: ThreadServers) -> None:
        self._servers = servers

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return _spec(
            self.name,
            "Reads one resource of an MCP server.",
            {"server": "Name of the MCP server as configured.", "uri": "URI of the resource."},
            ["server", "uri"],
        )

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Read it."""
        del context
        try:
            wanted = read_arguments(call.arguments, _ReadArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        server = self._servers.find(wanted.server)
        if server is None:
            return ToolOutput(text=f"unknown MCP server '{wanted.server}'", success=False)
        try:
            result = await (await link_to(server)).read_resource(wanted.uri)
        except McpError as error:
            return ToolOutput(text=f"{self.name} failed: {error}", success=False)
        return as_text({"server": server.name, "uri": wanted.uri, **result})
