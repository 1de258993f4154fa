"""Holding runs: claim with patience, renew together, and stop oneself in time.

`acquire` waits for another runner's stale lease. A `Lease` is renewed by every accepted write and
by heartbeats in between, one for all leases of a registration; it is lost when the manager says so,
or when the runner's own monotonic clock says that the manager may have given the run away. Then
`lost` is set and nothing sets it back: a fenced runner stops, whatever else it hoped for. Knows no
backend.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from treadle.kit.clock import Clock
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import (
    AppendAnswer,
    Claim,
    HeartbeatAnswer,
    HeldRunAnswer,
    Registration,
)

logger = logging.getLogger(__name__)

MARGIN_PART = 0.2
"""Part of the lease by which the runner fences itself earlier than the manager would."""
BEATS_PER_LEASE = 3
MIN_WAIT_SECONDS = 0.01
BEAT_SECONDS = 2.0
"""A heartbeat without an answer is given up after this or a third of the lease, what is longer."""
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
            session_id = claimant.registration.session_id or None
            return await client.claim(
                run_id, runner_id, claimant.lease_ms, claimant.attempt_id, session_id
            )
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

    def __init__(self, heartbeats: "Heartbeats", claim: Claim, clock: Clock) -> None:
        """Hold what `claim` granted just now."""
        self.run_id = claim.run_id
        self.epoch = claim.epoch
        self.token = claim.token
        self._heartbeats = heartbeats
        self._clock = clock
        self._lease_seconds = claim.lease_ms / 1000
        self._fence_at = clock.monotonic() + self._safe(claim.remaining_ms)
        self._beat_at = clock.monotonic() + self.pause_seconds
        self._progress_at = clock.monotonic()
        self.lost = asyncio.Event()
        self.lost_reason = ""
        self.is_given_back = False
        """Its holder is giving it back; that the manager knows it no more is then no loss."""
        self.draining = asyncio.Event()
        """The manager wants this runner to take no more work."""
        self.cmd_last = 0
        self.cmd_news = asyncio.Event()

    @property
    def pause_seconds(self) -> float:
        """How long a renewal is good for before the next one is sent."""
        return self._lease_seconds / BEATS_PER_LEASE

    @property
    def is_due(self) -> bool:
        """Whether it wants a heartbeat now."""
        return self._clock.monotonic() >= self._beat_at

    def renewed(self, answer: AppendAnswer | HeldRunAnswer, asked_at: float) -> None:
        """Take in an answer to a write or heartbeat that was sent at `asked_at` (monotonic)."""
        # Counted from before the request left: the manager's lease starts no earlier than that.
        self._fence_at = max(self._fence_at, asked_at + self._safe(answer.remaining_ms))
        self._beat_at = asked_at + self.pause_seconds
        if answer.cmd_last > self.cmd_last:
            self.cmd_last = answer.cmd_last
            self.cmd_news.set()

    def put_off(self) -> None:
        """A heartbeat told nothing of this run: soon another one."""
        self._beat_at = max(self._beat_at, self._clock.monotonic() + self.pause_seconds / 4)

    def progressed(self) -> None:
        """The backend did something; heartbeats tell the manager how long ago."""
        self._progress_at = self._clock.monotonic()

    def line(self, now: float) -> dict[str, Any]:
        """What a heartbeat says of it."""
        activity_ms = round((now - self._progress_at) * 1000)
        return {"runId": self.run_id, "epoch": self.epoch, "activityMs": activity_ms}

    def lose(self, reason: str) -> None:
        """Stop holding the run; final."""
        if not self.lost.is_set():
            logger.warning("run %s is lost: %s", self.run_id, reason)
            self.lost_reason = reason
            self.lost.set()

    async def keep(self) -> None:
        """Renew until lost; a failed heartbeat is tried again, but only as long as it is safe."""
        self._heartbeats.hold(self)
        try:
            while not self.lost.is_set():
                now = self._clock.monotonic()
                if now >= self._fence_at:
                    self.lose("the lease could not be renewed in time")
                elif now < self._beat_at:
                    await self._rest(min(self._beat_at, self._fence_at) - now)
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._fence_at - now):
                            await self._heartbeats.beat(self)
        finally:
            self._heartbeats.let_go(self)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await self.lost.wait()
        except TimeoutError:
            return

    def _safe(self, remaining_ms: int) -> float:
        return remaining_ms / 1000 - self._lease_seconds * MARGIN_PART


class Heartbeats:
    """Renews all runs that one registration holds by one request; make one per registration.

    A run that becomes due takes the others along, so that they fall due together from then on:
    the manager hears a runner as often as one run asks for it, however many it holds.
    """

    def __init__(self, client: ManagerClient, registration: Registration, clock: Clock) -> None:
        """Speak for `registration`; holds nothing yet."""
        self.runner_id = registration.id
        self._token = registration.token
        self._client = client
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._sending = asyncio.Lock()

    def hold(self, lease: Lease) -> None:
        """Take a run along from now on."""
        earlier = self._leases.get(lease.run_id)
        if earlier is not None and earlier is not lease:
            earlier.lose("this runner has claimed the run anew")
        self._leases[lease.run_id] = lease

    def let_go(self, lease: Lease) -> None:
        """Speak of a run no more; the same again is harmless."""
        if self._leases.get(lease.run_id) is lease:
            del self._leases[lease.run_id]

    async def beat(self, asking: Lease) -> None:
        """Renew what is held, unless another run's request renewed `asking` meanwhile.

        What came of it is told to the leases: renewed, lost, or to be tried again soon.
        """
        async with self._sending:
            if asking.is_due and not asking.lost.is_set():
                await self._send(asking)

    async def _send(self, asking: Lease) -> None:
        held = [lease for lease in self._leases.values() if not lease.lost.is_set()]
        now = self._clock.monotonic()
        lines = [lease.line(now) for lease in held]
        try:
            async with asyncio.timeout(max(asking.pause_seconds, BEAT_SECONDS)):
                answer = await self._client.heartbeat(self.runner_id, self._token, lines)
        except ManagerError as error:
            is_final = error.code in LOST_CODES or error.status in {401, 404}
            for lease in held:
                if is_final:
                    lease.lose(error.detail)
                else:
                    lease.put_off()
        except (ManagerUnreachable, TimeoutError):
            for lease in held:
                lease.put_off()
        else:
            # Those let go while it was under way were given back: that is no loss.
            still = [each for each in held if self._leases.get(each.run_id) is each]
            _take_in(answer, still, now)


def _take_in(answer: HeartbeatAnswer, held: list[Lease], asked_at: float) -> None:
    renewals = {each.run_id: each for each in answer.runs}
    for lease in held:
        if answer.draining:
            lease.draining.set()
        if lease.run_id in answer.lost and not lease.is_given_back:
            lease.lose("the manager gave the run to another runner or ended it")
        elif (renewal := renewals.get(lease.run_id)) is not None:
            lease.renewed(renewal, asked_at)
        else:
            lease.put_off()
