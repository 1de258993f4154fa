"""Domain events: what happened in a thread, told upwards to whoever watches.

Published by the engine, turned into notifications by the app-server. An event never asks for an
answer; what needs one waits on a broker (approvals) and says so with an event.
"""

from typing import Any

import msgspec

from treadle.domain.goals import Goal
from treadle.domain.items import ThreadItem
from treadle.domain.questions import Question
from treadle.domain.threads import ThreadStatus, ThreadSummary
from treadle.domain.turns import ThreadTokenUsage, Turn, TurnError


class ThreadEvent(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Base: every event belongs to one thread."""

    thread_id: str


class ThreadBegan(ThreadEvent, kw_only=True, frozen=True):
    """A thread was started or forked."""

    thread: ThreadSummary


class AgentJoined(ThreadEvent, kw_only=True, frozen=True):
    """A sub-agent's thread is in memory: who watches its parent watches it too."""

    parent_id: str


class ThreadRested(ThreadEvent, kw_only=True, frozen=True):
    """The thread left memory while it is watched: to its watchers nothing has changed."""


class StatusChanged(ThreadEvent, kw_only=True, frozen=True):
    """The thread's status is now this."""

    status: ThreadStatus


class ThreadClosed(ThreadEvent, kw_only=True, frozen=True):
    """The thread left memory."""


class ThreadArchived(ThreadEvent, kw_only=True, frozen=True):
    """The thread was archived."""


class ThreadUnarchived(ThreadEvent, kw_only=True, frozen=True):
    """The thread was brought back."""


class ThreadDeleted(ThreadEvent, kw_only=True, frozen=True):
    """The thread was deleted for good."""


class ThreadReverted(ThreadEvent, kw_only=True, frozen=True):
    """The thread's last turns were taken back."""


class GoalUpdated(ThreadEvent, kw_only=True, frozen=True):
    """The thread's goal is now this."""

    goal: Goal


class GoalCleared(ThreadEvent, kw_only=True, frozen=True):
    """The thread has no goal any more."""


class InboxChanged(ThreadEvent, kw_only=True, frozen=True):
    """Messages that wait for their turn came, went or changed."""


class ThreadRenamed(ThreadEvent, kw_only=True, frozen=True):
    """The thread got a name."""

    name: str | None


class SettingsChanged(ThreadEvent, kw_only=True, frozen=True):
    """The thread's settings for its next turn changed; in the wire form of the protocol."""

    settings: dict[str, Any]


class TurnBegan(ThreadEvent, kw_only=True, frozen=True):
    """A turn started, or goes on (`again`) that a server before this one started."""

    turn: Turn
    again: bool = False


class TurnFinished(ThreadEvent, kw_only=True, frozen=True):
    """A turn ended: the only terminal event it ever gets."""

    turn: Turn


class ItemStarted(ThreadEvent, kw_only=True, frozen=True):
    """An item appeared (`at_ms`: unix milliseconds)."""

    turn_id: str
    item: ThreadItem
    at_ms: int


class ItemCompleted(ThreadEvent, kw_only=True, frozen=True):
    """An item has its final form (`at_ms`: unix milliseconds)."""

    turn_id: str
    item: ThreadItem
    at_ms: int


class TextDelta(ThreadEvent, kw_only=True, frozen=True):
    """More text of a streaming item; `channel` names the notification it becomes."""

    turn_id: str
    item_id: str
    delta: str
    channel: str = "item/agentMessage/delta"
    index: int | None = None
    """Summary or content index of reasoning; None for everything else."""


class ReasoningPartAdded(ThreadEvent, kw_only=True, frozen=True):
    """A new part of a reasoning summary begins."""

    turn_id: str
    item_id: str
    summary_index: int


class DiffUpdated(ThreadEvent, kw_only=True, frozen=True):
    """The turn's whole diff so far."""

    turn_id: str
    diff: str


class PlanUpdated(ThreadEvent, kw_only=True, frozen=True):
    """The agent's plan changed."""

    turn_id: str
    explanation: str | None
    plan: list[dict[str, Any]]


class UsageUpdated(ThreadEvent, kw_only=True, frozen=True):
    """Token counts after a response."""

    turn_id: str
    usage: ThreadTokenUsage


class RateLimitsUpdated(ThreadEvent, kw_only=True, frozen=True):
    """The provider told its limits."""

    rate_limits: dict[str, Any]


class ModelRerouted(ThreadEvent, kw_only=True, frozen=True):
    """The provider answered with another model than the one asked for."""

    turn_id: str
    from_model: str
    to_model: str
    reason: str


class ErrorRaised(ThreadEvent, kw_only=True, frozen=True):
    """A turn failed, or (with `will_retry`) an attempt within it."""

    turn_id: str
    error: TurnError
    will_retry: bool


class RequestRaised(ThreadEvent, kw_only=True, frozen=True):
    """Somebody is asked; the answer goes to the broker under `request_id`."""

    request_id: int
    question: Question


class RequestResolved(ThreadEvent, kw_only=True, frozen=True):
    """A question is settled or taken back: no answer is waited for any more."""

    request_id: int


class Warned(ThreadEvent, kw_only=True, frozen=True):
    """Something the user should know."""

    message: str


class Noticed(ThreadEvent, kw_only=True, frozen=True):
    """Any other notification for the thread's subscribers, ready for the wire."""

    method: str
    params: dict[str, Any]
