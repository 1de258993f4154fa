"""Budgets of threads: one pool for a thread and its sub-agents, counted in its log.

Owns who pays: a thread and each one above it that has a limit. A call is reserved in all their
logs before it is made; a turn that finds nothing left fails and says so, and goes on once the
limit was raised. Time is watched by a timer per turn, since a turn may wait without calling.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from treadle.domain.budgets import (
    BUDGET_LINE,
    Budget,
    BudgetChange,
    Exhausted,
    exhausted,
    limits_record,
    spend_record,
)
from treadle.domain.events import StatusChanged, ThreadEvent, TurnBegan, TurnFinished
from treadle.domain.threads import NotLoaded
from treadle.engine.model.late_client import LateClient
from treadle.engine.services.errors import (
    PlanRejected,
    Refused,
    StartFailed,
    StoreError,
    ThreadNotLoaded,
)
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.planning import Overrides, ThreadPlan
from treadle.engine.services.threads import Client, Threads
from treadle.engine.tools.late_tools import LateTools
from treadle.engine.tools.tool import Tools

if TYPE_CHECKING:
    from treadle.engine.model.model_client import ModelClient

logger = logging.getLogger(__name__)


_HEARD = frozenset((StatusChanged, TurnBegan, TurnFinished))


class _Clock(msgspec.Struct):
    """The running time of one thread that has a limit."""

    running: int = 0
    """Turns that run now, of the thread and of its sub-agents."""
    since: float = 0.0
    """Up to when time is counted (monotonic seconds)."""


class Budgets:
    """The budgets of all threads in memory."""

    def __init__(self, threads: Threads) -> None:
        """Count what the threads' models and tools do, and listen for their turns."""
        self._threads = threads
        self._clocks: dict[str, _Clock] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._in_flight: dict[str, int] = {}
        """By payer: tokens reserved for calls that are not over."""
        self._last_call: dict[str, int] = {}
        """By payer: tokens that the last call took."""
        self._settled = asyncio.Event()
        self._refused: dict[str, Exhausted] = {}
        """By thread: the limit that a tool call of its turn met."""
        threads.feed.listen(self)

    def equip(self, thread: LoadedThread, plan: ThreadPlan) -> None:
        """Have what a thread just loaded does counted."""
        if thread.created.parent_thread_id is None:
            thread.configured_budget = plan.budget
        agent, meter = thread.agent, ThreadMeter(self, thread)
        model, tools = agent.model, agent.tools

        def metered_model() -> "ModelClient":
            from treadle.engine.agent.metering import MeteredModel

            return MeteredModel(model, meter)

        def metered_tools() -> Tools:
            from treadle.engine.agent.metering import MeteredTools

            return MeteredTools(tools, meter)

        agent.model, agent.tools = LateClient(metered_model), LateTools(metered_tools)

    # ------------------------------------------------------------------ limits

    def set(self, thread_id: str, change: BudgetChange) -> None:
        """Change limits from now on, and keep them with the thread.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
        """
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        values = change.values()
        if not values:
            return
        record = limits_record(values, self._threads.clock.now())
        if thread.log.materialized:
            thread.log.append([record])
        else:
            thread.log.hold(record)
        family = [
            thread,
            *filter(None, map(self._threads.get, self._threads.loaded.below(thread_id))),
        ]
        running = sum(each.running is not None for each in family)
        if running and thread_id not in self._clocks:
            self._clocks[thread_id] = _Clock(running, thread.agent.clock.monotonic())
        for each in family:
            self._refused.pop(each.thread_id, None)
            self._wind(each)

    async def bring_payers(self, thread_id: str, client: Client) -> None:
        """Load what pays for a stored sub-agent, so that it spends nothing unseen.

        A payer that cannot be loaded (archived, gone, written by another process) is passed over.
        """
        threads = self._threads
        if threads.get(thread_id) is not None:
            return
        try:
            above = (await threads.store.read(thread_id)).created.parent_thread_id
            if above is None or threads.get(above) is not None:
                return
            await self.bring_payers(above, client)
            if await threads.store.may_mention(above, BUDGET_LINE):
                await threads.resume(above, Overrides(), client)
        except (StoreError, PlanRejected, Refused, StartFailed):
            logger.warning("what pays for thread %s is not loaded", thread_id, exc_info=True)

    def payers(self, thread: LoadedThread) -> list[tuple[LoadedThread, Budget]]:
        """Who pays for what a thread does: itself and those above, as far as they have limits."""
        found: list[tuple[LoadedThread, Budget]] = []
        above: LoadedThread | None = thread
        while above is not None:
            limits = above.limits
            if not limits.unlimited:
                found.append((above, limits))
            above = self._threads.get(above.created.parent_thread_id or "")
        return found

    # ------------------------------------------------------------------ spending

    async def reserve(
        self, thread: LoadedThread, checked: tuple[str, ...], **amounts: int
    ) -> Exhausted | None:
        """Count `amounts` in all logs that pay, durably; or say which of the limits is reached.

        Where only calls in flight stand between here and a limit, waits for what they really take.
        """
        while True:
            payers = self.payers(thread)
            reached, may_change = self._reached(payers, ("wall_clock_seconds", *checked))
            if reached is None:
                break
            if not may_change:
                return reached
            self._settled.clear()
            await self._settled.wait()
        tokens = amounts.get("tokens", 0)
        for payer, _ in payers:
            known = self._in_flight.get(payer.thread_id, 0)
            self._in_flight[payer.thread_id] = known + tokens
        self._spend([payer for payer, _ in payers], amounts)
        for payer, _ in payers:
            await payer.log.flush()
        return None

    def _reached(
        self, payers: list[tuple[LoadedThread, Budget]], checked: tuple[str, ...]
    ) -> tuple[Exhausted | None, bool]:
        """The first limit that is reached, and whether calls in flight may yet leave room."""
        for payer, limits in payers:
            self._tick(payer)
            spent = payer.log.budget.spent
            reached = exhausted(limits, spent, *checked)
            if reached is not None:
                certain = spent.tokens - self._in_flight.get(payer.thread_id, 0)
                may_change = reached.dimension == "tokens" and certain < reached.limit
                return reached, may_change
        return None, False

    def settle(self, thread: LoadedThread, reserved: int, taken: int) -> None:
        """A reserved call is over and took so many tokens."""
        payers = [payer for payer, _ in self.payers(thread)]
        for payer in payers:
            left = self._in_flight.get(payer.thread_id, 0) - reserved
            self._in_flight[payer.thread_id] = max(0, left)
            self._last_call[payer.thread_id] = taken
        if taken != reserved:
            self._spend(payers, {"tokens": taken - reserved})
        self._settled.set()

    def _spend(self, payers: list[LoadedThread], amounts: dict[str, int]) -> None:
        now = self._threads.clock.now()
        for payer in payers:
            payer.log.append([spend_record(now, **amounts)])

    def expected(self, thread: LoadedThread, tokens: int) -> int:
        """What a call will take: as much as the last one of the pool, or more."""
        payers = self.payers(thread)
        return max(tokens, *(self._last_call.get(payer.thread_id, 0) for payer, _ in payers), 0)

    async def child(self, parent: LoadedThread) -> Exhausted | None:
        """Reserve a sub-agent of a thread."""
        return await self.reserve(parent, ("children",), children=1)

    def refused(self, thread: LoadedThread) -> Exhausted | None:
        """The limit that a tool call of the running turn met, if one did."""
        return self._refused.get(thread.thread_id)

    def refuse(self, thread: LoadedThread, reached: Exhausted) -> None:
        """A tool call met a limit: the turn ends with its next step."""
        self._refused[thread.thread_id] = reached

    # ------------------------------------------------------------------ time

    def hear(self, event: ThreadEvent, seq: int | None) -> None:
        """Turns start and stop the clocks of who pays for them."""
        kind = type(event)
        if kind not in _HEARD:
            return  # a delta, mostly
        if isinstance(event, StatusChanged) and isinstance(event.status, NotLoaded):
            for known in (self._in_flight, self._last_call, self._refused):
                known.pop(event.thread_id, None)
        if kind is not TurnBegan and kind is not TurnFinished:
            return
        thread = self._threads.get(event.thread_id)
        if thread is None:
            return
        if kind is TurnBegan:
            self._refused.pop(event.thread_id, None)
            self._begin(thread)
        else:
            self._end(thread)

    def _begin(self, thread: LoadedThread) -> None:
        for payer, _ in self.payers(thread):
            clock = self._clocks.setdefault(payer.thread_id, _Clock())
            if not clock.running:
                clock.since = thread.agent.clock.monotonic()
            clock.running += 1
        self._wind(thread)

    def _end(self, thread: LoadedThread) -> None:
        timer = self._timers.pop(thread.thread_id, None)
        if timer is not None:
            timer.cancel()
        for payer, _ in self.payers(thread):
            clock = self._clocks.get(payer.thread_id)
            if clock is None:
                continue
            self._tick(payer)
            clock.running -= 1
            if clock.running <= 0:
                del self._clocks[payer.thread_id]

    def _tick(self, payer: LoadedThread) -> None:
        """Count the time since it was last counted."""
        clock = self._clocks.get(payer.thread_id)
        if clock is None or not clock.running:
            return
        now = payer.agent.clock.monotonic()
        elapsed_ms = int((now - clock.since) * 1000)
        if elapsed_ms > 0:
            clock.since += elapsed_ms / 1000
            self._spend([payer], {"wall_clock_ms": elapsed_ms})

    def _wind(self, thread: LoadedThread) -> None:
        """Set the timer that ends the running turn when the time is used up."""
        old = self._timers.pop(thread.thread_id, None)
        if old is not None:
            old.cancel()
        left = self._seconds_left(thread)
        if left is not None and thread.running is not None:
            loop = asyncio.get_running_loop()
            self._timers[thread.thread_id] = loop.call_later(left, self._ring, thread)

    def _seconds_left(self, thread: LoadedThread) -> float | None:
        left: list[float] = []
        for payer, limits in self.payers(thread):
            if limits.wall_clock_seconds is not None:
                self._tick(payer)
                spent = payer.log.budget.spent.wall_clock_ms / 1000
                left.append(max(0.0, limits.wall_clock_seconds - spent))
        return min(left, default=None)

    def _ring(self, thread: LoadedThread) -> None:
        running = thread.running
        if running is None:
            return
        for payer, limits in self.payers(thread):
            self._tick(payer)
            reached = exhausted(limits, payer.log.budget.spent, "wall_clock_seconds")
            if reached is not None:
                from treadle.engine.agent.metering import out_of_budget

                running.give_up(out_of_budget(reached))
                return
        self._wind(thread)

    @property
    def has_room(self) -> bool:
        """Always: nothing is sent from here."""
        return True

    async def room(self) -> None:
        """Nothing to wait for."""


