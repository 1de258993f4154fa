"""The events that a thread's log keeps, and how all events of a thread are numbered.

Four kinds of events are facts of the log: a turn's start and end, an item's final form, token
counts. The n-th of them has the number `n * STRIDE`, for ever and in every store, since it is
counted from the log itself. What happens between two of them (deltas, status, questions) is told
with the numbers in between, and is gone when the thread leaves memory. Pure folds over records.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec

from treadle.domain.events import (
    ItemCompleted,
    ThreadEvent,
    TurnBegan,
    TurnFinished,
    UsageUpdated,
)
from treadle.domain.items import AgentMessage, with_times
from treadle.domain.records import (
    Foreign,
    ItemDone,
    ThreadRecord,
    TurnEnded,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import Turn, TurnStatus

STRIDE = 1_000_000
"""Distance of two kept events; so many less one may be told between them with numbers."""

COUNT_LINE = "treadle_event_count"
"""Type of the log's lines that say how many events there were; other programs pass over it."""

KEPT = (TurnBegan, TurnFinished, ItemCompleted, UsageUpdated)
"""Events that are told again from the log."""


class Recorded(msgspec.Struct, frozen=True):
    """An event read from a log: its number, and when it was recorded (unix seconds)."""

    seq: int
    event: ThreadEvent
    at: float


def count_record(count: int, at: float) -> Foreign:
    """The line that goes on counting at `count`, after turns were taken back."""
    return Foreign(at=at, type=COUNT_LINE, payload={"count": count})


def count_events(records: Iterable[ThreadRecord]) -> int:
    """How many kept events a log has had, those of turns taken back since included."""
    log = list(records)
    kinds = Counter(map(type, log))
    if kinds[Foreign] and any(type(one) is Foreign and one.type == COUNT_LINE for one in log):
        return sum(step for _, step in _steps(log))
    # Long logs are counted whenever they are opened: by kind, where no line tells the count.
    told = 0
    if kinds[UsageRecorded]:
        told = sum(type(one) is UsageRecorded and one.usage is not None for one in log)
    return kinds[TurnStarted] + kinds[TurnEnded] + kinds[ItemDone] + told


def recorded_events(thread_id: str, records: Iterable[ThreadRecord]) -> Iterator[Recorded]:
    """The kept events of a log in order, as they were told when they happened."""
    count = 0
    said: AgentMessage | None = None
    for record, step in _steps(records):
        count += step
        if isinstance(record, TurnStarted):
            said = None
        elif isinstance(record, ItemDone) and isinstance(record.item, AgentMessage):
            said = record.item
        event = _event(thread_id, record, said)
        if event is not None:
            yield Recorded(count * STRIDE, event, record.at)


def _steps(records: Iterable[ThreadRecord]) -> Iterator[tuple[ThreadRecord, int]]:
    """Each record that counts, and how far the count goes on with it."""
    count = 0
    for record in records:
        if isinstance(record, Foreign):
            if record.type != COUNT_LINE:
                continue
            step = max(0, _told_count(record) - count)
        elif isinstance(record, TurnStarted | TurnEnded | ItemDone) or (
            isinstance(record, UsageRecorded) and record.usage is not None
        ):
            step = 1
        else:
            continue
        count += step
        yield record, step


def _told_count(record: Foreign) -> int:
    payload: object = record.payload
    count = cast("dict[str, Any]", payload).get("count") if isinstance(payload, dict) else None
    return count if isinstance(count, int) else 0


def _event(thread_id: str, record: ThreadRecord, said: AgentMessage | None) -> ThreadEvent | None:
    match record:
        case TurnStarted(turn_id=turn_id, started_at=started_at):
            turn = Turn(id=turn_id, root_turn_id=turn_id, started_at=started_at)
            return TurnBegan(thread_id=thread_id, turn=turn)
        case TurnEnded():
            return TurnFinished(thread_id=thread_id, turn=_ended(record, said))
        case ItemDone(turn_id=turn_id, item=item):
            done = record.completed_at_ms
            at_ms = int(record.at * 1000) if done is None else done
            item = with_times(item, record.started_at_ms, done)
            return ItemCompleted(thread_id=thread_id, turn_id=turn_id, item=item, at_ms=at_ms)
        case UsageRecorded(usage=usage) if usage is not None:
            return UsageUpdated(thread_id=thread_id, turn_id=record.turn_id or "", usage=usage)
        case _:
            return None


def _ended(record: TurnEnded, said: AgentMessage | None) -> Turn:
    return Turn(
        id=record.turn_id,
        root_turn_id=record.turn_id,
        items=[said] if said else [],
        items_view="summary" if said else "notLoaded",
        status=cast("TurnStatus", record.status),
        error=record.error,
        started_at=record.started_at,
        completed_at=record.completed_at,
        duration_ms=record.duration_ms,
    )
