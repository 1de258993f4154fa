"""The run log as the front doors see it: writes go through, readers park until something is new.

A reader holds a cursor, never a queue: what wakes it is a bell per run that says only "look again".
Bells are hints; a parked reader looks by itself now and then, so a lost hint costs time and nothing
else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from treadle.control.db.repository import WORK_WAITING, Claimant, Repository
from treadle.control.faults import Stopping
from treadle.control.records import Claim, CommandPage, EventPage
from treadle.kit.clock import Clock

T = TypeVar("T")

LOOK_AGAIN_SECONDS = 20.0
"""Bells of one process are not lost, and other managers' are looked after by `postgres_hints`."""


class Bells:
    """Wake-ups per run; holds an entry only while somebody waits for it."""

    def __init__(self) -> None:
        """Start without waiters."""
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether waiting has no sense any more."""
        return self._closed

    def watched(self) -> frozenset[str]:
        """What somebody waits for now."""
        return frozenset(self._waiting)

    def ring(self, run_ids: frozenset[str]) -> None:
        """Wake whoever waits for one of these."""
        for run_id in run_ids:
            for event in self._waiting.get(run_id, ()):
                event.set()

    def close(self) -> None:
        """Wake everybody for good."""
        self._closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def watch(self, run_id: str) -> Generator[asyncio.Event]:
        """An event of the caller's own, set whenever the run changes from now on."""
        event = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[run_id].discard(event)
            if not self._waiting[run_id]:
                del self._waiting[run_id]


class RunLog:
    """Parked reads over a repository."""

    def __init__(self, repository: Repository, bells: Bells, clock: Clock) -> None:
        """Read from `repository`, be woken by `bells`, measure waits with `clock`."""
        self.repository = repository
        self._bells = bells
        self._clock = clock
        self._retiring = False

    @property
    def retiring(self) -> bool:
        """Whether the manager is about to go: everything still works, nobody should come anew."""
        return self._retiring or self.closed

    def retire(self) -> None:
        """Say to who asks that this manager is about to go."""
        self._retiring = True

    @property
    def closed(self) -> bool:
        """Whether parked reads were sent home."""
        return self._bells.closed

    def close(self) -> None:
        """Send all parked reads home with what they have."""
        self._bells.close()

    async def events(
        self, run_id: str, after_seq: int, limit: int, wait_seconds: float
    ) -> EventPage:
        """Events after a seq; waits while there are none and the run goes on."""
        return await self._park(
            run_id,
            lambda: self.repository.read_events(run_id, after_seq, limit),
            lambda page: bool(page.items) or page.terminal,
            wait_seconds,
        )

    async def commands(
        self, run_id: str, after_seq: int, limit: int, wait_seconds: float
    ) -> CommandPage:
        """Commands after a command seq; waits while there are none and the run goes on."""

        async def look() -> tuple[CommandPage, bool]:
            # Most looks find nothing, and this is the cheapest way to do so.
            progress = await self.repository.read_progress(run_id)
            if progress.cmd_last <= after_seq:
                return CommandPage(items=[], cmd_last=progress.cmd_last), progress.ended
            return await self.repository.list_commands(run_id, after_seq, limit), True

        page, _ = await self._park(run_id, look, lambda found: found[1], wait_seconds)
        return page

    async def claim_waiting(
        self, claimant: Claimant, backend_profile: str | None, limit: int, wait_seconds: float
    ) -> list[Claim]:
        """Pool claim; waits while no run needs a runner."""
        return await self._park(
            WORK_WAITING,
            lambda: self.repository.claim_waiting(claimant, backend_profile, limit),
            bool,
            wait_seconds,
        )

    async def _park(
        self,
        run_id: str,
        look: Callable[[], Awaitable[T]],
        enough: Callable[[T], bool],
        wait_seconds: float,
    ) -> T:
        """Look until it is enough, time is up or the manager stops.

        The bell is cleared before each look, so a change during the look is not slept through.

        Raises:
            Stopping: the manager was stopping before the first look.
        """
        if self.closed:
            raise Stopping("The manager is stopping; send the request again.")
        deadline = self._clock.monotonic() + wait_seconds
        with self._bells.watch(run_id) as bell:
            while True:
                bell.clear()
                found = await look()
                left = deadline - self._clock.monotonic()
                if enough(found) or left <= 0 or self.closed:
                    return found
                try:
                    async with asyncio.timeout(min(left, LOOK_AGAIN_SECONDS)):
                        await bell.wait()
                except TimeoutError:
                    continue
