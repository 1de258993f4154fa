"""The tools of a thread: which there are, and the commands they may leave running."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from treadle.cli.wiring.mcp import McpWiring
from treadle.cli.wiring.rule_book import HomeRules
from treadle.config.settings import Config
from treadle.engine.tools.edit_files import ApplyPatch
from treadle.engine.tools.exec import ExecCommand, WriteStdin
from treadle.engine.tools.exec_sessions import ExecSessions
from treadle.engine.tools.login_environment import LoginEnvironments
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.engine.tools.mcp_tools import McpTools
from treadle.engine.tools.permits import Permits
from treadle.engine.tools.plan import UpdatePlan
from treadle.engine.tools.request_permissions import RequestPermissions
from treadle.engine.tools.shell import Shell, ShellScript
from treadle.engine.tools.toolbox import Toolbox
from treadle.engine.tools.user_input import RequestUserInput
from treadle.engine.tools.view_image import ViewImage


class ThreadTools(NamedTuple):
    """A thread's tools, what stops the commands they left running, and what is wrong with rules."""

    tools: Toolbox
    close: Callable[[], Awaitable[None]]
    warnings: tuple[str, ...]
    servers: ThreadServers


class Toolset:
    """Makes the tools of each thread."""

    def __init__(self, shell: str, mcp: McpWiring) -> None:
        """Run scripts in `shell`, an absolute path; `mcp` knows the MCP servers."""
        self.shell = shell
        self._mcp = mcp
        self._rules = HomeRules()
        self.logins = LoginEnvironments(shell)

    def make(self, config: Config, read_again: Callable[[], Config]) -> ThreadTools:
        """The tools of a thread that runs with `config`; a reload asks `read_again`."""
        servers = self._mcp.for_thread(config, read_again)
        sessions = ExecSessions()
        rules, problems = self._rules.book(config)
        permits = Permits(rules)
        asks_for_more = config.feature("request_permissions_tool")
        tools = Toolbox(
            [
                ExecCommand(sessions, self.shell, permits, self.logins),
                WriteStdin(sessions),
                ApplyPatch(permits),
                UpdatePlan(),
                ViewImage(),
                RequestUserInput(in_default_mode=config.feature("default_mode_request_user_input")),
                *([RequestPermissions(permits.grants)] if asks_for_more else []),
            ],
            unlisted=[Shell(sessions, permits), ShellScript(sessions, self.shell, permits)],
            sources=[McpTools(servers)],
        )

        async def close() -> None:
            await servers.close()
            await sessions.close()

        return ThreadTools(tools, close, problems, servers)
