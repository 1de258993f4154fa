"""MCP tools as tools of a thread: listed for the model, called, and shown as items.

A `ToolSource` for the toolbox: the tools there are depend on which servers are connected by then.
"""

from typing import Any

import msgspec

from treadle.domain.items import McpToolCall
from treadle.engine.tools import mcp_names, mcp_output
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.mcp_approvals import Approvals
from treadle.engine.tools.mcp_elicit import TurnCaller
from treadle.engine.tools.mcp_link import Json, McpError
from treadle.engine.tools.mcp_resources import ListResources, ListTemplates, ReadResource
from treadle.engine.tools.mcp_servers import Server, ThreadServers
from treadle.engine.tools.tool import Tool, ToolCall, ToolContext, ToolOutput

PROGRESS_METHOD = "item/mcpToolCall/progress"


class McpTools:
    """All MCP tools of one thread."""

    def __init__(self, servers: ThreadServers) -> None:
        self._servers = servers
        self._approvals = Approvals()
        self._resource_tools: tuple[Tool, ...] = (
            ListResources(servers),
            ListTemplates(servers),
            ReadResource(servers),
        )

    async def ready(self) -> None:
        """Wait, within limits, for servers that are starting."""
        await self._servers.ready()

    @property
    def specs(self) -> list[dict[str, Any]]:
        """The resource tools and a namespace per connected server; nothing without servers."""
        offered = self._servers.offered()
        if not offered:
            return []
        return [
            *(tool.spec for tool in self._resource_tools),
            *(_namespace(name, server) for name, server in offered if server.tools()),
        ]

    def find(self, namespace: str | None, name: str) -> Tool | None:
        """The tool that a call means, if it is one of these."""
        if namespace is None:
            for tool in self._resource_tools:
                if tool.name == name and self._servers.offered():
                    return tool
            flat = mcp_names.split_flat(name)
            if flat is None:
                return None
            namespace, name = flat
        server = self._servers.by_namespace(namespace)
        if server is None:
            return None
        given = mcp_names.tool_names(tool["name"] for tool in server.tools())
        for tool in server.tools():
            if given[tool["name"]] == name:
                return McpTool(self._servers, server, tool, self._approvals)
        return None


def _namespace(name: str, server: Server) -> dict[str, Any]:
    tools = server.tools()
    given = mcp_names.tool_names(tool["name"] for tool in tools)
    about = server.catalog.instructions or f"Tools of the MCP server {server.name}."
    return {
        "type": "namespace",
        "name": name,
        "description": about[:1000],
        "tools": [_spec(given[tool["name"]], tool) for tool in tools],
    }


def _spec(name: str, tool: Json) -> dict[str, Any]:
    schema = dict(tool.get("inputSchema") or {})
    # Providers refuse an object without properties, which the protocol allows.
    schema.setdefault("type", "object")
    schema.setdefault("properties", {})
    return {
        "type": "function",
        "name": name,
        "description": tool.get("description") or tool.get("title") or "",
        "strict": False,
        "parameters": schema,
    }


class McpTool:
    """One tool of one server."""

    def __init__(
        self, servers: ThreadServers, server: Server, tool: Json, approvals: Approvals
    ) -> None:
        self._servers = servers
        self._server = server
        self._tool = tool
        self._approvals = approvals

    @property
    def name(self) -> str:
        """Its name on the server."""
        return self._tool["name"]

    @property
    def spec(self) -> dict[str, Any]:
        """How the model is told of it within its namespace."""
        return _spec(self.name, self._tool)

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Call it, once that is allowed; the item says how it went."""
        try:
            arguments = read_arguments(call.arguments, dict[str, Any])
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        item = McpToolCall(
            id=call.call_id, server=self._server.name, tool=self.name, arguments=arguments
        )
        context.reporter.started(item)
        begun = context.clock.monotonic()
        done = msgspec.structs.replace(item, status="failed", error={"message": "interrupted"})
        try:
            done, output = await self._carry_out(item, call, context, begun)
        finally:
            done.duration_ms = int((context.clock.monotonic() - begun) * 1000)
            context.reporter.completed(done)
        return output

    async def _carry_out(
        self, item: McpToolCall, call: ToolCall, context: ToolContext, begun: float
    ) -> tuple[McpToolCall, ToolOutput]:
        mode = self._server.settings.approval_mode(self.name)
        refusal = await self._approvals.refusal(
            self._server.name, mode, self._tool, item.arguments, call, context
        )
        if refusal is not None:
            return self._failed(item, refusal, context, begun)
        try:
            result = await self._servers.call(
                self._server,
                self.name,
                item.arguments,
                TurnCaller(self._server.name, call.call_id, context),
                on_progress=lambda text: self._progressed(item.id, text, context),
            )
        except McpError as error:
            return self._failed(item, str(error), context, begun)
        status = "completed" if mcp_output.succeeded(result) else "failed"
        done = msgspec.structs.replace(item, status=status, result=mcp_output.for_item(result))
        return done, mcp_output.as_output(result, context.clock.monotonic() - begun)

    def _failed(
        self, item: McpToolCall, reason: str, context: ToolContext, begun: float
    ) -> tuple[McpToolCall, ToolOutput]:
        done = msgspec.structs.replace(item, status="failed", error={"message": reason})
        return done, mcp_output.as_failure(reason, context.clock.monotonic() - begun)

    def _progressed(self, item_id: str, text: str, context: ToolContext) -> None:
        self._servers.notify(
            PROGRESS_METHOD,
            {
                "threadId": context.thread_id,
                "turnId": context.turn_id,
                "itemId": item_id,
                "message": text[:2000],
            },
        )
