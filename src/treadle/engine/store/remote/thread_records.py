"""What a thread store server does: each operation of the port over the database, with its fences.

Each method is one transaction and durable when it returns. Raises the port's own errors; knows
nothing of how requests come in.
"""

import sqlite3
from collections.abc import Callable

import msgspec

from treadle.engine.store.remote import rows
from treadle.engine.store.remote.database import Database
from treadle.engine.store.remote.leases import Holder, LeaseKey, Leases
from treadle.engine.store.thread_store import (
    StorageFailed,
    ThreadInfo,
    ThreadIsArchived,
    ThreadNotFound,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    WriterConflict,
)
from treadle.kit.clock import Clock

REMEMBER_SECONDS = 3600.0
"""How long a request that changed something is known to be done."""


class Batch(msgspec.Struct, kw_only=True, frozen=True):
    """Records of a writer; `info` begins a thread that is not stored yet."""

    lease: LeaseKey
    sequence: int
    bodies: list[bytes]
    info: ThreadInfo | None
    preview: str
    updated_at: float


class ThreadRecords:
    """All threads of one server."""

    def __init__(self, database: Database, clock: Clock, lease_seconds: float) -> None:
        """Serve a database; a writer that is silent for `lease_seconds` may be replaced."""
        self._db = database
        self._clock = clock
        self._leases = Leases(clock, lease_seconds)

    @property
    def lease_seconds(self) -> float:
        """How long a lease lasts without a word from its holder."""
        return self._leases.seconds

    async def create(self, thread_id: str, holder: Holder) -> int:
        """Reserve a thread; its epoch. Raises WriterConflict when it is there already."""

        def work(db: sqlite3.Connection) -> int:
            epoch = self._leases.take(db, thread_id, holder)
            if rows.is_stored(db, thread_id):
                raise WriterConflict(f"thread {thread_id} already exists")
            return epoch

        return await self._db.write(work)

    async def open(self, thread_id: str, holder: Holder, *, by_force: bool) -> int:
        """Take a stored thread; its epoch. Raises ThreadNotFound, ThreadIsArchived, ..."""

        def work(db: sqlite3.Connection) -> int:
            if rows.find(db, thread_id).archived:
                raise ThreadIsArchived(thread_id)
            return self._leases.take(db, thread_id, holder, by_force=by_force)

        return await self._db.write(work)

    async def append(self, batch: Batch) -> None:
        """Store a batch once; raises WriterConflict, StorageFailed."""
        thread_id = batch.lease.thread_id

        def work(db: sqlite3.Connection) -> None:
            if not self._leases.advance(db, batch.lease, batch.sequence):
                return
            if not rows.is_stored(db, thread_id):
                if batch.info is None:
                    raise StorageFailed(f"the first batch of thread {thread_id} lacks its info")
                rows.put(db, batch.info)
            rows.add_records(db, thread_id, batch.bodies)
            rows.touch(db, thread_id, batch.updated_at, batch.preview)

        await self._db.write(work)

    async def renew(self, leases: list[LeaseKey]) -> list[tuple[str, str]]:
        """Keep leases; those that are lost, each with the reason."""
        return await self._db.write(lambda db: self._leases.renew(db, leases))

    async def release(self, lease: LeaseKey) -> None:
        """Give a lease up."""
        await self._db.write(lambda db: self._leases.release(db, lease))

    async def read(self, thread_id: str) -> ThreadInfo:
        """Metadata; raises ThreadNotFound."""
        return await self._db.read(lambda db: rows.find(db, thread_id))

    async def log(self, thread_id: str) -> list[bytes]:
        """All records; raises ThreadNotFound."""

        def work(db: sqlite3.Connection) -> list[bytes]:
            rows.find(db, thread_id)
            return list(rows.log_of(db, thread_id))

        return await self._db.read(work)

    async def page(self, query: ThreadQuery) -> ThreadPage:
        """One page; raises InvalidQuery."""
        return await self._db.read(lambda db: rows.page(db, query))

    async def update(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        """Change metadata; raises ThreadNotFound."""
        return await self._db.write(lambda db: rows.patch(db, thread_id, patch))

    async def archive(self, thread_id: str, request_id: str) -> None:
        """Archive a thread that nobody writes; raises ThreadNotFound, WriterConflict."""

        def work(db: sqlite3.Connection) -> None:
            info = rows.find(db, thread_id)
            if info.archived:
                raise ThreadNotFound(thread_id)
            self._leases.require_free(db, thread_id)
            self._leases.drop(db, thread_id)
            info.archived = True
            rows.put(db, info)

        await self._once(request_id, work)

    async def unarchive(self, thread_id: str, request_id: str) -> ThreadInfo:
        """Bring a thread back; raises ThreadNotFound when it is not archived."""

        def work(db: sqlite3.Connection) -> None:
            query = "SELECT 1 FROM threads WHERE thread_id = ? AND archived"
            if db.execute(query, (thread_id,)).fetchone() is None:
                raise ThreadNotFound(thread_id, archived=True)
            info = rows.find(db, thread_id)
            info.archived = False
            info.updated_at = self._clock.now()
            rows.put(db, info)

        await self._once(request_id, work)
        return await self.read(thread_id)

    async def delete(self, thread_id: str, request_id: str) -> None:
        """Remove a thread that nobody writes; raises ThreadNotFound, WriterConflict."""

        def work(db: sqlite3.Connection) -> None:
            rows.find(db, thread_id)
            self._leases.require_free(db, thread_id)
            self._leases.drop(db, thread_id)
            rows.delete(db, thread_id)

        await self._once(request_id, work)

    async def link(self, parent_id: str, child_id: str) -> None:
        """Remember a spawn edge."""
        await self._db.write(lambda db: rows.link(db, parent_id, child_id))

    async def descendants(self, thread_id: str) -> list[str]:
        """All threads below one, level by level."""
        return await self._db.read(lambda db: rows.descendants(db, thread_id))

    async def may_mention(self, thread_id: str, text: str) -> bool:
        """Whether a log may contain a text; raises ThreadNotFound."""
        return await self._db.read(lambda db: rows.may_mention(db, thread_id, text))

    async def close(self) -> None:
        """Finish what was taken, close the database; idempotent."""
        await self._db.close()

    async def _once(self, request_id: str, work: Callable[[sqlite3.Connection], None]) -> None:
        """Carry a change out unless this very request was carried out before."""

        def once(db: sqlite3.Connection) -> None:
            query = "SELECT 1 FROM requests WHERE request_id = ?"
            if db.execute(query, (request_id,)).fetchone() is not None:
                return
            work(db)
            now = self._clock.now()
            db.execute("DELETE FROM requests WHERE at < ?", (now - REMEMBER_SECONDS,))
            if request_id:
                db.execute("INSERT INTO requests VALUES (?, ?)", (request_id, now))

        await self._db.write(once)
