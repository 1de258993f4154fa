"""Threads from start to close: loading, reading, listing, unloading.

Owns which threads are in memory. Knows nothing of connections: whether somebody still watches a
thread is asked through `watched`, and told through `unwatched`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from treadle.domain import history
from treadle.domain.approvals import WaitingTurn
from treadle.domain.event_log import count_events
from treadle.domain.events import (
    StatusChanged,
    ThreadBegan,
    ThreadClosed,
    ThreadRested,
    Warned,
)
from treadle.domain.ids import ThreadId
from treadle.domain.policy import Settings
from treadle.domain.records import (
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
)
from treadle.domain.threads import NotLoaded, ThreadSummary
from treadle.domain.turns import Turn
from treadle.engine.agent import prompt
from treadle.engine.services.client_tools import check_client_tools
from treadle.engine.services.errors import Refused, StartFailed, ThreadNotFound
from treadle.engine.services.feed import Feed
from treadle.engine.services.git_info import read_git_info
from treadle.engine.services.loaded_thread import LoadedThread, ThreadLog, summarise
from treadle.engine.services.loaded_threads import LoadedThreads, Rested
from treadle.engine.services.planning import Overrides, Planner, ThreadPlan
from treadle.engine.services.thread_loading import LoadingParts, load_thread
from treadle.engine.services.thread_opening import Client, NewThread, Opened, same_place
from treadle.engine.services.thread_restore import mend, raw_item, restore
from treadle.engine.services.thread_servers import open_servers, require_servers
from treadle.engine.store.thread_store import (
    ThreadInfo,
    ThreadPage,
    ThreadQuery,
    ThreadStore,
    ThreadWriter,
)
from treadle.engine.tools.mcp_servers import ThreadServers
from treadle.kit.clock import Clock
from treadle.kit.late import Late
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope

STOP_TURN_SECONDS = 5.0
"""How long closing a thread waits for its interrupted turn."""


__all__ = ["Client", "NewThread", "Opened", "ThreadQuery", "Threads"]


class Threads:
    """All threads of one engine."""

    def __init__(  # noqa: PLR0913 - the parts an engine consists of
        self,
        store: ThreadStore,
        ephemeral_store: Late[ThreadStore],
        planner: Planner,
        feed: Feed,
        clock: Clock,
        *,
        source: Any,
        version: str,
    ) -> None:
        """Serve threads of `store`; new ones are stamped with `source` and `version`."""
        self.store = store
        self._ephemeral = ephemeral_store
        self.planner = planner
        self.feed = feed
        self.clock = clock
        self._source = source
        self._version = version
        self.loaded = LoadedThreads()
        self._plans: dict[str, ThreadPlan] = {}
        self._closing: dict[str, asyncio.Event] = {}
        self.scope = TaskScope("threads")
        self.watched: Callable[[str], bool] = lambda _thread_id: True
        self.on_waiting: Callable[[LoadedThread, WaitingTurn], None] = lambda _thread, _turn: None
        """Goes on with a turn that the log of a thread just loaded leaves waiting for answers."""
        self.parks: Callable[[LoadedThread], bool] = lambda _thread: False
        """Whether a running turn can be left to a later process as it is."""
        self.on_answered: Callable[[], object] = lambda: None
        """Begins what threads want, but no answer may wait for."""
        self.equip: list[Callable[[LoadedThread, ThreadPlan], None]] = []
        """Adds what a thread just loaded gets besides its plan; called in order."""

    # ------------------------------------------------------------------ opening

    async def start(self, new: NewThread) -> Opened:
        """Begin a thread; nothing is stored before its first turn.

        Raises:
            PlanRejected: the configuration makes no runnable thread.
            Refused: a tool of the client is badly declared.
        """
        check_client_tools(new.dynamic_tools)
        plan = self.planner.plan(new.overrides, None)
        thread = await self.begin(
            plan,
            new.client,
            ephemeral=new.ephemeral,
            thread_source=new.thread_source,
            base_instructions=plan.base_instructions or prompt.BASE_INSTRUCTIONS,
            developer_instructions=plan.developer_instructions,
            dynamic_tools=new.dynamic_tools,
        )
        thread.given = new.overrides
        if new.raw_items:
            thread.log.on_model_item = lambda record: self.feed.publish(
                raw_item(thread.thread_id, record)
            )
        return Opened(thread, plan, [], last_seq=self.feed.position(thread.thread_id))

    async def begin(
        self, plan: ThreadPlan, client: Client, *, ephemeral: bool = False, **facts: Any
    ) -> LoadedThread:
        """Make a thread that runs by `plan`; `facts` are further fields of its first record."""
        thread_id, now = new_id(), self.clock.now()
        given: dict[str, Any] = {"session_id": thread_id, "source": self._source, **facts}
        created = ThreadCreated(
            at=now,
            thread_id=thread_id,
            cwd=plan.settings.cwd,
            originator=client.originator,
            cli_version=self._version,
            model_provider=plan.settings.model_provider,
            git=read_git_info(plan.settings.cwd),
            **given,
        )
        store = self._ephemeral() if ephemeral else self.store
        writer = await store.create(created)
        info = ThreadInfo(
            thread_id=thread_id,
            created=created,
            path=writer.path,
            created_at=now,
            updated_at=now,
            recency_at=now,
            settings=plan.settings,
        )
        log = ThreadLog(store, writer, info)
        thread = self._load(created, plan, log, client, ephemeral=ephemeral)
        await self._require_servers(thread, plan)
        return thread

    def announce_start(self, thread: LoadedThread) -> None:
        """Tell everybody of a new thread; call it once the asker has its answer."""
        self.feed.publish(ThreadBegan(thread_id=thread.thread_id, thread=thread.summary()))
        for text in self._plans[thread.thread_id].warnings:
            self.feed.publish(Warned(thread_id=thread.thread_id, message=text))
        self.answered(thread.thread_id)

    def answered(self, thread_id: str) -> None:
        """Whoever opened a thread has the answer: what waited for that may begin.

        The watchers are told how the thread's MCP servers start.
        """
        servers = self.servers(thread_id)
        if servers is not None:
            servers.announce()
        self.on_answered()

    async def resume(self, thread_id: str, overrides: Overrides, client: Client) -> Opened:
        """Load a stored thread, or join it where it is loaded already.

        Raises:
            ThreadNotFound, ThreadIsArchived, WriterConflict, StorageFailed: see the store.
            PlanRejected: the configuration makes no runnable thread.
        """
        await self.closed(thread_id)
        loaded = self.loaded.get(thread_id)
        if loaded is not None:
            if loaded.ephemeral or not loaded.log.materialized:
                raise ThreadNotFound(thread_id)
            last_seq = self.feed.position(thread_id)
            turns = await self.turns(thread_id)
            return Opened(loaded, self._plans[thread_id], turns, last_seq=last_seq)
        opened = await self.load(thread_id, overrides, client)
        self.feed.publish(StatusChanged(thread_id=thread_id, status=opened.thread.status))
        return msgspec.structs.replace(opened, last_seq=self.feed.position(thread_id))

    async def load(self, thread_id: str, overrides: Overrides, client: Client) -> Opened:
        """Load a stored thread that is not loaded, and tell nobody; raises as `resume`."""
        writer, records = await self.store.open(thread_id)
        try:
            return await self._open(thread_id, writer, records, overrides, client)
        except BaseException:
            await writer.close()
            raise

    async def adopt(self, path: str) -> str:
        """Make a log that lies anywhere known; the id to resume it by.

        Raises:
            ThreadNotFound, Unsupported: there is no such log, or the store has no files.
            Refused: the thread is loaded from another file.
        """
        thread_id = await self.store.adopt(path)
        loaded = self.loaded.get(thread_id)
        if loaded is not None and not same_place(loaded.path, path):
            raise Refused(f"cannot resume running thread {thread_id} with stale path")
        return thread_id

    async def _open(
        self,
        thread_id: str,
        writer: ThreadWriter,
        records: list[ThreadRecord],
        overrides: Overrides,
        client: Client,
    ) -> Opened:
        info = await self.store.read(thread_id)
        past = history.LogFold(records)
        sealed = past.settings
        plan = self.planner.plan(overrides, sealed)
        log = ThreadLog(self.store, writer, info)
        mending = mend(past, records, self.clock.now())
        if mending:
            log.append(mending)
            await log.flush()
            records = [*records, *mending]
            past.add(mending)
        # The store's lists leave out long texts: the log's own head has them.
        created = records[0] if isinstance(records[0], ThreadCreated) else info.created
        if overrides.base_instructions is not None:
            created = msgspec.structs.replace(
                created, base_instructions=overrides.base_instructions
            )
        thread = self._load(created, plan, log, client, ephemeral=False)
        warnings = plan.warnings
        if sealed is not None and sealed.model != plan.settings.model:
            text = (
                f"This thread was recorded with model `{sealed.model}` and goes on with "
                f"`{plan.settings.model}`, which may understand its history less well."
            )
            warnings = (*warnings, text)
        thread.given = overrides
        turns = restore(thread, records, past)
        self.feed.begin(thread_id, count_events(records))
        await self._require_servers(thread, plan)
        if past.waiting is not None:
            self.on_waiting(thread, past.waiting)
        return Opened(thread, plan, turns, past.usage, warnings)

    def _load(
        self,
        created: ThreadCreated,
        plan: ThreadPlan,
        log: ThreadLog,
        client: Client,
        *,
        ephemeral: bool,
    ) -> LoadedThread:
        parts = LoadingParts(self.feed, self.clock, client.originator, client.user_agent)
        thread = load_thread(created, plan, log, parts, ephemeral=ephemeral)
        for equip in self.equip:
            equip(thread, plan)
        self.loaded.add(thread)
        self._plans[created.thread_id] = plan
        self.feed.begin(created.thread_id, 0)
        open_servers(plan, created.thread_id, self.feed)
        return thread

    async def _require_servers(self, thread: LoadedThread, plan: ThreadPlan) -> None:
        try:
            await require_servers(plan)
        except StartFailed:
            await self._close(thread, announce=False)
            self.feed.end(thread.thread_id)
            raise

    # ------------------------------------------------------------------ reading

    def get(self, thread_id: str) -> LoadedThread | None:
        """The thread, if it is in memory and not on its way out."""
        return self.loaded.get(thread_id)

    def plan_of(self, thread_id: str) -> ThreadPlan:
        """What a thread in memory runs with."""
        return self._plans[thread_id]

    def servers(self, thread_id: str) -> ThreadServers | None:
        """The MCP servers of a thread in memory."""
        plan = self._plans.get(thread_id)
        return plan.mcp if plan is not None else None

    def loaded_ids(self) -> list[ThreadId]:
        """Ids of the threads that count as loaded, oldest first."""
        return [ThreadId(thread_id) for thread_id in self.loaded.ids()]

    async def read(self, thread_id: str) -> ThreadSummary:
        """A thread's summary, loaded or not, archived or not; raises ThreadNotFound."""
        return self.loaded.summary(thread_id) or summarise(await self.store.read(thread_id))

    def shown(self, info: ThreadInfo) -> ThreadSummary:
        """A stored thread as clients see it: with its live state where it counts as loaded."""
        return self.loaded.summary(info.thread_id) or summarise(info)

    async def turns(self, thread_id: str, what: str = "includeTurns") -> list[Turn]:
        """All turns of a thread with their items, the running one included.

        Raises:
            ThreadNotFound: nothing is stored under this id.
            Refused: the thread is ephemeral or has nothing stored yet; the text names `what`.
        """
        loaded = self.loaded.get(thread_id)
        if loaded is None:
            return history.turns(await self.store.read_records(thread_id))
        if loaded.ephemeral:
            raise Refused(f"ephemeral threads do not support {what}")
        if not loaded.log.materialized:
            raise Refused(
                f"thread {thread_id} is not materialized yet; "
                f"{what} is unavailable before first user message"
            )
        running = loaded.running.state.turn_id if loaded.running is not None else None
        return history.turns(await self.records(thread_id), running)

    async def records(self, thread_id: str) -> list[ThreadRecord]:
        """The log as it is now; raises ThreadNotFound while nothing is stored."""
        loaded = self.loaded.get(thread_id)
        if loaded is None:
            return await self.store.read_records(thread_id)
        if not loaded.log.materialized:
            raise ThreadNotFound(thread_id)
        await loaded.log.flush()
        return await (self._ephemeral() if loaded.ephemeral else self.store).read_records(thread_id)

    async def page(self, query: ThreadQuery) -> tuple[list[ThreadSummary], ThreadPage]:
        """A page of the list, with live status where threads are loaded; raises InvalidQuery."""
        page = await self.store.list_threads(query)
        return [self.shown(info) for info in page.threads], page

    # ------------------------------------------------------------------ changing

    async def apply(self, thread: LoadedThread, settings: Settings) -> None:
        """Make `settings` the thread's from its next turn on."""
        if settings.model != thread.agent.settings.model:
            thread.agent.traits = self.planner.traits(settings)
        thread.agent.settings = settings

    def materialize(self, thread: LoadedThread) -> None:
        """Make a thread's log begin, sealed with its settings, unless it has begun."""
        if not thread.log.materialized:
            settings = SettingsApplied(at=self.clock.now(), settings=thread.agent.settings)
            thread.log.append([settings])

    @contextlib.asynccontextmanager
    async def log_of(self, thread_id: str) -> AsyncGenerator[ThreadLog]:
        """The log of a thread, loaded or not, for a few records; durable afterwards.

        Raises:
            ThreadNotFound, ThreadIsArchived, WriterConflict: the thread cannot be written.
        """
        loaded = self.loaded.get(thread_id)
        if loaded is not None:
            self.materialize(loaded)
            yield loaded.log
            await loaded.log.flush()
            return
        writer, records = await self.store.open(thread_id)
        try:
            log = ThreadLog(self.store, writer, await self.store.read(thread_id))
            log.recall(records)
            yield log
        finally:
            await writer.close()

    # ------------------------------------------------------------------ closing

    def unwatched(self, thread_id: str) -> None:
        """The last watcher left: close the thread once it is idle (after its grace period).

        Sub-agents stay as long as their parent, and it as long as one of them works or is watched.
        """
        thread = self.loaded.get(thread_id)
        while thread is not None:
            if not self.loaded.works(thread) and not self._kept(thread):
                self.scope.start(self._unload_later(thread), f"unload {thread.thread_id}")
            thread = self.loaded.parent(thread)

    def turn_ended(self, thread: LoadedThread) -> None:
        """A turn is over: a thread that nobody watches is closed now."""
        self.unwatched(thread.thread_id)

    def _kept(self, thread: LoadedThread) -> bool:
        return self._seen(thread) or self.loaded.parent(thread) is not None

    def _seen(self, thread: LoadedThread) -> bool:
        """Whether somebody watches the thread or one of its sub-agents."""
        below = self.loaded.children(thread.thread_id)
        return self.watched(thread.thread_id) or any(self._seen(child) for child in below)

    async def _unload_later(self, thread: LoadedThread) -> None:
        if thread.unload_delay_seconds > 0:
            await asyncio.sleep(thread.unload_delay_seconds)
        current = self.loaded.get(thread.thread_id)
        if current is thread and not self.loaded.works(thread) and not self._kept(thread):
            await self._close(thread, announce=True)

    async def unload(self, thread: LoadedThread) -> None:
        """Take a thread out of memory, ending its turn; watchers learn that it is not loaded."""
        await self._close(thread, announce=False)
        self.feed.publish(StatusChanged(thread_id=thread.thread_id, status=NotLoaded()))
        self.feed.end(thread.thread_id)

    async def set_aside(self, thread: LoadedThread, rested: Rested) -> None:
        """Take a thread out of memory that counts as loaded all the same; nobody hears of it."""
        await self._close(thread, announce=False, rested=rested)
        self.feed.publish(ThreadRested(thread_id=thread.thread_id))

    def forget(self, thread_id: str, *, closed: bool) -> None:
        """A thread at rest counts as loaded no more; whether it was `closed` is told as well."""
        if self.loaded.resting.pop(thread_id, None) is not None:
            self.feed.publish(StatusChanged(thread_id=thread_id, status=NotLoaded()))
            if closed:
                self.feed.publish(ThreadClosed(thread_id=thread_id))
            self.feed.end(thread_id)

    async def _close(
        self, thread: LoadedThread, *, announce: bool, rested: Rested | None = None
    ) -> None:
        """Take a thread out of memory; whoever resumes it meanwhile waits for the end of this."""
        thread_id = thread.thread_id
        if thread_id in self._closing:
            # An unload and a shutdown meet: the second one waits for the first one's end.
            await self.closed(thread_id)
            return
        if self.loaded.get(thread_id) is not thread:
            return  # closed with its parent
        done = self._closing[thread_id] = asyncio.Event()
        thread.closing = True
        below = self.loaded.children(thread_id)
        try:
            for each in (thread, *below):
                if each.running is not None:
                    each.running.interrupt()
            for child in below:
                await self.unload(child)
            if thread.running is not None:
                await thread.scope.join(STOP_TURN_SECONDS)
            await thread.scope.close()
            await self._plans[thread_id].close_tools()
            await thread.log.close()
        finally:
            self.loaded.remove(thread)
            if rested is not None:
                self.loaded.resting[thread_id] = rested
            self._plans.pop(thread_id, None)
            del self._closing[thread_id]
            done.set()
        if announce:
            self.feed.publish(StatusChanged(thread_id=thread_id, status=NotLoaded()))
            self.feed.publish(ThreadClosed(thread_id=thread_id))
            self.feed.end(thread_id)

    async def closed(self, thread_id: str) -> None:
        """Wait for the end of a thread's way out of memory, if it is on it."""
        closing = self._closing.get(thread_id)
        if closing is not None:
            async with asyncio.timeout(STOP_TURN_SECONDS * 2):
                await closing.wait()

    async def shutdown(self) -> None:
        """Interrupt what runs, close all threads and the store. Bounded."""
        running = [thread for thread in self.loaded if thread.running]
        for thread in running:
            thread.closing = True
            if thread.running is not None:
                leave = thread.running.park if self.parks(thread) else thread.running.interrupt
                leave()
        for thread in running:
            await thread.scope.join(STOP_TURN_SECONDS)
        for thread in list(self.loaded):
            await self._close(thread, announce=False)
        self.loaded.resting.clear()
        await self.scope.close()
        await self.store.close()

    @property
    def running_count(self) -> int:
        """How many turns run now."""
        return sum(thread.running is not None for thread in self.loaded)
