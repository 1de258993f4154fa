"""The tools of a thread: which there are, and the commands they may leave running."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

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
from treadle.engine.tools.tool import Tool
from treadle.engine.tools.toolbox import Toolbox
from treadle.engine.tools.user_input import RequestUserInput
from treadle.engine.tools.view_image import ViewImage


class ThreadTools(NamedTuple):
    """A thread's tools, what stops the commands they left running, and what is wrong with rules."""

    tools: Toolbox
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
        permits = Permits(rules)
        commands = has_environment and config.feature("shell_tool", True)
        # As 0.129.0 has it: without sessions of commands there is the classic tool.
        sessions_on = commands and config.feature("unified_exec", True)
        classic = commands and not sessions_on
        answers_early = config.feature("default_mode_request_user_input")
        listed: list[tuple[bool, Callable[[], Tool]]] = [
            (sessions_on, lambda: ExecCommand(sessions, self.shell, permits, self.logins)),
            (sessions_on, lambda: WriteStdin(sessions)),
            (classic, lambda: Shell(sessions, permits)),
            (has_environment, lambda: ApplyPatch(permits)),
            (_is_on(config, "update_plan"), UpdatePlan),
            (has_environment and _is_on(config, "view_image"), ViewImage),
            (
                _is_on(config, "experimental_request_user_input"),
                lambda: RequestUserInput(in_default_mode=answers_early),
            ),
            (
                config.feature("request_permissions_tool"),
                lambda: RequestPermissions(permits.grants),
            ),
        ]
        shells: list[Tool] = [ShellScript(sessions, self.shell, permits)]
        if sessions_on:
            shells.append(Shell(sessions, permits))
        tools = Toolbox(
            [make() for wanted, make in listed if wanted],
            unlisted=shells if commands else (),
            sources=[McpTools(servers)],
        )

        async def close() -> None:
            await servers.close()
            await sessions.close()

        return ThreadTools(tools, close, problems, servers, sessions)


def _is_on(config: Config, name: str) -> bool:
    """Whether nobody switched a tool off: by its entry of `tools`, or the feature of its name."""
    tools: Mapping[str, Any] = config.table.get("tools") or {}
    entry = tools.get(name, True)
    told = entry if isinstance(entry, bool) else bool(entry.get("enabled", True))
    return told and config.feature(name, True)
