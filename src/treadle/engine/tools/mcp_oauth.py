"""OAuth at MCP servers through the official package: logging in, and using a login.

Discovery, registration, PKCE, exchange and refresh are the package's; here is what it leaves to its
user: keeping tokens, and the page of this machine that the browser comes back to. Heavy: imported
when a login is used.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl, ValidationError

from treadle.engine.tools.mcp_link import McpError
from treadle.engine.tools.mcp_logins import McpLogins
from treadle.kit.clock import SystemClock
from treadle.kit.version import VERSION

REQUEST_SECONDS = 30.0
MAX_REQUEST_BYTES = 16_384

_PAGE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"<!doctype html><title>Treadle</title><p>You can close this window and go back."
)
_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "treadle", "version": VERSION},
    },
}


class _Kept:
    """The package's storage over the file of logins."""

    def __init__(self, logins: McpLogins, url: str, *, fresh: bool) -> None:
        """Keep what belongs to `url`; with `fresh` nothing of before is used."""
        self._logins = logins
        self._url = url
        self._fresh = fresh
        self.expires_at: float | None = None if fresh else logins.entry(url).get("expires_at")

    async def get_tokens(self) -> OAuthToken | None:
        """The tokens, unless none are kept or they cannot be read."""
        entry = {} if self._fresh else self._logins.entry(self._url)
        with contextlib.suppress(ValidationError):
            return OAuthToken.model_validate(entry["tokens"]) if "tokens" in entry else None
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep the tokens."""
        expires_at = SystemClock().now() + tokens.expires_in if tokens.expires_in else None
        plain = tokens.model_dump(mode="json", exclude_none=True)
        self._logins.update(self._url, tokens=plain, expires_at=expires_at)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """The client that was registered with the server."""
        entry = {} if self._fresh else self._logins.entry(self._url)
        with contextlib.suppress(ValidationError):
            return (
                OAuthClientInformationFull.model_validate(entry["client"])
                if "client" in entry
                else None
            )
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep the client."""
        plain = client_info.model_dump(mode="json", exclude_none=True)
        self._logins.update(self._url, client=plain)


def _metadata(redirect: str, scopes: list[str] | None) -> OAuthClientMetadata:
    return OAuthClientMetadata(
        client_name="Treadle",
        redirect_uris=[AnyUrl(redirect)],
        scope=" ".join(scopes) if scopes else None,
        token_endpoint_auth_method="none",
    )


def stored_login(url: str, logins: McpLogins) -> httpx2.Auth:
    """The authentication of requests by a login; refreshes it, never asks anybody."""
    kept = _Kept(logins, url, fresh=False)
    provider = OAuthClientProvider(url, _metadata("http://127.0.0.1/callback", None), kept)
    provider.context.token_expiry_time = kept.expires_at
    return provider


async def log_in(
    url: str, logins: McpLogins, scopes: list[str] | None, on_url: Callable[[str], None]
) -> None:
    """Log in at a server and keep the tokens; done when the browser came back.

    Args:
        url: the server.
        logins: where to keep them.
        scopes: what to ask for; the server's own list where it has one wins.
        on_url: told once where the user is to log in.

    Raises:
        McpError: the server offers no login, or refused it.
        OSError: the tokens cannot be kept.
    """
    came: asyncio.Future[AuthorizationCodeResult] = asyncio.get_running_loop().create_future()

    async def redirect(address: str) -> None:
        on_url(address)

    async def back() -> AuthorizationCodeResult:
        return await came

    async with _callback_page(came) as address:
        provider = OAuthClientProvider(
            url,
            _metadata(address, scopes),
            _Kept(logins, url, fresh=True),
            redirect_handler=redirect,
            callback_handler=back,
        )
        # `trust_env` off: proxies and credentials of the process are not this library's to read.
        client = httpx2.AsyncClient(
            auth=provider, trust_env=False, timeout=httpx2.Timeout(REQUEST_SECONDS)
        )
        accept = {"Accept": "application/json, text/event-stream"}
        try:
            async with client, client.stream("POST", url, json=_HELLO, headers=accept):
                pass
        except (OAuthFlowError, httpx2.HTTPError, ValidationError) as error:
            raise McpError(f"the login failed: {error}") from error
    if not logins.has(url):
        raise McpError("the server asks for no login")


@contextlib.asynccontextmanager
async def _callback_page(
    came: "asyncio.Future[AuthorizationCodeResult]",
) -> AsyncGenerator[str, None]:
    """A page of this machine, for one visit; gives its address."""

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            words = head.split(b" ", 2)
            query = parse_qs(urlsplit(words[1].decode("ascii", "replace")).query)
            _settle(came, {name: values[0] for name, values in query.items()})
            writer.write(_PAGE)
            await writer.drain()
        except (OSError, TimeoutError, IndexError, asyncio.IncompleteReadError, ValueError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0, limit=MAX_REQUEST_BYTES)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/callback"
    finally:
        server.close()


def _settle(came: "asyncio.Future[AuthorizationCodeResult]", query: dict[str, str]) -> None:
    if came.done():
        return
    if "code" in query:
        came.set_result(
            AuthorizationCodeResult(
                code=query["code"], state=query.get("state"), iss=query.get("iss")
            )
        )
    elif "error" in query:
        came.set_exception(OAuthFlowError(query.get("error_description") or query["error"]))
