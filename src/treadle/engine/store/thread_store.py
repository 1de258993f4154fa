"""The port to durable threads: an append-only log per thread, and lists over them.

The store keeps facts in order and gives them back. It never infers what records mean: titles,
previews and status come as metadata patches from the live thread above. Three promises are told
apart: accepted (in the writer's hands), readable (a read in this process sees it) and durable (it
survives kill -9 of this process).
"""

from typing import Any, Protocol

import msgspec

from treadle.domain.policy import Settings
from treadle.domain.records import ThreadCreated, ThreadRecord


class StoreError(Exception):
    """Base of the store's closed error family."""


class ThreadNotFound(StoreError):
    """No such thread; ask `list_threads` for those there are."""

    def __init__(self, thread_id: str, *, archived: bool = False) -> None:
        noun = "archived rollout" if archived else "rollout"
        super().__init__(f"no {noun} found for thread id {thread_id}")
        self.thread_id = thread_id


class ThreadIsArchived(StoreError):
    """The thread is archived: unarchive it before writing."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(thread_id)
        self.thread_id = thread_id


class WriterConflict(StoreError):
    """Another process writes this thread; the text names who holds it and how to take over."""


class InvalidQuery(StoreError):
    """A cursor or filter makes no sense; the text says which."""


class Unsupported(StoreError):
    """This store does not offer the operation; the text names it."""


class StorageFailed(StoreError):
    """The medium failed (disk full, permission); the cause is the system's error."""


class ThreadInfo(msgspec.Struct, kw_only=True):
    """What lists know of a stored thread. Times are unix seconds (float)."""

    thread_id: str
    created: ThreadCreated
    path: str | None
    preview: str = ""
    name: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    recency_at: float = 0.0
    archived: bool = False
    model: str | None = None
    effort: str | None = None
    git: dict[str, Any] | None = None
    memory_mode: str | None = None
    settings: Settings | None = None
    tokens_used: int = 0


class ThreadPatch(msgspec.Struct, kw_only=True):
    """Metadata that changes; UNSET leaves a field alone."""

    preview: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType | None = msgspec.UNSET
    updated_at: float | msgspec.UnsetType = msgspec.UNSET
    recency_at: float | msgspec.UnsetType = msgspec.UNSET
    model: str | msgspec.UnsetType = msgspec.UNSET
    effort: str | msgspec.UnsetType | None = msgspec.UNSET
    git: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    memory_mode: str | msgspec.UnsetType = msgspec.UNSET
    settings: Settings | msgspec.UnsetType = msgspec.UNSET
    tokens_used: int | msgspec.UnsetType = msgspec.UNSET


class ThreadQuery(msgspec.Struct, kw_only=True, frozen=True):
    """A page of the thread list. Empty filters mean no filter."""

    limit: int = 25
    cursor: str | None = None
    sort_key: str = "created_at"
    """`created_at`, `updated_at` or `recency_at`."""
    descending: bool = True
    sources: tuple[str, ...] = ()
    """Kinds such as `cli`, `vscode`, `exec`, `appServer`, `custom`, `subAgent`, `unknown`."""
    model_providers: tuple[str, ...] = ()
    archived: bool = False
    cwds: tuple[str, ...] = ()
    search_term: str | None = None
    parent_thread_id: str | None = None
    ancestor_thread_id: str | None = None
    excluded_ids: tuple[str, ...] = ()


class ThreadPage(msgspec.Struct, kw_only=True, frozen=True):
    """One page: threads in the asked order, and cursors to go on in both directions."""

    threads: list[ThreadInfo]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class ThreadWriter(Protocol):
    """The one writer of a thread. Appends keep their order; nothing is written after `close`."""

    @property
    def path(self) -> str | None:
        """Where the log is or will be, for stores that have files."""
        ...

    @property
    def materialized(self) -> bool:
        """Whether anything of the thread is stored yet."""
        ...

    def append(self, records: list[ThreadRecord]) -> None:
        """Take records: accepted and in order on return, durable after the next `flush`.

        The first append materialises the thread, `ThreadCreated` first.

        Raises:
            WriterConflict: ownership was lost; nothing of this call is stored.
            StorageFailed: the medium refused.
        """
        ...

    async def flush(self) -> None:
        """Return once everything accepted is durable and readable (same errors as append)."""
        ...

    async def close(self) -> None:
        """Flush, release ownership; idempotent."""
        ...


class ThreadStore(Protocol):
    """All threads of one home."""

    @property
    def has_files(self) -> bool:
        """Whether threads have a path that clients may see."""
        ...

    async def create(self, created: ThreadCreated) -> ThreadWriter:
        """Reserve a new thread and its writer. Nothing is stored before the first append."""
        ...

    async def open(self, thread_id: str) -> tuple[ThreadWriter, list[ThreadRecord]]:
        """Take ownership of a stored thread and read its whole log.

        Raises:
            ThreadNotFound: nothing stored under this id.
            ThreadIsArchived: it must be unarchived first.
            WriterConflict: another process owns it.
            StorageFailed: the log cannot be read.
        """
        ...

    async def read(self, thread_id: str) -> ThreadInfo:
        """Metadata of a thread, archived ones included; raises ThreadNotFound."""
        ...

    async def read_records(self, thread_id: str) -> list[ThreadRecord]:
        """The whole log without taking ownership; raises ThreadNotFound, StorageFailed.

        Turns that a `TurnsDropped` took back are left out here and in `open`, and so is the record
        of that.
        """
        ...

    async def list_threads(self, query: ThreadQuery) -> ThreadPage:
        """One page; every thread once, in a total order. Raises InvalidQuery."""
        ...

    async def update(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        """Change metadata; raises ThreadNotFound when nothing is stored under this id."""
        ...

    async def archive(self, thread_id: str) -> None:
        """Move a thread out of the active ones; raises ThreadNotFound, WriterConflict."""
        ...

    async def unarchive(self, thread_id: str) -> ThreadInfo:
        """Bring it back; raises ThreadNotFound when it is not archived."""
        ...

    async def delete(self, thread_id: str) -> None:
        """Remove a thread for good, archived or not: log, metadata, name, spawn edges.

        Raises:
            ThreadNotFound: nothing is stored under this id.
            WriterConflict: somebody writes it, or another log builds upon it; nothing is removed.
        """
        ...

    async def adopt(self, path: str) -> str:
        """Make a log that lies elsewhere known by its id, while this store lives; returns the id.

        The log is continued where it lies and is in no list. A fork needs no more of a store than
        this and `create`: it is a thread of its own whose log begins with a copy of the records.

        Raises:
            ThreadNotFound: there is no log at this path.
            Unsupported: the store has no files.
        """
        ...

    async def link(self, parent_id: str, child_id: str) -> None:
        """Remember that a thread spawned another; neither has to be stored, a child has one parent.

        A child whose `ThreadCreated` names its parent needs no link.
        """
        ...

    async def descendants(self, thread_id: str) -> list[str]:
        """All threads that this one spawned, and theirs, level by level; stored or not."""
        ...

    async def may_mention(self, thread_id: str, text: str) -> bool:
        """Whether the log may contain `text` in any case; False only when it certainly does not."""
        ...

    async def close(self) -> None:
        """Flush and release everything; idempotent."""
        ...
