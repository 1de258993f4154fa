"""A runner's life: register, claim, work, say how it ended.

`run_once` works on one named run; `serve` takes runs from the pool until it is told to stop. Both
get everything by options. Knows the manager and `Attempt`; how a turn is driven is below.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from treadle.kit.clock import Clock, SystemClock
from treadle.kit.deadlines import finish
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope
from treadle.runner.attempt import Attempt
from treadle.runner.claim import Claimant, ClaimTimeout, Heartbeats, Patience, RunEnded, acquire
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import Claim, Registration
from treadle.runner.options import InterruptLadder, RunnerId, RunnerOptions, RunnerResult

logger = logging.getLogger(__name__)

POOL_WAIT_MS = 30_000
POOL_PAUSE_SECONDS = 1.0
DRAIN_SECONDS = 30.0
CLOSE_SECONDS = 15.0
LEAVE_SECONDS = 3.0

__all__ = ["InterruptLadder", "RunnerOptions", "RunnerResult", "run_once", "serve"]

OnRegistered = Callable[[Registration], None]


def _unheard(registration: Registration) -> None:
    del registration


async def run_once(
    options: RunnerOptions, clock: Clock | None = None, registered: OnRegistered = _unheard
) -> RunnerResult:
    """Claim the run that `options` name and work on it; `registered` hears of the registration.

    Returns how it ended: with `one_shot` after its first turn, otherwise when no command came for
    the idle time, when the run was closed or cancelled, or when the lease was lost.

    Raises:
        ValueError: `options` name no run.
        ManagerError, ManagerUnreachable: the manager refused or could not be reached.
    """
    if options.run_id is None:
        raise ValueError("run_once needs a run_id; use serve to take runs from the pool.")
    clock = clock or SystemClock()
    attempt_id = options.attempt_id or new_id()
    async with ManagerClient(options.manager_url, options.token) as client:
        registration = await _register(client, options, attempt_id)
        registered(registration)
        try:
            claimant = Claimant(registration, attempt_id, options.lease_ms)
            return await _work_on(client, claimant, options, options.run_id, clock)
        finally:
            await finish(_take_leave(client, registration), LEAVE_SECONDS, "take leave")


async def _work_on(
    client: ManagerClient,
    claimant: Claimant,
    options: RunnerOptions,
    run_id: str,
    clock: Clock,
) -> RunnerResult:
    registration = claimant.registration
    patience = Patience(
        options.claim_retry_timeout_ms / 1000, options.claim_retry_interval_ms / 1000
    )
    try:
        claim = await acquire(client, run_id, claimant, patience, clock)
    except RunEnded as ended:
        return _unclaimed(options, registration, "run-ended", ended.terminal_status)
    except ClaimTimeout:
        return _unclaimed(options, registration, "claim-timeout", None)
    heartbeats = Heartbeats(client, registration, clock)
    return await Attempt(options, client, heartbeats, claim, clock).run()


async def serve(
    options: RunnerOptions,
    stop: asyncio.Event,
    *,
    max_runs: int = 1,
    clock: Clock | None = None,
    registered: OnRegistered = _unheard,
) -> None:
    """Work on runs from the pool, at most `max_runs` at once, until `stop` is set.

    `registered` hears of each registration before anything is claimed under it.

    Each run is worked on until it is idle for `idle_timeout_ms`, then given back. When `stop` is
    set no more runs and no more turns are taken; the turns at work have `DRAIN_SECONDS` to end
    before their runs are given back as they are. Drained at the manager it ends too, but gives them
    all the time they need.
    """
    async with ManagerClient(options.manager_url, options.token) as client:
        pool = _Pool(options, client, max_runs, clock or SystemClock(), registered)
        await pool.serve(stop)


class _Drained(Exception):
    """An operator wants this runner to take no more runs."""


class _Pool:
    """The runs that one serving runner has in hand."""

    def __init__(
        self,
        options: RunnerOptions,
        client: ManagerClient,
        max_runs: int,
        clock: Clock,
        registered: OnRegistered,
    ) -> None:
        self._registered = registered
        self._options = options
        self._client = client
        self._clock = clock
        self._free = asyncio.Semaphore(max_runs)
        self._tasks = TaskScope("serve")
        self._attempts: set[Attempt] = set()
        self._registration: Registration | None = None
        self._heartbeats: Heartbeats | None = None

    async def serve(self, stop: asyncio.Event) -> None:
        watch = TaskScope("serve-watch")
        taking = watch.start(self._take_runs(), "pool")
        stopping = watch.start(stop.wait(), "stop")
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            taking.cancel()
            for attempt in self._attempts:
                attempt.drain()
            if not stop.is_set():
                # Drained by an operator: the turns at work may take their time.
                ending = watch.start(self._all_ended(), "drain")
                await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not await self._tasks.join(DRAIN_SECONDS):
                logger.warning("turns still at work are given back")
            if taking.done() and not taking.cancelled():
                taking.result()  # an end of its own is one that nobody asked for
        finally:
            await watch.close()
            await finish(self._tasks.close(CLOSE_SECONDS), CLOSE_SECONDS + 1, "close runner")
            if self._registration is not None:
                leaving = _take_leave(self._client, self._registration)
                await finish(leaving, LEAVE_SECONDS, "take leave")

    async def _all_ended(self) -> None:
        while not await self._tasks.join(DRAIN_SECONDS):
            continue

    async def _take_runs(self) -> None:
        """Until this runner is drained."""
        while True:
            await self._free.acquire()
            try:
                claim = await self._next_claim()
            except _Drained:
                return
            if claim is None or self._heartbeats is None:
                self._free.release()
                await asyncio.sleep(POOL_PAUSE_SECONDS)
                continue
            attempt = Attempt(self._options, self._client, self._heartbeats, claim, self._clock)
            self._attempts.add(attempt)
            self._tasks.start(self._work(attempt), f"run-{claim.run_id}")

    async def _next_claim(self) -> Claim | None:
        try:
            if self._registration is None:
                self._registration = await _register(self._client, self._options, None)
                self._registered(self._registration)
                self._heartbeats = Heartbeats(self._client, self._registration, self._clock)
            claims = await _claim_next(self._client, self._options, self._registration)
        except ManagerError as error:
            if error.code == "runner-draining":
                logger.info("drained: this runner takes no more runs")
                raise _Drained from error
            logger.warning("no run taken: %s", error)
            if error.code in {"runner-not-found", "runner-gone"}:
                self._registration = None
            return None
        except ManagerUnreachable as error:
            logger.warning("no run taken: %s", error)
            return None
        return claims[0] if claims else None

    async def _work(self, attempt: Attempt) -> None:
        try:
            result = await attempt.run()
            logger.info("run %s: %s", result.run_id, result.stopped or result.terminal_status)
        finally:
            self._attempts.discard(attempt)
            self._free.release()


async def _claim_next(
    client: ManagerClient, options: RunnerOptions, registration: Registration
) -> list[Claim]:
    wanted: dict[str, Any] = {
        "leaseMs": options.lease_ms,
        "attemptId": new_id(),
        "backendProfile": options.backend_profile,
        "sessionId": registration.session_id or None,
    }
    return await client.claim_from_pool(registration.id, wait_ms=POOL_WAIT_MS, **wanted)


async def _register(
    client: ManagerClient, options: RunnerOptions, attempt_id: str | None
) -> Registration:
    return await client.register(
        id=options.runner_id,
        runId=options.run_id,
        attemptId=attempt_id,
        backendProfile=options.backend_profile,
        placement=options.placement,
        sourceCommit=options.source_commit,
    )


async def _take_leave(client: ManagerClient, registration: Registration) -> None:
    """Say that this registration is over, so that nothing of it is waited for.

    What it held was given back before; a lease that was not, whatever the reason, lapses with it.
    """
    if registration.session_id:
        with contextlib.suppress(ManagerError, ManagerUnreachable):
            await client.report_gone(registration.id, registration.session_id, "ended by itself")


def _unclaimed(
    options: RunnerOptions, registration: Registration, stopped: str, status: str | None
) -> RunnerResult:
    return RunnerResult(
        terminal_status=status,
        failure_kind=None,
        runner=RunnerId(registration.id),
        run_id=options.run_id,
        stopped=stopped,
    )
