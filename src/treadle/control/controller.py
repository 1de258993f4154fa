"""The manager's own loops: lapsed leases, turns whose time is over, logs whose time is over.

Decides nothing itself: what has lapsed, and what follows, is the repository's and the rules'.
"""

import asyncio
import logging
from dataclasses import dataclass

from treadle.control.db.repository import Repository
from treadle.control.faults import Stopping
from treadle.kit.clock import Clock

logger = logging.getLogger(__name__)

# Takeover is promised within the lease plus two seconds; half of that is for the claim.
SWEEP_SECONDS = 1.0
SWEEP_LIMIT = 100


async def sweep_leases(repository: Repository) -> None:
    """Run until cancelled or the repository closes; a failed sweep is tried again."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            while await repository.lapse_leases(SWEEP_LIMIT) == SWEEP_LIMIT:
                continue
            while await repository.expire_commands(SWEEP_LIMIT) == SWEEP_LIMIT:
                continue
        except Stopping:
            return
        except Exception:  # without sweeps no lost run is ever taken over: never give up
            logger.exception("a sweep failed; trying again")


DAY_MS = 24 * 3600 * 1000
RETAIN_SECONDS = 60.0
EVENTS_AT_ONCE = 1000
RUNS_AT_ONCE = 20
# Of the time, at most a fifth: the rest is for those who work.
PAUSE_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days after a run's end its events and the run itself stay; None: for ever."""

    events_days: float | None = None
    runs_days: float | None = None

    def ages_ms(self) -> tuple[int | None, int | None]:
        """The same in milliseconds; a run's events never stay longer than the run."""
        days = [each for each in (self.events_days, self.runs_days) if each is not None]
        runs_days = self.runs_days
        return (
            round(min(days) * DAY_MS) if days else None,
            None if runs_days is None else round(runs_days * DAY_MS),
        )


async def retain_logs(repository: Repository, retention: Retention, clock: Clock) -> None:
    """Drop what is too old until cancelled or the repository closes, a little at a time."""
    events_ms, runs_ms = retention.ages_ms()
    while events_ms is not None:
        try:
            began = clock.monotonic()
            more = await repository.drop_old_events(events_ms, EVENTS_AT_ONCE) == EVENTS_AT_ONCE
            if runs_ms is not None:
                forgotten = await repository.forget_old_runs(runs_ms, RUNS_AT_ONCE)
                more = more or forgotten == RUNS_AT_ONCE
            spent = clock.monotonic() - began
            await asyncio.sleep(PAUSE_FACTOR * spent if more else RETAIN_SECONDS)
        except Stopping:
            return
        except Exception:
            logger.exception("dropping old logs failed; trying again")
            await asyncio.sleep(RETAIN_SECONDS)
