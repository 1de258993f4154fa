"""Threads as lists and clients see them, and the status they can have."""

from typing import Any, Literal

from treadle.domain.items import FrozenShape, Shape
from treadle.domain.turns import Turn

ActiveFlag = Literal["waitingOnApproval", "waitingOnUserInput"]


class NotLoaded(FrozenShape, tag="notLoaded", frozen=True, kw_only=True):
    """Stored, and nothing of it in memory."""


class Idle(FrozenShape, tag="idle", frozen=True, kw_only=True):
    """Loaded, no turn running."""


class SystemError(FrozenShape, tag="systemError", frozen=True, kw_only=True):
    """Loaded; the last turn failed."""


class Active(FrozenShape, tag="active", frozen=True, kw_only=True):
    """A turn is running; the flags say what it waits for."""

    active_flags: tuple[ActiveFlag, ...] = ()


ThreadStatus = NotLoaded | Idle | SystemError | Active


class ThreadSummary(Shape, kw_only=True):
    """The protocol's thread object; all keys present, times in unix seconds."""

    id: str
    session_id: str
    environments: list[Any] | None = None
    extra: Any = None
    forked_from_id: str | None = None
    attached_to_thread_id: str | None = None
    parent_thread_id: str | None = None
    preview: str = ""
    ephemeral: bool = False
    section: Any = None
    section_entered_at: int | None = None
    project_id: str | None = None
    history_mode: str = "paginated"
    model_provider: str = ""
    model: str | None = None
    reasoning_effort: str | None = None
    created_at: int = 0
    updated_at: int = 0
    recency_at: int | None = None
    status: ThreadStatus = NotLoaded()
    path: str | None = None
    cwd: str = "/"
    cli_version: str = ""
    originator: str | None = None
    source: Any = "unknown"
    can_accept_direct_input: bool | None = None
    thread_source: str | None = None
    agent_nickname: str | None = None
    agent_role: str | None = None
    git_info: Any = None
    name: str | None = None
    daybreak_enabled: bool | None = None
    turns: list[Turn] = []
