"""Holding a run: register, claim with patience, renew, and stop oneself in time.

`acquire` waits for another runner's stale lease. A `Lease` is renewed by every accepted write and
by heartbeats in between; it is lost when the manager says so, or when the runner's own monotonic
clock says that the manager may have given the run away. Then `lost` is set and nothing sets it
back: a fenced runner stops, whatever else it hoped for. Knows no backend.
"""

import asyncio
import logging
from dataclasses import dataclass

from treadle.kit.clock import Clock
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import AppendAnswer, Claim, HeldRunAnswer, Registration

logger = logging.getLogger(__name__)

MARGIN_PART = 0.2
"""Part of the lease by which the runner fences itself earlier than the manager would."""
BEATS_PER_LEASE = 3
MIN_WAIT_SECONDS = 0.01
LOST_CODES = frozenset({"fenced", "terminal", "claim-token-invalid", "run-not-found"})


class ClaimTimeout(Exception):
    """The run stayed with somebody else for the whole time that was given to wait."""


class RunEnded(Exception):
    """The run has ended already; `terminal_status` says how."""

    def __init__(self, terminal_status: str | None) -> None:
        """Carry the run's terminal status."""
        super().__init__(f"The run has ended ({terminal_status}).")
        self.terminal_status = terminal_status


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait for a run that another runner holds; seconds."""

    timeout_seconds: float
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims."""

    registration: Registration
    attempt_id: str
    lease_ms: int | None


async def acquire(
    client: ManagerClient, run_id: str, claimant: Claimant, patience: Patience, clock: Clock
) -> Claim:
    """Claim a run, waiting for a stale lease to lapse.

    Raises:
        ClaimTimeout: another runner held it all the time.
        RunEnded: there is nothing left to do.
        ManagerError, ManagerUnreachable: the manager refused or was away for too long.
    """
    deadline = clock.monotonic() + patience.timeout_seconds
    runner_id = claimant.registration.id
    while True:
        wait = patience.interval_seconds
        try:
            return await client.claim(run_id, runner_id, claimant.lease_ms, claimant.attempt_id)
        except ManagerError as error:
            if error.code == "terminal":
                status = error.members.get("terminalStatus")
                raise RunEnded(status if isinstance(status, str) else None) from error
            if error.code != "lease-held":
                raise
            wait = min(error.retry_after_seconds or wait, wait)
        except ManagerUnreachable:
            if clock.monotonic() + wait > deadline:
                raise
        left = deadline - clock.monotonic()
        if left <= 0:
            raise ClaimTimeout(f"Run {run_id} is held by another runner.")
        await asyncio.sleep(min(max(wait, MIN_WAIT_SECONDS), left))


class Lease:
    """One held run; `keep` renews it until it is lost or the task is cancelled."""

    def __init__(
        self, client: ManagerClient, registration: Registration, claim: Claim, clock: Clock
    ) -> None:
        """Hold what `claim` granted just now."""
        self.run_id = claim.run_id
        self.epoch = claim.epoch
        self.token = claim.token
        self._client = client
        self._registration = registration
        self._clock = clock
        self._lease_seconds = claim.lease_ms / 1000
        self._fence_at = clock.monotonic() + self._safe(claim.remaining_ms)
        self._beat_at = clock.monotonic() + self._lease_seconds / BEATS_PER_LEASE
        self._progress_at = clock.monotonic()
        self.lost = asyncio.Event()
        self.lost_reason = ""
        self.draining = asyncio.Event()
        """The manager wants this runner to take no more work."""
        self.cmd_last = 0
        self.cmd_news = asyncio.Event()

    def renewed(self, answer: AppendAnswer | HeldRunAnswer, asked_at: float) -> None:
        """Take in an answer to a write or heartbeat that was sent at `asked_at` (monotonic)."""
        # Counted from before the request left: the manager's lease starts no earlier than that.
        self._fence_at = max(self._fence_at, asked_at + self._safe(answer.remaining_ms))
        self._beat_at = asked_at + self._lease_seconds / BEATS_PER_LEASE
        if answer.cmd_last > self.cmd_last:
            self.cmd_last = answer.cmd_last
            self.cmd_news.set()

    def progressed(self) -> None:
        """The backend did something; heartbeats tell the manager how long ago."""
        self._progress_at = self._clock.monotonic()

    def lose(self, reason: str) -> None:
        """Stop holding the run; final."""
        if not self.lost.is_set():
            logger.warning("run %s is lost: %s", self.run_id, reason)
            self.lost_reason = reason
            self.lost.set()

    async def keep(self) -> None:
        """Renew until lost; a failed heartbeat is tried again, but only as long as it is safe."""
        pause = self._lease_seconds / BEATS_PER_LEASE
        while not self.lost.is_set():
            now = self._clock.monotonic()
            if now >= self._fence_at:
                self.lose("the lease could not be renewed in time")
                return
            if now < self._beat_at:
                await self._rest(min(self._beat_at, self._fence_at) - now)
                continue
            try:
                async with asyncio.timeout(self._fence_at - now):
                    await self._beat(now)
            except ManagerError as error:
                if error.code in LOST_CODES or error.status in {401, 404}:
                    self.lose(error.detail)
                    return
                await self._rest(pause / 4)
            except (ManagerUnreachable, TimeoutError):
                await self._rest(pause / 4)

    async def _beat(self, now: float) -> None:
        activity_ms = round((now - self._progress_at) * 1000)
        held = {"runId": self.run_id, "epoch": self.epoch, "activityMs": activity_ms}
        token = self._registration.token
        answer = await self._client.heartbeat(self._registration.id, token, [held])
        if answer.draining:
            self.draining.set()
        if self.run_id in answer.lost:
            self.lose("the manager gave the run to another runner or ended it")
            return
        self._beat_at = now + self._lease_seconds / BEATS_PER_LEASE
        for each in answer.runs:
            if each.run_id == self.run_id:
                self.renewed(each, now)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await self.lost.wait()
        except TimeoutError:
            return

    def _safe(self, remaining_ms: int) -> float:
        return remaining_ms / 1000 - self._lease_seconds * MARGIN_PART
