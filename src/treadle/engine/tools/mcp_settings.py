"""What an MCP server is configured to be: how to reach it, its limits, who may call what.

Values arrive resolved: no name of a variable is left to look up. Pure; owns the defaults. Secrets
(environment, headers) never show in a repr.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from treadle.kit.discreet import Discreet

ApprovalMode = Literal["auto", "prompt", "writes", "approve"]

STARTUP_SECONDS = 10.0
CALL_SECONDS = 60.0


class StdioTransport(Discreet, frozen=True):
    """A server that is a child process; equal values can share one process."""

    unseen = ("env",)

    argv: tuple[str, ...]
    cwd: str
    env: tuple[tuple[str, str], ...]
    """The whole environment, sorted by name."""


class HttpTransport(Discreet, frozen=True):
    """A server behind a URL (streamable HTTP); equal values can share one session."""

    unseen = ("headers",)

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    login_home: str = ""
    """The home folder whose login goes along (see `mcp_logins`); empty without one."""


Transport = StdioTransport | HttpTransport


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `mcp_servers`."""

    name: str
    transport: Transport | None
    """None when it cannot be reached as configured; `problem` says why."""
    problem: str | None = None
    enabled: bool = True
    required: bool = False
    startup_seconds: float = STARTUP_SECONDS
    call_seconds: float = CALL_SECONDS
    enabled_tools: frozenset[str] | None = None
    """Only these; None for all."""
    disabled_tools: frozenset[str] = frozenset()
    approval: ApprovalMode = "auto"
    tool_approvals: Mapping[str, ApprovalMode] = msgspec.field(
        default_factory=dict[str, ApprovalMode]
    )
    bearer: bool = False
    """Whether a bearer token goes along."""

    def offers(self, tool: str) -> bool:
        """Whether the tool may be seen and called at all."""
        if tool in self.disabled_tools:
            return False
        return self.enabled_tools is None or tool in self.enabled_tools

    def approval_mode(self, tool: str) -> ApprovalMode:
        """When calls of the tool are asked about."""
        return self.tool_approvals.get(tool, self.approval)
