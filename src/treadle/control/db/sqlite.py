"""The repository on one SQLite file: a writer thread, a reader thread, an exclusive lock.

The only home of `sqlite3`. WAL with `synchronous=FULL`, so that what was answered survives a power
cut too. SQLite has no clock of its own: the time of a transaction is that of this process, of
which there is only one per file.
"""

import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from treadle.control.db.migrate import apply_migrations, find_missing
from treadle.control.db.repository import OnCommit, Repository
from treadle.control.db.threads import ThreadRepository
from treadle.control.db.transaction import Needs, Transaction, load_statements
from treadle.control.db.writer import GATHER_SECONDS, DatabaseThread
from treadle.control.faults import DatabaseUnusable
from treadle.kit.clock import Clock

BUSY_SECONDS = 5.0


class _Opened:
    """One connection with its statements and clock, as the database thread wants it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, begin_sql: str) -> None:
        self.connection = connection
        self._begin_sql = begin_sql
        self._clock = clock
        self._statements = load_statements("sqlite")

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return (sqlite3.Error,)

    def begin(self, needs: list[Needs]) -> Transaction:
        del needs  # one writer: the file itself is the lock
        self.connection.execute(self._begin_sql)
        now_ms = round(self._clock.now() * 1000)
        return Transaction(self.connection, self._statements, lambda: now_ms)

    def flush(self, tx: Transaction) -> None:
        del tx

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def abandon(self) -> None:
        if self.connection.in_transaction:
            self.connection.rollback()

    def may_repeat(self, error: Exception) -> bool:
        del error  # nobody else writes here: the same again would fail the same way
        return False

    def close(self) -> None:
        self.connection.close()


async def open_sqlite(path: Path, clock: Clock, on_commit: OnCommit) -> Repository:
    """Open or create the database at `path`; live leases get one whole lease of grace.

    Raises:
        DatabaseUnusable: the folder cannot be written, another process has the file, or the file is
            no database of ours; the text says which and what to do.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        version = _prepare(path, clock)
        reading = _Opened(connect_file(path), clock, "BEGIN")
        writing = _Opened(connect_file(path), clock, "BEGIN IMMEDIATE")
    except (sqlite3.Error, OSError) as error:
        lock.release()
        raise DatabaseUnusable(
            f"Cannot use {path} as a database ({error}); check the file and the free space, "
            "or name another database."
        ) from error
    except BaseException:
        lock.release()
        raise

    async def unlock() -> None:
        lock.release()

    return ThreadRepository(
        DatabaseThread("treadle-db-writer", writing, on_commit, GATHER_SECONDS),
        [DatabaseThread("treadle-db-reader", reading, _nothing)],
        version,
        unlock,
    )


def missing_in_file(path: Path) -> list[str]:
    """Names of migrations that the database at `path` lacks; changes nothing.

    Raises:
        DatabaseUnusable: there is no database of ours at `path`, or not of this release.
    """
    if not path.exists():
        raise DatabaseUnusable(f"There is no database at {path}; name another, or start a manager.")
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    connection.row_factory = _as_dict
    try:
        return [migration.name for migration in find_missing(connection, "sqlite")]
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"{path} is no database of a manager ({error}).") from error
    finally:
        connection.close()


def _prepare(path: Path, clock: Clock) -> int:
    # Prompts and replies are in there: for the owner's eyes only. SQLite gives its side files the
    # mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    opened = _Opened(connect_file(path), clock, "BEGIN IMMEDIATE")
    try:
        tx = opened.begin([])
        version = apply_migrations(opened.connection, "sqlite", tx.now_ms)
        tx.run("grace_leases", now=tx.now_ms)
        opened.commit()
    finally:
        opened.close()
    return version


def connect_file(path: Path) -> sqlite3.Connection:
    """A connection as durable as ours are, whose rows are dicts."""
    # check_same_thread off: opened here, used by exactly one database thread afterwards.
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = _as_dict
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _nothing(run_ids: frozenset[str]) -> None:
    del run_ids


class FileLock:
    """An exclusive lock that ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock at once.

        Raises:
            DatabaseUnusable: the folder cannot be written, or another process holds the lock.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DatabaseUnusable(
                f"Cannot write in {path.parent} ({error.strerror}); "
                "make the folder writable, or name another data folder."
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise DatabaseUnusable(
                    f"Cannot lock {path} ({error.strerror}); use a local disk for the database."
                ) from error
            raise DatabaseUnusable(
                f"{path.with_suffix('')} is in use by another manager (process {owner or '?'}); "
                "stop that one, or name another database."
            ) from error
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock free. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
