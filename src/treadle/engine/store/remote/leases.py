"""Who may write a thread: leases that their holders keep alive, and epochs that fence the others.

A lease outlives the server: its row is durable, its deadline starts anew with the server. A batch
is taken while its epoch is the thread's latest, even past the deadline: only a successor ends it.
Runs on the database's writing thread alone.
"""

import sqlite3
from typing import NamedTuple

from treadle.engine.store.thread_store import StorageFailed, WriterConflict
from treadle.kit.clock import Clock, iso_millis


class Holder(NamedTuple):
    """Who asks for a lease; `key` is made anew for each writer, the rest is for people."""

    key: str
    owner: str
    host: str


class LeaseKey(NamedTuple):
    """What proves a lease."""

    thread_id: str
    key: str
    epoch: int


class _Row(NamedTuple):
    key: str
    owner: str
    host: str
    since: float
    epoch: int
    sequence: int


class Leases:
    """The leases of one database."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """Leases last `seconds` without a word from their holder; stored ones begin anew now."""
        self.seconds = seconds
        self._clock = clock
        self._first_deadline = clock.monotonic() + seconds
        self._deadlines: dict[str, float] = {}

    def take(
        self, db: sqlite3.Connection, thread_id: str, holder: Holder, *, by_force: bool = False
    ) -> int:
        """Give the lease to a holder; its epoch. The same holder gets the same epoch again.

        Raises:
            WriterConflict: another holder is alive, and this is not by force.
        """
        row = self._row(db, thread_id)
        if row is not None and row.key == holder.key:
            self._hear(thread_id)
            return row.epoch
        if not by_force:
            self.require_free(db, thread_id)
        db.execute("UPDATE epochs SET last = last + 1")
        epoch = int(db.execute("SELECT last FROM epochs").fetchone()[0])
        db.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, 0)",
            (thread_id, *holder, self._clock.now(), epoch),
        )
        self._hear(thread_id)
        return epoch

    def require_free(self, db: sqlite3.Connection, thread_id: str) -> None:
        """Refuse while somebody writes the thread; raises WriterConflict."""
        row = self._row(db, thread_id)
        if row is not None and self._alive(thread_id):
            raise WriterConflict(
                f"thread {thread_id} already has an active writer ({self._told(row)}); it is free"
                f" {self.seconds:g} s after that one falls silent, or at once with"
                f" `treadle thread-store free {thread_id}`"
            )

    def advance(self, db: sqlite3.Connection, lease: LeaseKey, sequence: int) -> bool:
        """Count a batch; False when it is stored already.

        Raises:
            WriterConflict: the lease is lost.
            StorageFailed: batches are missing in between.
        """
        row = self._held(db, lease)
        self._hear(lease.thread_id)
        if sequence <= row.sequence:
            return False
        if sequence != row.sequence + 1:
            raise StorageFailed(f"batch {row.sequence + 1} is missing before batch {sequence}")
        db.execute(
            "UPDATE leases SET sequence = ? WHERE thread_id = ?", (sequence, lease.thread_id)
        )
        return True

    def renew(self, db: sqlite3.Connection, leases: list[LeaseKey]) -> list[tuple[str, str]]:
        """Keep leases; those that are lost, each with the reason."""
        lost: list[tuple[str, str]] = []
        for lease in leases:
            try:
                self._held(db, lease)
            except WriterConflict as error:
                lost.append((lease.thread_id, str(error)))
            else:
                self._hear(lease.thread_id)
        return lost

    def release(self, db: sqlite3.Connection, lease: LeaseKey) -> None:
        """Give a lease up; nothing happens when it is another's by now."""
        row = self._row(db, lease.thread_id)
        if row is not None and (row.key, row.epoch) == (lease.key, lease.epoch):
            self.drop(db, lease.thread_id)

    def drop(self, db: sqlite3.Connection, thread_id: str) -> None:
        """End the lease of a thread, whoever has it: what that one sends later is refused."""
        db.execute("DELETE FROM leases WHERE thread_id = ?", (thread_id,))
        self._deadlines.pop(thread_id, None)

    def _held(self, db: sqlite3.Connection, lease: LeaseKey) -> _Row:
        row = self._row(db, lease.thread_id)
        if row is not None and (row.key, row.epoch) == (lease.key, lease.epoch):
            return row
        successor = f"it went to {self._told(row)}" if row else "another process had the thread"
        raise WriterConflict(
            f"thread {lease.thread_id} has another writer by now ({successor});"
            " nothing more is written from here, resume the thread to go on"
        )

    def _row(self, db: sqlite3.Connection, thread_id: str) -> _Row | None:
        query = (
            "SELECT holder_key, owner, host, since, epoch, sequence FROM leases WHERE thread_id = ?"
        )
        row = db.execute(query, (thread_id,)).fetchone()
        return _Row(*row) if row else None

    def _alive(self, thread_id: str) -> bool:
        deadline = self._deadlines.get(thread_id, self._first_deadline)
        return self._clock.monotonic() < deadline

    def _hear(self, thread_id: str) -> None:
        self._deadlines[thread_id] = self._clock.monotonic() + self.seconds

    def _told(self, row: _Row) -> str:
        age = max(0, round(self._clock.now() - row.since))
        return f"{row.owner} on {row.host} since {iso_millis(row.since)}, {age} s ago"
