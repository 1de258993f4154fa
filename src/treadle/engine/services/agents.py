"""Sub-agents: threads that agents spawn, each with a turn of its own beside its parent's.

Owns which agent may command which: a thread those below it. A child inherits settings, folder,
configuration and limits of its parent, leaves memory with it, and stops when it is interrupted;
its end is told to the parent's model. The parent's log says which children are open, so that a
resumed parent knows them.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter

import msgspec

from treadle.domain.agents import (
    NAMES,
    NOT_FOUND,
    PENDING,
    RUNNING,
    AgentState,
    agent_record,
    depth_of,
    finished_note,
    spawn_source,
    state_after,
)
from treadle.domain.approvals import APPROVAL_LINE, waiting_turn
from treadle.domain.events import AgentJoined, StatusChanged, ThreadEvent, TurnFinished
from treadle.domain.items import UserInput
from treadle.domain.records import ModelItem, ThreadRecord
from treadle.domain.threads import NotLoaded
from treadle.engine.agent import prompt
from treadle.engine.agent.turn_state import Steer, TurnOver
from treadle.engine.services.budgets import Budgets
from treadle.engine.services.errors import (
    InputTooLarge,
    PlanRejected,
    Refused,
    StartFailed,
    StoreError,
)
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.planning import Overrides, ThreadPlan
from treadle.engine.services.thread_restore import restore
from treadle.engine.services.threads import Client, Threads
from treadle.engine.services.turns import Turns, check_input
from treadle.engine.tools.agent_port import AgentRefused, Spawned, SpawnOrder

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long a message that interrupts waits for the end of the turn it interrupts."""

_DECIDED = ("model", "model_reasoning_effort", "approval_policy", "sandbox_mode", "personality")
"""Configuration that a child takes from its parent's settings of the moment instead."""


