"""A transaction of many managers' database: heads locked at its start, writes sent together.

What pieces write is kept back and sent in few statements: at the end, or before something reads
that could see it. A piece gets a savepoint only once it has sent a write of its own. Knows a
connection only as something that executes.
"""

from collections.abc import Callable
from typing import Any

from treadle.control.db.transaction import Connection, Row, Transaction
from treadle.control.faults import InvalidRequest

# Statements that take many rows at once, with the parameter whose last row wins, if there is one.
BULK = {
    "write_head": "run_id",
    "write_fold": "run_id",
    "insert_event": None,
    "start_attempt": None,
}
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
    "renew_lease": _HEADS,
    "waiting_runs": _HEADS,
    "lapsed_runs": _HEADS,
    "read_events": frozenset({"insert_event"}),
    "read_command": _COMMANDS,
    "list_commands": _COMMANDS,
    "open_commands": _COMMANDS,
    "read_runner": frozenset({"put_runner"}),
    "read_idempotency": frozenset({"put_idempotency"}),
    "note_wait": frozenset[str](),
}
# Reads that lock the heads they find, and return them whole.
LOCKING = frozenset({"waiting_runs", "lapsed_runs"})

Write = tuple[str, Row]


class BufferedTransaction(Transaction):
    """See the module; `heads` are rows of run heads that this transaction has locked."""

    def __init__(
        self,
        connection: Connection,
        statements: dict[str, str],
        read_clock: Callable[[], int],
        heads: list[Row],
    ) -> None:
        """Bind the connection, with the rows of heads that are locked already."""
        super().__init__(connection, statements, read_clock)
        self._heads: dict[str, Row | None] = {row["run_id"]: row for row in heads}
        self._piece_heads: dict[str, Row | None] = {}
        self._settled: list[Write] = []
        self._own: list[Write] = []
        self._marked = False

    def one(self, name: str, **parameters: Any) -> Row | None:
        """Run a named statement; its first row."""
        if name == "read_head":
            return self._read_head(parameters["run_id"])
        rows = self.all(name, **parameters)
        return rows[0] if rows else None

    def all(self, name: str, **parameters: Any) -> list[Row]:
        """Run a named statement; all its rows."""
        _check_texts(parameters)
        self._make_visible(name, parameters.get("run_id"))
        if name == "renew_lease":
            self._piece_heads[parameters["run_id"]] = None  # what we know of it is old now
        rows = super().all(name, **parameters)
        if name in LOCKING:
            self._piece_heads |= {row["run_id"]: row for row in rows}
        return rows

    def run(self, name: str, **parameters: Any) -> None:
        """Keep a named statement to be sent later."""
        _check_texts(parameters)
        self._own.append((name, parameters))
        if name == "write_head":
            self._piece_heads[parameters["run_id"]] = parameters

    def run_many(self, name: str, parameters: list[Row]) -> None:
        """Keep a named statement to be sent later, once per set of parameters."""
        for row in parameters:
            _check_texts(row)
        self._own += [(name, row) for row in parameters]

    def begin_piece(self) -> None:
        """What follows can be undone by itself."""
        self._marked = False

    def keep_piece(self) -> None:
        """The piece is done; what it wrote is sent with what others wrote."""
        if self._marked:
            super().keep_piece()
        self._settled += self._own
        self._heads |= self._piece_heads
        self._own, self._piece_heads, self._marked = [], {}, False

    def undo_piece(self) -> None:
        """Forget what was kept back, take back what was sent."""
        if self._marked:
            super().undo_piece()
        self._own, self._piece_heads, self._marked = [], {}, False

    def flush(self) -> None:
        """Send everything that was kept back."""
        self._send(self._settled)
        self._settled = []

    def _read_head(self, run_id: str) -> Row | None:
        known = self._piece_heads.get(run_id) or (
            None if run_id in self._piece_heads else self._heads.get(run_id)
        )
        if known is not None:
            return known
        rows = self.all("read_head", run_id=run_id)
        if rows:
            self._piece_heads[run_id] = rows[0]
        return rows[0] if rows else None

    def _make_visible(self, name: str, run_id: str | None) -> None:
        """Send what a statement could see; with a savepoint once the piece itself writes."""
        sees = SEES.get(name)
        own, self._own = _split(self._own, sees, run_id)
        writes = not self._statements[name].startswith("SELECT")
        if (writes or own) and not self._marked:
            self.flush()  # or taking this piece back would take other pieces back too
            super().begin_piece()
            self._marked = True
        settled, self._settled = _split(self._settled, sees, run_id)
        self._send(settled)
        self._send(own)

    def _send(self, writes: list[Write]) -> None:
        """Send what single statements need, then those in order, then what needs them."""
        bulk: dict[str, dict[Any, Row]] = {}
        single: list[Write] = []
        for name, row in writes:
            if name in BULK:
                rows = bulk.setdefault(name, {})
                key = BULK[name]
                rows[row[key] if key else len(rows)] = row
            else:
                single.append((name, row))
        # The end of an attempt may be among the single ones.
        self._send_bulk("start_attempt", bulk.pop("start_attempt", {}))
        for name, row in single:
            self._connection.execute(self._statements[name], row)
        for name, rows in bulk.items():
            self._send_bulk(name, rows)

    def _send_bulk(self, name: str, rows: dict[Any, Row]) -> None:
        if rows:
            self._connection.executemany(self._statements[name], list(rows.values()))


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
    for name, value in row.items():
        if isinstance(value, str) and "\0" in value:
            raise InvalidRequest(f"{name} holds the character U+0000; leave it out.")
