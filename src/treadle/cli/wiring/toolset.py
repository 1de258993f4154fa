"""The tools of a thread, and the commands they may leave running; `tool_list` says which."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from treadle.cli.wiring.mcp import McpWiring
from treadle.cli.wiring.rule_book import HomeRules
from treadle.config.settings import Config
from treadle.engine.tools.exec_sessions import ExecSessions
from treadle.engine.tools.late_tools import LateTools
from treadle.engine.tools.login_environment import LoginEnvironments
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.engine.tools.toolbox import Toolbox


class ThreadTools(NamedTuple):
    """A thread's tools, what stops the commands they left running, and what is wrong with rules."""

    tools: LateTools
    close: Callable[[], Awaitable[None]]
    warnings: tuple[str, ...]
    servers: ThreadServers
    sessions: ExecSessions


class Toolset:
    """Makes the tools of each thread."""

    def __init__(self, shell: str, mcp: McpWiring) -> None:
        """Run scripts in `shell`, an absolute path; `mcp` knows the MCP servers."""
        self.shell = shell
        self._mcp = mcp
        self._rules = HomeRules()
        self.logins = LoginEnvironments(shell)

    def make(
        self, config: Config, read_again: Callable[[], Config], *, has_environment: bool
    ) -> ThreadTools:
        """The tools of a thread that runs with `config`; a reload asks `read_again`.

        Without an environment there is nothing that reaches commands or files.
        """
        servers = self._mcp.for_thread(config, read_again)
        sessions = ExecSessions()
        rules, problems = self._rules.book(config)

        def tools() -> Toolbox:
            from treadle.cli.wiring.tool_list import make_toolbox

            return make_toolbox(
                config,
                self.shell,
                rules,
                sessions,
                servers,
                self.logins,
                has_environment=has_environment,
            )

        async def close() -> None:
            await servers.close()
            await sessions.close()

        return ThreadTools(LateTools(tools), close, problems, servers, sessions)
