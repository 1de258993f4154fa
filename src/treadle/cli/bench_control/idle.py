"""What runners cost a manager while nothing happens: their requests, and its processor time.

The runners are the real code, each with a registration, connections and runs of its own, but all
in this process; no backend is started, since no run has a turn. Shorter rounds have fewer runners
and are scaled up, and polls, parked for longer than they last, are counted by their period.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import httpx

from treadle.cli.bench_control.places import Manager, manager
from treadle.cli.bench_control.report import Figure
from treadle.kit.clock import SystemClock
from treadle.kit.tasks import TaskScope
from treadle.runner.attempt import Attempt
from treadle.runner.claim import Heartbeats
from treadle.runner.feed import PARK_MS
from treadle.runner.manager_client import ManagerClient
from treadle.runner.options import RunnerOptions

RUNS_PER_RUNNER = 3
FULL_FLEET = 200
SETTLE_SECONDS = 6.0
"""Until each runner has renewed its runs once, and together from then on."""
SHORT_SECONDS = 10.0


class _Counted(ManagerClient):
    """A client that counts what it sends."""

    sent = 0

    async def _once(self, request: httpx.Request) -> bytes:
        self.sent += 1
        return await super()._once(request)


async def measure(kind: str, url: str | None, folder: Path, runners: int) -> list[Figure]:
    """Requests per second of a fleet whose runs are all held and idle."""
    is_full = runners >= FULL_FLEET
    seconds = PARK_MS / 1000 if is_full else SHORT_SECONDS
    fleet = TaskScope("idle fleet")
    with tempfile.TemporaryDirectory(prefix="treadle-bench-home-") as home:
        async with manager(folder, url) as one:
            clients = [_Counted(one.address) for _ in range(runners)]
            try:
                for number, client in enumerate(clients):
                    await _hold_runs(client, number, one, Path(home), fleet)
                await asyncio.sleep(SETTLE_SECONDS)
                requests, cpu = await _count(one, clients, seconds)
            finally:
                await fleet.close(30.0)
                for client in clients:
                    await client.close()
    scale = FULL_FLEET / runners
    polls = 0.0 if is_full else RUNS_PER_RUNNER * FULL_FLEET / (PARK_MS / 1000)
    note = f"{cpu * 100:.1f} % of a core; {seconds:.0f} s" + (
        "" if is_full else f" of {runners} runners, requests scaled; polls by their period"
    )
    name = f"{kind}: idle, {FULL_FLEET} runners x {RUNS_PER_RUNNER} runs"
    return [Figure(name, requests * scale + polls, "req/s", "<=", 60, note)]


async def _hold_runs(
    client: ManagerClient, number: int, at: Manager, home: Path, fleet: TaskScope
) -> None:
    clock = SystemClock()
    registration = await client.register(id=f"idle-{number}")
    heartbeats = Heartbeats(client, registration, clock)
    for _ in range(RUNS_PER_RUNNER):
        run = await client.create_run({})
        claim = await client.claim(run.id, registration.id, None, f"idle-{number}")
        options = RunnerOptions(
            manager_url=at.address,
            run_id=run.id,
            codex_home=str(home),
            spool_dir=str(home / "spool" / run.id),
            idle_timeout_ms=3_600_000,
        )
        attempt = Attempt(options, client, heartbeats, claim, clock)
        fleet.start(attempt.run(), f"run-{run.id}")


async def _count(at: Manager, clients: list[_Counted], seconds: float) -> tuple[float, float]:
    """Requests per second, and the part of a core that the manager took."""
    sent, cpu = sum(client.sent for client in clients), at.cpu_seconds()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    spent = time.perf_counter() - began
    requests = sum(client.sent for client in clients) - sent
    return requests / spent, (at.cpu_seconds() - cpu) / spent
