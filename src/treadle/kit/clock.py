"""Time as a parameter: who needs it takes a Clock.

Owns the two clocks of the product (the real one, and one that a test moves by hand) and the two
text forms of time that files and messages use. Knows nothing of time zones beyond UTC and the
machine's local one.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where code gets the time from."""

    def now(self) -> float:
        """Seconds since the epoch, wall clock. For timestamps, never for durations."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never goes back. For durations and deadlines."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()


class ManualClock:
    """A clock that only `advance` moves."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch as last set."""
        return self._now

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`."""
        self._now += seconds
        self._monotonic += seconds


def iso_millis(seconds: float) -> str:
    """UTC time as rollout lines carry it: `2026-11-21T00:02:55.457Z`."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    return f"{_iso_second(whole)}.{millis:03d}Z"


@lru_cache(maxsize=8)
def _iso_second(seconds: int) -> str:
    """Lines are written many a second: the second's text is made once."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_iso(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text; raises ValueError when it is none."""
    stamp = datetime.fromisoformat(text)
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
