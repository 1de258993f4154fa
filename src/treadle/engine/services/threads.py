"""Threads from start to close: loading, reading, listing, archiving, unloading.

Owns which threads are in memory. Knows nothing of connections: whether somebody still watches a
thread is asked through `watched`, and told through `unwatched`.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from treadle.domain import history
from treadle.domain.events import (
    StatusChanged,
    ThreadArchived,
    ThreadBegan,
    ThreadClosed,
    ThreadEvent,
    ThreadUnarchived,
    Warned,
)
from treadle.domain.ids import ThreadId
from treadle.domain.policy import Settings
from treadle.domain.records import ModelItem, ThreadCreated, ThreadRecord, TurnEnded
from treadle.domain.threads import NotLoaded, ThreadSummary
from treadle.domain.turns import TokenUsage, Turn
from treadle.engine.agent import prompt
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.services.client_tools import check_client_tools, with_client_tools
from treadle.engine.services.errors import Refused, ThreadNotFound
from treadle.engine.services.feed import Feed
from treadle.engine.services.git_info import read_git_info
from treadle.engine.services.loaded_thread import LoadedThread, ThreadLog, summarise
from treadle.engine.services.planning import Overrides, Planner, ThreadPlan
from treadle.engine.store.thread_store import (
    ThreadInfo,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    ThreadStore,
    ThreadWriter,
)
from treadle.kit.clock import Clock
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope

STOP_TURN_SECONDS = 5.0
"""How long closing a thread waits for its interrupted turn."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: its name as the originator, and the user agent that providers see."""

    originator: str
    user_agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewThread:
    """What a client asks of a new thread."""

    overrides: Overrides
    client: Client
    ephemeral: bool = False
    thread_source: str | None = None
    dynamic_tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A thread in memory, its plan, and (after a resume) its turns."""

    thread: LoadedThread
    plan: ThreadPlan
    turns: list[Turn]


__all__ = ["Client", "NewThread", "Opened", "ThreadQuery", "Threads"]


class Threads:
    """All threads of one engine."""

    def __init__(  # noqa: PLR0913 - the parts an engine consists of
        self,
        store: ThreadStore,
        ephemeral_store: ThreadStore,
        planner: Planner,
        feed: Feed,
        clock: Clock,
        *,
        source: Any,
        version: str,
    ) -> None:
        """Serve threads of `store`; new ones are stamped with `source` and `version`."""
        self._store = store
        self._ephemeral = ephemeral_store
        self._planner = planner
        self._feed = feed
        self._clock = clock
        self._source = source
        self._version = version
        self._loaded: dict[str, LoadedThread] = {}
        self._plans: dict[str, ThreadPlan] = {}
        self._closing: dict[str, asyncio.Event] = {}
        self._scope = TaskScope("threads")
        self.watched: Callable[[str], bool] = lambda _thread_id: True

    # ------------------------------------------------------------------ opening

    async def start(self, new: NewThread) -> Opened:
        """Begin a thread; nothing is stored before its first turn.

        Raises:
            PlanRejected: the configuration makes no runnable thread.
            Refused: a tool of the client is badly declared.
        """
        check_client_tools(new.dynamic_tools)
        plan = self._planner.plan(new.overrides, None)
        thread_id, now = new_id(), self._clock.now()
        created = ThreadCreated(
            at=now,
            thread_id=thread_id,
            session_id=thread_id,
            cwd=plan.settings.cwd,
            originator=new.client.originator,
            cli_version=self._version,
            source=self._source,
            model_provider=plan.settings.model_provider,
            thread_source=new.thread_source,
            base_instructions=plan.base_instructions or prompt.BASE_INSTRUCTIONS,
            developer_instructions=plan.developer_instructions,
            dynamic_tools=new.dynamic_tools,
            git=read_git_info(plan.settings.cwd),
        )
        store = self._ephemeral if new.ephemeral else self._store
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
        thread = self._load(created, plan, log, new.client, ephemeral=new.ephemeral)
        return Opened(thread, plan, [])

    def announce_start(self, thread: LoadedThread) -> None:
        """Tell everybody of a new thread; call it once the asker has its answer."""
        self._feed.publish(ThreadBegan(thread_id=thread.thread_id, thread=thread.summary()))
        for text in self._plans[thread.thread_id].warnings:
            self._feed.publish(Warned(thread_id=thread.thread_id, message=text))

    async def resume(self, thread_id: str, overrides: Overrides, client: Client) -> Opened:
        """Load a stored thread, or join it where it is loaded already.

        Raises:
            ThreadNotFound, ThreadIsArchived, WriterConflict, StorageFailed: see the store.
            PlanRejected: the configuration makes no runnable thread.
        """
        await self._closed(thread_id)
        loaded = self._loaded.get(thread_id)
        if loaded is not None:
            if loaded.ephemeral or not loaded.log.materialized:
                raise ThreadNotFound(thread_id)
            return Opened(loaded, self._plans[thread_id], await self.turns(thread_id))
        writer, records = await self._store.open(thread_id)
        try:
            opened = await self._open(thread_id, writer, records, overrides, client)
        except BaseException:
            await writer.close()
            raise
        thread = opened.thread
        self._publish(StatusChanged(thread_id=thread.thread_id, status=thread.status))
        return opened

    async def _open(
        self,
        thread_id: str,
        writer: ThreadWriter,
        records: list[ThreadRecord],
        overrides: Overrides,
        client: Client,
    ) -> Opened:
        info = await self._store.read(thread_id)
        sealed = history.latest_settings(records)
        plan = self._planner.plan(overrides, sealed)
        log = ThreadLog(self._store, writer, info)
        turns = history.turns(records)
        mending = _mend(turns, self._clock.now())
        if mending:
            log.append(mending)
            await log.flush()
            records = [*records, *mending]
            turns = history.turns(records)
        thread = self._load(info.created, plan, log, client, ephemeral=False)
        thread.agent.context = history.model_context(records)
        thread.agent.told = sealed
        usage = history.latest_usage(records)
        thread.agent.usage = usage.total if usage else TokenUsage()
        return Opened(thread, plan, turns)

    def _load(
        self,
        created: ThreadCreated,
        plan: ThreadPlan,
        log: ThreadLog,
        client: Client,
        *,
        ephemeral: bool,
    ) -> LoadedThread:
        agent = AgentThread(
            thread_id=created.thread_id,
            session_id=created.session_id,
            originator=client.originator,
            user_agent=client.user_agent,
            settings=plan.settings,
            base_instructions=created.base_instructions or prompt.BASE_INSTRUCTIONS,
            surroundings=prompt.Surroundings(
                shell=plan.shell,
                date=time.strftime("%Y-%m-%d", time.localtime(self._clock.now())),
                timezone=plan.timezone,
                project_doc=plan.project_doc,
                developer_instructions=plan.developer_instructions,
            ),
            log=log,
            announcer=self._feed,
            model=plan.model,
            tools=with_client_tools(plan.tools, created.dynamic_tools),
            sandbox=plan.sandbox,
            env=plan.make_env(created.session_id, created.thread_id),
            clock=self._clock,
            traits=plan.traits,
        )
        thread = LoadedThread(
            agent,
            log,
            created,
            ephemeral=ephemeral,
            path=None if ephemeral else log.info.path,
            unload_delay_seconds=plan.unload_delay_seconds,
        )
        self._loaded[created.thread_id] = thread
        self._plans[created.thread_id] = plan
        return thread

    # ------------------------------------------------------------------ reading

    def get(self, thread_id: str) -> LoadedThread | None:
        """The thread, if it is in memory and not on its way out."""
        return self._loaded.get(thread_id)

    def loaded_ids(self) -> list[ThreadId]:
        """Ids of the threads in memory, oldest first."""
        return [ThreadId(thread_id) for thread_id in sorted(self._loaded)]

    async def read(self, thread_id: str) -> ThreadSummary:
        """A thread's summary, loaded or not, archived or not; raises ThreadNotFound."""
        loaded = self._loaded.get(thread_id)
        if loaded is not None:
            return loaded.summary()
        return summarise(await self._store.read(thread_id), status=NotLoaded())

    async def turns(self, thread_id: str) -> list[Turn]:
        """All turns of a thread with their items, the running one included.

        Raises:
            ThreadNotFound: nothing is stored under this id.
            Refused: the thread is ephemeral.
        """
        loaded = self._loaded.get(thread_id)
        if loaded is None:
            return history.turns(await self._store.read_records(thread_id))
        if loaded.ephemeral:
            raise Refused("ephemeral threads do not support includeTurns")
        if not loaded.log.materialized:
            return []
        await loaded.log.flush()
        turns = history.turns(await self._store.read_records(thread_id))
        running = loaded.running
        if running is not None and turns and turns[-1].id == running.state.turn_id:
            turns[-1].status = "inProgress"
        return turns

    async def page(self, query: ThreadQuery) -> tuple[list[ThreadSummary], ThreadPage]:
        """A page of the list, with live status where threads are loaded; raises InvalidQuery."""
        page = await self._store.list_threads(query)
        summaries: list[ThreadSummary] = []
        for info in page.threads:
            loaded = self._loaded.get(info.thread_id)
            summaries.append(loaded.summary() if loaded else summarise(info, status=NotLoaded()))
        return summaries, page

    # ------------------------------------------------------------------ changing

    async def apply(self, thread: LoadedThread, settings: Settings) -> None:
        """Make `settings` the thread's from its next turn on."""
        if settings.model != thread.agent.settings.model:
            thread.agent.traits = self._planner.traits(settings)
        thread.agent.settings = settings

    async def archive(self, thread_id: str) -> Callable[[], None]:
        """Archive a thread, closing it first; returns what announces it afterwards.

        Raises:
            ThreadNotFound: it was never stored. WriterConflict: another process has it open.
        """
        loaded = self._loaded.get(thread_id)
        if loaded is not None:
            if not loaded.log.materialized:
                raise ThreadNotFound(thread_id)
            await self._close(loaded, announce=False)
            self._publish(StatusChanged(thread_id=thread_id, status=NotLoaded()))
        await self._store.archive(thread_id)
        return lambda: self._publish(ThreadArchived(thread_id=thread_id))

    async def unarchive(self, thread_id: str) -> tuple[ThreadSummary, Callable[[], None]]:
        """Bring a thread back; returns it and what announces it afterwards."""
        info: ThreadInfo = await self._store.unarchive(thread_id)
        summary = summarise(info, status=NotLoaded())
        return summary, lambda: self._publish(ThreadUnarchived(thread_id=thread_id))

    async def rename(self, thread_id: str, name: str) -> None:
        """Give a stored thread a name."""
        await self._store.update(thread_id, ThreadPatch(name=name))

    # ------------------------------------------------------------------ closing

    def unwatched(self, thread_id: str) -> None:
        """The last watcher left: close the thread once it is idle (after its grace period)."""
        thread = self._loaded.get(thread_id)
        if thread is not None and thread.running is None:
            self._scope.start(self._unload_later(thread), f"unload {thread_id}")

    def turn_ended(self, thread: LoadedThread) -> None:
        """A turn is over: a thread that nobody watches is closed now."""
        if not self.watched(thread.thread_id):
            self.unwatched(thread.thread_id)

    async def _unload_later(self, thread: LoadedThread) -> None:
        if thread.unload_delay_seconds > 0:
            await asyncio.sleep(thread.unload_delay_seconds)
        current = self._loaded.get(thread.thread_id)
        if current is thread and thread.running is None and not self.watched(thread.thread_id):
            await self._close(thread, announce=True)

    async def _close(self, thread: LoadedThread, *, announce: bool) -> None:
        """Take a thread out of memory; whoever resumes it meanwhile waits for the end of this."""
        thread_id = thread.thread_id
        done = self._closing[thread_id] = asyncio.Event()
        try:
            if thread.running is not None:
                thread.running.interrupt()
                await thread.scope.join(STOP_TURN_SECONDS)
            await thread.scope.close()
            await self._plans[thread_id].close_tools()
            await thread.log.close()
        finally:
            self._loaded.pop(thread_id, None)
            self._plans.pop(thread_id, None)
            del self._closing[thread_id]
            done.set()
        if announce:
            self._publish(StatusChanged(thread_id=thread_id, status=NotLoaded()))
            self._publish(ThreadClosed(thread_id=thread_id))

    async def _closed(self, thread_id: str) -> None:
        closing = self._closing.get(thread_id)
        if closing is not None:
            async with asyncio.timeout(STOP_TURN_SECONDS * 2):
                await closing.wait()

    async def shutdown(self) -> None:
        """Interrupt what runs, close all threads and the store. Bounded."""
        running = [thread for thread in self._loaded.values() if thread.running]
        for thread in running:
            if thread.running is not None:
                thread.running.interrupt()
        for thread in running:
            await thread.scope.join(STOP_TURN_SECONDS)
        for thread in list(self._loaded.values()):
            await self._close(thread, announce=False)
        await self._scope.close()
        await self._store.close()

    @property
    def running_count(self) -> int:
        """How many turns run now."""
        return sum(thread.running is not None for thread in self._loaded.values())

    def _publish(self, event: ThreadEvent) -> None:
        self._feed.publish(event)


def _mend(turns: list[Turn], now: float) -> list[ThreadRecord]:
    """Records that close the turn which a killed process left open."""
    if not turns or turns[-1].completed_at is not None or turns[-1].status != "interrupted":
        return []
    turn = turns[-1]
    return [
        ModelItem(at=now, item=prompt.message("user", prompt.TURN_ABORTED), turn_id=turn.id),
        TurnEnded(
            at=now,
            turn_id=turn.id,
            status="interrupted",
            reason="recovery",
            started_at=turn.started_at,
            completed_at=int(now),
        ),
    ]
