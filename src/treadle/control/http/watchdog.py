"""Notices when the event loop stood still.

A task beats once a second; a beat that comes late was kept waiting by something that blocked the
loop. A probe that arrives during the stall gets no answer at all, one that arrives soon after it
learns of it here. Knows nothing of HTTP.
"""

import asyncio
import logging

from treadle.kit.clock import Clock

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
STALL_SECONDS = 5.0
# Long enough that a probe every ten seconds sees each stall once.
REMEMBER_SECONDS = 15.0


class LoopWatch:
    """Beats of one event loop."""

    def __init__(self, clock: Clock) -> None:
        """Take the first beat now."""
        self._clock = clock
        self._beat_at = clock.monotonic()
        self._stall_ended_at: float | None = None
        self._stall_seconds = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.beat()

    def beat(self) -> None:
        """Note that the loop turns."""
        now = self._clock.monotonic()
        late = now - self._beat_at - BEAT_SECONDS
        if late > STALL_SECONDS:
            self._stall_ended_at, self._stall_seconds = now, late
            logger.error("the event loop was blocked for %.1f s", late)
        self._beat_at = now

    @property
    def late_seconds(self) -> float:
        """How much later than due the next beat is; 0 while it is not due."""
        return max(0.0, self._clock.monotonic() - self._beat_at - BEAT_SECONDS)

    def recent_stall(self) -> float:
        """Seconds of a stall that lasts or ended a moment ago; 0 when the loop is well."""
        if self.late_seconds > STALL_SECONDS:
            return self.late_seconds
        ended_at = self._stall_ended_at
        if ended_at is None or self._clock.monotonic() - ended_at > REMEMBER_SECONDS:
            return 0.0
        return self._stall_seconds
