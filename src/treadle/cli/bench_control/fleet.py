"""Runners in processes of their own: how fast an interrupt arrives, how fast a lost run goes on."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from treadle.cli.bench_control import backend as backend_module
from treadle.cli.bench_control.places import manager, start
from treadle.cli.bench_control.report import Figure, median, percentile
from treadle.cli.bench_control.wire import Wire
from treadle.kit.processes import ChildProcess

LEASE_MS = 15_000
STEP_SECONDS = 60.0
SEEN_SECONDS = 3.0
"""Asked of a takeover when the end of the runner is seen."""


async def measure(kind: str, url: str | None, folder: Path, turns: int) -> list[Figure]:
    """Interrupts (the runner polls another manager where there can be one), then takeovers."""
    async with manager(folder / "a", url) as first:
        if url is None:
            interrupts = await _interrupts(kind, first.address, first.address, turns)
            return [interrupts, *await _takeovers(kind, first.address)]
        async with manager(folder / "b", url) as second:
            interrupts = await _interrupts(kind, first.address, second.address, turns)
            return [interrupts, *await _takeovers(kind, first.address)]


@asynccontextmanager
async def _runner(address: str, stamps: Path, home: Path) -> AsyncGenerator[ChildProcess]:
    command = [sys.executable, "-m", "treadle.cli.main", "runner", "serve", "--max-runs", "1"]
    backend = ["--codex-command", sys.executable, "--codex-arg=-m"]
    backend += [f"--codex-arg={backend_module.__name__}", "--codex-home", str(home)]
    where = ["--manager-url", address, "--lease-ms", str(LEASE_MS)]
    child = await start([*command, *where, *backend], **{backend_module.STAMPS: str(stamps)})
    try:
        yield child
    finally:
        await child.stop(3.0)


def _home(folder: Path) -> Path:
    (folder / "auth.json").write_text("{}", encoding="utf-8")
    (folder / "config.toml").write_text("", encoding="utf-8")
    return folder


async def _interrupts(kind: str, posts_to: str, polls: str, turns: int) -> Figure:
    with tempfile.TemporaryDirectory(prefix="treadle-bench-home-") as name:
        folder = Path(name)
        stamps = folder / "stamps"
        async with _runner(polls, stamps, _home(folder)), Wire(posts_to) as wire:
            run = await wire.post("/api/v1/runs", {"executionPolicy": {"timeoutMs": 600_000}})
            delays = [await _interrupt(wire, run["id"], stamps) for _ in range(turns)]
    name = f"{kind}: interrupt posted to backend stdin, p99"
    note = f"p50 {median(delays) * 1000:.0f} ms, {turns} turns"
    return Figure(name, percentile(delays, 0.99) * 1000, "ms", "<=", 150, note)


async def _interrupt(wire: Wire, run_id: str, stamps: Path) -> float:
    path = f"/api/v1/runs/{run_id}"
    before = len(_stamps(stamps))
    after = (await wire.get(path))["lastSeq"]
    turn = await wire.post(f"{path}/commands", {"type": "turn", "payload": {"prompt": "hi"}})
    await _phase(wire, path, after, "active-turn-control-ready")
    posted = time.perf_counter()
    await wire.post(f"{path}/commands", {"type": "interrupt", "payload": {"commandId": turn["id"]}})
    await _phase(wire, path, after, "command-terminal", turn["id"])
    return _stamps(stamps)[before] - posted


def _stamps(path: Path) -> list[float]:
    return [float(line) for line in path.read_text("ascii").split()] if path.exists() else []


async def _phase(
    wire: Wire, path: str, after: int, phase: str, command_id: str | None = None
) -> dict[str, Any]:
    """The first event of a phase after a seq, waited for."""
    async with asyncio.timeout(STEP_SECONDS):
        while True:
            page = await wire.get(f"{path}/events?afterSeq={after}&limit=500&waitMs=20000")
            for event in page["items"]:
                after = event["seq"]
                named = command_id is None or event["commandId"] == command_id
                if event["payload"].get("phase") == phase and named:
                    return event


async def _takeovers(kind: str, address: str) -> list[Figure]:
    """Nobody sees the end of the first runner; the second one's worker has a parent that does."""
    name = f"{kind}: takeover after kill -9, lease {LEASE_MS / 1000:.0f} s"
    silent = await _takeover(address, whole=True)
    seen = await _takeover(address, whole=False)
    return [
        Figure(name, silent, "s", "<=", LEASE_MS / 1000 + 2),
        Figure(f"{name}, its exit seen", seen, "s", "<=", SEEN_SECONDS),
    ]


async def _takeover(address: str, *, whole: bool) -> float:
    """Seconds from the kill -9 of a runner in a turn until another one has the run.

    `whole`: parent and all, or only the worker process.
    """
    with tempfile.TemporaryDirectory(prefix="treadle-bench-home-") as name:
        folder = Path(name)
        stamps, home = folder / "stamps", _home(folder)
        async with Wire(address) as wire:
            run = await wire.post("/api/v1/runs", {"executionPolicy": {"timeoutMs": 600_000}})
            path = f"/api/v1/runs/{run['id']}"
            async with _runner(address, stamps, home) as first:
                await wire.post(f"{path}/commands", {"type": "turn", "payload": {"prompt": "hi"}})
                ready = await _phase(wire, path, 0, "active-turn-control-ready")
                async with _runner(address, stamps, home):
                    await asyncio.sleep(3.0)  # until the second one waits for work
                    victim = first.pid if whole else _worker_of(first.pid)
                    killed = time.perf_counter()
                    os.kill(victim, signal.SIGKILL)
                    await _phase(wire, path, ready["seq"], "run-claimed")
                    spent = time.perf_counter() - killed
            await wire.post(f"{path}/commands", {"type": "cancel"})
    return spent


def _worker_of(pid: int) -> int:
    """The worker process of a serving runner."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    for child in children:
        if "--unsupervised" in Path(f"/proc/{child}/cmdline").read_text("utf-8").split("\0"):
            return int(child)
    raise RuntimeError("the runner has no worker")
