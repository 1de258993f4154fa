"""One open transaction: named statements, one reading of the clock, the runs it touched.

Knows a connection only as something that executes; which library that is, is the adapter's matter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, Protocol

from treadle.control.access import Scope
from treadle.control.db.batch import EventRow
from treadle.kit.clock import iso_millis

Row = dict[str, Any]


class Cursor(Protocol):
    """What a statement leaves behind."""

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Connection(Protocol):
    """What a transaction needs of a database connection; rows come as dicts."""

    def execute(self, sql: str, parameters: Mapping[str, Any] = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(
        self, sql: str, parameters: Iterable[Mapping[str, Any] | EventRow], /
    ) -> Cursor:
        """Run one statement for each set of parameters."""
        ...


@cache
def load_statements(dialect: str) -> dict[str, str]:
    """Named statements of `sql/<dialect>.sql`; a name stands on its own line before each."""
    text = resources.files("treadle.control.db").joinpath(f"sql/{dialect}.sql").read_text("utf-8")
    statements: dict[str, str] = {}
    for part in text.split("-- name: ")[1:]:
        name, _, body = part.partition("\n")
        if name.strip() in statements:
            raise ValueError(f"statement {name.strip()} is defined twice")
        statements[name.strip()] = body.strip()
    return statements


class Pool(NamedTuple):
    """A claim of up to `limit` waiting runs of a profile (None: any) within a scope."""

    backend_profile: str | None
    scope: Scope
    limit: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What a piece of work is about to change and read.

    A shared database locks it in one global order and reads it for a whole group at once; without
    this a piece still does the same, only slower. One writer on a file needs none of it.
    """

    runs: tuple[str, ...] = ()
    """Ids of runs whose head is read in order to be written: locked."""
    names: tuple[str, ...] = ()
    """Anything else that two writers must not decide at once, as in `runner:NAME`: locked."""
    runners: tuple[str, ...] = ()
    """Ids of runners that are read."""
    folds: bool = False
    """Whether the folds of these runs are read too."""
    offers: bool = False
    """Whether their open commands are read beside the folds, as a claim tells them."""
    page: tuple[str, int, int] | None = None
    """A page of a log that is read: of which run, after which seq, how many events at most."""
    pool: Pool | None = None
    """A claim of waiting runs."""


NO_NEEDS = Needs()


class Transaction:
    """A transaction in progress, made of pieces; whoever opened it commits it."""

    def __init__(
        self, connection: Connection, statements: dict[str, str], read_clock: Callable[[], int]
    ) -> None:
        """Bind the connection; `read_clock` tells the database's time in milliseconds."""
        self._connection = connection
        self._statements = statements
        self._read_clock = read_clock
        self._now_ms: int | None = None
        self._now_text: str | None = None
        self.touched: set[str] = set()

    @property
    def now_ms(self) -> int:
        """The one time of this transaction, read when first asked for."""
        if self._now_ms is None:
            self._now_ms = self._read_clock()
        return self._now_ms

    @property
    def now_text(self) -> str:
        """`now_ms` as events carry it."""
        if self._now_text is None:
            self._now_text = iso_millis(self.now_ms / 1000)
        return self._now_text

    def one(self, name: str, **parameters: Any) -> Row | None:
        """Run a named statement; its first row."""
        return self._connection.execute(self._statements[name], parameters).fetchone()

    def all(self, name: str, **parameters: Any) -> list[Row]:
        """Run a named statement; all its rows."""
        return self._connection.execute(self._statements[name], parameters).fetchall()

    def run(self, name: str, **parameters: Any) -> None:
        """Run a named statement for its effect."""
        self._connection.execute(self._statements[name], parameters)

    def insert_events(self, rows: list[EventRow]) -> None:
        """Add rows to the log."""
        if rows:
            self._connection.executemany(self._statements["insert_event"], rows)

    def begin_piece(self) -> None:
        """What follows can be undone by itself."""
        self._connection.execute("SAVEPOINT piece")

    def keep_piece(self) -> None:
        """The piece is done."""
        self._connection.execute("RELEASE piece")

    def undo_piece(self) -> None:
        """Take back what the piece did."""
        self._connection.execute("ROLLBACK TO piece")
        self._connection.execute("RELEASE piece")
