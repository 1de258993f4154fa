"""One connection to a PostgreSQL server, driven from a thread of its own.

The only home of `asyncpg`, which loads when the first connection is made. Each link has its own
event loop, so that work written for a plain connection runs on it unchanged. Says in plain words
why a server cannot be used; knows nothing of runs.
"""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from treadle.control.faults import DatabaseUnusable

T = TypeVar("T")

CONNECT_SECONDS = 5.0
# The server gives up before we do, so that its answer says why.
SERVER_SETTINGS = {
    "application_name": "treadle-manager",
    "lock_timeout": "10000",
    "statement_timeout": "20000",
    "idle_in_transaction_session_timeout": "20000",
    "jit": "off",
    # Statements are planned once, while a young database is as good as empty: without this they
    # would go on to read whole tables that have long grown, until the server's next ANALYZE.
    "enable_seqscan": "off",
}
ANSWER_SECONDS = 25.0
# A server's default of no durability is raised; stricter ones stay.
BE_DURABLE = """SELECT set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
    ELSE current_setting('synchronous_commit') END, false)"""
PAUSE_SECONDS = 0.5
SERVER_GONE = "The database does not answer; send the request again later."

_PARAMETER = re.compile(r"(?<!:):([a-z_]\w*)")


class Rows:
    """What a statement returned."""

    def __init__(self, records: list[Any]) -> None:
        """Take the library's rows."""
        self._rows = [dict(record) for record in records]

    def fetchone(self) -> dict[str, Any] | None:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[dict[str, Any]]:
        """All rows."""
        return self._rows


class Link:
    """A connection that is made again when it was lost; used by one thread at a time."""

    def __init__(self, url: str) -> None:
        """Nothing happens before `ensure`."""
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._raw: Any = None
        self._failed_at: float | None = None

    def ensure(self) -> bool:
        """Be connected; True when the connection is a new one.

        Raises:
            DatabaseUnusable: there is no connection to be had; its cause says why. Asking again
                within `PAUSE_SECONDS` is refused without a try.
        """
        if self._raw is not None and not self._raw.is_closed():
            return False
        if self._failed_at is not None and self._loop.time() < self._failed_at + PAUSE_SECONDS:
            raise DatabaseUnusable(SERVER_GONE)
        try:
            self.open()
        except DatabaseUnusable as error:
            self._failed_at = self._loop.time()
            raise DatabaseUnusable(SERVER_GONE) from error
        self._failed_at = None
        return True

    def open(self) -> None:
        """Connect for the first time; raises DatabaseUnusable with the reason and the remedy."""
        self._raw = self._do(connect_durably(self._url))

    def execute(self, sql: str, parameters: Mapping[str, Any] = {}, /) -> Rows:
        """Run one statement; parameters are `:names`."""
        text, names = positional(sql)
        return Rows(self._do(self._raw.fetch(text, *[parameters[name] for name in names])))

    def script(self, sql: str) -> None:
        """Run statements that take no parameters, sent together; what they return is not told."""
        self._do(self._raw.execute(sql))

    def executemany(
        self, sql: str, parameters: Iterable[Mapping[str, Any] | tuple[Any, ...]], /
    ) -> Rows:
        """Run a bulk statement once: each parameter becomes an array with one place per row.

        Rows that are tuples have their values in the order of the statement's parameters.
        """
        text, names = positional(sql)
        rows = list(parameters)
        columns = [[_value(row, place, name) for row in rows] for place, name in enumerate(names)]
        return Rows(self._do(self._raw.fetch(text, *columns)))

    def drop(self) -> None:
        """Cut the connection, whatever state it is in."""
        if self._raw is not None:
            self._raw.terminate()
            self._raw = None
            self._do(asyncio.sleep(0))  # lets the transport go

    def rollback(self) -> None:
        """Leave an open transaction; a connection that cannot do that is dropped."""
        if self._raw is None:
            return
        try:
            self.script("ROLLBACK")
        except errors():
            self.drop()

    def close(self) -> None:
        """End the connection in good order, then the loop."""
        if self._raw is not None and not self._raw.is_closed():
            try:
                self._do(self._raw.close(timeout=1.0))
            except errors():
                self.drop()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)


def _value(row: Mapping[str, Any] | tuple[Any, ...], place: int, name: str) -> Any:
    return row[place] if isinstance(row, tuple) else row[name]


@cache
def positional(sql: str) -> tuple[str, tuple[str, ...]]:
    """A statement with `$1` for its first `:name` and so on, and the names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return _PARAMETER.sub(number, sql), tuple(names)


@cache
def errors() -> tuple[type[Exception], ...]:
    """What the library raises for a server or a connection that fails."""
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


async def connect(url: str) -> Any:
    """A connection of the running loop.

    Raises:
        DatabaseUnusable: says why not, and what to do.
    """
    import asyncpg

    library: Any = asyncpg  # comes without types
    try:
        return await library.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=ANSWER_SECONDS,
            server_settings=SERVER_SETTINGS,
        )
    except (*errors(), ValueError) as error:
        raise DatabaseUnusable(explain(url, error)) from error


async def connect_durably(url: str) -> Any:
    """A connection of the running loop whose commits outlive a crash of the server.

    Raises:
        DatabaseUnusable: says why not, and what to do.
    """
    connection = await connect(url)
    try:
        await connection.execute(BE_DURABLE)
    except errors() as error:
        connection.terminate()
        raise DatabaseUnusable(explain(url, error)) from error
    return connection


def explain(url: str, error: Exception) -> str:
    """Why the database at `url` cannot be used and what to do; never shows a password."""
    import asyncpg

    where, name = describe(url)
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return (
                f"PostgreSQL at {where} refuses this user ({error}); correct user and password in "
                "the database URL, or give the password in PGPASSWORD or ~/.pgpass."
            )
        case asyncpg.InvalidCatalogNameError():
            return (
                f"PostgreSQL at {where} has no database {name}; create it (createdb {name}), or "
                "correct the database URL."
            )
        case asyncpg.InsufficientPrivilegeError():
            return (
                f"PostgreSQL at {where} does not let this user work in database {name} ({error}); "
                "make the user owner of the database, or use another user."
            )
        case asyncpg.CannotConnectNowError() | asyncpg.TooManyConnectionsError():
            return f"PostgreSQL at {where} takes no connection now ({error}); try again later."
        case OSError():
            return (
                f"No PostgreSQL server answers at {where} ({error or 'time is up'}); start it, or "
                "correct host and port in the database URL."
            )
        case asyncpg.PostgresError():
            return f"PostgreSQL at {where}, database {name}, refused: {error}"
        case _:
            return (
                f"This database URL cannot be used ({type(error).__name__}); write it as "
                "postgresql://USER@HOST:PORT/DATABASE."
            )


def describe(url: str) -> tuple[str, str]:
    """Host with port, and database, of a URL, fit to be shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 5432
    except ValueError:
        return "the given address", "?"
    return f"{host}:{port}", parts.path.lstrip("/") or (parts.username or "of the user's name")
