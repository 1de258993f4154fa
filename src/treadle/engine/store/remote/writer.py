"""The one writer of a thread that a server keeps.

Appends go into a bounded buffer; `flush` sends them in numbered batches and returns once the server
has them on disk. A batch whose answer was lost is sent again under its number, now or with the next
flush, and stored once.
"""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from treadle.domain import history
from treadle.domain.records import ThreadCreated, ThreadRecord
from treadle.engine.store.metadata import fresh_info
from treadle.engine.store.remote import thread_store_pb2 as pb
from treadle.engine.store.remote.codec import encode_record
from treadle.engine.store.remote.link import Link
from treadle.engine.store.remote.methods import MAX_RECORD_BYTES, portions
from treadle.engine.store.thread_store import StorageFailed, StoreError, WriterConflict
from treadle.kit.clock import Clock

MAX_BUFFERED_BYTES = 256 << 20
"""What a writer holds while its server is away; then appends are refused."""
GOODBYE_SECONDS = 1.0


class RemoteThreadWriter:
    """Writes one thread; made by the store."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        lease: pb.LeaseKey,
        created: ThreadCreated | None,
        released: Callable[["RemoteThreadWriter"], None],
    ) -> None:
        """Prepare to write.

        Args:
            link: the connection.
            clock: stamps what carries no time of its own.
            lease: the right to write.
            created: the record that a new thread begins with; None for a stored thread.
            released: told once, after the writer gave up its lease.
        """
        self.lease = lease
        self._link = link
        self._clock = clock
        self._created = created
        self._info = b""
        self._released = released
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._preview = ""
        self._updated_at = 0.0
        self._sequence = 0
        self._unanswered: pb.AppendRequest | None = None
        self._sending = asyncio.Lock()
        self._leaving = asyncio.Lock()
        self._lost: str | None = None
        self._closed = False

    @property
    def thread_id(self) -> str:
        """Whose log it is."""
        return self.lease.thread_id

    @property
    def path(self) -> None:
        """None: the log is no file here."""
        return

    @property
    def materialized(self) -> bool:
        """Whether anything of the thread was appended yet."""
        return self._created is None

    @property
    def waiting(self) -> bool:
        """Whether something was accepted that the server has not confirmed."""
        return bool(self._buffer) or self._unanswered is not None

    def lose(self, reason: str) -> None:
        """Take note that the lease went to somebody else: nothing is written from here on."""
        self._lost = reason
        self._buffer, self._buffered_bytes, self._unanswered = [], 0, None

    def append(self, records: list[ThreadRecord]) -> None:
        """Take records; see `ThreadWriter.append`."""
        if self._closed:
            raise StorageFailed(f"the writer of thread {self.thread_id} is closed")
        self._check_lease()
        if not records:
            return
        if self._created is not None and not isinstance(records[0], ThreadCreated):
            records = [self._created, *records]
        bodies = [encode_record(record) for record in records]
        size = sum(map(len, bodies))
        if self._buffered_bytes + size > MAX_BUFFERED_BYTES:
            raise StorageFailed(
                f"thread {self.thread_id}: the thread store does not keep up; flush before more"
            )
        if max(map(len, bodies)) > MAX_RECORD_BYTES:
            raise StorageFailed(
                f"thread {self.thread_id}: a record is larger than {MAX_RECORD_BYTES} bytes"
            )
        if self._created is not None:
            self._info = msgspec.json.encode(fresh_info(self._created, self._clock.now(), None))
            self._created = None
        self._buffer += bodies
        self._buffered_bytes += size
        self._preview = self._preview or history.preview(records)
        self._updated_at = max(self._updated_at, records[-1].at or self._clock.now())

    async def flush(self) -> None:
        """Return once everything accepted is on the server's disk; see `ThreadWriter.flush`."""
        self._check_lease()
        async with self._sending:
            while self.waiting:
                await self._send(self._unanswered or self._next_batch())
            self._check_lease()

    async def close(self) -> None:
        """Flush, release the lease; idempotent. The lease goes even when the flush fails."""
        async with self._leaving:  # who closes second returns when the lease is given up
            if self._closed:
                return
            try:
                if self._lost is None:
                    await self.flush()
            finally:
                self._closed = True
                with contextlib.suppress(StoreError):  # it lapses by itself
                    await self._link.call("Release", self.lease, patience_seconds=GOODBYE_SECONDS)
                self._released(self)

    def _check_lease(self) -> None:
        if self._lost is not None:
            raise WriterConflict(self._lost)

    def _next_batch(self) -> pb.AppendRequest:
        bodies = next(portions(self._buffer))
        self._buffer = self._buffer[len(bodies) :]
        self._buffered_bytes -= sum(map(len, bodies))
        self._sequence += 1
        self._unanswered = pb.AppendRequest(
            lease=self.lease,
            sequence=self._sequence,
            records=bodies,
            info=self._info,
            preview=self._preview,
            updated_at=self._updated_at,
        )
        return self._unanswered

    async def _send(self, batch: pb.AppendRequest) -> None:
        try:
            await self._link.call("Append", batch, thread_id=self.thread_id)
        except WriterConflict as error:
            self.lose(str(error))
            raise
        self._info = b""
        self._unanswered = None
