"""Managers in processes of their own: appends through HTTP, the stream of another one, start."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from treadle.cli.bench_control.places import Manager, manager
from treadle.cli.bench_control.report import Figure, median, percentile
from treadle.cli.bench_control.storage import PAYLOAD
from treadle.cli.bench_control.wire import Wire

APPENDERS = 32
BATCH = 20
EVENT = b'{"type":"command_output","payload":%s}'
# Events per second into the log while streams are timed, and who follows each run.
RATE = 2000
RUNS = 20
FOLLOWERS_PER_RUN = 3
STEP = 5


async def measure(kind: str, url: str | None, folder: Path, seconds: float) -> list[Figure]:
    """All figures of one kind of database."""
    async with manager(folder / "a", url) as first:
        figures = [await _appends(kind, first, seconds)]
        if url is None:
            figures += [await _stream(kind, first, first, seconds)]
        else:
            async with manager(folder / "b", url) as second:
                figures += [await _stream(kind, first, second, seconds)]
    return figures


async def measure_start(folder: Path, rounds: int) -> list[Figure]:
    """How long a manager on SQLite takes to answer, and its memory then."""
    seconds: list[float] = []
    memory: list[float] = []
    for number in range(rounds):
        async with (
            manager(folder / f"start-{number}", None) as one,
            Wire(one.address) as wire,
        ):
            await wire.get("/health/ready")
            seconds.append(one.ready_seconds)
            memory.append(one.memory_mib())
    return [
        Figure("sqlite: manager ready after", median(seconds) * 1000, "ms", "<=", 400),
        Figure("sqlite: resident memory when ready", median(memory), "MiB", "<=", 70),
    ]


async def claimed(wire: Wire, runner: str) -> dict[str, Any]:
    """A new run, claimed for long."""
    run = await wire.post("/api/v1/runs", {})
    await wire.post("/api/v1/runners/register", {"id": runner})
    body = {"runnerId": runner, "leaseMs": 600_000}
    return await wire.post(f"/api/v1/runs/{run['id']}/claim", body)


async def append(wire: Wire, claim: dict[str, Any], first: int, payloads: list[bytes]) -> None:
    """A fenced append of lines of output."""
    events = b",".join(EVENT % payload for payload in payloads)
    head = b'{"epoch":%d,"firstProducerSeq":%d,"events":[' % (claim["epoch"], first)
    await wire.post(f"/api/v1/runs/{claim['runId']}/events", head + events + b"]}", claim["token"])


async def _appends(kind: str, at: Manager, seconds: float) -> Figure:
    batches = [0] * APPENDERS

    async def work(number: int) -> None:
        async with Wire(at.address) as wire:
            claim = await claimed(wire, f"appender-{number}")
            ready.release()
            await go.wait()
            while time.perf_counter() < until:
                await append(wire, claim, batches[number] * BATCH + 1, [PAYLOAD] * BATCH)
                batches[number] += 1

    ready, go = asyncio.Semaphore(0), asyncio.Event()
    until = 0.0
    async with asyncio.TaskGroup() as group:
        for number in range(APPENDERS):
            group.create_task(work(number))
        for _ in range(APPENDERS):
            await ready.acquire()
        cpu, began = at.cpu_seconds(), time.perf_counter()
        until = began + seconds
        go.set()
    events = sum(batches) * BATCH
    rate = events / (time.perf_counter() - began)
    note = f"{(at.cpu_seconds() - cpu) / events * 1e6:.0f} us of the manager's CPU per event"
    name = f"{kind}: appends through HTTP, batches of {BATCH}"
    return Figure(name, rate, "events/s", ">=", 10_000, note)


async def _stream(kind: str, into: Manager, out_of: Manager, seconds: float) -> Figure:
    """From before the append's request until the event is read, with three readers per run."""
    delays: list[float] = []
    total = round(RATE * seconds / RUNS / STEP) * STEP
    ready = asyncio.Semaphore(0)
    async with Wire(into.address) as wire:
        claims = [await claimed(wire, f"feeder-{number}") for number in range(RUNS)]
    async with asyncio.timeout(60 + 10 * seconds), asyncio.TaskGroup() as group:
        for run_id in [claim["runId"] for claim in claims for _ in range(FOLLOWERS_PER_RUN)]:
            group.create_task(_follow(out_of.address, run_id, total, ready, delays))
        for _ in range(RUNS * FOLLOWERS_PER_RUN):
            await ready.acquire()
        for number, claim in enumerate(claims):
            group.create_task(_feed(into.address, claim, number, total))
    where = "same manager" if into is out_of else "another manager"
    note = f"p99 {percentile(delays, 0.99) * 1000:.0f} ms; {RATE} events/s in, {len(delays)} read"
    target = 10 if into is not out_of else 2
    name = f"{kind}: append to stream of {where}, p50"
    return Figure(name, median(delays) * 1000, "ms", "<=", target, note)


async def _follow(
    address: str, run_id: str, total: int, ready: asyncio.Semaphore, delays: list[float]
) -> None:
    """Note how late each stamped event is, until all have come."""
    seen = 0
    async with Wire(address) as wire:
        async for line in wire.stream(f"/api/v1/runs/{run_id}/stream"):
            payload = json.loads(line).get("payload", {})
            if payload.get("phase") == "run-claimed":
                ready.release()
            if "sentAt" not in payload:
                continue
            delays.append(time.perf_counter() - payload["sentAt"])
            seen += 1
            if seen == total:
                return


async def _feed(address: str, claim: dict[str, Any], number: int, total: int) -> None:
    """Append stamped events at a steady rate."""
    async with Wire(address) as wire:
        began = time.perf_counter() + number * STEP / RATE
        for first in range(1, total + 1, STEP):
            due = began + (first - 1) * RUNS / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            stamp = b'{"text":"x","sentAt":%s}' % repr(time.perf_counter()).encode()
            await append(wire, claim, first, [stamp] * STEP)
