"""Domain events as notifications: method, parameters, and who hears them. Pure.

The mapping is the protocol's (0.129.0, 0.169.0). Deltas may be dropped when a reader lags, since
the item's completion carries the whole text; everything else must arrive.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from treadle.domain import events as ev


class Projected(msgspec.Struct, frozen=True):
    """A notification before it is encoded."""

    method: str
    params: dict[str, Any]
    broadcast: bool = False
    droppable: bool = False


def project(event: ev.ThreadEvent) -> Projected:
    """The notification of an event."""
    return _PROJECTIONS[type(event)](event)


def text_delta(event: ev.TextDelta) -> Projected:
    """More text of an item: the hot path."""
    params: dict[str, Any] = {
        "threadId": event.thread_id,
        "turnId": event.turn_id,
        "itemId": event.item_id,
        "delta": event.delta,
    }
    if event.index is not None:
        name = "contentIndex" if event.channel.endswith("reasoning/textDelta") else "summaryIndex"
        params[name] = event.index
    return Projected(event.channel, params, droppable=True)


def _for_turn(method: str, event: Any, **params: Any) -> Projected:
    return Projected(method, {"threadId": event.thread_id, "turnId": event.turn_id, **params})


def _for_all(method: str, event: ev.ThreadEvent, **params: Any) -> Projected:
    return Projected(method, {"threadId": event.thread_id, **params}, broadcast=True)


def _for_thread(method: str, event: ev.ThreadEvent, **params: Any) -> Projected:
    return Projected(method, {"threadId": event.thread_id, **params})


_PROJECTIONS: dict[type[Any], Callable[[Any], Projected]] = {
    ev.TextDelta: text_delta,
    ev.ThreadBegan: lambda e: Projected("thread/started", {"thread": e.thread}, broadcast=True),
    ev.StatusChanged: lambda e: _for_all("thread/status/changed", e, status=e.status),
    ev.ThreadClosed: lambda e: _for_all("thread/closed", e),
    ev.ThreadArchived: lambda e: _for_all("thread/archived", e),
    ev.ThreadUnarchived: lambda e: _for_all("thread/unarchived", e),
    ev.ThreadDeleted: lambda e: _for_all("thread/deleted", e),
    ev.ThreadReverted: lambda e: _for_all("thread/reverted", e),
    ev.GoalUpdated: lambda e: _for_thread("thread/goal/updated", e, turnId=None, goal=e.goal),
    ev.GoalCleared: lambda e: _for_thread("thread/goal/cleared", e),
    ev.InboxChanged: lambda e: _for_thread("thread/queue/changed", e),
    ev.ThreadRenamed: lambda e: _for_all("thread/name/updated", e, threadName=e.name),
    ev.SettingsChanged: lambda e: _for_thread(
        "thread/settings/updated", e, threadSettings=e.settings
    ),
    ev.TurnBegan: lambda e: _for_thread("turn/started", e, turn=e.turn),
    ev.TurnFinished: lambda e: _for_thread("turn/completed", e, turn=e.turn),
    ev.ItemStarted: lambda e: _for_turn("item/started", e, item=e.item, startedAtMs=e.at_ms),
    ev.ItemCompleted: lambda e: _for_turn("item/completed", e, item=e.item, completedAtMs=e.at_ms),
    ev.ReasoningPartAdded: lambda e: _for_turn(
        "item/reasoning/summaryPartAdded", e, itemId=e.item_id, summaryIndex=e.summary_index
    ),
    ev.DiffUpdated: lambda e: _for_turn("turn/diff/updated", e, diff=e.diff),
    ev.PlanUpdated: lambda e: _for_turn(
        "turn/plan/updated", e, explanation=e.explanation, plan=e.plan
    ),
    ev.UsageUpdated: lambda e: _for_turn("thread/tokenUsage/updated", e, tokenUsage=e.usage),
    ev.RateLimitsUpdated: lambda e: Projected(
        "account/rateLimits/updated", {"rateLimits": e.rate_limits}
    ),
    ev.ModelRerouted: lambda e: _for_turn(
        "model/rerouted", e, fromModel=e.from_model, toModel=e.to_model, reason=e.reason
    ),
    ev.ErrorRaised: lambda e: _for_turn("error", e, error=e.error, willRetry=e.will_retry),
    ev.RequestResolved: lambda e: _for_thread("serverRequest/resolved", e, requestId=e.request_id),
    ev.Warned: lambda e: _for_thread("warning", e, message=e.message),
    ev.Noticed: lambda e: Projected(e.method, e.params),
}
