"""Bounds how many threads are in memory: idle ones beyond the bound rest.

A thread may rest when its log tells all there is of it, and nobody works in it. To whoever watches
it it is loaded all the same; the next request about it brings it back, by the settings that it is
sealed with. Its numbers go on where they were.
"""

import asyncio
from collections import Counter, OrderedDict

from treadle.domain.events import StatusChanged, ThreadEvent, TurnFinished
from treadle.domain.records import SettingsApplied
from treadle.domain.threads import Idle, NotLoaded, SystemError
from treadle.engine.services.errors import (
    PlanRejected,
    Refused,
    StartFailed,
    StoreError,
    ThreadIsArchived,
    ThreadNotFound,
)
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.loaded_threads import Rested
from treadle.engine.services.planning import ThreadPlan
from treadle.engine.services.threads import Client, Threads

END_SECONDS = 5.0
"""How long a turn that has ended may take to be stored before its thread is looked at again."""

_LOOKS = 100
"""Threads that are looked at for one that may rest; those that may not are looked at last again."""


class Resting:
    """Decides which threads rest, and brings them back."""

    def __init__(self, threads: Threads, bound: int) -> None:
        """Keep at most `bound` threads in memory, as far as others may rest; 0 for any number."""
        self._threads = threads
        self._bound = bound
        self._used: OrderedDict[str, None] = OrderedDict()
        """Threads in memory, the one that was of use longest ago first."""
        self._held: Counter[str] = Counter()
        """By thread: requests that are about it just now."""
        self._due: dict[str, LoadedThread] = {}
        """Threads whose use is about to end, or has ended."""
        self._settling = False
        self._going: set[str] = set()
        self._coming: dict[str, asyncio.Task[Exception | None]] = {}
        if bound:
            threads.equip.append(self._came)
            threads.feed.listen(self)

    # ------------------------------------------------------------------ requests

    async def hold(self, thread_id: str) -> None:
        """Bring a thread back if it rests, and let it not rest until `release`.

        Raises:
            ThreadNotFound, ThreadIsArchived, WriterConflict, StorageFailed: it cannot come back;
                nothing is held.
            PlanRejected, StartFailed: the configuration makes no runnable thread any more.
        """
        self._held[thread_id] += 1
        try:
            if thread_id in self._going:
                await self._threads.closed(thread_id)
            if thread_id in self._threads.loaded.resting:
                await self._bring(thread_id)
        except BaseException:
            self.release(thread_id)
            raise
        if thread_id in self._used:
            self._used.move_to_end(thread_id)

    def release(self, thread_id: str) -> None:
        """A request that held the thread is over."""
        self._held[thread_id] -= 1
        if self._held[thread_id]:
            return
        del self._held[thread_id]
        thread = self._threads.get(thread_id)
        if self._bound and thread is not None:
            self._look(thread)

    async def _bring(self, thread_id: str) -> None:
        """Load a thread that rests, once for all who ask for it."""
        task = self._coming.get(thread_id)
        if task is None:
            work = self._load(thread_id, self._threads.loaded.resting[thread_id])
            task = self._coming[thread_id] = self._threads.scope.start(work, f"bring {thread_id}")
        # Whoever asks may go; what was begun is of use to the next one.
        await asyncio.wait((task,))
        failure = task.result()
        if failure is not None:
            raise failure

    async def _load(self, thread_id: str, rested: Rested) -> Exception | None:
        try:
            await self._threads.load(thread_id, rested.given, rested.client)
        except (ThreadNotFound, ThreadIsArchived) as error:
            self._threads.forget(thread_id, closed=True)
            return error
        except (StoreError, PlanRejected, Refused, StartFailed) as error:
            return error
        finally:
            del self._coming[thread_id]
        return None

    # ------------------------------------------------------------------ watchers

    def unwatched(self, thread_id: str) -> None:
        """The last watcher of a thread left: one at rest is closed after its grace period."""
        rested = self._threads.loaded.resting.get(thread_id)
        if rested is not None:
            self._threads.scope.start(self._close_later(thread_id, rested), f"close {thread_id}")

    async def _close_later(self, thread_id: str, rested: Rested) -> None:
        await asyncio.sleep(rested.unload_delay_seconds)
        current = self._threads.loaded.resting.get(thread_id)
        if current is rested and not self._threads.watched(thread_id):
            self._threads.forget(thread_id, closed=True)

    # ------------------------------------------------------------------ the bound

    def _came(self, thread: LoadedThread, plan: ThreadPlan) -> None:
        del plan
        self._used[thread.thread_id] = None
        self._look(thread)

    def hear(self, event: ThreadEvent, seq: int | None) -> None:
        """A turn's end may be what lets its thread rest."""
        del seq
        if type(event) is TurnFinished:
            thread = self._threads.get(event.thread_id)
            if thread is not None:
                self._look(thread)
        elif type(event) is StatusChanged and isinstance(event.status, NotLoaded):
            self._used.pop(event.thread_id, None)

    @property
    def has_room(self) -> bool:
        """Always: nothing is sent from here."""
        return True

    async def room(self) -> None:
        """Nothing to wait for."""

    def _look(self, thread: LoadedThread) -> None:
        """Look soon whether the bound is exceeded, once what `thread` is about is over."""
        if len(self._threads.loaded) < self._bound:
            return
        self._due[thread.thread_id] = thread
        if not self._settling:
            self._settling = True
            self._threads.scope.start(self._settle(), "rest threads")

    async def _settle(self) -> None:
        try:
            while self._due:
                thread = self._due.pop(next(iter(self._due)))
                if thread.running is None or thread.running.state.over:
                    await thread.scope.join(END_SECONDS)
                await self._rest_some()
        finally:
            self._settling = False

    async def _rest_some(self) -> None:
        """Let threads rest until the bound holds, or none is left that may."""
        for _ in range(len(self._used)):
            if len(self._threads.loaded) <= self._bound:
                return
            chosen = self._next()
            if chosen is None:
                return
            await self._rest(chosen)

    def _next(self) -> LoadedThread | None:
        """The thread that was of use longest ago among those that may rest."""
        for thread_id in list(self._used)[:_LOOKS]:
            thread = self._threads.get(thread_id)
            if thread is None:
                del self._used[thread_id]
            elif self._may_rest(thread):
                return thread
            else:
                self._used.move_to_end(thread_id)
        return None

    async def _rest(self, thread: LoadedThread) -> None:
        thread_id, settings = thread.thread_id, thread.agent.settings
        try:
            if settings != thread.log.info.settings:
                # Changed for the next turn, which alone would seal them.
                now = self._threads.clock.now()
                thread.log.append([SettingsApplied(at=now, settings=settings)])
            await thread.log.flush()
        except StoreError:
            self._used.move_to_end(thread_id)
            return
        if thread.given is None or not self._may_rest(thread):
            return
        rested = Rested(
            summary=thread.summary(),
            given=thread.given.unsealed(),
            client=Client(thread.agent.originator, thread.agent.user_agent),
            unload_delay_seconds=thread.unload_delay_seconds,
        )
        self._used.pop(thread_id, None)
        self._going.add(thread_id)
        try:
            await self._threads.set_aside(thread, rested)
        finally:
            self._going.discard(thread_id)
        if not self._threads.watched(thread_id):
            self.unwatched(thread_id)

    def _may_rest(self, thread: LoadedThread) -> bool:
        busy = thread.running is not None or len(thread.scope) or thread.closing
        idle = isinstance(thread.status, Idle | SystemError) and not thread.elicitations
        return (
            not busy
            and idle
            and thread.thread_id not in self._held
            and self._threads.watched(thread.thread_id)
            and _is_told(thread)
            and _is_alone(thread, self._threads)
            and not self._threads.plan_of(thread.thread_id).remembers()
        )


def _is_told(thread: LoadedThread) -> bool:
    """Whether the thread's log tells all there is of it, and nothing that is still to be done."""
    log = thread.log
    stored = thread.given is not None and log.materialized and not thread.ephemeral
    waiting = log.inbox.submissions or log.approvals.pending or log.on_model_item is not None
    return stored and not waiting and not thread.agent.overflow and thread.limits.unlimited


def _is_alone(thread: LoadedThread, threads: Threads) -> bool:
    """Whether no other thread in memory belongs to its family, and none that it spawned is open."""
    family = threads.loaded.parent(thread) or threads.loaded.children(thread.thread_id)
    return not family and not thread.log.agents.ids
