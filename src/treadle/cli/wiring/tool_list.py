"""Which tools a thread has, by its configuration; loaded when a first turn wants them."""

from collections.abc import Callable, Mapping
from typing import Any

from treadle.config.settings import Config
from treadle.engine.tools.edit_files import ApplyPatch
from treadle.engine.tools.exec import ExecCommand, WriteStdin
from treadle.engine.tools.exec_sessions import ExecSessions
from treadle.engine.tools.login_environment import LoginEnvironments
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.engine.tools.mcp_tools import McpTools
from treadle.engine.tools.permits import Permits, RuleBook
from treadle.engine.tools.plan import UpdatePlan
from treadle.engine.tools.request_permissions import RequestPermissions
from treadle.engine.tools.shell import Shell, ShellScript
from treadle.engine.tools.tool import Tool
from treadle.engine.tools.toolbox import Toolbox
from treadle.engine.tools.user_input import RequestUserInput
from treadle.engine.tools.view_image import ViewImage


def make_toolbox(  # noqa: PLR0913 - what tools work with
    config: Config,
    shell: str,
    rules: RuleBook,
    sessions: ExecSessions,
    servers: ThreadServers,
    logins: LoginEnvironments,
    *,
    has_environment: bool,
) -> Toolbox:
    """The tools of a thread that runs with `config`.

    Args:
        config: says which there are.
        shell: what scripts run in, an absolute path.
        rules: what commands may do unasked.
        sessions: where commands run on between calls.
        servers: the thread's MCP servers.
        logins: the environments of login shells.
        has_environment: without one there is nothing that reaches commands or files.
    """
    permits = Permits(rules)
    commands = has_environment and config.feature("shell_tool")
    # As 0.129.0 has it: without sessions of commands there is the classic tool.
    sessions_on = commands and config.feature("unified_exec")
    classic = commands and not sessions_on
    answers_early = config.feature("default_mode_request_user_input")
    listed: list[tuple[bool, Callable[[], Tool]]] = [
        (sessions_on, lambda: ExecCommand(sessions, shell, permits, logins)),
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
    shells: list[Tool] = [ShellScript(sessions, shell, permits)]
    if sessions_on:
        shells.append(Shell(sessions, permits))
    return Toolbox(
        [make() for wanted, make in listed if wanted],
        unlisted=shells if commands else (),
        sources=[McpTools(servers)],
        remembers=lambda: permits.lasting,
    )


def _is_on(config: Config, name: str) -> bool:
    """Whether nobody switched a tool off: by its entry of `tools`, or the feature of its name."""
    tools: Mapping[str, Any] = config.table.get("tools") or {}
    entry = tools.get(name, True)
    told = entry if isinstance(entry, bool) else bool(entry.get("enabled", True))
    return told and config.features.get(name, True)
