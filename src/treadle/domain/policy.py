"""What an agent may do without asking: sandbox policies and approval policies.

The protocol's wire forms, plus their kebab-case spelling in configuration. Whether an action is
within a policy is decided by who acts (the sandbox enforces, the approval service asks).
"""

from typing import Any, Literal

import msgspec

from treadle.domain.items import FrozenShape

SandboxMode = Literal["read-only", "workspace-write", "danger-full-access"]


class DangerFullAccess(FrozenShape, tag="dangerFullAccess", frozen=True, kw_only=True):
    """No sandbox at all."""


class ReadOnly(FrozenShape, tag="readOnly", frozen=True, kw_only=True):
    """Read anything, write nothing."""

    network_access: bool = False


class WorkspaceWrite(FrozenShape, tag="workspaceWrite", frozen=True, kw_only=True):
    """Write below the working folder, the listed roots and the temporary folders."""

    writable_roots: tuple[str, ...] = ()
    network_access: bool = False
    exclude_tmpdir_env_var: bool = False
    exclude_slash_tmp: bool = False


class ExternalSandbox(FrozenShape, tag="externalSandbox", frozen=True, kw_only=True):
    """Whoever started us has already put a fence around us."""

    network_access: Literal["restricted", "enabled"] = "restricted"


SandboxPolicy = DangerFullAccess | ReadOnly | WorkspaceWrite | ExternalSandbox

ApprovalPolicy = Literal["untrusted", "on-failure", "on-request", "never"] | dict[str, Any]
"""When to ask; the object form is `{"granular": {...}}`."""


def sandbox_from_mode(mode: SandboxMode, workspace: WorkspaceWrite | None = None) -> SandboxPolicy:
    """The policy that a mode's name stands for; `workspace` are the configured details."""
    if mode == "danger-full-access":
        return DangerFullAccess()
    if mode == "workspace-write":
        return workspace or WorkspaceWrite()
    return ReadOnly()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What governs a thread's next turn; sealed into the thread, so that a resume restores it."""

    model: str
    model_provider: str
    cwd: str
    approval_policy: ApprovalPolicy
    sandbox: SandboxPolicy
    approvals_reviewer: str = "user"
    effort: str | None = None
    summary: str | None = None
    service_tier: str | None = None
    workspace_roots: tuple[str, ...] = ()
    personality: str | None = None
    collaboration_mode: dict[str, Any] | None = None
    """`{mode, settings}` as the client set it; None while it never did."""

    @property
    def mode(self) -> dict[str, Any]:
        """The collaboration mode as clients and files spell it, also where none was ever set."""
        return self.collaboration_mode or default_mode(self.model, self.effort)


def default_mode(model: str, effort: str | None) -> dict[str, Any]:
    """What a thread's collaboration mode is until a client sets one (0.169.0)."""
    chosen = {"model": model, "reasoning_effort": effort, "developer_instructions": None}
    return {"mode": "default", "settings": chosen}
