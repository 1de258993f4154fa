"""Telling the manager: redacted events, spooled first, then appended in order under the claim.

A `Reporter` numbers events, writes them to the spool and sends them in batches; what was not
acknowledged is sent again until it is, or until the lease is lost. It is the only writer of a run's
log on the runner's side. When the manager cannot keep up, `room` holds the backend's reader back.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from treadle.kit.clock import Clock, iso_millis
from treadle.kit.fault_points import reach
from treadle.kit.redact import Redactor
from treadle.kit.tasks import TaskScope
from treadle.runner.claim import LOST_CODES, Lease
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import NewEvent
from treadle.runner.shape import Draft, status
from treadle.runner.spool import Spool

logger = logging.getLogger(__name__)

BATCH_EVENTS = 100
BATCH_BYTES = 256 << 10
BACKLOG_EVENTS = 2000
GATHER_SECONDS = 0.01
"""How long a first event waits for company; short, since somebody may be watching."""
MAX_GATHER_SECONDS = 0.5
MAX_PAUSE_SECONDS = 1.0


class Lost(Exception):
    """The run is not ours any more; what was to be told stays in the spool."""


class Reporter:
    """Ordered, durable way from a runner to one run's log."""

    def __init__(
        self,
        client: ManagerClient,
        lease: Lease,
        spool: Spool,
        clock: Clock,
        redactor: Redactor,
    ) -> None:
        """Report under `lease`; nothing is sent before `start`."""
        self._client = client
        self._lease = lease
        self._spool = spool
        self._clock = clock
        self.redactor = redactor
        self._unspooled: list[NewEvent] = []
        self._unsent: deque[NewEvent] = deque()
        self._first = 1
        self._spooled = 0
        self._emitted = 0
        self._batch_events = BATCH_EVENTS
        self._gather_seconds = GATHER_SECONDS
        self._news = asyncio.Event()
        self._acked = asyncio.Condition()
        self._urgent = asyncio.Event()

    def start(self, tasks: TaskScope) -> None:
        """Begin to send, as tasks of `tasks`."""
        tasks.start(self._run(), "reporter")
        tasks.start(self._wake_when_lost(), "reporter-lost")

    @property
    def is_drained(self) -> bool:
        """Whether the manager has everything."""
        return self._backlog == 0

    @property
    def _backlog(self) -> int:
        return self._emitted - self._first + 1

    def tell(self, draft: Draft, command_id: str | None = None) -> None:
        """Queue an event; redacted here, sent soon."""
        payload = self.redactor.value(draft.payload)
        event = NewEvent(
            type=draft.type,
            payload=msgspec.Raw(msgspec.json.encode(payload)),
            at=iso_millis(self._clock.now()),
            command_id=command_id,
        )
        self.replay(event)

    def status(self, phase: str, *, command_id: str | None = None, **facts: Any) -> None:
        """Queue a `backend_status` event; those are rare and somebody waits for them."""
        self.tell(status(phase, **facts), command_id)
        self._urgent.set()

    def replay(self, event: NewEvent) -> None:
        """Queue an event that is encoded and redacted already."""
        self._unspooled.append(event)
        self._emitted += 1
        self._news.set()

    async def flush(self) -> None:
        """Wait until the manager has all that was told so far; raises Lost."""
        until = self._emitted
        self._urgent.set()
        await self._until(lambda: self._first > until)

    async def room(self) -> None:
        """Wait while too much is unsent; raises Lost."""
        if self._backlog >= BACKLOG_EVENTS:
            await self._until(lambda: self._backlog < BACKLOG_EVENTS // 2)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._acked:
            await self._acked.wait_for(lambda: condition() or self._lease.lost.is_set())
        if not condition():
            raise Lost(self._lease.lost_reason)

    async def _run(self) -> None:
        try:
            while not self._lease.lost.is_set():
                await self._news.wait()
                await self._gather()
                self._news.clear()
                self._urgent.clear()
                await self._spool_all()
                while self._unsent and not self._lease.lost.is_set():
                    await self._send()
        except Exception as error:
            # Such as a full disk: what cannot be spooled may not be told, so the run is let go.
            self._lease.lose(f"events can no longer be reported: {error}")
            raise

    async def _gather(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._gather_seconds):
                await self._urgent.wait()

    async def _wake_when_lost(self) -> None:
        await self._lease.lost.wait()
        self._news.set()
        async with self._acked:
            self._acked.notify_all()

    async def _spool_all(self) -> None:
        events, self._unspooled = self._unspooled, []
        if events:
            await self._spool.write(self._spooled + 1, events)
            self._spooled += len(events)
            self._unsent.extend(events)

    async def _send(self) -> None:
        batch = self._batch()
        pause = 0.05
        while not self._lease.lost.is_set():
            asked_at = self._clock.monotonic()
            reach("runner.report.sending")
            try:
                answer = await self._client.append(
                    self._lease.run_id, self._lease.token, self._lease.epoch, self._first, batch
                )
            except ManagerUnreachable:
                await self._wait(pause)
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
            except ManagerError as error:
                if not await self._refused(error, batch, pause):
                    return
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
            else:
                self._gather_seconds = min(
                    max(answer.next_flush_ms / 1000, GATHER_SECONDS), MAX_GATHER_SECONDS
                )
                reach("runner.report.answered")
                self._lease.renewed(answer, asked_at)
                await self._acknowledged(len(batch))
                return

    def _batch(self) -> list[NewEvent]:
        batch: list[NewEvent] = []
        size = 0
        for event in self._unsent:
            size += len(bytes(event.payload))
            if batch and (len(batch) >= self._batch_events or size > BATCH_BYTES):
                break
            batch.append(event)
        return batch

    async def _refused(self, error: ManagerError, batch: list[NewEvent], pause: float) -> bool:
        """What to do about a refusal; True to send the same batch again."""
        if error.code in LOST_CODES:
            self._lease.lose(error.detail)
            return False
        if error.code == "producer-seq-gap":
            self._lease.lose(f"the manager expects another event ({error.detail})")
            return False
        if error.status in {400, 413}:
            if len(batch) > 1:
                self._batch_events = max(1, len(batch) // 2)
            else:
                # One event that can never be accepted may not hold up all that follow.
                logger.error("run %s: event refused: %s", self._lease.run_id, error.detail)
                note = status("event-refused", eventType=batch[0].type, reason=error.detail)
                payload = msgspec.Raw(msgspec.json.encode(note.payload))
                self._unsent[0] = NewEvent(type=note.type, payload=payload)
            return False
        await self._wait(error.retry_after_seconds or pause)
        return True

    async def _acknowledged(self, count: int) -> None:
        for _ in range(count):
            self._unsent.popleft()
        self._first += count
        self._batch_events = BATCH_EVENTS
        self._spool.acknowledge(self._first - 1)
        async with self._acked:
            self._acked.notify_all()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):
                await self._lease.lost.wait()
        except TimeoutError:
            return
