"""History: what a thread's records add up to - turns, model context, settings, usage.

Pure folds over records in log order. Owns the reading of the log alone: which turn an item belongs
to, how a turn ended, what the model is to see. Knows no file, no clock and no client.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from treadle.domain.approvals import APPROVAL_LINE, waiting_turn
from treadle.domain.items import StoredItem, UserMessage, input_text, item_id, with_times
from treadle.domain.partials import read_partial
from treadle.domain.policy import Settings
from treadle.domain.records import (
    ContextReplaced,
    Foreign,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import Turn, TurnStatus

_ENDINGS: dict[str, TurnStatus] = {
    "completed": "completed",
    "failed": "failed",
    "interrupted": "interrupted",
}


_FEW = 8
"""Up to so many items of a turn are looked through; more get an index."""


class _Rows(msgspec.Struct, gc=False):
    """A turn, the ids of its items, and when each of these began (None: not told)."""

    turn: Turn
    ids: list[str]
    starts: list[int | None]
    places: dict[str, int] | None = None
    """Where each id is, once there are many."""

    def find(self, wanted: str) -> int:
        """The place of the item with this id, or -1."""
        if self.places is not None:
            return self.places.get(wanted, -1)
        return self.ids.index(wanted) if wanted in self.ids else -1

    def append(self, item: StoredItem, known_as: str, started: int | None) -> None:
        self.turn.items.append(item)
        self.ids.append(known_as)
        self.starts.append(started)
        if self.places is not None:
            self.places[known_as] = len(self.ids) - 1
        elif len(self.ids) > _FEW:
            self.places = {known: at for at, known in enumerate(self.ids)}


class TurnFold:
    """Turns of a growing log: add records in order, look at the turns at any time."""

    def __init__(self) -> None:
        self._rows: dict[str, _Rows] = {}
        self._open: set[str] = set()
        self.takers: dict[type[ThreadRecord], Callable[[Any], None]] = {
            ItemDone: self._add_item,
            TurnStarted: self._start,
            TurnEnded: self._end,
            Foreign: self._add_partial,
        }
        """What takes the records that say something about turns."""

    def add(self, record: ThreadRecord) -> None:
        """Take the next record; those that say nothing about turns are passed over."""
        take = self.takers.get(type(record))
        if take is not None:
            take(record)

    def turns(self, running_turn_id: str | None = None) -> list[Turn]:
        """All turns, oldest first, with their items.

        A turn without an end counts as interrupted, unless it is the one that runs right now.
        """
        for turn_id in self._open:
            running = turn_id == running_turn_id
            self._rows[turn_id].turn.status = "inProgress" if running else "interrupted"
        return [rows.turn for rows in self._rows.values()]

    def _start(self, record: TurnStarted) -> None:
        self._of(record.turn_id).turn.started_at = record.started_at

    def _of(self, turn_id: str) -> _Rows:
        rows = self._rows.get(turn_id)
        if rows is None:
            turn = Turn(id=turn_id, root_turn_id=turn_id, items=[], items_view="full")
            rows = self._rows[turn_id] = _Rows(turn, [], [])
            self._open.add(turn_id)
        return rows

    def _add_item(self, record: ItemDone) -> None:
        rows = self._rows.get(record.turn_id) or self._of(record.turn_id)
        item, started = record.item, record.started_at_ms
        known_as = item_id(item)
        if started is not None or record.completed_at_ms is not None:
            item = with_times(item, started, record.completed_at_ms)
        if rows.ids and (at := rows.find(known_as)) >= 0:
            # The same start means the same item, told again; anything else only shares the name.
            again = started is not None and started == rows.starts[at]
            if again and type(rows.turn.items[at]) is type(item):
                rows.turn.items[at] = item
                return
            count = 2
            while rows.find(f"{known_as}-{count}") >= 0:
                count += 1
            known_as = f"{known_as}-{count}"
            item = _with_id(item, known_as)
        rows.append(item, known_as, started)

    def _add_partial(self, record: Foreign) -> None:
        kept = read_partial(record)
        if kept is not None:
            turn = self._of(kept[0]).turn
            turn.partial_items = [*(turn.partial_items or ()), kept[1]]

    def _end(self, record: TurnEnded) -> None:
        turn = self._of(record.turn_id).turn
        self._open.discard(record.turn_id)
        turn.status = _ENDINGS.get(record.status, "completed")
        turn.error = record.error
        if record.started_at is not None:
            turn.started_at = record.started_at
        turn.completed_at = record.completed_at
        turn.duration_ms = record.duration_ms


class LogFold:
    """All that a log adds up to, in one pass over its records."""

    def __init__(self, records: list[ThreadRecord]) -> None:
        self._turns = TurnFold()
        self._asked = False
        self.settings: Settings | None = None
        """As last applied or used; None for a log that never tells."""
        self.told: Settings | None = None
        """What the model was last told of: the settings that a turn ran under."""
        self.usage: UsageRecorded | None = None
        """The last record that has token counts."""
        self.compactions = 0
        self._context: list[ModelItem | ContextReplaced] = []
        self._takers: dict[type[ThreadRecord], Callable[[Any], None]] = {
            **self._turns.takers,
            ModelItem: self._context.append,
            ContextReplaced: self._replaced,
            SettingsApplied: self._applied,
            TurnContext: self._ran_under,
            UsageRecorded: self._used,
            Foreign: self._foreign,
        }
        self.add(records)
        self.waiting = waiting_turn(records) if self._asked else None
        """The turn that waits for nothing but answers, and so goes on when they come."""

    def add(self, records: Iterable[ThreadRecord]) -> None:
        """Take the next records."""
        takers = self._takers
        for record in records:
            take = takers.get(type(record))
            if take is not None:
                take(record)

    def turns(self) -> list[Turn]:
        """All turns, oldest first; see `turns`."""
        return self._turns.turns(self.waiting.turn_id if self.waiting is not None else None)

    def context(self) -> Callable[[], list[dict[str, Any]]]:
        """What makes the model's context; most of a long log is not looked into before."""
        known = list(self._context)
        return lambda: model_context(known)

    def _replaced(self, record: ContextReplaced) -> None:
        self.compactions += 1
        self._context[:] = [record]

    def _applied(self, record: SettingsApplied) -> None:
        self.settings = record.settings

    def _ran_under(self, record: TurnContext) -> None:
        self.settings = self.told = record.settings

    def _foreign(self, record: Foreign) -> None:
        self._turns.add(record)
        self._asked = self._asked or record.type == APPROVAL_LINE

    def _used(self, record: UsageRecorded) -> None:
        if record.usage is not None:
            self.usage = record


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


def model_context(records: Iterable[ThreadRecord]) -> list[dict[str, Any]]:
    """The raw items that the model knows, in order; a compaction replaces all before it."""
    context: list[dict[str, Any]] = []
    for record in records:
        if isinstance(record, ModelItem):
            with contextlib.suppress(msgspec.MsgspecError):  # what nobody can read nobody is told
                context.append(record.content)
        elif isinstance(record, ContextReplaced):
            context = list(record.items)
    return context


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


def preview(records: Iterable[ThreadRecord]) -> str:
    """The words of the first user message that has any, trimmed; empty when there is none."""
    for record in records:
        if isinstance(record, ItemDone) and isinstance(record.item, UserMessage):
            text = input_text(record.item.content).strip()
            if text:
                return text
    return ""


def _with_id(item: StoredItem, new_id: str) -> StoredItem:
    if isinstance(item, msgspec.Struct):
        return msgspec.structs.replace(item, id=new_id)
    return {**item, "id": new_id}
