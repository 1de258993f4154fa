"""Records as rollout lines: the form Treadle writes (docs/decisions/0002).

Every line is understood by both generations of readers, or passed over by one of them. Knows
ordinals and spelling; bytes reach the disk elsewhere.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from treadle.domain.records import (
    ContextReplaced,
    Foreign,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnsDropped,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import TokenUsage, TurnError
from treadle.engine.store.local.file_heads import created_to_file
from treadle.engine.store.local.file_items import item_to_file
from treadle.engine.store.local.file_settings import settings_to_file, turn_context_to_file
from treadle.engine.store.local.legacy_events import item_to_events
from treadle.engine.store.local.names import respell_error, snake
from treadle.kit.clock import iso_millis

Json = dict[str, Any]
_encoder = msgspec.json.Encoder()


class LineWriter:
    """Spells one thread's records; counts ordinals when the file has them."""

    def __init__(self, thread_id: str, next_ordinal: int | None = 0) -> None:
        """Go on at `next_ordinal`; None for a file whose lines carry none."""
        self._thread_id = thread_id
        self._next = next_ordinal

    def encode(self, records: list[ThreadRecord]) -> bytes:
        """The records' lines, each ended."""
        parts: list[bytes] = []
        for record in records:
            stamp = iso_millis(record.at)
            kind, payload, extra = _WRITERS[type(record)](record, self._thread_id)
            parts.append(self._line(stamp, kind, payload, extra))
            if isinstance(record, ItemDone):
                parts += [
                    self._line(stamp, "event_msg", event, {"echo": True})
                    for event in item_to_events(record.item, record.turn_id)
                ]
        return b"".join(parts)

    def _line(self, stamp: str, kind: str, payload: Any, extra: Json) -> bytes:
        line: Json = {"timestamp": stamp}
        if self._next is not None:
            line["ordinal"] = self._next
            self._next += 1
        line["type"] = kind
        line["payload"] = payload
        line.update(extra)
        return _encoder.encode(line) + b"\n"


Spelt = tuple[str, Any, Json]


def _head(record: ThreadCreated, _thread_id: str) -> Spelt:
    return "session_meta", created_to_file(record), {}


def _applied(record: SettingsApplied, thread_id: str) -> Spelt:
    event: Json = {"type": "thread_settings_applied", "thread_id": thread_id}
    return "event_msg", {**event, "thread_settings": settings_to_file(record.settings)}, {}


def _started(record: TurnStarted, _thread_id: str) -> Spelt:
    event: Json = {
        "type": "task_started",
        "turn_id": record.turn_id,
        "root_turn_id": record.turn_id,
        "started_at": record.started_at,
        "model_context_window": record.model_context_window,
        "collaboration_mode_kind": "default",
    }
    return "event_msg", event, {}


def _context(record: TurnContext, _thread_id: str) -> Spelt:
    return "turn_context", turn_context_to_file(record.settings, record.turn_id), {}


def _model_item(record: ModelItem, _thread_id: str) -> Spelt:
    extra = {} if record.turn_id is None else {"turn_id": record.turn_id}
    return "response_item", record.item, extra


def _item(record: ItemDone, thread_id: str) -> Spelt:
    at_ms = round(record.at * 1000)
    done = record.completed_at_ms if record.completed_at_ms is not None else at_ms
    event: Json = {
        "type": "item_completed",
        "thread_id": thread_id,
        "turn_id": record.turn_id,
        "item": item_to_file(record.item),
        "started_at_ms": record.started_at_ms if record.started_at_ms is not None else done,
        "completed_at_ms": done,
    }
    return "event_msg", event, {}


def _usage(record: UsageRecorded, _thread_id: str) -> Spelt:
    usage = record.usage
    info: Json | None = None
    if usage is not None:
        info = {
            "total_token_usage": _tokens(usage.total),
            "last_token_usage": _tokens(usage.last),
            "model_context_window": usage.model_context_window,
        }
    event: Json = {"type": "token_count", "info": info, "rate_limits": record.rate_limits}
    return "event_msg", {**event, "turn_id": record.turn_id}, {}


def _tokens(usage: TokenUsage) -> Json:
    return {snake(key): count for key, count in msgspec.to_builtins(usage).items()}


def _replaced(record: ContextReplaced, _thread_id: str) -> Spelt:
    return "compacted", {"message": record.message, "replacement_history": record.items}, {}


def _ended(record: TurnEnded, _thread_id: str) -> Spelt:
    times: Json = {
        "started_at": record.started_at,
        "completed_at": record.completed_at,
        "duration_ms": record.duration_ms,
    }
    if record.status == "interrupted":
        event: Json = {"type": "turn_aborted", "turn_id": record.turn_id}
        return "event_msg", {**event, "reason": record.reason or "interrupted", **times}, {}
    event = {"type": "task_complete", "turn_id": record.turn_id}
    event["last_agent_message"] = record.last_agent_message
    if record.error is not None:
        event["error"] = _error(record.error)
    return "event_msg", {**event, **times}, {}


def _error(error: TurnError) -> Json:
    entry: Json = {"message": error.message}
    entry["codex_error_info"] = respell_error(error.codex_error_info, snake)
    if error.additional_details is not None:
        entry["additional_details"] = error.additional_details
    return entry


def _dropped(record: TurnsDropped, _thread_id: str) -> Spelt:
    return "event_msg", {"type": "thread_rolled_back", "num_turns": record.num_turns}, {}


def _foreign(record: Foreign, _thread_id: str) -> Spelt:
    return record.type, record.payload, {}


_WRITERS = cast(
    "dict[type[Any], Callable[[Any, str], Spelt]]",
    {
        ThreadCreated: _head,
        SettingsApplied: _applied,
        TurnStarted: _started,
        TurnContext: _context,
        ModelItem: _model_item,
        ItemDone: _item,
        UsageRecorded: _usage,
        ContextReplaced: _replaced,
        TurnEnded: _ended,
        TurnsDropped: _dropped,
        Foreign: _foreign,
    },
)
