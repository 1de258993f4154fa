"""`mcpServer*`, `config/mcpServer/reload`: from parameters to the MCP service and back."""

from treadle.appserver.context import Context
from treadle.domain.ids import explain_bad_uuid
from treadle.engine.services.mcp import Page
from treadle.wire.protocol import mcp as proto
from treadle.wire.protocol.errors import invalid_request
from treadle.wire.protocol.threads import Empty


async def list_status(
    context: Context, params: proto.ServerStatusParams
) -> proto.ServerStatusResult:
    """The configured servers, and what each offers."""
    _check_id(params.thread_id)
    data, next_cursor = await context.services.mcp().status(
        params.thread_id,
        params.server_name,
        Page(params.cursor, params.limit),
        resources=params.detail != "toolsAndAuthOnly",
    )
    return proto.ServerStatusResult(data=data, next_cursor=next_cursor)


async def call_tool(context: Context, params: proto.ToolCallParams) -> proto.ToolCallResult:
    """Call a tool for the user."""
    _check_id(params.thread_id)
    result = await context.services.mcp().call_tool(
        params.thread_id, params.server, params.tool, params.arguments, params.meta
    )
    return proto.ToolCallResult(
        content=result.get("content") or [],
        structured_content=result.get("structuredContent"),
        is_error=result.get("isError"),
        meta=result.get("_meta"),
    )


async def read_resource(
    context: Context, params: proto.ResourceReadParams
) -> proto.ResourceReadResult:
    """Read a resource of a server."""
    _check_id(params.thread_id)
    result = await context.services.mcp().read_resource(params.thread_id, params.server, params.uri)
    return proto.ResourceReadResult(contents=result.get("contents") or [])


async def reload(context: Context, params: None) -> Empty:
    """Loaded threads take up the servers as configured now, before their next turn."""
    del params
    context.services.mcp().reload()
    return Empty()


async def log_in(context: Context, params: proto.OauthLoginParams) -> proto.OauthLoginResult:
    """Begin a login at a server; its end is told to the asker."""

    def told(login_id: str, error: str | None) -> None:
        done = {"name": params.name, "success": error is None, "error": error}
        about = {"loginId": login_id, "threadId": params.thread_id}
        context.services.subscriptions.notify(
            context.session, "mcpServer/oauthLogin/completed", done | about
        )

    url, login_id = await context.services.mcp_logins().start(
        params.name, params.scopes, params.timeout_secs, told
    )
    return proto.OauthLoginResult(authorization_url=url, login_id=login_id)


def _check_id(thread_id: str | None) -> None:
    problem = explain_bad_uuid(thread_id) if thread_id is not None else None
    if problem is not None:
        raise invalid_request(f"invalid thread id: {problem}")
