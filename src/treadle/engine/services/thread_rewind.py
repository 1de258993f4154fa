"""Changes to what a loaded thread's model knows: turns taken back, items put in.

Nothing is rewritten: a line of the log says that turns were dropped, and what must outlive them
(settings, inbox, goal, budget, sub-agents, count of events) is said again behind it, in the same
write. Files in the workspace stay.
"""

from typing import Any

from treadle.domain import history
from treadle.domain.agents import agent_record
from treadle.domain.event_log import count_record
from treadle.domain.events import ThreadReverted
from treadle.domain.goals import goal_record
from treadle.domain.inbox import inbox_record
from treadle.domain.records import ModelItem, SettingsApplied, TurnsDropped
from treadle.engine.services.errors import Refused, ThreadNotLoaded
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.thread_fork import item_problem
from treadle.engine.services.thread_restore import restore
from treadle.engine.services.threads import STOP_TURN_SECONDS, Threads


class Rewinds:
    """Takes turns back and puts items in."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def rollback(self, thread_id: str, num_turns: int) -> LoadedThread:
        """Take the last turns back (all, when there are fewer).

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: a turn runs, or the thread has no log.
        """
        if num_turns < 1:
            raise Refused("numTurns must be >= 1")
        thread = self._stored(thread_id, "thread/rollback")
        if thread.running is not None:
            raise Refused("Cannot rollback while a turn is in progress")
        if thread.log.materialized:
            await self._drop(thread, num_turns)
        return thread

    async def revert(self, thread_id: str, before_turn_id: str) -> LoadedThread:
        """Take back a turn and all after it, ending the one that runs.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: there is no such turn, or the thread is of the old kind or has no log.
        """
        thread = self._stored(thread_id, "thread/revert")
        if thread.created.history_mode != "paginated":
            raise Refused("thread/revert only supports paginated threads")
        records = await self._threads.records(thread_id)
        if not history.count_from(records, before_turn_id):
            raise Refused(f"turn not found: {before_turn_id}")
        if thread.running is not None:
            thread.running.interrupt()
            await thread.scope.join(STOP_TURN_SECONDS)
        records = await self._threads.records(thread_id)
        await self._drop(thread, history.count_from(records, before_turn_id))
        return thread

    def announce_revert(self, thread_id: str) -> None:
        """Tell everybody that turns are gone; call it once the asker has its answer."""
        self._threads.feed.publish(ThreadReverted(thread_id=thread_id))

    async def inject(self, thread_id: str, items: list[Any]) -> None:
        """Add items to the model's context; they are no turn and nobody sees them.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: an item is none.
        """
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        if not items:
            raise Refused("items must not be empty")
        for at, item in enumerate(items):
            problem = item_problem(item)
            if problem is not None:
                raise Refused(f"items[{at}] is not a valid response item: {problem}")
        self._threads.materialize(thread)
        now = self._threads.clock.now()
        thread.log.append([ModelItem(at=now, item=item) for item in items])
        thread.agent.context.extend(items)
        await thread.log.flush()

    async def _drop(self, thread: LoadedThread, num_turns: int) -> None:
        log, agent, now = thread.log, thread.agent, self._threads.clock.now()
        used = agent.usage
        log.append(
            [
                TurnsDropped(at=now, num_turns=num_turns),
                SettingsApplied(at=now, settings=agent.settings),
                inbox_record(now, state=log.inbox),
                goal_record(log.goal, now),
                log.budget.restated(now),
                *(agent_record(child, is_open=True, at=now) for child in log.agents.ids),
                count_record(self._threads.feed.count(thread.thread_id), now),
            ]
        )
        log.touch(now)
        records = await self._threads.records(thread.agent.thread_id)
        restore(thread, records)
        agent.usage = used  # turns that were taken back were paid for all the same

    def _stored(self, thread_id: str, what: str) -> LoadedThread:
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        if thread.ephemeral:
            raise Refused(f"{what} requires persisted thread history; {thread_id} is ephemeral")
        return thread
