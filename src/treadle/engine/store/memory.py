"""Threads in memory: nothing on disk, gone with the process.

For tests, ephemeral threads and hosts that persist elsewhere. Counts its calls, so that a test can
tell that a thread's records really went through the store.
"""

from collections import Counter
from typing import ClassVar

import msgspec

from treadle.domain import history
from treadle.domain.records import ThreadCreated, ThreadRecord, TurnsDropped
from treadle.engine.store.listing import levels, page_of
from treadle.engine.store.metadata import apply_patch, fresh_info
from treadle.engine.store.thread_store import (
    StorageFailed,
    ThreadInfo,
    ThreadIsArchived,
    ThreadNotFound,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    ThreadWriter,
    Unsupported,
    WriterConflict,
)
from treadle.kit.clock import Clock


class _Log:
    """One thread: its records, its metadata, who writes it."""

    def __init__(self, created: ThreadCreated, now: float) -> None:
        self.records: list[ThreadRecord] = []
        self.patched_preview = False
        self.writer: _MemoryWriter | None = None
        self.info: ThreadInfo = fresh_info(created, now, None)


class _MemoryWriter:
    """The writer of one thread in memory."""

    def __init__(self, store: "InMemoryThreadStore", log: _Log) -> None:
        self._store = store
        self._log = log
        self._closed = False

    @property
    def path(self) -> str | None:
        return None

    @property
    def materialized(self) -> bool:
        return bool(self._log.records)

    def append(self, records: list[ThreadRecord]) -> None:
        if self._closed:
            raise StorageFailed(f"the writer of thread {self._log.info.thread_id} is closed")
        self._store.calls["append"] += 1
        self._store.add_records(self._log, records)

    async def flush(self) -> None:
        self._store.calls["flush"] += 1

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._store.calls["close"] += 1
            if self._log.writer is self:
                self._log.writer = None


