"""Storage records: the facts a thread's log consists of, in Treadle's own neutral form.

A store keeps records in order and gives them back; codecs translate them to and from file formats
of others. What records mean (turns, titles, model context) is decided in `domain.history` and
above.
"""

from typing import Any

import msgspec

from treadle.domain.items import StoredItem
from treadle.domain.policy import Settings
from treadle.domain.turns import ThreadTokenUsage, TurnError


class Record(msgspec.Struct, kw_only=True, tag_field="kind", gc=False):
    """Base: one line of a thread's log; `at` is unix seconds, set when it was made."""

    at: float = 0.0


class ThreadCreated(Record, tag="thread_created", kw_only=True):
    """First record of a thread: who began it, where, with which fixed properties."""

    thread_id: str
    session_id: str
    cwd: str
    originator: str
    cli_version: str
    source: Any
    model_provider: str
    thread_source: str | None = None
    forked_from_id: str | None = None
    parent_thread_id: str | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    dynamic_tools: list[dict[str, Any]] | None = None
    git: dict[str, Any] | None = None
    agent_nickname: str | None = None
    agent_role: str | None = None
    history_mode: str = "paginated"


class SettingsApplied(Record, tag="settings_applied", kw_only=True):
    """The thread's settings from here on."""

    settings: Settings


class TurnStarted(Record, tag="turn_started", kw_only=True):
    """A turn began (unix seconds)."""

    turn_id: str
    started_at: int
    model_context_window: int | None = None


class TurnContext(Record, tag="turn_context", kw_only=True):
    """The settings one turn ran under."""

    turn_id: str
    settings: Settings


class ModelItem(Record, tag="model_item", kw_only=True):
    """One item of the model's context, exactly as it was sent or received.

    A store may leave `item` as the bytes that it read, since most items of a long log are never
    looked into; `content` is the object in any case.
    """

    item: dict[str, Any] | msgspec.Raw
    turn_id: str | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The item as an object; raises msgspec.MsgspecError for bytes that make none."""
        if isinstance(self.item, msgspec.Raw):
            self.item = msgspec.json.decode(self.item, type=dict[str, Any])
        return self.item

    def __eq__(self, other: object) -> bool:
        """Equal items make equal records, whether they were looked into or not."""
        return (
            isinstance(other, ModelItem)
            and (self.at, self.turn_id) == (other.at, other.turn_id)
            and self.content == other.content
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType] - records change


class ItemDone(Record, tag="item_done", kw_only=True):
    """An item that a person sees, in its final form (milliseconds)."""

    turn_id: str
    item: StoredItem
    started_at_ms: int | None = None
    completed_at_ms: int | None = None


class UsageRecorded(Record, tag="usage_recorded", kw_only=True):
    """Token counts after a response."""

    turn_id: str | None
    usage: ThreadTokenUsage | None
    rate_limits: dict[str, Any] | None = None


class ContextReplaced(Record, tag="context_replaced", kw_only=True):
    """Compaction: the model's context is these items from here on."""

    message: str
    items: list[dict[str, Any]]


class TurnEnded(Record, tag="turn_ended", kw_only=True):
    """The one terminal record of a turn; `reason` tells why an interrupted one stopped."""

    turn_id: str
    status: str
    error: TurnError | None = None
    reason: str | None = None
    last_agent_message: str | None = None
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None


class TurnsDropped(Record, tag="turns_dropped", kw_only=True):
    """The last turns were taken back: what is read later has none of their records."""

    num_turns: int


class Foreign(Record, tag="foreign", kw_only=True):
    """A line of another program that Treadle keeps and does not interpret."""

    type: str
    payload: Any = None


ThreadRecord = (
    ThreadCreated
    | SettingsApplied
    | TurnStarted
    | TurnContext
    | ModelItem
    | ItemDone
    | UsageRecorded
    | ContextReplaced
    | TurnEnded
    | TurnsDropped
    | Foreign
)
