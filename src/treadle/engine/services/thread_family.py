"""Archiving, bringing back and deleting threads, together with all that they spawned.

The named thread must succeed; a descendant that is missing is passed over and one that fails is
logged and left (seed 001). Watchers hear an archived parent first and then its descendants from the
deepest up; of deleted threads they hear the deepest first and the parent last.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from treadle.domain.events import ThreadArchived, ThreadDeleted, ThreadEvent, ThreadUnarchived
from treadle.domain.threads import ThreadSummary
from treadle.engine.services.errors import Refused, ThreadNotFound
from treadle.engine.services.loaded_thread import summarise
from treadle.engine.services.threads import Threads
from treadle.engine.store.thread_store import StoreError

logger = logging.getLogger(__name__)

Announce = Callable[[], None]
"""Tells watchers what was done; to be called once the asker has its answer."""


class Families:
    """What is done to a thread and its descendants alike."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def archive(self, thread_id: str) -> Announce:
        """Archive a thread and its descendants, closing those in memory.

        Raises:
            ThreadNotFound: it was never stored. WriterConflict: another process has it open.
        """
        loaded = self._threads.get(thread_id)
        if loaded is not None and (loaded.ephemeral or not loaded.log.materialized):
            raise ThreadNotFound(thread_id)
        below = await self._below(thread_id)
        await self._archive(thread_id)
        done = [thread_id, *await self._each(below, self._archive)]
        return lambda: self._tell([ThreadArchived(thread_id=each) for each in done])

    async def unarchive(self, thread_id: str) -> tuple[ThreadSummary, Announce]:
        """Bring a thread and its descendants back; raises ThreadNotFound."""
        info = await self._threads.store.unarchive(thread_id)
        below = await self._below(thread_id)
        done = [thread_id, *await self._each(below, self._unarchive)]
        events = [ThreadUnarchived(thread_id=each) for each in done]
        return summarise(info), lambda: self._tell(events)

    async def delete(self, thread_id: str) -> Announce:
        """Delete a thread and its descendants for good.

        Raises:
            ThreadNotFound: there is none.
            WriterConflict: another process has it open, or a fork's log builds upon it.
            Refused: it is ephemeral.
        """
        loaded = self._threads.get(thread_id)
        if loaded is not None and loaded.ephemeral:
            raise Refused(f"thread is not persisted and cannot be deleted: {thread_id}")
        if loaded is not None and not loaded.log.materialized:
            await self._threads.unload(loaded)
            return lambda: self._tell([ThreadDeleted(thread_id=thread_id)])
        below = await self._below(thread_id)
        # On disk the parent goes first: if it cannot, nothing of its family was touched.
        await self._delete(thread_id)
        done = [*await self._each(below, self._delete), thread_id]
        return lambda: self._tell([ThreadDeleted(thread_id=each) for each in done])

    async def _below(self, thread_id: str) -> list[str]:
        """The descendants, deepest first."""
        return (await self._threads.store.descendants(thread_id))[::-1]

    async def _archive(self, thread_id: str) -> None:
        await self._close(thread_id)
        await self._threads.store.archive(thread_id)

    async def _unarchive(self, thread_id: str) -> None:
        await self._threads.store.unarchive(thread_id)

    async def _delete(self, thread_id: str) -> None:
        await self._close(thread_id)
        await self._threads.store.delete(thread_id)

    async def _close(self, thread_id: str) -> None:
        loaded = self._threads.get(thread_id)
        if loaded is not None:
            await self._threads.unload(loaded)
        self._threads.forget(thread_id, closed=False)

    async def _each(
        self, thread_ids: list[str], deed: Callable[[str], Awaitable[None]]
    ) -> list[str]:
        """Those for which the deed was done."""
        done: list[str] = []
        for thread_id in thread_ids:
            try:
                await deed(thread_id)
            except ThreadNotFound:
                continue
            except StoreError:
                logger.warning("descendant %s was left as it is", thread_id, exc_info=True)
                continue
            done.append(thread_id)
        return done

    def _tell(self, events: Sequence[ThreadEvent]) -> None:
        for event in events:
            self._threads.feed.publish(event)
