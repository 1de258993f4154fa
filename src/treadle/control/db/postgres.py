"""The repository on a PostgreSQL database that any number of managers share.

Each manager has one writing and two reading connections, each on a thread, and one for hints. Runs
are locked in the order of their ids, so managers wait for one another but never in a circle. Only
the server's clock counts.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from treadle.control.db.migrate import find_missing, known_migrations
from treadle.control.db.postgres_ahead import read_ahead
from treadle.control.db.postgres_append import AppendLane
from treadle.control.db.postgres_hints import Hints, Wakes
from treadle.control.db.postgres_link import Link, describe, errors, explain
from treadle.control.db.postgres_migrate import lock_schema, migrate
from treadle.control.db.postgres_transaction import (
    BufferedTransaction,
    page_key,
)
from treadle.control.db.repository import Repository
from treadle.control.db.runs import PAGE_BYTES
from treadle.control.db.threads import ThreadRepository
from treadle.control.db.transaction import Needs, Row, Transaction, load_statements
from treadle.control.db.writer import GATHER_SECONDS, DatabaseThread
from treadle.control.faults import DatabaseUnusable

T = TypeVar("T")

SCHEMES = ("postgresql://", "postgres://")
DIALECT = "postgres"
OLDEST_SERVER = 140000
# Each is up to about 1 MiB.
PAGES_AT_ONCE = 32
READERS = 2
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


async def open_postgres(url: str, wakes: Wakes) -> Repository:
    """Connect and bring the schema up to date; the first manager gives live leases their grace.

    Raises:
        DatabaseUnusable: the URL is wrong, the server does not answer or refuses us, or the schema
            is not ours; the text says which and what to do.
    """
    statements = load_statements(DIALECT)
    writing = _Writing(url)
    version = await asyncio.to_thread(_at_start, url, writing.open)
    hints = Hints(url, statements, wakes)
    return ThreadRepository(
        DatabaseThread("treadle-db-writer", writing, hints.changed, GATHER_SECONDS),
        [
            DatabaseThread(f"treadle-db-reader-{number}", _Reading(url), lambda _: None)
            for number in range(READERS)
        ],
        version,
        hints.close,
        AppendLane(url, statements, hints.changed),
    )


async def missing_migrations(url: str) -> list[str]:
    """Names of migrations that the database lacks; changes nothing.

    Raises:
        DatabaseUnusable: as `open_postgres`.
    """
    return await asyncio.to_thread(_at_start, url, _Reading(url).look_and_close)


def _at_start(url: str, work: Callable[[], T]) -> T:
    """Do what a start needs; a refusal of the server becomes a text for people."""
    try:
        return work()
    except errors() as error:
        raise DatabaseUnusable(explain(url, error)) from error


def _lock_of(name: str) -> int:
    """The number of the lock that all managers take for a name; two names may share one."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], signed=True)


