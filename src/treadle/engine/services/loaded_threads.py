"""Which threads are in memory, which of them spawned which, and which only rest.

A thread at rest has left memory, and to whoever watches it it is loaded all the same.
"""

from collections.abc import Iterator

import msgspec

from treadle.domain.threads import ThreadSummary
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.planning import Overrides
from treadle.engine.services.thread_opening import Client


class Rested(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a thread at rest."""

    summary: ThreadSummary
    given: Overrides
    """What its client asked for and its log does not tell."""
    client: Client
    unload_delay_seconds: float


class LoadedThreads:
    """The threads in memory, by id."""

    def __init__(self) -> None:
        self._threads: dict[str, LoadedThread] = {}
        self._children: dict[str, dict[str, LoadedThread]] = {}
        """By parent: the sub-agents in memory."""
        self.resting: dict[str, Rested] = {}
        """By id: the threads at rest."""

    def __iter__(self) -> Iterator[LoadedThread]:
        return iter(self._threads.values())

    def __len__(self) -> int:
        """How many threads are in memory; those at rest are not."""
        return len(self._threads)

    def add(self, thread: LoadedThread) -> None:
        """A thread is in memory now."""
        self._threads[thread.thread_id] = thread
        self.resting.pop(thread.thread_id, None)
        above = thread.created.parent_thread_id
        if above is not None:
            self._children.setdefault(above, {})[thread.thread_id] = thread

    def remove(self, thread: LoadedThread) -> None:
        """It is no more."""
        self._threads.pop(thread.thread_id, None)
        above = thread.created.parent_thread_id or ""
        siblings = self._children.get(above)
        if siblings is not None:
            siblings.pop(thread.thread_id, None)
            if not siblings:
                del self._children[above]

    def get(self, thread_id: str) -> LoadedThread | None:
        """The thread, if it is in memory."""
        return self._threads.get(thread_id)

    def ids(self) -> list[str]:
        """Ids of what counts as loaded, those at rest included, oldest first."""
        return sorted((*self._threads, *self.resting))

    def summary(self, thread_id: str) -> ThreadSummary | None:
        """What counts as loaded, as clients see it; None for any other thread."""
        thread = self._threads.get(thread_id)
        if thread is not None:
            return thread.summary()
        rested = self.resting.get(thread_id)
        return msgspec.structs.replace(rested.summary) if rested is not None else None

    def parent(self, thread: LoadedThread) -> LoadedThread | None:
        """The thread that spawned this one, if it is in memory."""
        above = thread.created.parent_thread_id
        return self._threads.get(above) if above is not None else None

    def children(self, thread_id: str) -> list[LoadedThread]:
        """Those in memory that the thread spawned."""
        return list(self._children.get(thread_id, {}).values())

    def below(self, thread_id: str) -> list[str]:
        """Ids of all in memory that the thread and its sub-agents spawned."""
        found = [child.thread_id for child in self.children(thread_id)]
        return [*found, *(each for child in found for each in self.below(child))]

    def works(self, thread: LoadedThread) -> bool:
        """Whether a turn runs in the thread or in one of its sub-agents."""
        below = self.children(thread.thread_id)
        return thread.running is not None or any(self.works(child) for child in below)
