"""Logging in at an MCP server: where the user is to go, and later how it went.

One login runs per call, owned here and bounded; afterwards servers are looked at again, so that
threads use it from their next turn on.
"""

import asyncio
import importlib
from collections.abc import Callable

from treadle.engine.services.errors import McpFailed, Refused
from treadle.engine.services.mcp import Mcp
from treadle.engine.tools.mcp_link import McpError
from treadle.engine.tools.mcp_logins import McpLogins
from treadle.engine.tools.mcp_settings import HttpTransport
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope

DEFAULT_SECONDS = 300.0
MAX_LOGINS = 8
"""Logins that may wait for their user at one time."""

Told = Callable[[str, str | None], None]
"""Hears the login's id and why it failed; None when it did not."""


class McpLoginService:
    """The logins that wait for their user."""

    def __init__(self, mcp: Mcp, logins: McpLogins) -> None:
        self._mcp = mcp
        self._logins = logins
        self._scope = TaskScope("MCP logins")
        self._waiting = 0

    async def start(
        self, name: str, scopes: list[str] | None, seconds: float | None, told: Told
    ) -> tuple[str, str]:
        """Begin a login; the address where the user logs in, and the login's id.

        Raises:
            Refused: there is no such server, it is none behind a URL, or too many logins wait.
            McpFailed: the server offers no login.
            PlanRejected: the configuration cannot be read.
        """
        url = self._url(name)
        if self._waiting >= MAX_LOGINS:
            raise Refused("too many logins wait for their user; finish one first")
        login_id = new_id()
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        limit = DEFAULT_SECONDS if seconds is None else max(1.0, seconds)
        work = self._log_in(url, scopes, limit, address, lambda error: told(login_id, error))
        self._scope.start(work, f"login at {name}")
        try:
            return await address, login_id
        except McpError as error:
            raise McpFailed(str(error)) from error

    def _url(self, name: str) -> str:
        settings = self._mcp.settings_of(name)
        if settings is None:
            raise Refused(f"No MCP server named '{name}' found.")
        if not isinstance(settings.transport, HttpTransport):
            raise Refused("OAuth login is only supported for streamable HTTP servers.")
        return settings.transport.url

    async def _log_in(
        self,
        url: str,
        scopes: list[str] | None,
        seconds: float,
        address: "asyncio.Future[str]",
        told: Callable[[str | None], None],
    ) -> None:
        self._waiting += 1
        problem: str | None = None
        try:
            async with asyncio.timeout(seconds):
                oauth = await asyncio.to_thread(
                    importlib.import_module, "treadle.engine.tools.mcp_oauth"
                )
                await oauth.log_in(url, self._logins, scopes, _once(address))
        except TimeoutError:
            problem = f"nobody logged in within {seconds:g} s"
        except (McpError, OSError) as error:
            problem = str(error)
        finally:
            self._waiting -= 1
        if not address.done():
            address.set_exception(McpError(problem or "the server asks for no login"))
            return
        self._mcp.reload()
        told(problem)

    async def close(self) -> None:
        """Give up the logins that wait."""
        await self._scope.close()


def _once(address: "asyncio.Future[str]") -> Callable[[str], None]:
    def told(url: str) -> None:
        if not address.done():
            address.set_result(url)

    return told