class _Session:
    """One connection as a database thread wants it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._link = Link(url)
        self._statements = load_statements(DIALECT)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return errors()

    def flush(self, tx: Transaction) -> None:
        if isinstance(tx, BufferedTransaction):
            tx.flush()

    def commit(self) -> None:
        self._link.execute("COMMIT")

    def abandon(self) -> None:
        self._link.rollback()

    def may_repeat(self, error: Exception) -> bool:
        return isinstance(error, errors())

    def close(self) -> None:
        self._link.close()

    def _run(self, name: str, **parameters: Any) -> Row:
        return self._link.execute(self._statements[name], parameters).fetchone() or {}

    def _all(self, name: str, **parameters: Any) -> list[Row]:
        return self._link.execute(self._statements[name], parameters).fetchall()

    def _now(self) -> int:
        return int(self._run("now")["now"])


class _Reading(_Session):
    """Reads, all of a group from one snapshot: that of one statement where pages are all it is."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._statements = {**self._statements, "read_head": self._statements["peek_head"]}
        self._begun = False

    def begin(self, needs: list[Needs]) -> Transaction:
        self._link.ensure()
        pages = {piece.page for piece in needs if piece.page and "\0" not in piece.page[0]}
        has_more = len(pages) > PAGES_AT_ONCE or any(piece.page not in pages for piece in needs)
        self._begun = has_more or len({limit for _, _, limit in pages}) > 1
        if self._begun:
            self._link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tx = BufferedTransaction(self._link, self._statements, self._now)
        if len(pages) > 1 or not self._begun:
            self._read_pages(tx, sorted(pages)[:PAGES_AT_ONCE])
        return tx

    def commit(self) -> None:
        if self._begun:
            super().commit()

    def _read_pages(self, tx: BufferedTransaction, pages: list[tuple[str, int, int]]) -> None:
        """Read pages of logs ahead, those of one limit by one statement."""
        for limit in {limit for _, _, limit in pages}:
            asked = [(run_id, after_seq) for run_id, after_seq, each in pages if each == limit]
            found: dict[tuple[str, int], list[Row]] = {key: [] for key in asked}
            rows = self._all(
                "read_pages",
                runs=[run_id for run_id, _ in asked],
                afters=[after_seq for _, after_seq in asked],
                limit=limit,
                size=PAGE_BYTES,
            )
            for row in rows:
                found[row["run_id"], row["after_seq"]].append(row)
            for (run_id, after_seq), page in found.items():
                tx.know_page(page_key(run_id, after_seq, limit), page)

    def look_and_close(self) -> list[str]:
        """Names of migrations that are missing."""
        try:
            self._link.open()
            if not self._run("schema_exists")["found"]:
                return [migration.name for migration in known_migrations(DIALECT)]
            return [migration.name for migration in find_missing(self._link, DIALECT)]
        finally:
            self.close()


class _Writing(_Session):
    """Writes, and says to the server that a manager is here."""

    def open(self) -> int:
        """Connect and bring the schema up to date; its version."""
        self._link.open()
        try:
            return self._enter()
        except BaseException:
            self._link.close()
            raise

    def begin(self, needs: list[Needs]) -> Transaction:
        if self._link.ensure():
            try:
                self._enter(again=True)
            except BaseException:
                self._link.drop()  # with the locks that a half-made entry may hold
                raise
        names = {name for piece in needs for name in piece.names}
        self._link.script(self._beginning({_lock_of(name) for name in names}))
        tx = BufferedTransaction(self._link, self._statements, self._now)
        read_ahead(tx, needs, self._all)
        return tx

    def _beginning(self, locks: set[int]) -> str:
        """Opens a transaction and takes locks in their order, in one message.

        A message of several statements has no parameters; what is written into it are numbers.
        """
        if not locks:
            return BEGIN
        keys = ",".join(str(lock) for lock in sorted(locks))
        return f"{BEGIN}; {self._statements['lock_keys']}".replace(":keys", f"'{{{keys}}}'")

    def _enter(self, *, again: bool = False) -> int:
        """Migrate, then be present; one manager at a time does this.

        The lease of a run lapses while no manager is there to renew it, so the first one to come
        gives all of them one whole lease. That holds after a restart of the server too: it ends
        the sessions of all managers, and the first to return finds itself alone. One that comes
        back, `again`, goes on under a schema that a newer release has brought meanwhile.
        """
        self._check_server()
        self._link.execute("SET statement_timeout = 0")
        lock_schema(self._link, self._statements["lock_schema"])
        migrate(self._link, DIALECT, self._now, newer_is_fine=again)
        self._link.execute("BEGIN")
        alone = self._run("try_alone")["alone"]
        if alone:
            self._run("grace_leases", now=self._now())
        self._link.execute("COMMIT")
        self._run("be_present")
        if alone:
            self._run("stop_alone")
        self._run("unlock_schema")
        self._link.execute("RESET statement_timeout")
        return known_migrations(DIALECT)[-1].version

    def _check_server(self) -> None:
        version = int(self._run("read_server")["version"])
        if version < OLDEST_SERVER:
            where, _ = describe(self._url)
            raise DatabaseUnusable(
                f"PostgreSQL at {where} is version {version // 10000}; use version "
                f"{OLDEST_SERVER // 10000} or newer."
            )