class AgentHost:
    """Runs the sub-agents of all threads."""

    def __init__(self, threads: Threads, turns: Turns, budgets: Budgets) -> None:
        """Listen for ends of turns; what agents are made is counted by `budgets`."""
        self._threads = threads
        self._budgets = budgets
        self._turns = turns
        self._states: dict[str, AgentState] = {}
        """By loaded child: what its last turn came to."""
        self._waiters: set[asyncio.Event] = set()
        self._names = itertools.cycle(NAMES)
        self._spawning: Counter[str] = Counter()
        """By topmost thread: agents that are being made."""
        threads.feed.listen(self)

    def thread(self, thread_id: str) -> LoadedThread | None:
        """A thread in memory."""
        return self._threads.get(thread_id)

    # ------------------------------------------------------------------ spawning

    async def spawn(self, parent: LoadedThread, order: SpawnOrder) -> Spawned:
        """Make a child that does nothing yet; raises AgentRefused."""
        check_content(order.content)
        self._check_room(parent)
        if self._turns.draining:
            raise AgentRefused("the server is about to end and starts no new work")
        root_id = self._root(parent).thread_id
        self._spawning[root_id] += 1
        try:
            child = await self._make(parent, order)
        except (StoreError, StartFailed) as error:
            raise AgentRefused(str(error)) from error
        finally:
            self._spawning[root_id] -= 1
        settings = child.agent.settings
        return Spawned(
            agent_id=child.thread_id,
            nickname=child.created.agent_nickname or "",
            model=settings.model,
            effort=settings.effort,
        )

    def _plan(self, parent: LoadedThread, order: SpawnOrder) -> ThreadPlan:
        threads, given = self._threads, self._threads.plan_of(parent.thread_id).config
        overrides = Overrides(
            model=order.model,
            config={name: value for name, value in given.items() if name not in _DECIDED},
            base_instructions=parent.created.base_instructions,
            developer_instructions=parent.created.developer_instructions,
        )
        try:
            plan = threads.planner.plan(overrides, parent.agent.settings)
        except PlanRejected as error:
            raise AgentRefused(str(error)) from error
        if order.effort is not None:
            plan.settings = msgspec.structs.replace(plan.settings, effort=order.effort)
        return plan

    async def _make(self, parent: LoadedThread, order: SpawnOrder) -> LoadedThread:
        threads, agent, fork = self._threads, parent.agent, order.fork_context
        plan, nickname = self._plan(parent, order), next(self._names)
        reached = await self._budgets.child(parent)
        if reached is not None:
            raise AgentRefused(reached.text)
        child = await threads.begin(
            plan,
            Client(agent.originator, agent.user_agent),
            ephemeral=parent.ephemeral,
            source=spawn_source(agent.thread_id, depth_of(parent.created) + 1, nickname),
            session_id=agent.session_id,
            parent_thread_id=agent.thread_id,
            forked_from_id=agent.thread_id if fork else None,
            thread_source="subagent",
            agent_nickname=nickname,
            base_instructions=plan.base_instructions,
            developer_instructions=plan.developer_instructions,
        )
        if fork:
            now = threads.clock.now()
            known: list[ThreadRecord] = [
                ModelItem(at=now, item=item) for item in prompt.without_open_calls(agent.context)
            ]
            threads.materialize(child)
            child.log.append(known)
            restore(child, known)
        parent.log.append([agent_record(child.thread_id, is_open=True, at=threads.clock.now())])
        feed = threads.feed
        feed.publish(AgentJoined(thread_id=child.thread_id, parent_id=parent.thread_id))
        feed.publish(StatusChanged(thread_id=child.thread_id, status=child.status))
        return child

    def _check_room(self, parent: LoadedThread) -> None:
        limits = self._threads.plan_of(parent.thread_id).agents
        root = self._root(parent)
        open_now = self._count_open(root) + self._spawning[root.thread_id]
        if limits is None or open_now >= limits.max_threads:
            raise AgentRefused(
                "agent thread limit reached: close an agent that is no longer needed"
            )

    def _root(self, thread: LoadedThread) -> LoadedThread:
        """The topmost loaded thread above this one."""
        while (above := self._threads.loaded.parent(thread)) is not None:
            thread = above
        return thread

    def _count_open(self, thread: LoadedThread) -> int:
        count = 0
        for child_id in thread.log.agents.ids:
            child = self._threads.get(child_id)
            count += 1 + (self._count_open(child) if child is not None else 0)
        return count

    def begin_turn(self, agent_id: str, content: list[UserInput]) -> None:
        """Give an idle or working agent a message; a working one sees it when it next looks."""
        thread = self._threads.get(agent_id)
        if thread is None:
            raise AgentRefused(f"agent with id {agent_id} not found", unknown=True)
        steer = Steer(content)
        if thread.running is not None:
            with contextlib.suppress(TurnOver):
                thread.running.state.steer(steer)
                return
        try:
            self._turns.deliver(agent_id, steer)
        except Refused as error:
            raise AgentRefused(str(error)) from error

    # ------------------------------------------------------------------ commanding

    async def state(self, caller: LoadedThread, agent_id: str) -> AgentState:
        """What an agent below the caller is up to; `notFound` where it is none, or closed."""
        thread = self._threads.get(agent_id)
        if agent_id not in caller.log.agents.ids and not self._is_open_below(caller, agent_id):
            return NOT_FOUND
        if thread is not None:
            return RUNNING if thread.running is not None else self._states.get(agent_id, PENDING)
        return await self._stored_state(agent_id)

    def _is_open_below(self, caller: LoadedThread, agent_id: str) -> bool:
        """Whether an agent is open, and everything between it and the caller too."""
        thread = self._threads.get(agent_id)
        while thread is not None:
            above = self._threads.loaded.parent(thread)
            if above is None or thread.thread_id not in above.log.agents.ids:
                return False
            if above is caller:
                return True
            thread = above
        return False

    async def _stored_state(self, agent_id: str) -> AgentState:
        try:
            turns = await self._threads.turns(agent_id)
        except StoreError:
            return NOT_FOUND
        return state_after(turns[-1]) if turns else PENDING

    async def send(
        self, caller: LoadedThread, agent_id: str, content: list[UserInput], *, interrupt: bool
    ) -> AgentState:
        """Give an agent a message; what it was up to before. Raises AgentRefused."""
        check_content(content)
        before = await self._known(caller, agent_id)
        thread = await self._loaded(caller, agent_id)
        if interrupt and thread.running is not None:
            thread.running.interrupt()
            await thread.scope.join(STOP_SECONDS)
        elif thread.running is not None and thread.running.state.over:
            await thread.scope.join(STOP_SECONDS)
        self.begin_turn(agent_id, content)
        return before

    async def _known(self, caller: LoadedThread, agent_id: str) -> AgentState:
        state = await self.state(caller, agent_id)
        if state.status == "notFound":
            raise AgentRefused(f"agent with id {agent_id} not found", unknown=True)
        return state

    async def _loaded(self, caller: LoadedThread, agent_id: str) -> LoadedThread:
        """An open agent in memory: after a restart it may have to be read first."""
        thread = self._threads.get(agent_id)
        if thread is not None:
            return thread
        given = self._threads.plan_of(caller.thread_id).config
        agent = caller.agent
        try:
            opened = await self._threads.resume(
                agent_id,
                Overrides(config=dict(given)),
                Client(agent.originator, agent.user_agent),
            )
        except (StoreError, PlanRejected, Refused, StartFailed) as error:
            raise AgentRefused(str(error)) from error
        if opened.turns:
            self._states[agent_id] = state_after(opened.turns[-1])
        joined = AgentJoined(thread_id=opened.thread.thread_id, parent_id=caller.thread_id)
        self._threads.feed.publish(joined)
        return opened.thread

    async def bring_waiting(self, parent: LoadedThread) -> None:
        """Load the agents of a resumed thread whose turns wait for answers, so that they are asked.

        Best effort: an agent that cannot be loaded stays as its log has it.
        """
        for child_id in parent.log.agents.ids:
            if self._threads.get(child_id) is not None:
                continue
            try:
                if not await self._threads.store.may_mention(child_id, APPROVAL_LINE):
                    continue
                if waiting_turn(await self._threads.records(child_id)) is None:
                    continue
                child = await self._loaded(parent, child_id)
            except (StoreError, AgentRefused):
                logger.warning("agent %s is not asked for again", child_id, exc_info=True)
                continue
            await self.bring_waiting(child)

    async def wait(
        self, caller: LoadedThread, agent_ids: list[str], seconds: float
    ) -> dict[str, AgentState]:
        """Wait until one of the agents came to an end; what all are up to then."""
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    changed.clear()
                    states = {each: await self.state(caller, each) for each in agent_ids}
                    if any(state.final for state in states.values()):
                        return states
                    await changed.wait()
        except TimeoutError:
            return {each: await self.state(caller, each) for each in agent_ids}
        finally:
            self._waiters.discard(changed)

    async def close(self, caller: LoadedThread, agent_id: str) -> AgentState:
        """End an agent and those below it; what it was up to. Raises AgentRefused."""
        before = await self._known(caller, agent_id)
        thread = self._threads.get(agent_id)
        above = self._threads.loaded.parent(thread) if thread is not None else caller
        if above is not None:
            now = self._threads.clock.now()
            above.log.append([agent_record(agent_id, is_open=False, at=now)])
        if thread is not None:
            await self._threads.unload(thread)
        return before

    async def resume(self, caller: LoadedThread, agent_id: str) -> AgentState:
        """Open a closed agent of the caller again; raises AgentRefused."""
        state = await self.state(caller, agent_id)
        if state.status != "notFound":
            return state
        if agent_id not in await self._threads.store.descendants(caller.thread_id):
            raise AgentRefused(f"agent with id {agent_id} not found", unknown=True)
        self._check_room(caller)
        await self._loaded(caller, agent_id)
        self._states.pop(agent_id, None)
        now = self._threads.clock.now()
        caller.log.append([agent_record(agent_id, is_open=True, at=now)])
        return PENDING

    # ------------------------------------------------------------------ ends of turns

    def hear(self, event: ThreadEvent, seq: int | None) -> None:
        """An agent's end is told to its parent; an interrupted parent's children stop too."""
        if type(event) is StatusChanged:
            if isinstance(event.status, NotLoaded):
                self._states.pop(event.thread_id, None)
                self._wake()
            return
        if type(event) is not TurnFinished:
            return
        thread = self._threads.get(event.thread_id)
        if thread is None:
            return
        if event.turn.status == "interrupted" and not thread.closing:
            for child in self._threads.loaded.children(event.thread_id):
                if child.running is not None:
                    child.running.interrupt()
        if thread.created.parent_thread_id is not None:
            state = self._states[event.thread_id] = state_after(event.turn)
            self._tell_parent(thread, state)
            self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def _tell_parent(self, thread: LoadedThread, state: AgentState) -> None:
        parent = self._threads.loaded.parent(thread)
        if parent is None or parent.closing or thread.closing:
            return
        note = prompt.subagent_note(finished_note(thread.thread_id, state))
        if parent.running is not None:
            with contextlib.suppress(TurnOver):
                parent.running.state.note(note)
                return
        try:
            parent.agent.keep(note, None)
        except StoreError:
            logger.exception("the end of agent %s could not be told", thread.thread_id)
            return
        parent.scope.start(_flush(parent), "tell of an agent")

    @property
    def has_room(self) -> bool:
        """Always: nothing is sent from here."""
        return True

    async def room(self) -> None:
        """Nothing to wait for."""


def check_content(content: list[UserInput]) -> None:
    """Refuse a message that no turn would take; raises AgentRefused."""
    try:
        check_input(content)
    except (Refused, InputTooLarge) as error:
        raise AgentRefused(str(error)) from error


async def _flush(thread: LoadedThread) -> None:
    try:
        await thread.log.flush()
    except StoreError:
        logger.exception("the log of %s could not be written", thread.thread_id)
