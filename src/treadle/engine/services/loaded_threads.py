"""Which threads are in memory, and which of them spawned which."""

from collections.abc import Iterator

from treadle.engine.services.loaded_thread import LoadedThread


class LoadedThreads:
    """The threads in memory, by id."""

    def __init__(self) -> None:
        self._threads: dict[str, LoadedThread] = {}
        self._children: dict[str, dict[str, LoadedThread]] = {}
        """By parent: the sub-agents in memory."""

    def __iter__(self) -> Iterator[LoadedThread]:
        return iter(self._threads.values())

    def add(self, thread: LoadedThread) -> None:
        """A thread is in memory now."""
        self._threads[thread.thread_id] = thread
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
