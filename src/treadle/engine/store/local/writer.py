"""The one writer of a thread's rollout file.

Appends keep their order. Lines reach the operating system at the end of the event loop's turn in
which they were appended, or with `flush`, whichever is first: a killed process loses nothing that
`flush` acknowledged. With `sync` on, `flush` also waits for the disk.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from treadle.domain.records import ThreadCreated, ThreadRecord
from treadle.engine.store.local.line_writer import LineWriter
from treadle.engine.store.local.ownership import Lease
from treadle.engine.store.local.rollout_files import Appender
from treadle.engine.store.thread_store import StorageFailed, WriterConflict


class Target(msgspec.Struct, kw_only=True, frozen=True):
    """The file to write.

    `created` is the record that a new file must begin with, None for a file that has its head;
    `next_ordinal` is None for a file whose lines carry no ordinals.
    """

    path: Path
    next_ordinal: int | None
    created: ThreadCreated | None = None


class LocalThreadWriter:
    """Writes one thread; made by the store."""

    def __init__(
        self,
        *,
        thread_id: str,
        target: Target,
        acquire: Callable[[], Lease],
        released: Callable[["LocalThreadWriter"], None],
        sync: bool,
    ) -> None:
        """Prepare to write.

        Args:
            thread_id: whose log it is.
            target: its file, there or not.
            acquire: takes the lease, at once for a stored thread, else with the first append.
            released: told once, after the writer gave up its lease.
            sync: whether `flush` waits for the disk as well.
        """
        self.thread_id = thread_id
        self._lines = LineWriter(thread_id, target.next_ordinal)
        self._file = Appender(target.path)
        self._created = target.created
        self._acquire = acquire
        self._released = released
        self._sync = sync
        self._lease = acquire() if target.created is None else None
        self._scheduled = False
        self._closed = False
        self._failure: StorageFailed | None = None
        self._lost: WriterConflict | None = None

    @property
    def path(self) -> str:
        """Where the log is or will be."""
        return str(self._file.path)

    @property
    def materialized(self) -> bool:
        """Whether anything of the thread is stored yet."""
        return self._created is None

    def append(self, records: list[ThreadRecord]) -> None:
        """Take records; see `ThreadWriter.append`."""
        if self._closed:
            raise StorageFailed(f"the writer of thread {self.thread_id} is closed")
        if self._lost is not None:
            raise self._lost
        if not records:
            return
        if self._lease is None:
            self._lease = self._acquire()
        if self._failure is not None:
            self.write_out()  # refuses while the medium does, before anything new is taken
        if self._created is not None:
            if not isinstance(records[0], ThreadCreated):
                records = [self._created, *records]
            self._created = None
        self._file.put(self._lines.encode(records))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write_soon)

    def write_out(self) -> None:
        """Hand everything accepted to the operating system, where readers see it."""
        if self._file.pending:
            self._check()
            self._file.write()
        self._failure = None

    async def flush(self) -> None:
        """Return once everything accepted is with the operating system, or on disk."""
        self.write_out()
        if self._sync and not self._closed:
            await asyncio.get_running_loop().run_in_executor(None, self._file.sync)
        # Whoever takes the thread copies its log afterwards: what was written while the lease was
        # ours is in the copy, what was written later is not, and is not acknowledged.
        self._check()

    def renew(self) -> None:
        """Show other processes that the writer is alive."""
        if self._lease is not None and self._lost is None:
            self._lease.renew()

    def _check(self) -> None:
        if self._lost is None and self._lease is not None and not self._closed:
            try:
                self._lease.check()
            except WriterConflict as error:
                self._lost = error
                self._file.discard()
        if self._lost is not None:
            raise self._lost

    async def close(self) -> None:
        """Flush, release the lease; idempotent. The lease goes even when the flush fails."""
        if self._closed:
            return
        try:
            if self._lost is None:
                await self.flush()
        finally:
            self._closed = True
            self._file.close()
            if self._lease is not None:
                self._lease.release()
            self._released(self)

    def _write_soon(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        try:
            self.write_out()
        except StorageFailed as error:
            self._failure = error  # the next append or flush tries again, and tells
        except WriterConflict:
            return  # told by the next append or flush
