"""The repository on one SQLite file: a writer thread, a reader thread, an exclusive lock.

The only home of `sqlite3`. WAL with `synchronous=FULL`, so that what was answered survives a power
cut too. SQLite has no clock of its own: the time of a transaction is that of this process, of
which there is only one per file.
"""

import errno
import fcntl
import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from treadle.control.db import leases, runs, verify
from treadle.control.db.migrate import apply_migrations
from treadle.control.db.repository import (
    Claimant,
    OnCommit,
    Progress,
    RequestKey,
    RunQuery,
    StoredAnswer,
)
from treadle.control.db.transaction import Connection, Transaction, load_statements
from treadle.control.db.writer import DatabaseThread
from treadle.control.faults import DatabaseUnusable
from treadle.control.records import (
    AppendAnswer,
    AppendRequest,
    Claim,
    Command,
    CommandPage,
    CommandRequest,
    EventPage,
    HeartbeatAnswer,
    HeartbeatRequest,
    RegisterRequest,
    Registration,
    ReleaseAnswer,
    ReleaseRequest,
    ResultEnvelope,
    Run,
    RunSpec,
)
from treadle.kit.clock import Clock

BUSY_SECONDS = 5.0


class _Opened:
    """One connection with its statements and clock, as the database thread wants it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, begin_sql: str) -> None:
        self._raw = connection
        self.begin_sql = begin_sql
        self._clock = clock
        self._statements = load_statements("sqlite")

    @property
    def connection(self) -> Connection:
        return self._raw

    def transaction(self) -> Transaction:
        return Transaction(self.connection, self._statements, round(self._clock.now() * 1000))

    def close(self) -> None:
        self._raw.close()

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return (sqlite3.Error,)


class SqliteRepository:
    """`Repository` on a file; see there for what each method promises."""

    def __init__(
        self,
        writer: DatabaseThread,
        reader: DatabaseThread,
        lock: "FileLock",
        schema_version: int,
    ) -> None:
        """Use `open_sqlite`."""
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._schema_version = schema_version

    @property
    def schema_version(self) -> int:
        """Number of the newest migration that was applied."""
        return self._schema_version

    async def create_run(self, spec: RunSpec, key: RequestKey | None) -> StoredAnswer:
        """See `Repository.create_run`."""
        return await self._writer.run(partial(runs.create_run, spec=spec, key=key))

    async def read_run(self, run_id: str) -> Run:
        """See `Repository.read_run`."""
        return await self._reader.run(partial(runs.read_run, run_id=run_id))

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """See `Repository.list_runs`."""
        return await self._reader.run(partial(runs.list_runs, query=query))

    async def create_command(
        self, run_id: str, request: CommandRequest, payload: bytes, key: RequestKey | None
    ) -> StoredAnswer:
        """See `Repository.create_command`."""
        work = partial(
            runs.create_command, run_id=run_id, request=request, payload=payload, key=key
        )
        return await self._writer.run(work)

    async def read_command(self, run_id: str, command_id: str) -> Command:
        """See `Repository.read_command`."""
        work = partial(runs.read_command, run_id=run_id, command_id=command_id)
        return await self._reader.run(work)

    async def list_commands(self, run_id: str, after_seq: int, limit: int) -> CommandPage:
        """See `Repository.list_commands`."""
        work = partial(runs.list_commands, run_id=run_id, after_seq=after_seq, limit=limit)
        return await self._reader.run(work)

    async def read_result(self, run_id: str, command_id: str | None) -> ResultEnvelope:
        """See `Repository.read_result`."""
        work = partial(runs.read_result, run_id=run_id, command_id=command_id)
        return await self._reader.run(work)

    async def read_events(self, run_id: str, after_seq: int, limit: int) -> EventPage:
        """See `Repository.read_events`."""
        work = partial(runs.read_events, run_id=run_id, after_seq=after_seq, limit=limit)
        return await self._reader.run(work)

    async def read_progress(self, run_id: str) -> Progress:
        """See `Repository.read_progress`."""
        return await self._reader.run(partial(runs.read_progress, run_id=run_id))

    async def register_runner(self, request: RegisterRequest) -> Registration:
        """See `Repository.register_runner`."""
        return await self._writer.run(partial(leases.register_runner, request=request))

    async def claim(self, run_id: str, claimant: Claimant) -> Claim:
        """See `Repository.claim`."""
        return await self._writer.run(partial(leases.claim, run_id=run_id, claimant=claimant))

    async def claim_waiting(
        self, claimant: Claimant, backend_profile: str | None, limit: int
    ) -> list[Claim]:
        """See `Repository.claim_waiting`."""
        work = partial(
            leases.claim_waiting, claimant=claimant, backend_profile=backend_profile, limit=limit
        )
        return await self._writer.run(work)

    async def append(self, run_id: str, token: str, request: AppendRequest) -> AppendAnswer:
        """See `Repository.append`."""
        work = partial(leases.append, run_id=run_id, token=token, request=request)
        return await self._writer.run(work)

    async def heartbeat(
        self, runner_id: str, token: str, request: HeartbeatRequest
    ) -> HeartbeatAnswer:
        """See `Repository.heartbeat`."""
        work = partial(leases.heartbeat, runner_id=runner_id, token=token, request=request)
        return await self._writer.run(work)

    async def release(self, run_id: str, token: str, request: ReleaseRequest) -> ReleaseAnswer:
        """See `Repository.release`."""
        work = partial(leases.release, run_id=run_id, token=token, request=request)
        return await self._writer.run(work)

    async def lapse_leases(self, limit: int) -> int:
        """See `Repository.lapse_leases`."""
        return await self._writer.run(partial(leases.lapse_leases, limit=limit))

    async def verify_run(self, run_id: str) -> list[str]:
        """See `Repository.verify_run`."""
        return await self._reader.run(partial(verify.verify_run, run_id=run_id))

    async def close(self) -> None:
        """See `Repository.close`."""
        await self._reader.close()
        await self._writer.close()
        self._lock.release()


async def open_sqlite(path: Path, clock: Clock, on_commit: OnCommit) -> SqliteRepository:
    """Open or create the database at `path`; live leases get one whole lease of grace.

    Raises:
        DatabaseUnusable: the folder cannot be written, another process has the file, or the file is
            no database of ours; the text says which and what to do.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        version = _prepare(path, clock)
        reading = _Opened(_connect(path), clock, "BEGIN")
        writing = _Opened(_connect(path), clock, "BEGIN IMMEDIATE")
    except (sqlite3.Error, OSError) as error:
        lock.release()
        raise DatabaseUnusable(
            f"Cannot use {path} as a database ({error}); check the file and the free space, "
            "or name another database."
        ) from error
    except BaseException:
        lock.release()
        raise
    return SqliteRepository(
        DatabaseThread("treadle-db-writer", writing, on_commit),
        DatabaseThread("treadle-db-reader", reading, _nothing),
        lock,
        version,
    )


def _prepare(path: Path, clock: Clock) -> int:
    # Prompts and replies are in there: for the owner's eyes only. SQLite gives its side files the
    # mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    opened = _Opened(_connect(path), clock, "BEGIN IMMEDIATE")
    try:
        opened.connection.execute(opened.begin_sql)
        tx = opened.transaction()
        version = apply_migrations(opened.connection, tx.now_ms)
        tx.run("grace_leases", now=tx.now_ms)
        opened.connection.execute("COMMIT")
    finally:
        opened.close()
    return version


def _connect(path: Path) -> sqlite3.Connection:
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