class InMemoryThreadStore:
    """A ThreadStore without files; `calls` counts create, append, flush, open, read, ...

    Stores with a name are shared in the process: `for_id` gives the same one until `remove_id`.
    """

    _named: ClassVar[dict[str, "InMemoryThreadStore"]] = {}

    @classmethod
    def for_id(cls, store_id: str, clock: Clock) -> "InMemoryThreadStore":
        """The store of that name, made when first asked for; its threads outlive every engine."""
        return cls._named.setdefault(store_id, cls(clock))

    @classmethod
    def remove_id(cls, store_id: str) -> None:
        """Forget a named store and its threads; idempotent."""
        cls._named.pop(store_id, None)

    def __init__(self, clock: Clock) -> None:
        """Begin empty; `clock` stamps what carries no time of its own."""
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._logs: dict[str, _Log] = {}
        self._parents: dict[str, str] = {}

    @property
    def has_files(self) -> bool:
        """False: threads here have no path."""
        return False

    async def create(self, created: ThreadCreated) -> ThreadWriter:
        """Reserve a thread; it is listed and readable once something was appended."""
        self.calls["create"] += 1
        log = self._logs.get(created.thread_id)
        if log is not None and (log.records or log.writer is not None):
            raise WriterConflict(f"thread {created.thread_id} already exists")
        log = self._logs[created.thread_id] = _Log(created, self._clock.now())
        log.writer = _MemoryWriter(self, log)
        return log.writer

    async def open(self, thread_id: str) -> tuple[ThreadWriter, list[ThreadRecord]]:
        """Take the writer's place and read the log; see `ThreadStore.open`."""
        self.calls["open"] += 1
        log = self._stored(thread_id)
        if log.info.archived:
            raise ThreadIsArchived(thread_id)
        if log.writer is not None:
            raise WriterConflict(f"thread {thread_id} already has an active writer")
        log.writer = _MemoryWriter(self, log)
        return log.writer, list(log.records)

    async def read(self, thread_id: str) -> ThreadInfo:
        """Metadata of a stored thread; raises ThreadNotFound."""
        self.calls["read"] += 1
        return msgspec.structs.replace(self._stored(thread_id).info)

    async def read_records(self, thread_id: str) -> list[ThreadRecord]:
        """All records so far; raises ThreadNotFound."""
        self.calls["read_records"] += 1
        return list(self._stored(thread_id).records)

    async def list_threads(self, query: ThreadQuery) -> ThreadPage:
        """One page; see `ThreadStore.list_threads`."""
        self.calls["list_threads"] += 1
        stored = (log.info for log in self._logs.values() if log.records)
        page = page_of(stored, query)
        copies = [msgspec.structs.replace(info) for info in page.threads]
        return msgspec.structs.replace(page, threads=copies)

    async def update(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        """Apply a patch; raises ThreadNotFound."""
        self.calls["update"] += 1
        log = self._stored(thread_id)
        log.info = apply_patch(log.info, patch)
        log.patched_preview = log.patched_preview or patch.preview is not msgspec.UNSET
        return msgspec.structs.replace(log.info)

    async def archive(self, thread_id: str) -> None:
        """Mark as archived; raises ThreadNotFound, WriterConflict while it is open."""
        self.calls["archive"] += 1
        log = self._stored(thread_id)
        if log.info.archived:
            raise ThreadNotFound(thread_id)
        if log.writer is not None:
            raise WriterConflict(f"thread {thread_id} already has an active writer")
        log.info.archived = True

    async def unarchive(self, thread_id: str) -> ThreadInfo:
        """Bring back; raises ThreadNotFound when it is not archived."""
        self.calls["unarchive"] += 1
        log = self._logs.get(thread_id)
        if log is None or not log.info.archived:
            raise ThreadNotFound(thread_id, archived=True)
        log.info.archived = False
        log.info.updated_at = self._clock.now()
        return msgspec.structs.replace(log.info)

    async def delete(self, thread_id: str) -> None:
        """Forget a thread; raises ThreadNotFound, WriterConflict while it is open."""
        self.calls["delete"] += 1
        if self._stored(thread_id).writer is not None:
            raise WriterConflict(f"thread {thread_id} already has an active writer")
        del self._logs[thread_id]
        edges = self._parents.items()
        self._parents = {c: p for c, p in edges if thread_id not in (c, p)}

    async def adopt(self, path: str) -> str:
        """There are no files here."""
        raise Unsupported(f"threads in memory have no files; {path} cannot be opened")

    async def link(self, parent_id: str, child_id: str) -> None:
        """Remember a spawn edge."""
        self.calls["link"] += 1
        self._parents[child_id] = parent_id

    async def descendants(self, thread_id: str) -> list[str]:
        """All threads below this one, level by level."""
        edges = {
            log.info.thread_id: log.info.created.parent_thread_id for log in self._logs.values()
        } | self._parents
        children: dict[str, list[str]] = {}
        for child, parent in edges.items():
            children.setdefault(parent or "", []).append(child)
        return levels(thread_id, lambda parent: sorted(children.get(parent, ())))

    async def may_mention(self, thread_id: str, text: str) -> bool:
        """Always: reading is as quick as looking."""
        del text
        self._stored(thread_id)
        return True

    async def close(self) -> None:
        """Release all writers; what is stored stays readable. Idempotent."""
        self.calls["close_store"] += 1
        for log in self._logs.values():
            if log.writer is not None:
                await log.writer.close()

    def add_records(self, log: _Log, records: list[ThreadRecord]) -> None:
        """Store records of a log's writer."""
        if not records:
            return
        if not log.records and not isinstance(records[0], ThreadCreated):
            log.records.append(log.info.created)
        for record in records:
            if isinstance(record, TurnsDropped):
                log.records = history.drop_turns(log.records, record.num_turns)
            else:
                log.records.append(record)
        log.info.updated_at = max(log.info.updated_at, records[-1].at or self._clock.now())
        if not log.info.preview and not log.patched_preview:
            log.info.preview = history.preview(records)

    def _stored(self, thread_id: str) -> _Log:
        log = self._logs.get(thread_id)
        if log is None or not log.records:
            raise ThreadNotFound(thread_id)
        return log
