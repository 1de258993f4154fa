"""Goals: what a thread is to reach, kept in its log.

Stores and tells goals. Nothing pursues them by itself yet: an active goal starts no turns.
"""

from typing import Any

import msgspec

from treadle.domain.events import GoalCleared, GoalUpdated, ThreadEvent
from treadle.domain.goals import MAX_OBJECTIVE_CHARS, Goal, GoalStatus, goal_record, latest_goal
from treadle.engine.services.errors import Refused, ThreadNotFound, ThreadNotLoaded
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.threads import Threads


class Goals:
    """Sets, reads and clears goals of stored and loaded threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def set(
        self,
        thread_id: str,
        objective: str | None,
        status: GoalStatus | None,
        token_budget: int | msgspec.UnsetType | None,
    ) -> Goal:
        """Set or change the goal; what is None or UNSET stays. A new objective begins anew.

        Raises:
            ThreadNotLoaded: there is no such thread.
            Refused: there is no goal to change, or a value makes no sense.
        """
        self._check(thread_id)
        objective = _checked(objective)
        if isinstance(token_budget, int) and token_budget < 1:
            raise Refused("goal budgets must be positive when provided")
        before, now = await self.get(thread_id), int(self._threads.clock.now())
        if objective is None and before is None:
            raise Refused(f"cannot update goal for thread {thread_id}: no goal exists")
        if before is None or (objective is not None and objective != before.objective):
            before = Goal(thread_id=thread_id, objective=objective or "", created_at=now)
        changes: dict[str, Any] = {"updated_at": now}
        if status is not None:
            changes["status"] = status
        if token_budget is not msgspec.UNSET:
            changes["token_budget"] = token_budget
        goal = msgspec.structs.replace(before, **changes)
        await self._store(thread_id, goal)
        return goal

    async def get(self, thread_id: str) -> Goal | None:
        """The goal, if there is one; raises ThreadNotLoaded when there is no such thread."""
        loaded = self._check(thread_id)
        if loaded is not None:
            return loaded.log.goal
        try:
            return latest_goal(await self._threads.records(thread_id))
        except ThreadNotFound:
            raise ThreadNotLoaded(thread_id) from None

    async def clear(self, thread_id: str) -> bool:
        """Take the goal away; whether there was one."""
        if await self.get(thread_id) is None:
            return False
        await self._store(thread_id, None)
        return True

    def announce(self, thread_id: str, goal: Goal | None) -> None:
        """Tell subscribers what the goal is now."""
        event: ThreadEvent = GoalCleared(thread_id=thread_id)
        if goal is not None:
            event = GoalUpdated(thread_id=thread_id, goal=goal)
        self._threads.feed.publish(event)

    async def _store(self, thread_id: str, goal: Goal | None) -> None:
        async with self._threads.log_of(thread_id) as log:
            log.append([goal_record(goal, self._threads.clock.now())])

    def _check(self, thread_id: str) -> LoadedThread | None:
        loaded = self._threads.get(thread_id)
        if loaded is not None and loaded.ephemeral:
            raise Refused("ephemeral thread does not support goals")
        return loaded


def _checked(objective: str | None) -> str | None:
    if objective is None:
        return None
    objective = objective.strip()
    if not objective:
        raise Refused("goal objective must not be empty")
    if len(objective) > MAX_OBJECTIVE_CHARS:
        raise Refused(f"goal objective must have at most {MAX_OBJECTIVE_CHARS} characters")
    return objective
