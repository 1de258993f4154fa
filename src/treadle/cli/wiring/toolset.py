"""The tools of a thread, and the commands they may leave running; `tool_list` says which."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from treadle.cli.wiring.mcp import McpWiring
from treadle.cli.wiring.rule_book import HomeRules
from treadle.config.settings import Config
from treadle.engine.tools.late_tools import LateTools
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.kit.late import Late

if TYPE_CHECKING:
    from treadle.engine.tools.exec_sessions import ExecSessions
    from treadle.engine.tools.login_environment import LoginEnvironments
    from treadle.engine.tools.toolbox import Toolbox


class ThreadTools(msgspec.Struct, frozen=True):
    """A thread's tools, what stops the commands they left running, and what is wrong with rules."""

    tools: LateTools
    close: Callable[[], Awaitable[None]]
    warnings: tuple[str, ...]
    servers: ThreadServers
    sessions: "Late[ExecSessions]"
    remembers: Callable[[], bool]
    """Whether they hold what the thread's log does not tell: commands, servers, permissions."""


class Toolset:
    """Makes the tools of each thread."""

    def __init__(self, shell: str, mcp: McpWiring) -> None:
        """Run scripts in `shell`, an absolute path; `mcp` knows the MCP servers."""
        self.shell = shell
        self._mcp = mcp
        self._rules = HomeRules()
        self._logins = Late(lambda: _logins(shell))

    def make(
        self,
        config: Config,
        read_again: Callable[[], Config],
        look: "Callable[[LoginEnvironments], object]",
        *,
        has_environment: bool,
    ) -> ThreadTools:
        """The tools of a thread that runs with `config`.

        Args:
            config: says which tools there are.
            read_again: gives the configuration that a reload goes by.
            look: has what profiles do found out: while the model thinks, so that the first command
                need not wait for it.
            has_environment: without one there is nothing that reaches commands or files.
        """
        servers = self._mcp.for_thread(config, read_again)
        sessions = Late(_sessions)
        rules, problems = self._rules.book(config)

        def tools() -> "Toolbox":
            from treadle.cli.wiring.tool_list import make_toolbox

            look(self._logins())
            return make_toolbox(
                config,
                self.shell,
                rules,
                sessions(),
                servers,
                self._logins(),
                has_environment=has_environment,
            )

        async def close() -> None:
            await servers.close()
            if sessions.made is not None:
                await sessions.made.close()

        def remembers() -> bool:
            busy = sessions.made is not None and sessions.made.busy
            kept = late.made is not None and late.made.remembers()
            return busy or kept or bool(servers.all())

        late = Late(tools)
        return ThreadTools(LateTools(late), close, problems, servers, sessions, remembers)

    async def close(self) -> None:
        """Stop looking at profiles."""
        if self._logins.made is not None:
            await self._logins.made.close()


def _sessions() -> "ExecSessions":
    from treadle.engine.tools.exec_sessions import ExecSessions

    return ExecSessions()


def _logins(shell: str) -> "LoginEnvironments":
    from treadle.engine.tools.login_environment import LoginEnvironments

    return LoginEnvironments(shell)
