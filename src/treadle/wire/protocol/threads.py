"""Parameters and results of `thread/*`."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from treadle.domain.budgets import BudgetChange
from treadle.domain.items import Shape
from treadle.domain.policy import ApprovalPolicy, SandboxMode, SandboxPolicy
from treadle.domain.threads import ThreadSummary
from treadle.domain.turns import ItemsView, Turn
from treadle.wire.protocol.numbers import U32

SortKey = Literal["created_at", "updated_at", "recency_at", "section_position"]
SortDirection = Literal["asc", "desc"]
SourceKind = Literal[
    "cli",
    "vscode",
    "exec",
    "appServer",
    "subAgent",
    "subAgentReview",
    "subAgentCompact",
    "subAgentThreadSpawn",
    "subAgentOther",
    "custom",
    "unknown",
]


class ThreadOverrides(Shape, kw_only=True):
    """What start, resume and fork may set for the thread; null leaves it to configuration."""

    model: str | None = None
    model_provider: str | None = None
    cwd: str | None = None
    approval_policy: ApprovalPolicy | None = None
    approvals_reviewer: str | None = None
    sandbox: SandboxMode | None = None
    permissions: Any = None
    config: dict[str, Any] | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    service_tier: str | None = None
    personality: str | None = None
    runtime_workspace_roots: list[str] | None = None


class ThreadStartParams(ThreadOverrides, kw_only=True):
    """Parameters of `thread/start`."""

    ephemeral: bool | None = None
    service_name: str | None = None
    session_start_source: Literal["startup", "clear"] | None = None
    thread_source: str | None = None
    environments: list[Any] | None = None
    dynamic_tools: list[dict[str, Any]] | None = None
    history_mode: str | None = None
    project_id: str | None = None
    experimental_raw_events: bool = False
    mock_experimental_field: str | None = None
    budget: BudgetChange | None = None


class InitialTurnsPage(Shape, kw_only=True):
    """The page of turns that comes with the answer to a resume."""

    limit: U32 | None = None
    sort_direction: SortDirection | None = None
    items_view: ItemsView | None = None


class ThreadResumeParams(ThreadOverrides, kw_only=True):
    """Parameters of `thread/resume`."""

    thread_id: str
    exclude_turns: bool = False
    path: str | None = None
    history: list[dict[str, Any]] | None = None
    initial_turns_page: InitialTurnsPage | None = None


class ThreadIdParams(Shape, kw_only=True):
    """Parameters of methods that take nothing but a thread."""

    thread_id: str


class ThreadReadParams(Shape, kw_only=True):
    """Parameters of `thread/read`."""

    thread_id: str
    include_turns: bool = False


class ThreadListParams(Shape, kw_only=True):
    """Parameters of `thread/list`."""

    limit: U32 | None = None
    cursor: str | None = None
    sort_key: SortKey | None = None
    sort_direction: SortDirection | None = None
    source_kinds: list[SourceKind] | None = None
    model_providers: list[str] | None = None
    archived: bool | None = None
    cwd: str | list[str] | None = None
    search_term: str | None = None
    section_id: str | UnsetType | None = UNSET
    parent_thread_id: str | None = None
    ancestor_thread_id: str | None = None
    excluded_thread_ids: list[str] | None = None
    originators: list[str] | None = None
    use_state_db_only: bool = False


class LoadedListParams(Shape, kw_only=True):
    """Parameters of `thread/loaded/list`."""

    cursor: str | None = None
    limit: U32 | None = None


class ThreadSession(Shape, kw_only=True):
    """What start, resume and fork answer: the thread and the settings in force."""

    thread: ThreadSummary
    model: str
    model_provider: str
    service_tier: str | None = None
    disabled_plugin_ids: list[str] = []
    cwd: str
    runtime_workspace_roots: list[str] = []
    instruction_sources: list[str] = []
    approval_policy: ApprovalPolicy
    approvals_reviewer: str = "user"
    sandbox: SandboxPolicy
    active_permission_profile: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    multi_agent_mode: str = "explicitRequestOnly"
    last_seq: int = 0


class TurnsPage(Shape, kw_only=True):
    """A page of turns."""

    data: list[Turn]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class ResumedSession(ThreadSession, kw_only=True):
    """What resume answers besides: where to begin paging back, and a first page on request."""

    collaboration_mode: dict[str, Any] | None = None
    initial_turns_page: TurnsPage | None = None
    turns_backwards_cursor: str | None = None
    items_backwards_cursor: str | None = None


class ThreadResult(Shape, kw_only=True):
    """A thread."""

    thread: ThreadSummary


class ReadThread(Shape, kw_only=True):
    """A thread, and the number of the last event that its turns show.

    Null for a thread that is not in memory and was read without its turns.
    """

    thread: ThreadSummary
    last_seq: int | None = None


class ThreadListResult(Shape, kw_only=True):
    """A page of threads."""

    data: list[ThreadSummary]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class LoadedListResult(Shape, kw_only=True):
    """A page of ids of loaded threads."""

    data: list[str]
    next_cursor: str | None = None


class UnsubscribeResult(Shape, kw_only=True):
    """What became of the subscription."""

    status: Literal["unsubscribed", "notSubscribed", "notLoaded"]


class Empty(Shape):
    """An empty object."""
