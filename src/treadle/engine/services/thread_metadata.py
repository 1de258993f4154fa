"""What a thread is called and marked with: name, git facts, memory mode, elicitation counter.

Works on loaded and stored threads alike. What a client sets on a thread that has no log yet is kept
until its first record, except a name, which makes the log begin.
"""

from collections.abc import Callable
from typing import Any

from treadle.domain.events import ThreadRenamed
from treadle.domain.threads import ThreadSummary
from treadle.engine.services.errors import Refused, ThreadNotFound, ThreadNotLoaded
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.threads import Threads
from treadle.engine.store.thread_store import ThreadInfo, ThreadPatch


class Metadata:
    """Names and marks threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def rename(self, thread_id: str, name: str) -> Callable[[], None]:
        """Name an active thread; returns what announces it.

        Raises:
            ThreadNotFound: there is no active thread of this id.
            Refused: the name is blank, or the thread ephemeral.
        """
        name = name.strip()
        if not name:
            raise Refused("thread name must not be empty")
        loaded = self._persistent(thread_id)
        if loaded is not None:
            self._threads.materialize(loaded)
        elif (await self._threads.store.read(thread_id)).archived:
            raise ThreadNotFound(thread_id)
        await self._patch(thread_id, ThreadPatch(name=name))
        event = ThreadRenamed(thread_id=thread_id, name=name)
        return lambda: self._threads.feed.publish(event)

    async def set_git(self, thread_id: str, changes: dict[str, str | None]) -> ThreadSummary:
        """Change git facts (`sha`, `branch`, `originUrl`; None clears one), archived or not.

        Raises:
            ThreadNotFound: there is no such thread. Refused: the thread is ephemeral.
        """
        loaded = self._persistent(thread_id)
        info = loaded.log.info if loaded else await self._threads.store.read(thread_id)
        known = info.git if info.git is not None else info.created.git or {}
        git: dict[str, Any] = {**known, **changes}
        info = await self._patch(thread_id, ThreadPatch(git=git))
        return self._threads.shown(info)

    async def set_memory_mode(self, thread_id: str, mode: str) -> None:
        """Whether the thread may feed memories; raises as `set_git`."""
        self._persistent(thread_id)
        await self._patch(thread_id, ThreadPatch(memory_mode=mode))

    def count_elicitation(self, thread_id: str, step: int) -> int:
        """Count questions that a client asks by itself up or down; how many are open now.

        Raises:
            ThreadNotLoaded: the thread is not in memory. Refused: there is none to count down.
        """
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        if thread.elicitations + step < 0:
            raise Refused("out-of-band elicitation count is already zero")
        thread.elicitations += step
        return thread.elicitations

    async def _patch(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        loaded = self._threads.get(thread_id)
        if loaded is None:
            return await self._threads.store.update(thread_id, patch)
        await loaded.log.change(patch)
        return loaded.log.info

    def _persistent(self, thread_id: str) -> LoadedThread | None:
        loaded = self._threads.get(thread_id)
        if loaded is not None and loaded.ephemeral:
            raise Refused(f"ephemeral thread does not support metadata updates: {thread_id}")
        return loaded
