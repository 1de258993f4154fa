"""A transaction of many managers' database: read ahead at its start, writes sent together.

What the pieces need is read and locked for all of them at once, and what they write is kept back
and sent in few statements: at the end, or before something reads that could see it. A piece gets a
savepoint only once it has sent a write of its own. Knows a connection only as something that
executes.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from treadle.control.db.batch import EventRow
from treadle.control.db.transaction import Connection, Row, Transaction
from treadle.control.faults import InvalidRequest

# Statements that take many rows at once, each parameter an array.
INSERTS = ("insert_run", "insert_head", "insert_command")
# Writes that go together in `write_all`: the parameter that takes their rows there, as JSON, and
# the column whose last row wins, if there is one.
TOGETHER: dict[str, tuple[str, str | None]] = {
    "write_head": ("heads", "run_id"),
    "write_fold": ("folds", "run_id"),
    "start_attempt": ("attempts", None),
    "touch_runner": ("touches", "runner_id"),
}
EVENT_COLUMNS = (
    *("run_id", "seq", "epoch", "producer_seq"),
    *("type", "command_id", "at", "payload"),
)
# What a statement can see of what is kept back; one that is not here sees all of it. A statement
# about one run sees only what was written for that run.
_RUNS = frozenset({"insert_run", "write_fold"})
_HEADS = frozenset({"insert_run", "insert_head", "write_head"})
_COMMANDS = frozenset({"insert_command", "change_command"})
SEES = {
    "read_run": _RUNS | _HEADS,
    "list_runs": _RUNS | _HEADS,
    "read_fold": _RUNS,
    "read_head": _HEADS,
    "read_progress": _HEADS,
    "waiting_runs": _HEADS,
    "lapsed_runs": _HEADS,
    "read_events": frozenset[str](),
    "read_page": _HEADS,
    "read_command": _COMMANDS,
    "list_commands": _COMMANDS,
    "open_commands": _COMMANDS,
    "read_runner": frozenset({"put_runner", "set_draining", "mark_gone"}),
    "read_idempotency": frozenset({"put_idempotency"}),
    "note_wait": frozenset[str](),
}
# Reads of events see what was inserted before.
SEES_EVENTS = frozenset({"read_events", "read_page"})
# Reads that lock the heads they find, and return them whole.
LOCKING = frozenset({"waiting_runs", "lapsed_runs"})

WAITING = ("backend_profile", "tenant_id", "project_id")
WaitingKey = tuple[str | None, ...]
"""What a pool claim asks for: values of `WAITING`, None for any."""

Write = tuple[str, Row]
Key = tuple[str, str]
Known = dict[Key, Any]
"""What is known of `("head", run_id)`, `("fold", run_id)`, `("commands", run_id)` or
`("runner", runner_id)`: what a read would find. None: look."""

# What a write leaves unknown: the kind of thing and the parameter with its id.
SPOILS = {
    "write_fold": ("fold", "run_id"),
    "insert_command": ("commands", "run_id"),
    "change_command": ("commands", "run_id"),
    "put_runner": ("runner", "runner_id"),
    "set_draining": ("runner", "runner_id"),
    "mark_gone": ("runner", "runner_id"),
}
# Reads that are answered from what is known: the kind of thing and the parameter with its id.
ANSWERS = {
    "read_head": ("head", "run_id"),
    "read_fold": ("fold", "run_id"),
    "open_commands": ("commands", "run_id"),
    "read_runner": ("runner", "runner_id"),
}


def waiting_parameters(key: WaitingKey) -> dict[str, Any]:
    """The parameters of `waiting_runs` for a key, but for the limit."""
    return dict(zip(WAITING, key, strict=True))


def page_key(run_id: str, after_seq: int, limit: int) -> Key:
    """Under which a page of a log is known."""
    return ("page", f"{run_id} {after_seq} {limit}")


class BufferedTransaction(Transaction):
    """See the module."""

    def __init__(
        self, connection: Connection, statements: dict[str, str], read_clock: Callable[[], int]
    ) -> None:
        """Bind the connection; nothing is known yet."""
        super().__init__(connection, statements, read_clock)
        self._known: Known = {}
        self._piece_known: Known = {}
        self._waiting: dict[WaitingKey, deque[str]] = {}
        self._settled: list[Write] = []
        self._own: list[Write] = []
        self._settled_events: list[EventRow] = []
        self._own_events: list[EventRow] = []
        self._marked = False

    def know(self, kind: str, found: dict[str, list[Row]]) -> None:
        """Take what was read ahead: the rows of each id."""
        for id_, rows in found.items():
            self._known[kind, id_] = rows

    def know_page(self, key: Key, rows: list[Row]) -> None:
        """Take a page of a log that was read ahead."""
        self._known[key] = rows

    def know_time(self, now_ms: int) -> None:
        """Take the time that was read once all locks were held."""
        self._now_ms = now_ms

    def know_waiting(self, key: WaitingKey, heads: list[Row]) -> None:
        """Take heads of waiting runs, locked, as many as the pieces of this key may claim."""
        self._waiting[key] = deque(head["run_id"] for head in heads)
        self.know("head", {head["run_id"]: [head] for head in heads})

    def one(self, name: str, **parameters: Any) -> Row | None:
        """Run a named statement; its first row."""
        rows = self.all(name, **parameters)
        return rows[0] if rows else None

    def all(self, name: str, **parameters: Any) -> list[Row]:
        """Run a named statement, or answer from what is known; all its rows."""
        if name == "waiting_runs":
            pool = tuple(parameters[each] for each in WAITING)
            if pool in self._waiting:
                return self._take_waiting(pool, parameters["limit"])
        kind, id_ = ANSWERS.get(name, (name, ""))
        key = (kind, parameters.get(id_, ""))
        if name == "read_page":
            key = page_key(*(parameters[each] for each in ("run_id", "after_seq", "limit")))
        known = self._piece_known.get(key) if key in self._piece_known else self._known.get(key)
        if known is not None:
            return known
        _check_texts(parameters)
        self._make_visible(name, parameters.get("run_id"))
        rows = super().all(name, **parameters)
        if name in LOCKING:
            self._piece_known |= {("head", row["run_id"]): [row] for row in rows}
        elif name in ANSWERS and rows:
            self._piece_known[key] = rows
        return rows

    def run(self, name: str, **parameters: Any) -> None:
        """Keep a named statement to be sent later."""
        _check_texts(parameters)
        self._own.append((name, parameters))
        if name == "write_head":
            self._piece_known["head", parameters["run_id"]] = [parameters]
        elif name in SPOILS:
            kind, id_ = SPOILS[name]
            self._piece_known[kind, parameters[id_]] = None

    def insert_events(self, rows: list[EventRow]) -> None:
        """Keep rows of the log to be sent later."""
        for row in rows:
            _check_texts({"type": row[4], "commandId": row[5], "at": row[6], "payload": row[7]})
        self._own_events += rows

    def begin_piece(self) -> None:
        """What follows can be undone by itself."""
        self._marked = False

    def keep_piece(self) -> None:
        """The piece is done; what it wrote is sent with what others wrote."""
        if self._marked:
            super().keep_piece()
        self._settled += self._own
        self._settled_events += self._own_events
        self._known |= self._piece_known
        self._forget_piece()

    def undo_piece(self) -> None:
        """Forget what was kept back, take back what was sent."""
        if self._marked:
            super().undo_piece()
        self._forget_piece()

    def flush(self) -> None:
        """Send everything that was kept back."""
        self._send(self._settled, self._settled_events)
        self._settled, self._settled_events = [], []

    def _forget_piece(self) -> None:
        self._own, self._own_events, self._piece_known, self._marked = [], [], {}, False

    def _take_waiting(self, key: WaitingKey, limit: int) -> list[Row]:
        """Some of the heads that were locked ahead and that no earlier piece claimed.

        Each piece takes what it asked for, claimed or not: there is enough for all of them.
        """
        taken: list[Row] = []
        rest = self._waiting[key]
        while rest and len(taken) < limit:
            (head,) = self.all("read_head", run_id=rest.popleft())
            if head["runner_id"] is None and not head["ended"] and head["open_commands"]:
                taken.append(head)
        return taken

    def _make_visible(self, name: str, run_id: str | None) -> None:
        """Send what a statement could see; with a savepoint once the piece itself writes."""
        sees = SEES.get(name)
        own, self._own = _split(self._own, sees, run_id)
        sees_events = sees is None or name in SEES_EVENTS
        own_events = self._own_events if sees_events else []
        writes = not self._statements[name].startswith("SELECT")
        if (writes or own or own_events) and not self._marked:
            self.flush()  # or taking this piece back would take other pieces back too
            super().begin_piece()
            self._marked = True
        settled, self._settled = _split(self._settled, sees, run_id)
        events = self._settled_events + self._own_events if sees_events else []
        if sees_events:
            self._settled_events, self._own_events = [], []
        self._send(settled + own, events)

    def _send(self, writes: list[Write], events: list[EventRow]) -> None:
        """Send new rows that others refer to, then what goes together, then the rest in order."""
        inserts: dict[str, list[Row]] = {}
        together: dict[str, dict[Any, Row]] = {}
        single: list[Write] = []
        for name, row in writes:
            if name in INSERTS:
                inserts.setdefault(name, []).append(row)
            elif name in TOGETHER:
                rows = together.setdefault(name, {})
                key = TOGETHER[name][1]
                rows[row[key] if key else len(rows)] = row
            else:
                single.append((name, row))
        for name in INSERTS:
            if name in inserts:
                self._connection.executemany(self._statements[name], inserts[name])
        if together or events:
            self._send_together(together, events)
        for name, row in single:
            self._connection.execute(self._statements[name], row)

    def _send_together(self, together: dict[str, dict[Any, Row]], events: list[EventRow]) -> None:
        """Events as arrays, since their payloads may be large; what is small and wide as JSON."""
        parameters: Row = {
            f"event_{column}": [row[place] for row in events]
            for place, column in enumerate(EVENT_COLUMNS)
        }
        for name, (parameter, _) in TOGETHER.items():
            rows = list(together.get(name, {}).values())
            parameters[parameter] = msgspec.json.encode(rows).decode()
            parameters[f"{parameter}_named"] = list(together.get(name, {}))
        self._connection.execute(self._statements["write_all"], parameters)


def _split(
    writes: list[Write], names: frozenset[str] | None, run_id: str | None
) -> tuple[list[Write], list[Write]]:
    """Those that a statement of `run_id` (None: any) sees, and the others, each in order."""
    if names is None or not writes:
        return writes, []
    seen: list[Write] = []
    unseen: list[Write] = []
    for name, row in writes:
        visible = name in names and (run_id is None or row.get("run_id", run_id) == run_id)
        (seen if visible else unseen).append((name, row))
    return seen, unseen


def _check_texts(row: Row) -> None:
    """Refuse what PostgreSQL cannot store, before it spoils the transaction of others."""
    for value in row.values():
        if isinstance(value, str) and "\0" in value:
            name = next(name for name, each in row.items() if each is value)
            raise InvalidRequest(f"{name} holds the character U+0000; leave it out.")
