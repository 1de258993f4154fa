"""Threads as rollout files below a home folder, the same that Codex keeps.

Ties files, lines, ownership and the index together into a ThreadStore. Nothing exists on disk
before a thread's first append. Blocking work runs in one worker thread.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from treadle.domain.records import ThreadCreated, ThreadRecord
from treadle.engine.store.local.catalog import Catalog
from treadle.engine.store.local.codec import LineReader
from treadle.engine.store.local.head_scan import info_of, scan_head
from treadle.engine.store.local.ownership import LEASE_SECONDS, Lease, acquire
from treadle.engine.store.local.rollout_files import (
    detach,
    lineage,
    mentions,
    new_path,
    unpack,
)
from treadle.engine.store.local.writer import LocalThreadWriter, Target
from treadle.engine.store.metadata import apply_patch
from treadle.engine.store.thread_store import (
    StorageFailed,
    StoreError,
    ThreadInfo,
    ThreadIsArchived,
    ThreadNotFound,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    ThreadWriter,
    WriterConflict,
)
from treadle.kit.clock import Clock
from treadle.kit.tasks import TaskScope

T = TypeVar("T")


class LocalThreadStore:
    """A ThreadStore of files; every promise of the port holds across processes."""

    def __init__(
        self,
        home: Path,
        clock: Clock,
        *,
        default_provider: str = "",
        sync: bool = False,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Serve the threads below `home`.

        Args:
            home: the folder that holds `sessions` and `archived_sessions`.
            clock: stamps ownership and what carries no time of its own.
            default_provider: what a thread counts as that names no model provider.
            sync: wait for the disk in every flush; off, a flush survives the process alone.
            lease_seconds: how long a writer may be silent before another process may replace it.
        """
        self._home = home
        self._clock = clock
        self._sync = sync
        self._lease_seconds = lease_seconds
        self._scope = TaskScope("thread store")
        self._renewing = False
        self._writers: dict[str, LocalThreadWriter] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="treadle-store")
        self._catalog = Catalog(home, clock, default_provider)
        self._outside: dict[str, ThreadInfo] = {}
        """Threads whose logs lie elsewhere, by the files that were adopted."""
        self._closed = False

    @property
    def has_files(self) -> bool:
        """True: every thread has a path."""
        return True

    async def create(self, created: ThreadCreated) -> ThreadWriter:
        """Reserve a thread and its path; see `ThreadStore.create`."""
        thread_id = created.thread_id
        if thread_id in self._writers:
            raise WriterConflict(f"thread {thread_id} already has an active writer")
        paginated = created.history_mode == "paginated"
        writer = LocalThreadWriter(
            thread_id=thread_id,
            target=Target(
                path=new_path(self._home, thread_id, created.at or self._clock.now()),
                next_ordinal=0 if paginated else None,
                created=created,
            ),
            acquire=lambda: self._lease_here(thread_id),
            released=self._forget,
            sync=self._sync,
        )
        self._writers[thread_id] = writer
        return writer

    async def open(self, thread_id: str) -> tuple[ThreadWriter, list[ThreadRecord]]:
        """Take ownership and read the log; see `ThreadStore.open`."""
        writing = self._writers.get(thread_id)
        if writing is not None:
            if not writing.materialized:
                raise ThreadNotFound(thread_id)
            raise WriterConflict(f"thread {thread_id} already has an active writer")
        lease: Lease | None = None
        try:
            await self._run(lambda: self._check_active(thread_id))
            lease = held = self._lease(thread_id)
            path, reader = await self._run(lambda: self._load_for_writing(thread_id, held))
        except BaseException:
            if lease is not None:
                lease.release()
            raise
        if thread_id in self._writers:
            lease.release()
            raise WriterConflict(f"thread {thread_id} already has an active writer")
        self._keep_renewing()
        writer = LocalThreadWriter(
            thread_id=thread_id,
            target=Target(path=path, next_ordinal=reader.next_ordinal),
            acquire=lambda: held,
            released=self._forget,
            sync=self._sync,
        )
        self._writers[thread_id] = writer
        return writer, reader.finish()

    async def read(self, thread_id: str) -> ThreadInfo:
        """Metadata of a stored thread, archived ones included; raises ThreadNotFound."""
        self._show(thread_id)
        return await self._run(lambda: self._find(thread_id))

    async def read_records(self, thread_id: str) -> list[ThreadRecord]:
        """The whole log without taking ownership; raises ThreadNotFound, StorageFailed."""
        self._show(thread_id)
        _, reader = await self._run(lambda: self._load(thread_id))
        return reader.finish()

    async def list_threads(self, query: ThreadQuery) -> ThreadPage:
        """One page of stored threads that have a preview; raises InvalidQuery."""
        for thread_id in self._writers:
            self._show(thread_id)
        live = [writer.thread_id for writer in self._writers.values() if writer.materialized]
        return await self._run(lambda: self._catalog.page(query, live))

    async def update(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        """Change metadata; raises ThreadNotFound when nothing is stored under this id."""
        self._show(thread_id)
        outside = self._outside.get(thread_id)
        if outside is not None:
            self._outside[thread_id] = changed = apply_patch(outside, patch)
            return changed
        live = thread_id in self._writers
        return await self._run(lambda: self._catalog.update(thread_id, patch, live=live))

    async def archive(self, thread_id: str) -> None:
        """Move the thread's files to the archive; raises ThreadNotFound, WriterConflict."""
        if thread_id in self._writers:
            raise WriterConflict(f"thread {thread_id} is open here; close it before archiving")
        await self._run(lambda: self._exclusively(thread_id, self._catalog.archive))

    async def unarchive(self, thread_id: str) -> ThreadInfo:
        """Move the files back to their dated folder; raises ThreadNotFound."""
        return await self._run(lambda: self._exclusively(thread_id, self._catalog.unarchive))

    async def delete(self, thread_id: str) -> None:
        """Remove files, metadata, name and edges; see `ThreadStore.delete`."""
        if thread_id in self._writers:
            raise WriterConflict(f"thread {thread_id} is open here; close it before deleting")
        await self._run(lambda: self._exclusively(thread_id, self._catalog.delete))

    def fill_index(self) -> None:
        """Begin to read files that the index does not know, beside everything else.

        Lists need not wait for it: they read what is left themselves.
        """
        self._scope.start(self._fill(), "fill index")

    async def _fill(self) -> None:
        with contextlib.suppress(StoreError):
            while await self._run(self._catalog.fill):
                pass

    async def free(self, thread_id: str) -> None:
        """Take a thread away from whoever writes it, alive or not; raises ThreadNotFound."""
        writing = self._writers.get(thread_id)
        if writing is not None:
            await writing.close()
        await self._run(lambda: self._exclusively(thread_id, _nothing, force=True))

    async def adopt(self, path: str) -> str:
        """Make a rollout file known, wherever it lies; see `ThreadStore.adopt`."""
        return await self._run(lambda: self._adopt(os.path.abspath(path)))

    async def link(self, parent_id: str, child_id: str) -> None:
        """Remember a spawn edge; see `ThreadStore.link`."""
        await self._run(lambda: self._catalog.link(parent_id, child_id))

    async def descendants(self, thread_id: str) -> list[str]:
        """All threads below this one; see `ThreadStore.descendants`."""
        return await self._run(lambda: self._catalog.descendants(thread_id))

    async def may_mention(self, thread_id: str, text: str) -> bool:
        """Look through the raw file; raises ThreadNotFound."""
        self._show(thread_id)
        return await self._run(lambda: mentions(Path(self._find(thread_id).path or ""), text))

    async def close(self) -> None:
        """Flush and release everything; idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            for writer in list(self._writers.values()):
                await writer.close()
        finally:
            await self._scope.close()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._worker, self._catalog.close)
            self._worker.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise StorageFailed("the thread store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _show(self, thread_id: str) -> None:
        """Let readers see what was appended here and is not flushed yet."""
        writer = self._writers.get(thread_id)
        if writer is not None:
            writer.write_out()

    def _check_active(self, thread_id: str) -> None:
        if self._find(thread_id).archived:
            raise ThreadIsArchived(thread_id)

    def _find(self, thread_id: str) -> ThreadInfo:
        return self._outside.get(thread_id) or self._catalog.find(thread_id)

    def _adopt(self, path: str) -> str:
        if not os.path.isfile(path):
            raise ThreadNotFound(path)
        head = scan_head(self._home, path)
        if head is None:
            raise StorageFailed(f"rollout at {path} has no readable head")
        thread_id = head.created.thread_id
        try:
            known = self._catalog.find(thread_id).path
        except ThreadNotFound:
            known = None
        if thread_id in self._writers:
            return thread_id  # what its writer knows is newer
        if known is None or not os.path.samefile(known, path):
            self._outside[thread_id] = info_of(head, path, os.stat(path).st_mtime)
        return thread_id

    def _lease(self, thread_id: str, *, force: bool = False) -> Lease:
        seconds = self._lease_seconds
        return acquire(self._home, thread_id, self._clock, lease_seconds=seconds, force=force)

    def _lease_here(self, thread_id: str) -> Lease:
        lease = self._lease(thread_id)
        self._keep_renewing()
        return lease

    def _keep_renewing(self) -> None:
        if not self._renewing:
            self._renewing = True
            self._scope.start(self._renew(), "renew leases")

    async def _renew(self) -> None:
        try:
            while self._writers:
                await asyncio.sleep(self._lease_seconds / 3)
                for writer in self._writers.values():
                    writer.renew()
        finally:
            self._renewing = False

    def _exclusively(self, thread_id: str, work: Callable[[str], T], *, force: bool = False) -> T:
        self._catalog.find(thread_id)
        lease = self._lease(thread_id, force=force)
        try:
            if lease.taken_over:
                self._detach(thread_id)
            return work(thread_id)
        finally:
            lease.release()

    def _detach(self, thread_id: str) -> None:
        """Let what the thread's former writer still has open be no part of its log."""
        outside = self._outside.get(thread_id)
        known = [outside.path or ""] if outside else self._catalog.paths_of(thread_id)
        for path in known:
            detach(Path(path))

    def _forget(self, writer: LocalThreadWriter) -> None:
        if self._writers.get(writer.thread_id) is writer:
            del self._writers[writer.thread_id]
            self._outside.pop(writer.thread_id, None)

    def _load(self, thread_id: str) -> tuple[Path, LineReader]:
        path = Path(self._find(thread_id).path or "")
        reader = LineReader()
        for part in lineage(self._home, path):
            reader.feed(part)
        if not any(isinstance(record, ThreadCreated) for record in reader.records[:1]):
            raise StorageFailed(f"rollout at {path} has no readable head")
        self._behead(thread_id, path, reader)
        return path, reader

    def _behead(self, thread_id: str, path: Path, reader: LineReader) -> None:
        """Begin a log that builds upon another thread's file with the thread's own head."""
        first = reader.records[0]
        if isinstance(first, ThreadCreated) and first.thread_id != thread_id:
            own = scan_head(self._home, str(path), ends=False)
            if own is not None:
                reader.records[0] = own.created

    def _load_for_writing(self, thread_id: str, lease: Lease) -> tuple[Path, LineReader]:
        if lease.taken_over:
            self._detach(thread_id)
        path, reader = self._load(thread_id)
        if path.suffix == ".zst":
            path = unpack(path)
        return path, reader


def _nothing(_thread_id: str) -> None:
    """All that is left to do with a thread that is only to be free."""
