"""History: what a thread's records add up to - turns, model context, settings, usage.

Pure folds over records in log order. Owns the reading of the log alone: which turn an item belongs
to, how a turn ended, what the model is to see. Knows no file, no clock and no client.
"""

from collections.abc import Iterable

import msgspec

from treadle.domain.approvals import waiting_turn
from treadle.domain.items import StoredItem, UserMessage, input_text, item_id
from treadle.domain.policy import Settings
from treadle.domain.records import (
    ContextReplaced,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import ThreadTokenUsage, Turn, TurnStatus

_ENDINGS: dict[str, TurnStatus] = {
    "completed": "completed",
    "failed": "failed",
    "interrupted": "interrupted",
}


class TurnFold:
    """Turns of a growing log: add records in order, look at the turns at any time."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._slots: dict[str, dict[str, tuple[int, int | None]]] = {}
        self._open: set[str] = set()

    def add(self, record: ThreadRecord) -> None:
        """Take the next record; those that say nothing about turns are passed over."""
        if isinstance(record, ItemDone):
            self._add_item(record)
        elif isinstance(record, TurnStarted):
            self._start(record)
        elif isinstance(record, TurnEnded):
            self._end(record)

    def turns(self, running_turn_id: str | None = None) -> list[Turn]:
        """All turns, oldest first, with their items.

        A turn without an end counts as interrupted, unless it is the one that runs right now.
        """
        for turn_id in self._open:
            running = turn_id == running_turn_id
            self._turns[turn_id].status = "inProgress" if running else "interrupted"
        return list(self._turns.values())

    def _start(self, record: TurnStarted) -> None:
        turn = self._turn(record.turn_id)
        turn.started_at = record.started_at

    def _turn(self, turn_id: str) -> Turn:
        turn = self._turns.get(turn_id)
        if turn is None:
            turn = Turn(id=turn_id, root_turn_id=turn_id, items=[], items_view="full")
            self._turns[turn_id] = turn
            self._slots[turn_id] = {}
            self._open.add(turn_id)
        return turn

    def _add_item(self, record: ItemDone) -> None:
        turn = self._turn(record.turn_id)
        slots = self._slots[record.turn_id]
        item = record.item
        known_as = item_id(item)
        taken = slots.get(known_as)
        if taken is not None:
            index, started = taken
            # The same start means the same item, told again; anything else only shares the name.
            again = started is not None and started == record.started_at_ms
            if again and type(turn.items[index]) is type(item):
                turn.items[index] = item
                return
            known_as = _free_id(known_as, slots)
            item = _with_id(item, known_as)
        slots[known_as] = (len(turn.items), record.started_at_ms)
        turn.items.append(item)

    def _end(self, record: TurnEnded) -> None:
        turn = self._turn(record.turn_id)
        self._open.discard(record.turn_id)
        turn.status = _ENDINGS.get(record.status, "completed")
        turn.error = record.error
        if record.started_at is not None:
            turn.started_at = record.started_at
        turn.completed_at = record.completed_at
        turn.duration_ms = record.duration_ms


def turns(records: list[ThreadRecord], running_turn_id: str | None = None) -> list[Turn]:
    """The turns of a log, oldest first; see `TurnFold.turns`.

    A turn that waits for nothing but answers goes on when they come: it is in progress.
    """
    fold = TurnFold()
    for record in records:
        fold.add(record)
    if running_turn_id is None and (waiting := waiting_turn(records)) is not None:
        running_turn_id = waiting.turn_id
    return fold.turns(running_turn_id)


def model_context(records: Iterable[ThreadRecord]) -> list[dict[str, object]]:
    """The raw items that the model knows, in order; a compaction replaces all before it."""
    context: list[dict[str, object]] = []
    for record in records:
        if isinstance(record, ModelItem):
            context.append(record.item)
        elif isinstance(record, ContextReplaced):
            context = list(record.items)
    return context


def latest_settings(records: Iterable[ThreadRecord]) -> Settings | None:
    """The settings that were last applied or used; None for a log that never tells."""
    latest: Settings | None = None
    for record in records:
        if isinstance(record, SettingsApplied | TurnContext):
            latest = record.settings
    return latest


def told_settings(records: Iterable[ThreadRecord]) -> Settings | None:
    """The settings that the model was last told of: those a turn ran under."""
    told: Settings | None = None
    for record in records:
        if isinstance(record, TurnContext):
            told = record.settings
    return told


def count_from(records: Iterable[ThreadRecord], turn_id: str) -> int:
    """How many turns a log has from this one on, itself included; 0 when it is not there."""
    started = [record.turn_id for record in records if isinstance(record, TurnStarted)]
    return len(started) - started.index(turn_id) if turn_id in started else 0


def drop_turns(records: list[ThreadRecord], num_turns: int) -> list[ThreadRecord]:
    """The log without its last turns, and without what came after their beginning."""
    starts = [at for at, record in enumerate(records) if isinstance(record, TurnStarted)]
    if num_turns < 1 or not starts:
        return records
    return records[: starts[max(0, len(starts) - num_turns)]]


def latest_usage_record(records: Iterable[ThreadRecord]) -> UsageRecorded | None:
    """The last record that has token counts; None before the first."""
    latest: UsageRecorded | None = None
    for record in records:
        if isinstance(record, UsageRecorded) and record.usage is not None:
            latest = record
    return latest


def latest_usage(records: Iterable[ThreadRecord]) -> ThreadTokenUsage | None:
    """The token counts last recorded; None before the first."""
    latest = latest_usage_record(records)
    return latest.usage if latest is not None else None


def preview(records: Iterable[ThreadRecord]) -> str:
    """The words of the first user message that has any, trimmed; empty when there is none."""
    for record in records:
        if isinstance(record, ItemDone) and isinstance(record.item, UserMessage):
            text = input_text(record.item.content).strip()
            if text:
                return text
    return ""


def _free_id(wanted: str, taken: dict[str, tuple[int, int | None]]) -> str:
    count = 2
    while f"{wanted}-{count}" in taken:
        count += 1
    return f"{wanted}-{count}"


def _with_id(item: StoredItem, new_id: str) -> StoredItem:
    if isinstance(item, msgspec.Struct):
        return msgspec.structs.replace(item, id=new_id)
    return {**item, "id": new_id}
