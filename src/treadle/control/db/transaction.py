"""One open transaction: named statements, one reading of the clock, the runs it touched.

Knows a connection only as something that executes; which library that is, is the adapter's matter.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Protocol

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

    def executemany(self, sql: str, parameters: Iterable[Mapping[str, Any]], /) -> Cursor:
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


class Transaction:
    """A transaction in progress; whoever opened it commits it."""

    def __init__(self, connection: Connection, statements: dict[str, str], now_ms: int) -> None:
        """Bind the connection; `now_ms` is the one time of this transaction."""
        self._connection = connection
        self._statements = statements
        self.now_ms = now_ms
        self.touched: set[str] = set()

    def one(self, name: str, **parameters: Any) -> Row | None:
        """Run a named statement; its first row."""
        return self._connection.execute(self._statements[name], parameters).fetchone()

    def all(self, name: str, **parameters: Any) -> list[Row]:
        """Run a named statement; all its rows."""
        return self._connection.execute(self._statements[name], parameters).fetchall()

    def run(self, name: str, **parameters: Any) -> None:
        """Run a named statement for its effect."""
        self._connection.execute(self._statements[name], parameters)

    def run_many(self, name: str, parameters: list[Row]) -> None:
        """Run a named statement once per set of parameters."""
        if parameters:
            self._connection.executemany(self._statements[name], parameters)
