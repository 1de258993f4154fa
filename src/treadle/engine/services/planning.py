"""What the engine needs to know before a thread can run, and who tells it.

Configuration is read above the engine; this is the port through which it arrives. A plan is made
anew for each start and resume, so that an edited configuration takes effect without a restart.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from treadle.domain.budgets import NO_LIMITS, Budget
from treadle.domain.policy import ApprovalPolicy, SandboxMode, Settings
from treadle.domain.skills import Skill
from treadle.engine.agent.agent_thread import ModelTraits
from treadle.engine.sandbox.launch_plan import Sandbox
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.engine.tools.tool import Tools
from treadle.kit.late import Late

if TYPE_CHECKING:
    from treadle.engine.model.model_client import ModelClient
    from treadle.engine.tools.exec_sessions import ExecSessions


class PlanRejected(Exception):
    """Configuration or request make no runnable thread; the text is meant for the client."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for; None leaves it to the sealed settings or the configuration."""

    model: str | None = None
    model_provider: str | None = None
    cwd: str | None = None
    approval_policy: ApprovalPolicy | None = None
    approvals_reviewer: str | None = None
    sandbox: SandboxMode | None = None
    config: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    base_instructions: str | None = None
    developer_instructions: str | None = None
    service_tier: str | None = None
    personality: str | None = None
    workspace_roots: tuple[str, ...] | None = None
    has_environment: bool = True
    """Whether the thread has a machine to work on: without one there are no commands and files."""

    def unsealed(self) -> "Overrides":
        """What of this a thread's own log does not tell once it has begun."""
        return Overrides(
            config={key: value for key, value in self.config.items() if key not in _SEALED},
            base_instructions=self.base_instructions,
            developer_instructions=self.developer_instructions,
            has_environment=self.has_environment,
        )


_SEALED = ("model", "approval_policy")
"""Keys of a client's configuration that count as if they were parameters."""


class AgentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far an agent may spawn others."""

    max_threads: int
    """Open sub-agents of one session, at all depths together."""
    max_depth: int
    """Levels below a user's thread: 1 lets children spawn none."""


class ThreadPlan(msgspec.Struct, kw_only=True):
    """Everything a thread runs with."""

    settings: Settings
    base_instructions: str | None
    developer_instructions: str | None
    project_doc: str | None
    instruction_sources: tuple[str, ...]
    make_env: Callable[[str, str], dict[str, str]]
    """The environment of commands, for a session id and a thread id."""
    shell: str
    timezone: str
    model: "ModelClient"
    tools: Tools
    close_tools: Callable[[], Awaitable[None]]
    """Stops what the tools still run; awaited when the thread leaves memory."""
    sandbox: Sandbox
    traits: ModelTraits
    sessions: "Late[ExecSessions] | None" = None
    """The commands that the tools run; its `close_tools` ends them."""
    mcp: ThreadServers | None = None
    """The thread's MCP servers; its `close_tools` lets go of them."""
    shell_path: str = "/bin/sh"
    home: str = ""
    """The home folder; empty where nothing is kept there."""
    skills: tuple[Skill, ...] = ()
    remembers: Callable[[], bool] = lambda: False
    """Whether the tools know something that the thread's log does not tell."""
    unload_delay_seconds: float = 0.0
    config: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """The configuration that the client gave along, for threads spawned from this one."""
    switches_steps: bool = False
    """Whether a running turn's settings may be changed."""
    agents: AgentLimits | None = None
    """None where the agent tools are not offered."""
    budget: Budget = NO_LIMITS
    """What the thread may spend unless its client says otherwise."""
    warnings: tuple[str, ...] = ()


class Planner(Protocol):
    """Turns requests into plans."""

    def plan(self, overrides: Overrides, sealed: Settings | None) -> ThreadPlan:
        """The plan for a new thread, or (with `sealed`) for one that is resumed.

        Explicit overrides win over sealed settings, and those over configuration.

        Raises:
            PlanRejected: the configuration is broken, or names something that does not exist.
        """
        ...

    def traits(self, settings: Settings) -> ModelTraits:
        """What the catalog knows of the model in `settings`."""
        ...
