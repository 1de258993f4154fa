"""One turn of `treadle exec` over a client: opens the thread, starts, follows, stops in time.

Owns the two deadlines and the answers to an absent person's questions. Refuses to know how anything
is shown: a report is told.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from treadle.cli.exec_report import LastMessage, Report
from treadle.kit.tasks import TaskScope
from treadle.wire.client.client import Client, Event
from treadle.wire.protocol.errors import RpcError

STOP_SECONDS = 10.0
"""How long a stopped turn may take to say that it ended."""

UNBOUNDED_SECONDS = 30 * 24 * 3600.0
"""Stands for no bound."""

_ANY_SOURCE = ["cli", "vscode", "exec", "appServer"]


class NoThread(Exception):
    """There is no thread to go on with; the text says where was looked."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the turn ended, and which deadline stopped it: `deadline`, `idle` or `signal`."""

    turn: dict[str, Any]
    stopped_by: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a turn may take: until a loop time, and without any event."""

    ends_at: float | None
    idle_seconds: float | None

    def arm(self, stop: Callable[[str], None]) -> asyncio.TimerHandle:
        """Have `stop` called at the deadline; cancel what is returned once it is no more needed."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + UNBOUNDED_SECONDS if self.ends_at is None else self.ends_at
        return loop.call_at(ends_at, stop, "deadline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Which thread the turn belongs to: `action` is start, resume or fork."""

    action: str
    thread: str | None
    overrides: dict[str, Any]
    ephemeral: bool = False
    source: str | None = None
    any_folder: bool = False


async def open_thread(client: Client, wanted: Opening) -> dict[str, Any]:
    """Open the thread; the session as the server answered it.

    Raises:
        NoThread: no thread has that name, or none is there at all.
        RpcError: the server refused.
    """
    overrides = wanted.overrides
    if wanted.action == "start":
        asked = {**overrides, "ephemeral": wanted.ephemeral, "threadSource": wanted.source}
        return await client.request("thread/start", asked)
    cwd = None if wanted.any_folder else overrides["cwd"]
    thread_id = await _find_thread(client, wanted.thread, cwd)
    asked = {**overrides, "threadId": thread_id, "excludeTurns": True}
    if wanted.action == "fork":
        asked |= {"ephemeral": wanted.ephemeral, "threadSource": wanted.source}
    return await client.request(f"thread/{wanted.action}", asked)


async def _find_thread(client: Client, thread: str | None, cwd: str | None) -> str:
    """An id as it is; for a name, or for none, the newest thread that fits."""
    if thread is not None and _is_id(thread):
        return thread
    asked: dict[str, Any] = {"sourceKinds": _ANY_SOURCE, "modelProviders": []}
    asked |= {"sortKey": "updated_at", "limit": 1}
    if thread is None:
        asked["cwd"] = cwd
    else:
        asked |= {"searchTerm": thread, "limit": 100}
    page = await client.request("thread/list", asked)
    for found in page["data"]:
        if thread is None or found["name"] == thread:
            return str(found["id"])
    if thread is not None:
        raise NoThread(f"no thread has the id or name {thread!r}")
    where = f" in {cwd} (--all looks everywhere)" if cwd else ""
    raise NoThread(f"there is no thread to go on with{where}")


def _is_id(text: str) -> bool:
    return len(text.replace("-", "")) == 32 and all(c in "0123456789abcdef-" for c in text.lower())


class Turn:
    """One turn of an open thread; `stop` may be called at any time."""

    def __init__(
        self, client: Client, thread_id: str, report: Report, last: LastMessage | None
    ) -> None:
        self._client = client
        self._thread_id = thread_id
        self._report = report
        self._last = last
        self._turn_id = ""
        self._cause: str | None = None
        self._stopping = asyncio.Event()
        self._bound = asyncio.timeout(None)

    def stop(self, cause: str) -> None:
        """Interrupt the turn; the first cause counts. Its end is waited for, not for ever."""
        if self._cause is None:
            self._cause = cause
            self._bound.reschedule(asyncio.get_running_loop().time() + STOP_SECONDS)
            self._stopping.set()

    def quit(self) -> None:
        """Wait for nothing any more."""
        self.stop("signal")
        self._bound.reschedule(asyncio.get_running_loop().time())

    async def run(self, start: dict[str, Any], limits: Limits) -> Ending:
        """Start the turn with the parameters `start` and follow it to its end.

        Raises:
            RpcError: the server refused to start it.
        """
        scope = TaskScope("exec")
        alarm = limits.arm(self.stop)
        try:
            async with self._bound:
                asked = {"threadId": self._thread_id, **start}
                started = await self._client.request("turn/start", asked)
                self._turn_id = started["turn"]["id"]
                scope.start(self._interrupt(), "interrupt")
                return Ending(await self._follow(limits.idle_seconds), self._cause)
        except TimeoutError:
            stuck: dict[str, Any] = {"id": self._turn_id, "status": "interrupted", "items": []}
            return Ending(stuck, self._cause)
        finally:
            alarm.cancel()
            await scope.close()

    async def _follow(self, idle_seconds: float | None) -> dict[str, Any]:
        while True:
            try:
                event = await self._client.next_event(idle_seconds or UNBOUNDED_SECONDS)
            except TimeoutError:
                self.stop("idle")
                continue
            ended = self._take(event)
            if ended is not None:
                return ended

    async def _interrupt(self) -> None:
        await self._stopping.wait()
        asked = {"threadId": self._thread_id, "turnId": self._turn_id}
        with contextlib.suppress(RpcError):  # it may just have ended by itself
            await self._client.request("turn/interrupt", asked)

    def _take(self, event: Event) -> dict[str, Any] | None:
        """Note an event; the turn when this is its end."""
        if event.wants_answer:
            return None  # the engine knows that nobody answers here, and settles it by policy
        told: dict[str, Any] = event.params or {}
        if told.get("threadId") != self._thread_id:
            return None
        if self._last is not None:
            self._last.told(event.method, told)
        if event.method == "turn/completed" and told["turn"]["id"] == self._turn_id:
            return told["turn"]
        self._report.told(event.method, told)
        return None
