"""MCP through the official package: the one module that imports it.

Heavy: whoever needs it imports it when the first server is connected, off the event loop. Opens a
transport, shakes hands, and turns the package's types and errors into the port's.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ValidationError

from treadle.engine.tools.mcp_link import (
    Catalog,
    Json,
    McpError,
    McpTimeout,
    OnElicit,
    OnProgress,
    all_pages,
)
from treadle.engine.tools.mcp_logins import McpLogins
from treadle.engine.tools.mcp_settings import HttpTransport, StdioTransport, Transport
from treadle.engine.tools.mcp_stdio import stdio_streams
from treadle.kit.version import VERSION

RESOURCE_SECONDS = 30.0
"""How long listing or reading resources may take."""


class SessionLink:
    """A session of the package as the port."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self.catalog = Catalog()

    async def shake_hands(self) -> None:
        """Initialize, and learn which tools there are; raises McpError."""
        with _as_ours():
            result = await self._session.initialize()
        tools: list[Json] = []
        if result.capabilities.tools is not None:
            tools = await all_pages(self._list_tools, "tools")
        self.catalog = Catalog(
            tools=tuple(tools),
            info=_plain(result.server_info),
            capabilities=_plain(result.capabilities),
            instructions=result.instructions,
        )

    async def _list_tools(self, cursor: str | None = None) -> Json:
        with _as_ours():
            return _plain(await self._session.list_tools(params=_page(cursor)))

    async def call_tool(
        self, name: str, arguments: Json, meta: Json, seconds: float, on_progress: OnProgress | None
    ) -> Json:
        """See `Link.call_tool`."""

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            assert on_progress is not None
            on_progress(message or (f"{progress:g}/{total:g}" if total else f"{progress:g}"))

        with _as_ours():
            result = await self._session.call_tool(
                name,
                arguments,
                read_timeout_seconds=seconds,
                progress_callback=progressed if on_progress else None,
                meta=meta,  # pyright: ignore[reportArgumentType] - open for any member
            )
            return _plain(result)

    async def list_resources(self, cursor: str | None = None) -> Json:
        """See `Link.list_resources`."""
        if "resources" not in self.catalog.capabilities:
            return {"resources": []}
        with _as_ours():
            return _plain(await self._session.list_resources(params=_page(cursor)))

    async def list_templates(self, cursor: str | None = None) -> Json:
        """See `Link.list_templates`."""
        if "resources" not in self.catalog.capabilities:
            return {"resourceTemplates": []}
        with _as_ours():
            return _plain(await self._session.list_resource_templates(params=_page(cursor)))

    async def read_resource(self, uri: str) -> Json:
        """See `Link.read_resource`."""
        with _as_ours():
            return _plain(await self._session.read_resource(uri))


@contextlib.asynccontextmanager
async def open_link(
    transport: Transport, seconds: float, on_elicit: OnElicit, on_end: Callable[[], None]
) -> AsyncGenerator[SessionLink, None]:
    """A connected server for as long as the block runs.

    Args:
        transport: how to reach it.
        seconds: how long start and handshake may take.
        on_elicit: answers the server's questions to the user.
        on_end: told once when the server goes by itself, as far as that can be seen.

    Raises:
        McpError, McpTimeout: it could not be reached or did not shake hands.
    """

    async def elicited(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        del context
        return types.ElicitResult.model_validate(await on_elicit(_plain(params)), by_name=False)

    failure: McpError | None = None
    refusals: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        streams = await stack.enter_async_context(_streams(transport, on_end, refusals))
        session = await stack.enter_async_context(
            ClientSession(
                *streams,
                read_timeout_seconds=RESOURCE_SECONDS,
                elicitation_callback=elicited,
                client_info=types.Implementation(name="treadle", version=VERSION),
            )
        )
        link = SessionLink(session)
        # A failure leaves the stack first: raised through it, its task groups would wrap it.
        try:
            with anyio.fail_after(seconds):
                await link.shake_hands()
        except TimeoutError:
            failure = McpTimeout(f"no handshake within {seconds:g} s")
        except McpError as error:
            failure = McpError(refusals[0]) if refusals else error
        else:
            yield link
    if failure is not None:
        raise failure


def _streams(
    transport: Transport, on_end: Callable[[], None], refusals: list[str]
) -> "contextlib.AbstractAsyncContextManager[Any]":
    if isinstance(transport, StdioTransport):
        return stdio_streams(transport, on_end)
    return _http_streams(transport, refusals)


@contextlib.asynccontextmanager
async def _http_streams(transport: HttpTransport, refusals: list[str]) -> AsyncGenerator[Any, None]:
    async def look(response: httpx2.Response) -> None:
        # The package tells of no status; who has a wrong token wants to know that it is the token.
        if response.status_code in (401, 403):
            refusals.append(
                f"the server answered {response.status_code}: it wants other credentials "
                "(see `bearer_token_env_var` and `http_headers`, or log in)"
            )

    # `trust_env` off: proxies and credentials of the process are not this library's to read.
    client = httpx2.AsyncClient(
        auth=_login(transport),
        headers=dict(transport.headers),
        timeout=httpx2.Timeout(30.0, read=300.0),
        trust_env=False,
        event_hooks={"response": [look]},
    )
    async with client, streamable_http_client(transport.url, http_client=client) as streams:
        yield streams


def _login(transport: HttpTransport) -> httpx2.Auth | None:
    if not transport.login_home:
        return None
    from treadle.engine.tools.mcp_oauth import stored_login

    return stored_login(transport.url, McpLogins(Path(transport.login_home)))


def _page(cursor: str | None) -> types.PaginatedRequestParams | None:
    return types.PaginatedRequestParams(cursor=cursor) if cursor else None


def _plain(model: BaseModel) -> Json:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


@contextlib.contextmanager
def _as_ours():
    """The package's errors as the port's."""
    try:
        yield
    except MCPError as error:
        if error.code == types.REQUEST_TIMEOUT:
            raise McpTimeout(error.message) from error
        lost = error.code == types.CONNECTION_CLOSED
        raise McpError(error.message, code=None if lost else error.code, lost=lost) from error
    except ValidationError as error:
        raise McpError("the server's answer does not follow the protocol") from error
    except RuntimeError as error:
        raise McpError(str(error)) from error
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError) as error:
        raise McpError("the connection is closed", lost=True) from error
