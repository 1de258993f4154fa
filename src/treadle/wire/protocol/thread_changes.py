"""Parameters and results of changing a thread: fork, name, marks, settings, taking turns back."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from treadle.domain.items import Shape
from treadle.domain.policy import ApprovalPolicy, SandboxPolicy
from treadle.domain.threads import ThreadSummary
from treadle.wire.protocol.numbers import U32
from treadle.wire.protocol.threads import ThreadOverrides


class ThreadForkParams(ThreadOverrides, kw_only=True):
    """Parameters of `thread/fork`; `path` wins over the thread's id."""

    thread_id: str
    path: str | None = None
    last_turn_id: str | None = None
    before_turn_id: str | None = None
    ephemeral: bool = False
    exclude_turns: bool = False
    thread_source: str | None = None
    attach_to_source: bool = False
    defer_goal_continuation: bool = False
    experimental_prediction_mode: bool = False
    experimental_disable_prediction_mcp: bool = False


class ThreadNameParams(Shape, kw_only=True):
    """Parameters of `thread/name/set`."""

    thread_id: str
    name: str


class GitChanges(Shape, kw_only=True):
    """Git facts to change; null clears one."""

    sha: str | UnsetType | None = UNSET
    branch: str | UnsetType | None = UNSET
    origin_url: str | UnsetType | None = UNSET


class ThreadMetadataParams(Shape, kw_only=True):
    """Parameters of `thread/metadata/update`."""

    thread_id: str
    git_info: GitChanges | None = None
    project_id: str | None = None
    daybreak_enabled: bool | None = None


class MemoryModeParams(Shape, kw_only=True):
    """Parameters of `thread/memoryMode/set`."""

    thread_id: str
    mode: Literal["enabled", "disabled"]


class ElicitationResult(Shape, kw_only=True):
    """How many questions the client has open by itself, and whether that pauses deadlines."""

    count: int
    paused: bool


class ThreadSettingsParams(Shape, kw_only=True):
    """Parameters of `thread/settings/update`; what is null stays."""

    thread_id: str
    cwd: str | None = None
    model: str | None = None
    effort: str | None = None
    summary: str | None = None
    approval_policy: ApprovalPolicy | None = None
    approvals_reviewer: str | None = None
    sandbox_policy: SandboxPolicy | None = None
    permissions: str | None = None
    service_tier: str | None = None
    personality: str | None = None
    collaboration_mode: dict[str, Any] | None = None
    environments: list[Any] | None = None
    disabled_plugin_ids: list[str] | None = None
    multi_agent_mode: str | None = None


class InjectItemsParams(Shape, kw_only=True):
    """Parameters of `thread/inject_items`: raw items of the model's context."""

    thread_id: str
    items: list[Any]


class ThreadRollbackParams(Shape, kw_only=True):
    """Parameters of `thread/rollback` (0.129.0)."""

    thread_id: str
    num_turns: U32


class ThreadRevertParams(Shape, kw_only=True):
    """Parameters of `thread/revert` (0.169.0)."""

    thread_id: str
    before_turn_id: str


class ThreadRevertResult(Shape, kw_only=True):
    """The thread without turns, and where to begin paging back through what is left."""

    thread: ThreadSummary
    turns_backwards_cursor: str | None = None
    items_backwards_cursor: str | None = None
