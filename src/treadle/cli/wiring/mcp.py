"""MCP servers of threads: which are configured, and the pool they share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.config.errors import ConfigError
from treadle.config.settings import Config
from treadle.config.store import ConfigStore
from treadle.engine.services.planning import PlanRejected
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.kit.late import Late

if TYPE_CHECKING:
    from treadle.engine.tools.mcp_logins import McpLogins
    from treadle.engine.tools.mcp_pool import Pool
    from treadle.engine.tools.mcp_settings import ServerSettings


class McpWiring:
    """One pool, and threads' views of it."""

    def __init__(self, config: ConfigStore) -> None:
        self._config = config
        self.pool = Late(_pool)
        self.logins = Late(lambda: _logins(config.home))

    def for_thread(self, config: Config, read_again: Callable[[], Config]) -> ThreadServers:
        """The servers of a thread that runs with `config`; a reload asks `read_again`."""
        first: list[Config] = [config]

        def read() -> "Sequence[ServerSettings]":
            try:
                current = first.pop() if first else read_again()
            except ConfigError:
                # A file that was broken meanwhile takes no server away from a running thread.
                current = config
            return self._read(current)

        grace_ms = config.table.get("mcp_optional_startup_grace_ms")
        return ThreadServers(self.pool, read, None if grace_ms is None else grace_ms / 1000)

    def for_client(self) -> ThreadServers:
        """The servers as configured for no thread in particular; raises PlanRejected."""
        try:
            config = self._config.snapshot(None)
        except ConfigError as error:
            raise PlanRejected(str(error)) from error
        return ThreadServers(self.pool, lambda: self._read(config))

    def _read(self, config: Config) -> "list[ServerSettings]":
        if not config.table.get("mcp_servers"):
            return []
        from treadle.config.mcp_servers import read_mcp_servers

        environment = self._config.environment
        cwd = config.cwd or Path(environment.working_folder)
        logins = self.logins()
        home = str(logins.path.parent)
        return read_mcp_servers(
            config.table, environment, cwd, lambda url: home if logins.has(url) else ""
        )

    async def close(self) -> None:
        """Stop all servers, if any were ever wanted."""
        if self.pool.made is not None:
            await self.pool.made.close()


def _pool() -> "Pool":
    from treadle.engine.tools.mcp_pool import Pool

    return Pool()


def _logins(home: Path) -> "McpLogins":
    from treadle.engine.tools.mcp_logins import McpLogins

    return McpLogins(home)