class ThreadMeter:
    """Counts for one thread (the port of its model and tools)."""

    def __init__(self, budgets: Budgets, thread: LoadedThread) -> None:
        self._budgets = budgets
        self._thread = thread

    @property
    def counts(self) -> bool:
        """Whether the thread, or one above it, has a limit."""
        return bool(self._budgets.payers(self._thread))

    def expected(self, tokens: int) -> int:
        """What a call will take (see `Meter.expected`)."""
        return self._budgets.expected(self._thread, tokens)

    async def model_call(self, tokens: int) -> Exhausted | None:
        """Reserve a model call (see `Meter.model_call`)."""
        refused = self._budgets.refused(self._thread)
        if refused is not None:
            return refused
        checked = ("model_calls", "tokens")
        return await self._budgets.reserve(self._thread, checked, model_calls=1, tokens=tokens)

    def settle(self, reserved: int, taken: int) -> None:
        """A reserved call is over (see `Meter.settle`)."""
        self._budgets.settle(self._thread, reserved, taken)

    async def tool_call(self) -> Exhausted | None:
        """Reserve a tool call (see `Meter.tool_call`)."""
        reached = await self._budgets.reserve(self._thread, ("tool_calls",), tool_calls=1)
        if reached is not None:
            self._budgets.refuse(self._thread, reached)
        return reached
