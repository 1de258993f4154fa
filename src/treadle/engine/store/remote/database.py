"""The server's database: one SQLite file, one thread that writes, commits shared by many.

Work that arrives while a commit is in flight shares the next one, each piece under a savepoint of
its own: one fsync serves many writers, and a piece that fails leaves no trace in the others. An
answer is given only after the commit. Reads have a connection and a thread of their own. Knows
nothing of what the work does.
"""

import asyncio
import errno
import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from treadle.engine.store.thread_store import StorageFailed

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

MAX_WAITING = 1024
"""Pieces of work that may wait; a client that is refused repeats its request."""
MAX_GROUP = 64
BUSY_SECONDS = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS threads (
    thread_id TEXT PRIMARY KEY,
    info BLOB NOT NULL,
    archived INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    recency_at INTEGER NOT NULL,
    preview TEXT NOT NULL,
    preview_set INTEGER NOT NULL,
    name TEXT,
    cwd TEXT NOT NULL,
    source_kind TEXT NOT NULL,
    source_detail TEXT,
    provider TEXT NOT NULL,
    parent_id TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS threads_created ON threads (archived, created_at, thread_id);
CREATE INDEX IF NOT EXISTS threads_updated ON threads (archived, updated_at, thread_id);
CREATE INDEX IF NOT EXISTS threads_recency ON threads (archived, recency_at, thread_id);
CREATE INDEX IF NOT EXISTS threads_parent ON threads (parent_id);
CREATE TABLE IF NOT EXISTS records (
    thread_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (thread_id, ordinal)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edges (child_id TEXT PRIMARY KEY, parent_id TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS edges_parent ON edges (parent_id);
CREATE TABLE IF NOT EXISTS leases (
    thread_id TEXT PRIMARY KEY,
    holder_key TEXT NOT NULL,
    owner TEXT NOT NULL,
    host TEXT NOT NULL,
    since REAL NOT NULL,
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS epochs (last INTEGER NOT NULL);
INSERT INTO epochs SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM epochs);
CREATE TABLE IF NOT EXISTS requests (request_id TEXT PRIMARY KEY, at REAL NOT NULL);
PRAGMA user_version = 1;
"""
VERSION = 1


class Overloaded(Exception):
    """Too much work waits; the request may be repeated."""


class Database:
    """The open database; made on the event loop that uses it, closed once."""

    def __init__(self, path: Path) -> None:
        """Open or make the file at `path`, for this process alone.

        Raises:
            StorageFailed: another server has it, or it cannot be used; the text says what to do.
        """
        self._lock = _lock(path)
        try:
            self._writing, self._reading = _connect(path), _connect(path)
        except (sqlite3.Error, StorageFailed) as error:
            os.close(self._lock)
            if isinstance(error, StorageFailed):
                raise
            raise StorageFailed(f"{path} cannot be used as a database: {error}") from error
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="treadle-records-reader")
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="treadle-records", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; returns once it is on disk. What it raises undoes it.

        Raises:
            Overloaded: too much waits, or the database is being closed.
            StorageFailed: the medium refused; nothing of the work is stored.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        with self._condition:
            if self._closing or len(self._waiting) >= MAX_WAITING:
                raise Overloaded
            self._waiting.append((work, future))
            self._condition.notify()
        return await future

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on what is committed; raises StorageFailed when the medium fails."""
        if self._closing:
            raise Overloaded
        try:
            return await self._loop.run_in_executor(self._readers, work, self._reading)
        except sqlite3.Error as error:
            raise StorageFailed(f"the database cannot be read: {error}") from error

    async def close(self) -> None:
        """Finish what waits, then close; idempotent."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        await self._ended.wait()
        self._readers.shutdown()

    def _main(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._closing:
                    self._condition.wait()
                count = min(len(self._waiting), MAX_GROUP)
                group = [self._waiting.popleft() for _ in range(count)]
            if not group:
                break
            results = self._carry_out([work for work, _ in group])
            futures = [future for _, future in group]
            self._loop.call_soon_threadsafe(_settle, futures, results)
        self._writing.close()
        self._reading.close()
        os.close(self._lock)
        self._loop.call_soon_threadsafe(self._ended.set)

    def _carry_out(self, group: list[Work]) -> list[Any]:
        """The results in order; an exception stands for a piece that failed."""
        db = self._writing
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [_piece(db, work) for work in group]
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            failure = StorageFailed(f"the database cannot be written: {error}")
            return [failure] * len(group)
        return results


def _piece(db: sqlite3.Connection, work: Work) -> Any:
    db.execute("SAVEPOINT piece")
    try:
        result = work(db)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the work
        result = error
        db.execute("ROLLBACK TO piece")
    db.execute("RELEASE piece")
    return result


def _settle(futures: list[asyncio.Future[Any]], results: list[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue  # the caller went away; the work is done all the same
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _connect(path: Path) -> sqlite3.Connection:
    # check_same_thread off: opened here, used by exactly one thread afterwards.
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        db.close()
        raise StorageFailed(f"{path} was made by a newer release; use that one")
    db.executescript(SCHEMA)
    return db


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Prompts and replies are in there: for the owner's eyes only.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}; name another file") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            raise StorageFailed(
                f"cannot lock {path}: {error.strerror}; use a local disk"
            ) from error
        raise StorageFailed(
            f"{path} is in use by another server; stop that one, or name another file"
        ) from error
    return lock
